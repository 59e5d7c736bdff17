"""torch.compile for training steps, and its cost and speedup on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.training.autotune.timings import benchmark


class CompiledForward:
    """The compiled forward pass of `model`, which itself is not changed.

    A batch runs compiled only if the batch before it in the epoch had the same shape: compiling for a last, smaller
    batch takes too long. This depends on the epoch only, so a resumed run does the same. Random numbers are those of
    `model`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._compiled: Callable[[Tensor], Any] = torch.compile(model, dynamic=False, options={"fallback_random": True})
        self._last: torch.Size | None = None

    def begin_epoch(self) -> None:
        self._last = None

    def __call__(self, images: Tensor) -> Any:
        again = images.shape == self._last
        self._last = images.shape
        return self._compiled(images) if again else self._model(images)


@dataclass(frozen=True)
class CompileTiming:
    """eager, compiled: seconds of a step. failure: why compiling failed, or ""."""

    compile_seconds: float = 0.0
    eager: float = 0.0
    compiled: float = 0.0
    failure: str = ""

    @property
    def speedup(self) -> float:
        return self.eager / self.compiled if self.compiled else 0.0


def time_compiled(
    forward: CompiledForward, model: nn.Module, train_step: Callable[[Callable[[Tensor], Any]], None], *, compare: bool
) -> CompileTiming:
    """Compile for the batch of `train_step(forward)`; with `compare`, measure both ways.

    An error of the compiler becomes `failure`.
    """
    try:
        train_step(forward)  # the first batch of its shape runs through the model
        start = time.perf_counter()
        train_step(forward)
        compile_seconds = time.perf_counter() - start
        if not compare:
            return CompileTiming(compile_seconds)
        best = benchmark({False: lambda: train_step(model), True: lambda: train_step(forward)}, seconds=10.0, rounds=5)
    except (RuntimeError, ImportError, OSError) as e:
        return CompileTiming(failure=_error_summary(e))
    finally:
        forward.begin_epoch()
    return CompileTiming(max(compile_seconds - best[True], 0.0), best[False], best[True])


def _error_summary(error: Exception) -> str:
    """The informative line of torch's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("backend=")]
    compiler_line = next((line for line in lines if "ompiler" in line), "")
    return (compiler_line or (lines[0] if lines else type(error).__name__))[:200].rstrip(".")
