"""Forward passes without learning: what validation, evaluation and prediction share."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from zoo.preprocess import Preprocess

__all__ = ["Normalize", "forward_all"]


class Normalize(nn.Module):
    """uint8 (N, C, H, W) on any device → float32 ((x / 255) − mean) / std, there.

    As one multiply-add a value: x · 1/(255·std) − mean/std.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        mean = torch.tensor(preprocess.mean, dtype=torch.float64)
        std = torch.tensor(preprocess.std, dtype=torch.float64)
        self.register_buffer("scale", (1 / (255 * std)).float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean / std).float().view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return torch.addcmul(self.shift, images.to(self.scale.dtype), self.scale)


@torch.inference_mode()
def forward_all(
    module: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    normalize: Normalize,
    *,
    device: torch.device,
    amp_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits (N, K) float32 and targets (N,) int64 of every batch, on the CPU; `module` is put in eval mode.

    Batches are (images (n, C, H, W) uint8, targets (n,)). `amp_dtype` turns autocast on with that type.
    """
    module.eval()
    outputs, targets = [], []
    for on_host, target in batches:
        images = on_host.to(device, non_blocking=True)
        with torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
            output = module(normalize(images))
        outputs.append(output.float())
        targets.append(target)
    if not outputs:
        return torch.empty(0, 0), torch.empty(0, dtype=torch.int64)
    return torch.cat(outputs).cpu(), torch.cat(targets).cpu()
