"""Precision and memory format: what computes a training step fastest on this device.

Where it is not known, a few steps are measured. A speedup below 25% may be noise on a shared machine, so the default is
taken, and the same command chooses the same every time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UsageError
from zoo.training.autotune.timings import benchmark, run_trial_step
from zoo.training.autotune.workers import preserve_num_threads, threads
from zoo.training.inference import Normalize

MIN_SPEEDUP = 1.25
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}
_MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
# Images of a measured step: at least two, and more while a step takes less than _STEP_SECONDS.
_MIN_IMAGES = 2
_MAX_IMAGES = 64
_STEP_SECONDS = 0.15
_TIME_BUDGET = 1.0  # seconds for the precision; half for the memory format


@dataclass(frozen=True)
class PrecisionChoice:
    """precision: bf16 | fp16 | fp32. memory_format: channels_last | contiguous. seconds: of a step, per image (on the
    CPU with one thread); None if nothing was measured. reason: clauses for the log."""

    precision: str
    memory_format: str
    seconds: float | None
    reason: str

    @property
    def dtype(self) -> torch.dtype | None:
        """For autocast; None for fp32."""
        return _DTYPES[self.precision]


@dataclass(frozen=True)
class RuntimeSettings:
    """All chosen settings. text: the sentence for the log."""

    precision: str
    memory_format: str
    compile: bool
    threads: int
    workers: int
    text: str

    @property
    def dtype(self) -> torch.dtype | None:
        """For autocast; None for fp32."""
        return _DTYPES[self.precision]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def set_memory_format(module: nn.Module, normalize: Normalize, memory_format: str) -> None:
    """Use `memory_format` for images and, on CUDA, for filters: cuDNN would convert them in each step. On the CPU,
    oneDNN has its own layout for filters (measured: no difference)."""
    normalize.memory_format = _MEMORY_FORMATS[memory_format]
    if next(module.parameters()).device.type == "cuda":
        module.to(memory_format=_MEMORY_FORMATS[memory_format])


def choose_precision(
    precision: str,
    memory_format: str,
    device: torch.device,
    step: Callable[[Tensor], Tensor],
    module: nn.Module,
    normalize: Normalize,
    images: Tensor,
    *,
    batch: int,
) -> PrecisionChoice:
    """The precision and memory format to train with; `module` and `normalize` are set to the format.

    Precision auto: on CUDA bf16 if the device supports it, else fp16; on mps fp32; on the CPU bf16 if a training step
    is faster by more than 25%. Memory format auto: channels_last, unless contiguous is faster by more than 25% for a
    convolutional network.

    step(images) → scalar loss; it changes gradients and batch-norm statistics, so call this inside
    `preserve_module_state`. batch: the batch size. Raises UsageError for fp16 on the CPU.
    """
    name, why = _fixed_precision(precision, device)
    chosen_format = "channels_last" if memory_format == "auto" else memory_format
    compare_formats = memory_format == "auto" and device.type in ("cpu", "cuda") and _count_convolutions(module) > 1
    set_memory_format(module, normalize, chosen_format)
    if name and not compare_formats:
        format_note = " (as asked)" * (memory_format != "auto")
        return PrecisionChoice(name, chosen_format, None, f"{_clause(name, why)}, {chosen_format}{format_note}")

    def run_step(dtype: torch.dtype | None, layout: str, sample: Tensor) -> None:
        set_memory_format(module, normalize, layout)
        run_trial_step(module, partial(step, sample), device, dtype)

    with _timing_clock(device) as clock:
        sample = _timing_batch(images, partial(run_step, _DTYPES[name or "fp32"], chosen_format), clock, batch)
        seconds = None
        if not name:
            candidates = {n: partial(run_step, _DTYPES[n], chosen_format, sample) for n in ("fp32", "bf16")}
            best = benchmark(candidates, seconds=_TIME_BUDGET, clock=clock)
            ratio = best["fp32"] / best["bf16"]
            name = "bf16" if ratio > MIN_SPEEDUP else "fp32"
            why = f"measured {ratio:.1f}x as fast as fp32" if name == "bf16" else f"bf16 measured {ratio:.1f}x as fast"
            seconds = best[name] / len(sample)
        format_note = chosen_format if memory_format == "auto" else f"{chosen_format} (as asked)"
        if compare_formats:
            candidates = {f: partial(run_step, _DTYPES[name], f, sample) for f in ("channels_last", "contiguous")}
            best = benchmark(candidates, seconds=_TIME_BUDGET / 2, rounds=4, clock=clock)
            ratio = best["contiguous"] / best["channels_last"]
            chosen_format = "contiguous" if ratio * MIN_SPEEDUP < 1 else "channels_last"
            format_note = f"{chosen_format} (channels_last measured {ratio:.1f}x as fast as contiguous)"
            seconds = best[chosen_format] / len(sample)
    set_memory_format(module, normalize, chosen_format)
    return PrecisionChoice(name, chosen_format, seconds, f"{_clause(name, why)}, {format_note}")


@contextmanager
def _timing_clock(device: torch.device) -> Iterator[Callable[[], float]]:
    """On the CPU, the processor time of one thread: measured wall time varied fivefold with the load of other programs,
    processor time by 5%."""
    if device.type != "cpu":
        yield time.perf_counter
        return
    with preserve_num_threads():
        threads(1)
        yield time.process_time


def _timing_batch(images: Tensor, run_step: Callable[[Tensor], None], clock: Callable[[], float], batch: int) -> Tensor:
    """Two of `images`, or more if a step of two is short."""
    start = clock()
    run_step(images[:_MIN_IMAGES])
    max_images = int(_MIN_IMAGES * _STEP_SECONDS / max(clock() - start, 1e-6))
    wanted = (
        max(min(1 << max_images.bit_length(), batch, _MAX_IMAGES), min(_MIN_IMAGES, len(images)))
        if max_images > _MIN_IMAGES
        else _MIN_IMAGES
    )
    return images.repeat(-(-wanted // len(images)), 1, 1, 1)[:wanted]


def _clause(name: str, why: str) -> str:
    return f"{name} ({why})" if why else name


def _fixed_precision(requested: str, device: torch.device) -> tuple[str, str]:
    """The precision and a reason; ("", "") if it must be measured."""
    if requested == "fp16" and device.type == "cpu":
        raise UsageError("fp16 does not train on the CPU", "use --amp-dtype bf16 or fp32")
    if requested != "auto":
        return requested, "as asked"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "supported by this GPU"
        return "fp16", "this GPU has no bf16"
    return ("", "") if device.type == "cpu" else ("fp32", f"mixed precision is not tested on {device.type}")


def _count_convolutions(module: nn.Module) -> int:
    return sum(isinstance(submodule, nn.Conv2d) for submodule in module.modules())
