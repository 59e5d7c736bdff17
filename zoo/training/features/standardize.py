"""Standardized feature columns, and how much each group of them counts in a fit.

The penalty of a linear model is the same for all standardized columns, so of the depths of a multi-depth head one with
more channels counts more. A share is a factor of a column before the penalty applies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.errors import TrainingError

# Relative to the root mean square of a column: the rounding error of a constant in float32.
_CONSTANT_TOLERANCE = 1e-6
# The columns of a group of n are multiplied by n ** -exponent: 1/2 gives all groups the same sum of variances, 1/4 is
# half-way to equal columns. Measured on four data sets and two models, with other candidates: docs/transfer.md.
_EXPONENTS = (0.25, 0.5)


@dataclass(frozen=True)
class Scaling:
    """nonconstant (D,): which columns are not constant; mean, std (D′,): of these."""

    nonconstant: Tensor
    mean: Tensor
    std: Tensor

    def fold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """weight (D′, K) and bias (K,) for standardized features → (K, D), (K,) for the features themselves."""
        inside = weight.double() / self.std[:, None]
        whole = inside.new_zeros(len(bias), len(self.nonconstant))
        whole[:, self.nonconstant] = inside.T
        return whole.float(), (bias.double() - self.mean @ inside).float()


def standardize(features: Tensor, dtype: torch.dtype, share: Tensor | None) -> tuple[Tensor, Scaling]:
    """(N, D′) of `dtype` with mean 0 and variance 1, without the constant columns; times `share` (D,), if given, whose
    mean square is made 1, so that penalties mean the same."""
    parts = torch.split(features, 4096)
    mean = torch.stack([part.double().sum(0) for part in parts]).sum(0) / len(features)
    var = torch.stack([(part.double() - mean).square().sum(0) for part in parts]).sum(0) / len(features)
    if not bool((mean.isfinite() & var.isfinite()).all()):
        bad = int((~features.isfinite().all(1)).sum())
        raise TrainingError(
            f"the features of {bad} of {len(features)} images are not finite",
            "the weights may be damaged, or half precision overflows: try --no-amp",
        )
    std = var.sqrt()
    nonconstant = std > _CONSTANT_TOLERANCE * torch.hypot(mean, std)
    mean, std = mean[nonconstant], std[nonconstant]
    if share is not None:
        inside = share.to(std)[nonconstant]
        std = std / inside * inside.square().mean().sqrt()
    scaling = Scaling(nonconstant, mean, std)
    scaled = torch.cat([((part[:, nonconstant].double() - scaling.mean) / scaling.std).to(dtype) for part in parts])
    return scaled, scaling


def column_shares(groups: Sequence[slice]) -> tuple[Tensor, ...]:
    """Candidates for the share of each column, (D,) float64 each. groups: of columns, in order, covering 0 … D."""
    sizes = torch.tensor([group.stop - group.start for group in groups])
    return tuple((sizes.double() ** -exponent).repeat_interleave(sizes) for exponent in _EXPONENTS)
