"""Mixed precision where it helps: measured on the CPU, known on accelerators."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.errors import UsageError

__all__ = ["Precision", "choose_precision"]

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}
# A gain below a quarter is within the noise of a shared machine: the same command should choose the same every time.
_WORTHWHILE = 1.25
_PROBE_IMAGES = 8
_PROBE_SECONDS = 1.0


@dataclass(frozen=True)
class Precision:
    """name: bf16 | fp16 | fp32. dtype: for autocast, None for fp32. reason: one clause for the output."""

    name: str
    dtype: torch.dtype | None
    reason: str


def choose_precision(
    asked: str,
    device: torch.device,
    step: Callable[[Tensor], Tensor],
    module: nn.Module,
    images: Tensor,
) -> Precision:
    """The precision for `asked` (auto | bf16 | fp16 | fp32) on `device`.

    auto: on CUDA bf16 where the device has it, else fp16; on mps fp32; on the CPU bf16 if forward and backward of a few
    images are faster with it by more than a quarter. `step(images) → scalar` runs the model and its loss; it leaves
    gradients and moves batch-norm statistics: call this inside `zoo.training.trial.unchanged`.

    Raises UsageError for fp16 on the CPU, where no scaler and few operations exist.
    """
    if asked == "fp16" and device.type == "cpu":
        raise UsageError("fp16 does not train on the CPU", "use --amp-dtype bf16 or fp32")
    if asked != "auto":
        return Precision(asked, _TYPES[asked], "as asked")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bf16", torch.bfloat16, "this GPU computes in it")
        return Precision("fp16", torch.float16, "this GPU has no bf16")
    if device.type != "cpu":
        return Precision("fp32", None, f"mixed precision is not proven on {device.type}")
    ratio = _measure(step, module, images[:_PROBE_IMAGES])
    if ratio > _WORTHWHILE:
        return Precision("bf16", torch.bfloat16, f"measured {ratio:.1f}x as fast as fp32 here")
    return Precision("fp32", None, f"bf16 measured {ratio:.1f}x as fast here: no gain")


def _measure(step: Callable[[Tensor], Tensor], module: nn.Module, images: Tensor) -> float:
    """Seconds of a step in fp32 over seconds in bf16, the best of a few interleaved repetitions."""

    def once(enabled: bool) -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = step(images)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        module.zero_grad(set_to_none=True)
        return time.perf_counter() - start

    once(False), once(True)
    best = [float("inf"), float("inf")]
    stop = time.perf_counter() + _PROBE_SECONDS
    for _ in range(10):
        for enabled in (False, True):
            best[enabled] = min(best[enabled], once(enabled))
        if time.perf_counter() > stop:
            break
    return best[False] / best[True]
