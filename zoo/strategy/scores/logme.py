"""LogME: maximum evidence of the targets under a Bayesian linear model of the features.

You et al. 2021 (ICML, arXiv 2102.11005), with the fixed point in t = α/β of You et al. 2022 (arXiv 2110.10545).
Differences:
- The prior has one term for each of the r directions of the features, which is what remains of D and log|A| when the
  D − r empty directions cancel: correct for N < D and for N > D.
- Features are standardised, and the model has a bias with a flat prior, integrated out: N − 1 replaces N. Otherwise the
  evidence is unbounded for N < D, because N − 1 directions fit N centred targets perfectly.
- The iteration runs until convergence, from the best point of a grid, because the evidence may have two maxima.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.strategy.scores.svd import FeatureSVD
from zoo.strategy.scores.targets import Floats, Targets

# t relative to the largest eigenvalue: at both ends the evidence equals its limit in float64.
_GRID = np.logspace(-12, 12, 97)
_CONVERGED = 1e-10
_TINY = 1e-15  # relative to a column's sum of squares: a smaller error is a perfect fit


@dataclass(frozen=True)
class Evidence:
    """Evidence of the targets; higher is better, for the same targets only.

    Args:
        value: Mean of `columns`, nats per image.
        columns: (K′,) log evidence / (N − 1) of each column of the targets that is not constant.
        alpha: (K′,) precision of the weights, for standardised features.
        beta: (K′,) precision of the noise.
    """

    value: float
    columns: Floats
    alpha: Floats
    beta: Floats


def logme(svd: FeatureSVD, targets: Targets, *, iterations: int = 1000) -> Evidence:
    """The log evidence of each column of `targets.matrix` (each class against the rest, each label, each number).

    Args:
        svd: Decomposed features; the noise of image i has precision β wᵢ with its weights w.
        targets: Targets of the images.
        iterations: Maximum number of fixed-point iterations; the authors' code stops after 11.
    """
    y, _ = svd.centred(targets.matrix[:, targets.nonconstant])
    n, s = len(y) - 1, svd.values[:, None]
    squares = (svd.vectors.T @ y) ** 2  # (r, K′)
    whole = (y**2).sum(0)
    beyond = np.zeros_like(whole) if svd.complete else np.maximum(whole - squares.sum(0), 0)
    if not len(s):
        beta = n / whole
        return _evidence(0.5 * n * (np.log(beta / (2 * np.pi)) - 1), n, np.full_like(beta, np.inf), beta)
    low, high = float(s.max()) * _GRID[0], float(s.max()) * _GRID[-1]

    def profile(t: Floats, projected: Floats, residual: Floats, total: Floats) -> tuple[Floats, Floats]:
        """(log evidence, β) (k,) at t (k,) with the best β for it: β = n / (‖Xm − y‖² + t ‖m‖²)."""
        error = np.maximum((projected * (t / (t + s))).sum(0) + residual, _TINY * total)
        beta = n / error
        return 0.5 * (n * (np.log(beta / (2 * np.pi)) - 1) - np.log1p(s / t).sum(0)), beta

    grid = np.stack([profile(np.full(len(whole), g * s.max()), squares, beyond, whole)[0] for g in _GRID])
    t = _GRID[grid.argmax(0)] * s.max()
    moving = np.arange(len(t))
    for _ in range(iterations):
        before, z = t[moving], squares[:, moving]
        known = (s / (s + before)).sum(0)  # γ, the number of directions that the data determine
        length = (z * s / (s + before) ** 2).sum(0)
        error = (z * (before / (s + before)) ** 2).sum(0) + beyond[moving]
        # α = γ / ‖m‖², β = (n − γ) / ‖Xm − y‖²; a column without any signal has m = 0 and an unbounded t.
        after = known * error / np.maximum((n - known) * length, np.finfo(float).tiny)
        t[moving] = np.clip(after, low, high)
        moving = moving[np.abs(np.log(t[moving] / before)) > _CONVERGED]
        if not len(moving):
            break
    evidence, beta = profile(t, squares, beyond, whole)
    return _evidence(evidence, n, t * beta, beta)


def _evidence(columns: Floats, n: int, alpha: Floats, beta: Floats) -> Evidence:
    return Evidence(float(columns.mean()) / n, columns / n, alpha, beta)
