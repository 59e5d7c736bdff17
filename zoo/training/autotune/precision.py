"""How a run is executed: precision, memory format, compilation, threads and loader workers.

What is not known of a device is measured with a few steps. A gain below a quarter is within the noise of a shared
machine: then the plainer way is taken, so that the same command chooses the same every time.
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
from zoo.training.autotune.timings import benchmark
from zoo.training.autotune.workers import preserve_num_threads, threads
from zoo.training.inference import Normalize

__all__ = ["MIN_SPEEDUP", "PrecisionChoice", "RuntimeSettings", "choose_precision", "set_memory_format"]

MIN_SPEEDUP = 1.25
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}
_MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
# A measured step has two images, and more, up to a whole batch, where so many seconds allow: small ones are overhead.
_MIN_IMAGES = 2
_MAX_IMAGES = 64
_STEP_SECONDS = 0.15
_TIME_BUDGET = 1.0  # for the precision; half of it for the memory format


@dataclass(frozen=True)
class PrecisionChoice:
    """What the steps of a training compute with. precision: bf16 | fp16 | fp32. memory_format: channels_last |
    contiguous. seconds: of a step, for an image; on the CPU those of one core; None if nothing was measured. reason:
    clauses for the output."""

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
    """Everything that was chosen, and why: `text` is the sentence for the output."""

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
    """Images as `memory_format` says from here on and, on CUDA, filters too.

    A convolution takes the format of either: filters in rows would have cuDNN turn them round in each step, while on
    the CPU oneDNN brings them into an order of its own in any case (measured: no difference).
    """
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
    """The precision (asked: auto | bf16 | fp16 | fp32) and memory format (asked: auto | channels_last | contiguous).

    Precision auto: on CUDA bf16 where the device has it, else fp16; on mps fp32; on the CPU bf16 if forward and
    backward of a few images are faster with it by more than a quarter. Memory format auto: contiguous if that is faster
    by more than a quarter, for a model of convolutions; else as the images come, channels_last.

    `step(images) → scalar` normalises, runs the model and its loss; it leaves gradients and moves batch-norm
    statistics: call this inside `unchanged` of `zoo.training.module_state`. Afterwards both are laid out as chosen.

    Raises UsageError for fp16 on the CPU, where no scaler and few operations exist.
    """
    name, why = _fixed_precision(precision, device)
    chosen_format = "channels_last" if memory_format == "auto" else memory_format
    compare_formats = memory_format == "auto" and device.type in ("cpu", "cuda") and _count_convolutions(module) > 1
    set_memory_format(module, normalize, chosen_format)
    if name and not compare_formats:
        return PrecisionChoice(
            name,
            chosen_format,
            None,
            f"{_clause(name, why)}, {chosen_format}" + (" (as asked)" * (memory_format != "auto")),
        )

    def run_step(dtype: torch.dtype | None, layout: str, sample: Tensor) -> None:
        set_memory_format(module, normalize, layout)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            loss = step(sample)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        module.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

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
    """A clock that other programs hardly touch: on the CPU, processor time of one thread.

    Wall time of several threads that meet after each layer tells more about who else uses the cores: the same step was
    measured five times as slow from one second to the next, where this changed by a twentieth.
    """
    if device.type != "cpu":
        yield time.perf_counter
        return
    with preserve_num_threads():
        threads(1)
        yield time.process_time


def _timing_batch(images: Tensor, run_step: Callable[[Tensor], None], clock: Callable[[], float], batch: int) -> Tensor:
    """Two of `images`, or more, repeated, if a step of two is short."""
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
    """The precision and a reason, ("", "") if it has to be measured."""
    if requested == "fp16" and device.type == "cpu":
        raise UsageError("fp16 does not train on the CPU", "use --amp-dtype bf16 or fp32")
    if requested != "auto":
        return requested, "as asked"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "this GPU computes in it"
        return "fp16", "this GPU has no bf16"
    return ("", "") if device.type == "cpu" else ("fp32", f"mixed precision is not proven on {device.type}")


def _count_convolutions(module: nn.Module) -> int:
    return sum(isinstance(submodule, nn.Conv2d) for submodule in module.modules())
