"""A linear classifier on kept features, solved instead of trained: a convex problem has one answer, and no rate.

The features are standardised, which is folded into the layer's weight and bias. The run's own loss plus λ/2 ‖W‖² is
minimised by L-BFGS in coordinates in which the curvature is nearly that of a ball: W = L⁻ᵀV with LLᵀ = c·XᵀX/N + λI,
c the curvature of the loss in a logit where all classes are as likely (Böhning 1992, Ann. Inst. Statist. Math. 44,
bounds it so). That takes a half to a third of the passes over the data that L-BFGS takes on W itself (measured).

λ is chosen on the training images alone: by the loss of those left out, in five parts in turn where that is cheap, else
of a fifth of them; from strong to weak, each begun from the one before. Random views of the images are fitted, too, if
that lowers the loss of images left out, which are judged as they are, all views of theirs left out with them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zoo.arrays import Indices
from zoo.errors import TrainingError
from zoo.training.autotune.workers import SINGLE_THREAD_OPS, preserve_num_threads, threads
from zoo.training.feature_extractor import FeatureExtractor

__all__ = ["CONVEX_LOSSES", "MAX_BYTES", "LinearProbe", "fit_linear_probe", "why_not_linear"]

Loss = Callable[[Tensor, Tensor], Tensor]

# Losses that are smooth and convex in the logits, whatever their parameters. (Focal, Dice, … are not convex.)
CONVEX_LOSSES = (
    "cross_entropy",
    "nll",
    "soft_target_cross_entropy",
    "bce_with_logits",
    "bce",
    "multilabel_soft_margin",
    "smooth_l1",
    "huber",
)
# The standardised features are held in memory, beside a copy for the time of choosing the penalty.
MAX_BYTES = 1 << 30
# Penalties in units of c · D, the sum of the curvatures of standardised features; then half a decade to both sides.
_PENALTY_GRID = tuple(10.0**-e for e in range(6))
# float64 up to so many numbers of features, and five parts in turn up to so many products in a pass.
_MAX_FLOAT64_VALUES, _MAX_CROSS_VALIDATION_OPS = 500_000, 100_000_000
_FOLDS = 5
# Axes up to which finding them costs less than it saves; of them those whose variance is nothing are left out.
_MAX_EIGH_DIM, _RANK_TOLERANCE = 2048, 1e-10
# What a step must gain, of the loss that knows nothing: while penalties are compared, and in the answer.
_SEARCH_TOLERANCE, _FINAL_TOLERANCE = 1e-4, 1e-7
# Of the root mean square of a column: what float32 leaves of a constant.
_CONSTANT_TOLERANCE = 1e-6
# A bias of a class that no image has would go to minus infinity.
_BIAS_PENALTY = 1e-4


@dataclass(frozen=True)
class LinearProbe:
    """weight (K, D) and bias (K,), float32, for features as the model gives them. loss, outputs (N, K): over the
    training images, without the penalty. penalty: λ. held_out_loss: the loss of images left out at that λ. views: of
    each image that were fitted. passes: over the features, in all. seconds: of wall time."""

    weight: Tensor
    bias: Tensor
    outputs: Tensor
    loss: float
    penalty: float
    held_out_loss: float
    views: int
    passes: int
    seconds: float


def why_not_linear(feature_extractor: FeatureExtractor) -> str:
    """Why what learns behind `feature_extractor` is not one linear layer on its features and nothing else; "" if it
    is."""
    module = feature_extractor.module
    trainable = {name for name, p in module.named_parameters() if p.requires_grad}
    paths = sorted({name.rpartition(".")[0] for name in trainable})
    if len(paths) > 1:
        return f"{paths[0]} and {paths[1]} both learn" + (", and others" if len(paths) > 2 else "")
    layer = module.get_submodule(paths[0])
    if type(layer) is not nn.Linear:
        return f"{paths[0]} is a {type(layer).__name__}, not a linear layer"
    if len(trainable) < 2:
        return f"{paths[0]} has no bias that learns, or nothing else"
    if not feature_extractor.before or feature_extractor.end != paths[0]:
        return f"dropout or some other computation stands between {feature_extractor.end} and {paths[0]}"
    if len(feature_extractor.shape) != 1:
        return f"{feature_extractor.end} is called at {feature_extractor.shape[0]} places of an image"
    with torch.no_grad():
        probe_input = torch.eye(3, *feature_extractor.shape, device=layer.weight.device)
        output = feature_extractor.forward_head(probe_input)
        layer_output = layer(probe_input)
        # The network may compute in half precision.
        near = 1e-2 * float(layer_output.abs().max())
        same = (
            isinstance(output, Tensor)
            and output.shape == layer_output.shape
            and bool(((output - layer_output).abs() <= near).all())
        )
    return "" if same else f"the model does something else with what {feature_extractor.end} gives"


@preserve_num_threads()
@torch.no_grad()
def fit_linear_probe(
    features: Tensor, targets: Tensor, loss: Loss, *, outputs: int, seed: int, views: Sequence[Tensor] = ()
) -> LinearProbe:
    """The linear layer for features (N, D) with the least loss and penalty.

    targets: (N,) int64 or (N, K) float32, as `loss`, a mean over images that is convex in the logits, takes them; on
    the device of the features. outputs: K. seed: of which images are left out. views: features (N, D) of random views
    of the same images.

    Raises TrainingError if features are not finite, or the loss is not.
    """
    # The same images are left out with views and without.
    cross_validate = (1 + len(views)) * features.numel() * outputs <= _MAX_CROSS_VALIDATION_OPS
    solve = partial(
        _fit, targets=targets, loss=loss, outputs=outputs, rounds=_FOLDS if cross_validate else 1, seed=seed
    )
    tried = [solve([features])]
    if views:
        tried.append(solve([features, *views]))
    best = min(tried, key=lambda found: found.held_out_loss)
    return replace(best, passes=sum(t.passes for t in tried), seconds=sum(t.seconds for t in tried))


def _fit(views: Sequence[Tensor], *, targets: Tensor, loss: Loss, outputs: int, rounds: int, seed: int) -> LinearProbe:
    start = time.perf_counter()
    images, columns = views[0].shape
    features = torch.cat(list(views)) if len(views) > 1 else views[0]
    all_targets = targets.repeat(len(views), *[1] * (targets.ndim - 1))
    rows = len(features)
    if rows * columns * outputs <= SINGLE_THREAD_OPS:
        threads(1)
    dtype = torch.float64 if rows * columns <= _MAX_FLOAT64_VALUES else torch.float32
    scaled, scaling = _standardize(features, dtype)
    shape = _SecondMoments.of(scaled)
    x = shape.rotate(scaled)
    del scaled
    problem = _Problem(loss, outputs, shape, 1 / (4 * outputs if targets.is_floating_point() else outputs), rows)
    scale = float(loss(x.new_zeros(images, outputs), targets))
    tried, weight = _choose(problem, x, all_targets, images, scale, rounds=rounds, seed=seed)
    best = min(tried, key=tried.__getitem__)
    weight = problem.minimise(x, all_targets, best, weight, _FINAL_TOLERANCE * scale)
    logits = x[:images] @ weight[:-1] + weight[-1]
    value = float(loss(logits, targets))
    if not np.isfinite(value):
        raise TrainingError(
            f"the loss became {value} while the head was solved", "check the data, or set train.linear_probe=off"
        )
    whole, bias = scaling.fold(shape.rotate_back(weight[:-1]), weight[-1])
    seconds = time.perf_counter() - start
    return LinearProbe(
        whole, bias, logits.float(), value, best, tried[best], len(views), round(problem.passes), seconds
    )


def _choose(
    problem: _Problem, x: Tensor, targets: Tensor, images: int, scale: float, *, rounds: int, seed: int
) -> tuple[dict[float, float], Tensor]:
    """The loss of images left out, by penalty, from strong to weak until it rises; and a fit to begin the last from.

    x, targets: of all `images` in one view, then in the next.
    """
    folds = []
    for fitted, left in _make_folds(targets[:images].cpu().numpy(), seed, rounds=rounds):
        out = torch.from_numpy(left).to(x.device)
        one = torch.from_numpy(fitted).to(x.device)
        fit = torch.cat([one + start for start in range(0, len(x), images)])
        folds.append(
            _Fold(problem, x[fit], targets[fit], x[out], targets[out], x.new_zeros(x.shape[1] + 1, problem.outputs))
        )
    left_out = sum(len(fold.held_out_targets) for fold in folds)
    unit = problem.curvature * len(problem.shape.values)
    tried: dict[float, float] = {}

    def held_out_loss(penalty: float) -> float:
        tried[penalty] = sum(fold.left_out(penalty, _SEARCH_TOLERANCE * scale) for fold in folds) / left_out
        return tried[penalty]

    for decade in _PENALTY_GRID:
        if held_out_loss(decade * unit) > min(tried.values()) * (1 + _SEARCH_TOLERANCE):
            break
    best = min(tried, key=tried.__getitem__)
    for between in (best * 10**-0.5, best * 10**0.5):
        held_out_loss(between)
    return tried, folds[0].weight


@dataclass(frozen=True)
class _Scaling:
    """kept (D,): which columns are not constant; mean, std (D′,): theirs."""

    nonconstant: Tensor
    mean: Tensor
    std: Tensor

    def fold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """weight (D′, K) and bias (K,) for standardised features → (K, D), (K,) for features as they are."""
        inside = weight.double() / self.std[:, None]
        whole = inside.new_zeros(len(bias), len(self.nonconstant))
        whole[:, self.nonconstant] = inside.T
        return whole.float(), (bias.double() - self.mean @ inside).float()


def _standardize(features: Tensor, dtype: torch.dtype) -> tuple[Tensor, _Scaling]:
    """(N, D′) of `dtype` with mean 0 and variance 1, without the constant columns."""
    parts = torch.split(features, 4096)
    mean = torch.stack([part.double().sum(0) for part in parts]).sum(0) / len(features)
    var = torch.stack([(part.double() - mean).square().sum(0) for part in parts]).sum(0) / len(features)
    if not bool((mean.isfinite() & var.isfinite()).all()):
        bad = int((~features.isfinite().all(1)).sum())
        raise TrainingError(
            f"the features of {bad} of {len(features)} images are not finite numbers",
            "the model's weights may be damaged, or half precision too narrow for it: try --no-amp",
        )
    std = var.sqrt()
    nonconstant = std > _CONSTANT_TOLERANCE * torch.hypot(mean, std)
    scaling = _Scaling(nonconstant, mean[nonconstant], std[nonconstant])
    scaled = torch.cat([((part[:, nonconstant].double() - scaling.mean) / scaling.std).to(dtype) for part in parts])
    return scaled, scaling


@dataclass(frozen=True)
class _SecondMoments:
    """What the second moments of standardised features look like, for coordinates that fit them.

    basis (D′, r): the axes of the features' own, of variance `values` (r,), if there are few; else None, and `values`
    is the matrix XᵀX/N.
    """

    basis: Tensor | None
    values: Tensor

    @staticmethod
    def of(x: Tensor) -> _SecondMoments:
        rows, columns = x.shape
        if min(rows, columns) > _MAX_EIGH_DIM:
            return _SecondMoments(None, x.T @ x / rows)
        if rows >= columns:
            values, basis = torch.linalg.eigh(x.T @ x / rows)
            return _SecondMoments(basis, values.clamp_min(0))
        values, left = torch.linalg.eigh(x @ x.T / rows)
        large = values > _RANK_TOLERANCE * values[-1]
        values, left = values[large], left[:, large]
        return _SecondMoments(x.T @ left / (values * rows).sqrt(), values)

    def rotate(self, x: Tensor) -> Tensor:
        """The features in these axes; lengths and products of rows stay."""
        return x if self.basis is None else x @ self.basis

    def rotate_back(self, weight: Tensor) -> Tensor:
        return weight if self.basis is None else self.basis @ weight

    def root(self, curvature: float, penalty: float) -> _CholeskyFactor:
        if self.basis is not None:
            return _CholeskyFactor((curvature * self.values + penalty).sqrt())
        eye = torch.eye(len(self.values), dtype=self.values.dtype, device=self.values.device)
        return _CholeskyFactor(torch.linalg.cholesky(curvature * self.values + penalty * eye))


@dataclass(frozen=True)
class _CholeskyFactor:
    """L with LLᵀ = c·XᵀX/N + λI: lower triangular, or its diagonal."""

    factor: Tensor

    def transposed_times(self, w: Tensor) -> Tensor:
        return self.factor[:, None] * w if self.factor.ndim == 1 else self.factor.T @ w

    def transposed_solve(self, v: Tensor) -> Tensor:
        if self.factor.ndim == 1:
            return v / self.factor[:, None]
        solved: Tensor = torch.linalg.solve_triangular(self.factor.T, v, upper=True)
        return solved

    def solve(self, g: Tensor) -> Tensor:
        if self.factor.ndim == 1:
            return g / self.factor[:, None]
        solved: Tensor = torch.linalg.solve_triangular(self.factor, g, upper=False)
        return solved


@dataclass
class _Problem:
    """loss(XW + b) + λ/2 ‖W‖² for W, b as one (r + 1, K). curvature: c. passes: how often it was computed."""

    loss: Loss
    outputs: int
    shape: _SecondMoments
    curvature: float
    images: int
    passes: float = 0
    _root: tuple[float, _CholeskyFactor] | None = None

    def minimise(self, x: Tensor, targets: Tensor, penalty: float, at: Tensor, tolerance: float) -> Tensor:
        """From `at` (r + 1, K) on, until a step gains less than `tolerance`."""
        if self._root is None or self._root[0] != penalty:  # the same for every fold
            self._root = penalty, self.shape.root(self.curvature, penalty)
        root = self._root[1]
        bias_scale = self.curvature**0.5
        bias_penalty = _BIAS_PENALTY * self.curvature
        inner = torch.cat([root.transposed_times(at[:-1]), at[-1:] * bias_scale])

        def closure() -> float:
            self.passes += len(x) / self.images
            weight, bias = root.transposed_solve(inner[:-1]), inner[-1] / bias_scale
            # With few outputs, products with the narrow matrix first are up to ten times as fast (measured).
            logits = (weight.T @ x.T).T.add_(bias).requires_grad_()
            with torch.enable_grad():
                value = self.loss(logits, targets)
            (slope,) = torch.autograd.grad(value, logits)
            inner.grad = torch.cat(
                [
                    root.solve((slope.T @ x).T + penalty * weight),
                    ((slope.sum(0) + bias_penalty * bias) / bias_scale)[None],
                ]
            )
            ridge = penalty * weight.double().square().sum() + bias_penalty * bias.double().square().sum()
            return float(value.detach().double() + ridge / 2)

        optimizer = torch.optim.LBFGS(
            [inner],
            max_iter=200,
            history_size=10,
            tolerance_grad=tolerance * 1e-2,
            tolerance_change=tolerance,
            line_search_fn="strong_wolfe",
        )
        optimizer.step(closure)  # type: ignore[no-untyped-call]
        return torch.cat([root.transposed_solve(inner[:-1]), inner[-1:] / bias_scale])


class _Fold:
    """Images to fit and images left out of it; the fit goes on from that of the penalty before."""

    def __init__(
        self, problem: _Problem, x: Tensor, targets: Tensor, left: Tensor, held_out_targets: Tensor, weight: Tensor
    ) -> None:
        self._problem, self._x, self._targets = problem, x, targets
        self._held_out, self.held_out_targets, self.weight = left, held_out_targets, weight

    def left_out(self, penalty: float, tolerance: float) -> float:
        """The loss of the images left out, times their number."""
        self.weight = self._problem.minimise(self._x, self._targets, penalty, self.weight, tolerance)
        logits = self._held_out @ self.weight[:-1] + self.weight[-1]
        return float(self._problem.loss(logits, self.held_out_targets)) * len(self.held_out_targets)


def _make_folds(targets: NDArray[np.generic], seed: int, *, rounds: int) -> list[tuple[Indices, Indices]]:
    """(fitted, left out), `rounds` of five parts that have as many images of each class as can be.

    The only image of a class is always fitted.
    """
    n = len(targets)
    order = np.random.default_rng(seed).permutation(n)
    is_singleton = np.zeros(n, bool)
    if targets.ndim == 1:
        order = order[np.argsort(targets[order], kind="stable")]
        is_singleton = np.bincount(targets.astype(np.int64))[targets.astype(np.int64)] == 1
    part = np.empty(n, np.int64)
    part[order] = np.arange(n) % _FOLDS
    part[is_singleton] = -1
    found = [(np.flatnonzero(part != p), np.flatnonzero(part == p)) for p in range(rounds)]
    found = [(fitted, out) for fitted, out in found if len(fitted) and len(out)]
    everything = np.arange(n)
    return found or [(everything, everything)]
