"""A linear classifier fitted on cached features: a convex problem, which needs no learning rate.

The features are standardized; that is folded into the layer's weight and bias. L-BFGS minimizes the training loss plus
λ/2 ‖W‖² in coordinates in which the curvature is nearly the same in all directions: W = L⁻ᵀV with LLᵀ = c·XᵀX/N + λI,
where c is the curvature of the loss in a logit if all classes are equally likely (an upper bound: Böhning 1992, Ann.
Inst. Statist. Math. 44). This takes a third to half of the passes over the data that L-BFGS takes on W (measured).

λ is chosen by the loss on held-out training images: five-fold cross-validation where that is cheap, else one fold. The
search goes from strong to weak, each fit starting from the one before. The same loss chooses the shares of groups of
columns, and whether random views of the images are fitted too; it is always computed on images without augmentation.
"""

from __future__ import annotations

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
from zoo.training.features.standardize import column_shares, standardize

Loss = Callable[[Tensor, Tensor], Tensor]

# Losses that are smooth and convex in the logits, for all parameters (Focal, Dice, … are not convex).
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
# Of features; while the penalty is chosen, memory holds a standardized copy as well.
MAX_BYTES = 1 << 30
# Penalties in units of c · D, the sum of the curvatures of standardized features; then half a decade to both sides.
_PENALTY_GRID = tuple(10.0**-e for e in range(6))
# float64 up to this number of feature values; cross-validation up to this number of products per pass.
_MAX_FLOAT64_VALUES, _MAX_CROSS_VALIDATION_OPS = 500_000, 100_000_000
_FOLDS = 5
# Largest eigendecomposition that saves more than it costs; eigenvalues below the tolerance are dropped.
_MAX_EIGH_DIM, _RANK_TOLERANCE = 2048, 1e-10
# Convergence, relative to the loss of zero logits: while penalties are compared, and for the final fit.
_SEARCH_TOLERANCE, _FINAL_TOLERANCE = 1e-4, 1e-7
# Without it, the bias of a class without images goes to minus infinity.
_BIAS_PENALTY = 1e-4


@dataclass(frozen=True)
class LinearProbe:
    """weight (K, D) and bias (K,), float32, for the features as given. outputs (N, K), loss: on the training images,
    without the penalty λ. views: fitted per image. passes: over the features in all."""

    weight: Tensor
    bias: Tensor
    outputs: Tensor
    loss: float
    penalty: float
    held_out_loss: float
    views: int
    passes: int


def why_not_linear(feature_extractor: FeatureExtractor) -> str:
    """Why the trainable part after `feature_extractor` is not a single linear layer; "" if it is."""
    module = feature_extractor.module
    trainable = {name for name, p in module.named_parameters() if p.requires_grad}
    paths = sorted({name.rpartition(".")[0] for name in trainable})
    if len(paths) > 1:
        return f"{paths[0]} and {paths[1]} are both trained" + (", and others" if len(paths) > 2 else "")
    layer = module.get_submodule(paths[0])
    if type(layer) is not nn.Linear:
        return f"{paths[0]} is a {type(layer).__name__}, not a linear layer"
    if len(trainable) < 2:
        return f"{paths[0]} needs a trainable weight and bias"
    if not feature_extractor.before or feature_extractor.end != paths[0]:
        return f"there is dropout or another computation between {feature_extractor.end} and {paths[0]}"
    if len(feature_extractor.shape) != 1:
        return f"{feature_extractor.end} is applied to {feature_extractor.shape[0]} positions of an image"
    with torch.no_grad():
        probe_input = torch.eye(3, *feature_extractor.shape, device=layer.weight.device)
        output = feature_extractor.forward_head(probe_input)
        layer_output = layer(probe_input)
        tolerance = 1e-2 * float(layer_output.abs().max())  # the network may compute in half precision
        same = isinstance(output, Tensor) and output.shape == layer_output.shape
        same = same and bool(((output - layer_output).abs() <= tolerance).all())
    return "" if same else f"the model changes the output of {feature_extractor.end}"


@preserve_num_threads()
@torch.no_grad()
def fit_linear_probe(
    features: Tensor,
    targets: Tensor,
    loss: Loss,
    *,
    outputs: int,
    seed: int,
    views: Sequence[Tensor] = (),
    columns: Sequence[slice] = (),
) -> LinearProbe:
    """The linear layer for features (N, D) with the least loss plus penalty.

    targets: (N,) int64 or (N, K) float32, on the features' device. loss: a mean over images, convex in the logits.
    outputs: K. seed: of the held-out images. views: features (N, D) of random views of the same images. columns: groups
    of columns whose shares are chosen; none: all columns are equal. Raises TrainingError if features or loss are not
    finite.
    """
    # The same images are held out with and without views.
    cross_validate = (1 + len(views)) * features.numel() * outputs <= _MAX_CROSS_VALIDATION_OPS
    rounds = _FOLDS if cross_validate else 1
    fit = partial(_fit, targets=targets, loss=loss, outputs=outputs, rounds=rounds, seed=seed)
    shares = column_shares(columns) if columns else (None,)
    tried = [fit([features], share=share) for share in shares]
    best = min(range(len(tried)), key=lambda i: tried[i].held_out_loss)
    if views:
        tried.append(fit([features, *views], share=shares[best]))
        best = min(best, len(tried) - 1, key=lambda i: tried[i].held_out_loss)
    return replace(tried[best], passes=sum(t.passes for t in tried))


def _fit(
    views: Sequence[Tensor],
    *,
    targets: Tensor,
    loss: Loss,
    outputs: int,
    rounds: int,
    seed: int,
    share: Tensor | None,
) -> LinearProbe:
    images, columns = views[0].shape
    features = torch.cat(list(views)) if len(views) > 1 else views[0]
    all_targets = targets.repeat(len(views), *[1] * (targets.ndim - 1))
    rows = len(features)
    if rows * columns * outputs <= SINGLE_THREAD_OPS:
        threads(1)
    dtype = torch.float64 if rows * columns <= _MAX_FLOAT64_VALUES else torch.float32
    scaled, scaling = standardize(features, dtype, share)
    shape = _SecondMoments.of(scaled)
    x = shape.rotate(scaled)
    del scaled
    problem = _Problem(loss, outputs, shape, 1 / (4 * outputs if targets.is_floating_point() else outputs), rows)
    scale = float(loss(x.new_zeros(images, outputs), targets))
    tried, weight = _choose(problem, x, all_targets, images, scale, rounds=rounds, seed=seed)
    best = min(tried, key=tried.__getitem__)
    weight = problem.minimize(x, all_targets, best, weight, _FINAL_TOLERANCE * scale)
    logits = x[:images] @ weight[:-1] + weight[-1]
    value = float(loss(logits, targets))
    if not np.isfinite(value):
        raise TrainingError(
            f"the loss became {value} while the linear probe was fitted",
            "check the data, or set train.linear_probe=off",
        )
    whole, bias = scaling.fold(shape.rotate_back(weight[:-1]), weight[-1])
    return LinearProbe(whole, bias, logits.float(), value, best, tried[best], len(views), round(problem.passes))


def _choose(
    problem: _Problem, x: Tensor, targets: Tensor, images: int, scale: float, *, rounds: int, seed: int
) -> tuple[dict[float, float], Tensor]:
    """Held-out loss by penalty, from strong to weak until it rises, and the weights to start the final fit from.

    x, targets: of all `images` in the first view, then in the next.
    """
    folds = []
    for fitted, held_out in _make_folds(targets[:images].cpu().numpy(), seed, rounds=rounds):
        out = torch.from_numpy(held_out).to(x.device)
        one_view = torch.from_numpy(fitted).to(x.device)
        fit = torch.cat([one_view + start for start in range(0, len(x), images)])
        weight = x.new_zeros(x.shape[1] + 1, problem.outputs)
        folds.append(_Fold(problem, x[fit], targets[fit], x[out], targets[out], weight))
    total = sum(len(fold.held_out_targets) for fold in folds)
    unit = problem.curvature * len(problem.shape.values)
    tried: dict[float, float] = {}

    def held_out_loss(penalty: float) -> float:
        tried[penalty] = sum(fold.total_loss(penalty, _SEARCH_TOLERANCE * scale) for fold in folds) / total
        return tried[penalty]

    for decade in _PENALTY_GRID:
        if held_out_loss(decade * unit) > min(tried.values()) * (1 + _SEARCH_TOLERANCE):
            break
    best = min(tried, key=tried.__getitem__)
    for between in (best * 10**-0.5, best * 10**0.5):
        held_out_loss(between)
    return tried, folds[0].weight


@dataclass(frozen=True)
class _SecondMoments:
    """Second moments XᵀX/N of standardized features: eigenvectors `basis` (D′, r) and eigenvalues `values` (r,) if r is
    small; otherwise `basis` is None and `values` is the matrix."""

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

    def solve(self, g: Tensor, *, transposed: bool = False) -> Tensor:
        if self.factor.ndim == 1:
            return g / self.factor[:, None]
        factor = self.factor.T if transposed else self.factor
        solved: Tensor = torch.linalg.solve_triangular(factor, g, upper=transposed)
        return solved


@dataclass
class _Problem:
    """loss(XW + b) + λ/2 ‖W‖² for W and b in one (r + 1, K). curvature: c. passes: over the data so far."""

    loss: Loss
    outputs: int
    shape: _SecondMoments
    curvature: float
    images: int
    passes: float = 0
    _root: tuple[float, _CholeskyFactor] | None = None

    def minimize(self, x: Tensor, targets: Tensor, penalty: float, at: Tensor, tolerance: float) -> Tensor:
        """Start at `at` (r + 1, K); stop when a step gains less than `tolerance`."""
        if self._root is None or self._root[0] != penalty:  # shared by all folds
            self._root = penalty, self.shape.root(self.curvature, penalty)
        root = self._root[1]
        bias_scale = self.curvature**0.5
        bias_penalty = _BIAS_PENALTY * self.curvature
        inner = torch.cat([root.transposed_times(at[:-1]), at[-1:] * bias_scale])

        def closure() -> float:
            self.passes += len(x) / self.images
            weight, bias = root.solve(inner[:-1], transposed=True), inner[-1] / bias_scale
            # With few outputs, this order of products is up to ten times as fast (measured).
            logits = (weight.T @ x.T).T.add_(bias).requires_grad_()
            with torch.enable_grad():
                value = self.loss(logits, targets)
            (slope,) = torch.autograd.grad(value, logits)
            weight_gradient = root.solve((slope.T @ x).T + penalty * weight)
            inner.grad = torch.cat([weight_gradient, ((slope.sum(0) + bias_penalty * bias) / bias_scale)[None]])
            ridge = penalty * weight.double().square().sum() + bias_penalty * bias.double().square().sum()
            return float(value.detach().double() + ridge / 2)

        optimizer = torch.optim.LBFGS(
            [inner], max_iter=200, history_size=10, tolerance_grad=tolerance * 1e-2, tolerance_change=tolerance,
            line_search_fn="strong_wolfe",
        )  # fmt: skip
        optimizer.step(closure)  # type: ignore[no-untyped-call]
        return torch.cat([root.solve(inner[:-1], transposed=True), inner[-1:] / bias_scale])


@dataclass
class _Fold:
    """Images to fit and held-out images; each fit starts from that of the penalty before."""

    problem: _Problem
    x: Tensor
    targets: Tensor
    held_out: Tensor
    held_out_targets: Tensor
    weight: Tensor

    def total_loss(self, penalty: float, tolerance: float) -> float:
        """The loss of the held-out images, times their number."""
        self.weight = self.problem.minimize(self.x, self.targets, penalty, self.weight, tolerance)
        logits = self.held_out @ self.weight[:-1] + self.weight[-1]
        return float(self.problem.loss(logits, self.held_out_targets)) * len(self.held_out_targets)


def _make_folds(targets: NDArray[np.generic], seed: int, *, rounds: int) -> list[tuple[Indices, Indices]]:
    """(fitted, held out) indices of the first `rounds` of five folds, stratified by class; the only image of a class is
    always fitted."""
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
    everything = np.arange(n)
    return [fold for fold in found if all(map(len, fold))] or [(everything, everything)]
