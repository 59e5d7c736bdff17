"""torch.compile for the steps of a training, and what it takes and gains on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.training.autotune.timings import race

__all__ = ["CompiledForward", "Gain", "time_compiled"]


class CompiledForward:
    """The forward pass of `model`, compiled; `model` itself, its names and its tensors stay what they are.

    Compiled code is made for one shape. A batch runs through it if the batch before it in the epoch had the same shape,
    and through `model` else: a last, smaller batch is not worth compiling for. That depends on the epoch alone, so a
    resumed run does as an unbroken one would. Random numbers are drawn as `model` draws them.
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
class Gain:
    """compiling: seconds until compiled code exists. eager, compiled: seconds of a step. failure: why there is none."""

    compiling: float = 0.0
    eager: float = 0.0
    compiled: float = 0.0
    failure: str = ""

    @property
    def ratio(self) -> float:
        return self.eager / self.compiled if self.compiled else 0.0


def time_compiled(
    forward: CompiledForward, model: nn.Module, learn: Callable[[Callable[[Tensor], Any]], None], *, compare: bool
) -> Gain:
    """Compile for the batch of `learn(forward)`, a training step without the optimizer's part; `compare` both ways.

    What a compiler or torch's own compilation raises is the `failure`.
    """
    try:
        learn(forward)  # the first batch of its shape runs through the model
        start = time.perf_counter()
        learn(forward)
        compiling = time.perf_counter() - start
        if not compare:
            return Gain(compiling)
        best = race({False: lambda: learn(model), True: lambda: learn(forward)}, seconds=10.0, rounds=5)
    except (RuntimeError, ImportError, OSError) as e:
        return Gain(failure=_why(e))
    finally:
        forward.begin_epoch()
    return Gain(max(compiling - best[True], 0.0), best[False], best[True])


def _why(error: Exception) -> str:
    """The line of torch's long message that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("backend=")]
    told = next((line for line in lines if "ompiler" in line), "")
    return (told or (lines[0] if lines else type(error).__name__))[:200].rstrip(".")
