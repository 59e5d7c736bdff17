"""Forward passes without learning: what validation, evaluation and prediction share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from zoo.preprocess import Preprocess
from zoo.training.feature_extractor import FeatureExtractor
from zoo.training.microbatch import MicroBatcher

__all__ = ["Normalize", "forward_all"]


class Normalize(nn.Module):
    """uint8 (N, C, H, W) on any device → float32 ((x / 255) − mean) / std, there.

    As one multiply-add a value: x · 1/(255·std) − mean/std. The result lies in memory as `memory_format` says:
    torch.preserve_format (as the images do), contiguous_format or channels_last.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.memory_format = torch.preserve_format
        mean = torch.tensor(preprocess.mean, dtype=torch.float64)
        std = torch.tensor(preprocess.std, dtype=torch.float64)
        self.register_buffer("scale", (1 / (255 * std)).float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean / std).float().view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return torch.addcmul(self.shift, images.to(self.scale.dtype, memory_format=self.memory_format), self.scale)


@torch.inference_mode()
def forward_all(
    module: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    normalize: Normalize,
    *,
    device: torch.device,
    amp_dtype: torch.dtype | None = None,
    feature_extractor: FeatureExtractor | None = None,
    micro_batcher: MicroBatcher | None = None,
) -> tuple[Tensor, Tensor]:
    """Outputs (N, K) float32 and targets of every batch, on the CPU; `module` is put in eval mode.

    Batches are (images (n, C, H, W) uint8, targets): targets (n,) int64 are given back as (N,) int64, (n, K) of any
    float type as (N, K) float32. Without a batch there is nothing to tell K from: both are empty, (0, 0) and (0,).
    `amp_dtype` turns autocast on with that type. `feature_extractor`: of `module` or of what it is a copy of; the
    batches are then features of that instead of images. A batch that memory refuses is halved, and those behind it as
    well; `micro_batcher` remembers that for another call.
    """
    micro_batcher = micro_batcher or MicroBatcher()
    module.eval()
    outputs, targets = [], []
    for on_host, target in batches:
        images = on_host.to(device, non_blocking=True)

        def run_model(part: slice, images: Tensor = images) -> Tensor:
            with torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
                output = (
                    module(normalize(images[part]))
                    if feature_extractor is None
                    else feature_extractor.forward_head(images[part], module)
                )
            return cast(Tensor, output.float())

        outputs += micro_batcher.each(len(images), run_model)
        targets.append(target.float() if target.is_floating_point() else target)
    if not outputs:
        return torch.empty(0, 0), torch.empty(0, dtype=torch.int64)
    return torch.cat(outputs).cpu(), torch.cat(targets).cpu()
