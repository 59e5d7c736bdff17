"""Forward passes without gradients, for validation, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from zoo.metrics.statistics import Collected
from zoo.preprocess import Preprocess
from zoo.training.feature_extractor import FeatureExtractor
from zoo.training.microbatch import MicroBatcher

# Outputs wait on the device, without a synchronization for each batch, until they are this many values (64 MB).
_MAX_VALUES = 2**24


class Normalize(nn.Module):
    """uint8 (N, C, H, W) → float32 ((x / 255) − mean) / std, on the same device.

    Computed as one multiply-add per value: x · 1/(255·std) − mean/std. `memory_format` is that of the result:
    torch.preserve_format (the images' own), contiguous_format or channels_last.
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
def forward_batches(
    module: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    normalize: Normalize,
    *,
    device: torch.device,
    amp_dtype: torch.dtype | None = None,
    feature_extractor: FeatureExtractor | None = None,
    micro_batcher: MicroBatcher | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Outputs and targets on the CPU, several batches at a time; `module` is put in eval mode.

    Args:
        module: the model.
        batches: (images (n, C, H, W) uint8, targets (n,) int64 or (n, K) of any float type).
        normalize: of the images.
        device: where `module` is.
        amp_dtype: turns autocast on with this type.
        feature_extractor: the batches are features of this extractor instead of images; it belongs to `module` or to
            the model that `module` is a copy of.
        micro_batcher: splits batches that do not fit in memory, and remembers that for later calls.

    Yields:
        outputs (N, K) float32 and targets (N,) int64 or (N, K) float32, in the order of the batches.
    """
    micro_batcher = micro_batcher or MicroBatcher()
    module.eval()
    outputs: list[Tensor] = []
    targets: list[Tensor] = []
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
        if sum(output.numel() for output in outputs) >= _MAX_VALUES:
            yield torch.cat(outputs).cpu(), torch.cat(targets).cpu()
            outputs, targets = [], []
    if outputs:
        yield torch.cat(outputs).cpu(), torch.cat(targets).cpu()


def forward_all(
    module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], normalize: Normalize, *, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The outputs and targets of `forward_batches` in one piece; (0, 0) and (0,) without a batch."""
    collected = Collected()
    for outputs, targets in forward_batches(module, batches, normalize, device=device):
        collected.update(outputs, targets)
    return collected.outputs, collected.targets
