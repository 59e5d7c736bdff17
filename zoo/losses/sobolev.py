"""A loss of values and slopes, for curves and maps."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from zoo.losses.base import LogitsLoss, number, one_of, same_shape


class Sobolev(LogitsLoss):
    """V(x, y) + slope_weight·Σ_d V(D_d x, D_d y), the finite-difference form of a Sobolev norm of the error.

    V is the mean over all elements of (a - b)² ("mse") or |a - b| ("l1"); D_d u = u[i + 1] - u[i], the forward
    difference along dimension d. For maps (N, C, H, W) d runs over H and W; for vectors (N, K) over K, as neighbouring
    points of a curve. A dimension of length 1 adds 0. Slopes are those of the standardized targets.

    After Czarnecki et al. 2017, equation 1, who match derivatives with respect to the network's input; here they are
    along its output, without a second backward pass.

    Shape: output and target (N, K) or (N, C, …).
    """

    def __init__(self, slope_weight: float = 1.0, distance: str = "mse") -> None:
        super().__init__()
        self.slope_weight = number("slope_weight", slope_weight, least=0)
        self.distance = F.mse_loss if one_of("distance", distance, ("mse", "l1")) == "mse" else F.l1_loss

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        target = same_shape(output, target)
        total = self.distance(output, target)
        for d in [1] if output.ndim == 2 else range(2, output.ndim):
            if output.shape[d] > 1:
                total = total + self.slope_weight * self.distance(output.diff(dim=d), target.diff(dim=d))
        return total
