"""Leave-one-out k-nearest-neighbour classification by cosine similarity."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.arrays import Indices
from zoo.strategy.scores.ridge import LeaveOneOut
from zoo.strategy.scores.svd import Scaling
from zoo.strategy.scores.targets import Floats, Targets

K_VALUES = (1, 3, 5, 10, 20, 50)

# A neighbour votes with exp(cosine / 0.07): Wu et al. 2018 (arXiv 1805.01978), section 3.4, and DINO's eval_knn.py.
_TEMPERATURE = 0.07

# Number of float32 cosines in memory: 64 MB.
_CHUNK = 16_000_000


def knn_loo(
    features: NDArray[np.generic],
    targets: Targets,
    k_values: tuple[int, ...] = K_VALUES,
    *,
    scaling: Scaling | None = None,
) -> LeaveOneOut:
    """Leave-one-out predictions with the best k: highest score, then lowest squared error.

    A neighbour votes with exp(cosine / 0.07) times its weight, so with balanced targets every class has the same
    weight. For classes, the votes for an image's own class are multiplied by n / (n − 1), n its number of images,
    which corrects for the image that is left out (as in `ridge_loo`). Cosines are computed in float32.

    Args:
        features: (N, D) features, standardised here.
        targets: Targets of the images.
        k_values: Numbers of neighbours to try; those above N − 1 are ignored.
        scaling: Standardisation of the features, if known.

    Raises:
        DataError: A feature is not finite.
    """
    rows = (scaling or Scaling.of(features)).apply(features)
    n, d = rows.shape
    # Without any feature all images are equally near: use all of them.
    tried = tuple(k for k in k_values if d and k < n) or ((1,) if d else (n - 1,))
    nearest, cosines = _nearest(rows, tried[-1])
    votes = np.exp((cosines - cosines[:, :1]) / _TEMPERATURE) * targets.weights[nearest]

    total, vote_sum = np.zeros_like(targets.matrix), np.zeros((n, 1))
    best = total
    score_weights = targets.score_weights / targets.score_weights.sum()
    correction = np.ones_like(total)
    if targets.one_class_per_image:
        own = np.bincount(targets.labels)[targets.labels]
        correction += targets.matrix / np.maximum(own - 1, 1)[:, None]
    found = []
    for j in range(tried[-1]):
        total += votes[:, j, None] * targets.matrix[nearest[:, j]]
        vote_sum += votes[:, j, None]
        if j + 1 in tried:
            predictions = total / vote_sum
            loss = float(score_weights @ ((targets.matrix - predictions) ** 2).sum(1))
            found.append((targets.evaluate(predictions * correction).score, -loss, j + 1))
            if found[-1] >= max(found):
                best = predictions
    chosen = max(found)
    losses = tuple(-loss for _, loss, _ in found)
    return LeaveOneOut(best, targets.evaluate(best * correction), chosen[2], tried, losses)


def _nearest(rows: Floats, k: int) -> tuple[Indices, Floats]:
    """(indices, cosines) (N, k) of the nearest other rows, nearest first."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = torch.from_numpy((rows / np.where(lengths > 0, lengths, 1)).astype(np.float32))
    n = len(unit)
    indices, cosines = np.empty((n, k), np.int64), np.empty((n, k))
    step = max(_CHUNK // n, 1)
    for start in range(0, n, step):
        near = unit[start : start + step] @ unit.T
        own = torch.arange(len(near))
        near[own, own + start] = -torch.inf
        top = near.topk(k, dim=1)
        indices[start : start + step] = top.indices.numpy()
        cosines[start : start + step] = top.values.numpy()
    return indices, cosines
