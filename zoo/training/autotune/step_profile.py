"""Where the time of a training step goes: the data, the forward pass, the backward pass, the optimizer."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice

import torch
from torch import Tensor

from zoo.errors import UsageError
from zoo.training.autotune.timings import synchronize
from zoo.training.batches import Batches
from zoo.training.forward_pass import total_loss
from zoo.training.trainer import Trainer

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class StepProfile:
    """Median seconds over `steps` steps of `batch` images.

    data: loading a batch while nothing else runs. forward: model and loss. synthetic: a whole step on a batch in
    memory. real: a whole step while the loader runs. memory: peak bytes on the device, or resident in this process.
    """

    batch: int
    steps: int
    data: float
    forward: float
    backward: float
    optimizer: float
    synthetic: float
    real: float
    memory: int

    @property
    def images_per_second(self) -> float:
        return self.batch / self.real

    @property
    def share(self) -> float:
        """The throughput relative to steps without a loader."""
        return self.synthetic / self.real


@dataclass
class _Clock:
    """Seconds of each phase, per step."""

    device: torch.device
    phases: dict[str, list[float]] = field(default_factory=dict)

    def time(self, phase: str, work: Callable[[], object]) -> None:
        start = time.perf_counter()
        work()
        synchronize(self.device)
        self.phases.setdefault(phase, []).append(time.perf_counter() - start)

    def median(self, phase: str) -> float:
        return statistics.median(self.phases[phase])


def profile_steps(trainer: Trainer, batches: Batches, *, steps: int, warmup: int = 2) -> StepProfile:
    """Measure `steps` steps after `warmup` steps, over several epochs if needed.

    The trainer's weights and optimizer change: do not use it afterwards. Raises UsageError for fewer than three steps.
    """
    if steps < 3:
        raise UsageError(f"{steps} steps are not enough to measure", "give 3 or more")
    device = trainer.accelerator.device
    trainer.set_train_mode(0)
    clock = _Clock(device)
    images, targets = next(iter(_cycle(batches)))
    for number in range(warmup + steps):
        if number == warmup:
            clock.phases.clear()
        _timed_step(trainer, images, targets, clock)
    for _ in range(steps):
        clock.time("synthetic", lambda: _step(trainer, images, targets))
    loader_only = _cycle(batches)
    next(loader_only)
    for _ in range(steps):
        clock.time("data", lambda: next(loader_only))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    real = _loader_step_seconds(trainer, batches, steps, warmup)
    phases = {phase: clock.median(phase) for phase in ("data", "forward", "backward", "optimizer", "synthetic")}
    return StepProfile(batch=len(images), steps=steps, **phases, real=real, memory=_memory(device))


def _loader_step_seconds(trainer: Trainer, batches: Batches, steps: int, warmup: int) -> float:
    """Seconds per step of full batches."""
    start, images, first = 0.0, 0, 0
    for number, (on_host, targets) in enumerate(islice(_cycle(batches), warmup + steps)):
        if number == warmup:
            synchronize(trainer.accelerator.device)
            start = time.perf_counter()
        first = first or len(on_host)
        images += len(on_host) if number >= warmup else 0
        _step(trainer, on_host, targets)
    synchronize(trainer.accelerator.device)
    return (time.perf_counter() - start) * first / images


def _timed_step(trainer: Trainer, images: Tensor, targets: Tensor, clock: _Clock) -> None:
    losses: list[Tensor] = []
    clock.time("forward", lambda: losses.append(_forward(trainer, images, targets)))
    clock.time("backward", lambda: trainer.accelerator.backward(losses[0]))
    clock.time("optimizer", lambda: _optimizer_step(trainer))


def _step(trainer: Trainer, images: Tensor, targets: Tensor) -> None:
    trainer.accelerator.backward(_forward(trainer, images, targets))
    _optimizer_step(trainer)


def _forward(trainer: Trainer, images: Tensor, targets: Tensor) -> Tensor:
    device = trainer.accelerator.device
    on_device = images.to(device, non_blocking=True)
    target = trainer.scale_for_loss(targets.to(device, non_blocking=True))
    with trainer.accelerator.autocast():
        output = (trainer.compiled or trainer.module)(trainer.normalize(on_device))
        return total_loss(output, target, trainer.loss, trainer.auxiliary)[1]


def _optimizer_step(trainer: Trainer) -> None:
    trainer.optimizer.step()
    trainer.optimizer.zero_grad(set_to_none=True)


def _cycle(batches: Batches) -> Iterator[Batch]:
    """Full batches, epoch after epoch."""
    largest = 0
    for epoch in cycle(range(1 << 30)):
        batches.set_epoch(epoch)
        for images, targets in batches:
            largest = max(largest, len(images))
            if len(images) == largest:
                yield images, targets


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        import psutil  # type: ignore[import-untyped]

        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
