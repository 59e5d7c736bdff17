"""LogME: how probable the targets are under a Bayesian linear model of the features, maximised over its two precisions.

You et al. 2021 (ICML, 2102.11005), with the fixed point in t = α/β of You et al. 2022 (2110.10545). Three differences:
- The weights' prior has one term for each of the r directions that the features have, which is what is left of D and
  log|A| when the D − r empty ones cancel: right for N < D as for N > D.
- Columns are standardised and the model has a bias with a flat prior, integrated out: N − 1 takes the place of N.
  Without it the evidence of N < D is not bounded: N − 1 directions fit N centred targets perfectly.
- Iterated until it stands still, from the best of a grid, because the evidence may have two maxima.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.strategy.scores.svd import FeatureSVD
from zoo.strategy.scores.targets import Floats, Targets

__all__ = ["Evidence", "logme"]

# t of the largest eigenvalue: at the ends the evidence differs from its limit by less than float64 shows.
_GRID = np.logspace(-12, 12, 97)
_STILL = 1e-10
_TINY = 1e-15  # of a column's sum of squares: what counts as fitted perfectly


@dataclass(frozen=True)
class Evidence:
    """value: the mean of `columns`, nats an image; higher is better, for the same targets only. columns (K′,): log
    evidence / (N − 1) of each column of targets that is not constant. alpha, beta (K′,): precisions of the weights (for
    standardised features) and of the noise."""

    value: float
    columns: Floats
    alpha: Floats
    beta: Floats


def logme(svd: FeatureSVD, targets: Targets, *, iterations: int = 1000) -> Evidence:
    """The log evidence of each column of `truth.matrix` (each class against the rest, each label, each number).

    iterations: of the fixed point, at most; the authors' code stops after 11. Images count by the spectrum's weights
    (the noise of image i has precision β wᵢ).
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

    def profile(t: Floats, of: Floats, outside: Floats, total: Floats) -> tuple[Floats, Floats]:
        """(log evidence, β) (k,) at t (k,) with the best β for it: β = n / (‖Xm − y‖² + t ‖m‖²)."""
        error = np.maximum((of * (t / (t + s))).sum(0) + outside, _TINY * total)
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
        # α = γ / ‖m‖², β = (n − γ) / ‖Xm − y‖²; a column without any signal has m = 0 and t without bound.
        after = known * error / np.maximum((n - known) * length, np.finfo(float).tiny)
        t[moving] = np.clip(after, low, high)
        moving = moving[np.abs(np.log(t[moving] / before)) > _STILL]
        if not len(moving):
            break
    evidence, beta = profile(t, squares, beyond, whole)
    return _evidence(evidence, n, t * beta, beta)


def _evidence(columns: Floats, n: int, alpha: Floats, beta: Floats) -> Evidence:
    return Evidence(float(columns.mean()) / n, columns / n, alpha, beta)
