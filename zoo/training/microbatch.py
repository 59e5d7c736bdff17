"""Micro-batches after an out-of-memory error: the failed batch is repeated in parts, with the same optimizer step.

accelerate's `find_executable_batch_size` would restart the training with a smaller batch size, and lose the epoch.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from zoo.errors import TrainingError, ZooError

T = TypeVar("T")

# The error if one image does not fit, and its hint.
OOM_AT_ONE_IMAGE = "out of memory on {device} with one image at a time"
OOM_HINT = "a smaller image size or a smaller model takes less; in training, also one with more of it frozen (--freeze)"

# Messages of allocators that raise a plain RuntimeError: torch on the CPU and on MPS, CUDA libraries, and oneDNN (under
# an address-space limit; for an unsupported operation its message says "descriptor").
_OOM_MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "STATUS_ALLOC_FAILED",
    "could not create a memory object",
)
_ONEDNN_OOM = "could not create a primitive"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that the device or the host is out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error)
    return isinstance(error, RuntimeError) and (
        message.strip() == _ONEDNN_OOM or any(text in message for text in _OOM_MESSAGES)
    )


@contextmanager
def raise_on_oom(device: torch.device, kind: type[ZooError] = TrainingError) -> Iterator[None]:
    """Raise a `kind` on an out-of-memory error in work on a single image."""
    try:
        yield
    except (RuntimeError, MemoryError) as e:
        if not is_out_of_memory(e):
            raise
        raise kind(OOM_AT_ONE_IMAGE.format(device=device), OOM_HINT) from e


@dataclass
class MicroBatcher:
    """Splits batches that do not fit in memory. limit: micro-batch size, None until memory was short. on_change: called
    with a new limit."""

    limit: int | None = None
    on_change: Callable[[int], None] | None = None

    def micro_batches(self, images: int) -> list[slice]:
        """As few slices of `images` as the limit allows, of nearly equal sizes."""
        count = 1 if self.limit is None else max(math.ceil(images / self.limit), 1)
        return [slice(a, b) for a, b in pairwise([images * k // count for k in range(count + 1)])]

    def each(self, images: int, work: Callable[[slice], T]) -> list[T]:
        """`work(part)` for each micro-batch, for work without side effects: after an out-of-memory error, finished
        parts are not repeated. Raises the allocator's error if one image does not fit."""
        results: list[T] = []
        done = 0
        while done < images:
            size = self.micro_batches(images - done)[0].stop
            try:
                results.append(work(slice(done, done + size)))
                done += size
                continue
            except (RuntimeError, MemoryError) as e:
                if not self._halve(size, e):
                    raise
            _empty_cache()  # after the handler: the traceback references the allocated tensors
        return results

    def run_batch(self, images: int, work: Callable[[list[slice]], T], rollback: Callable[[], None] | None) -> T:
        """`work(parts)`; after an out-of-memory error `rollback()` (None: no retry), then again with smaller parts.

        Raises the allocator's error if one image does not fit, TrainingError if batch norm cannot train on one.
        """
        while True:
            micro_batches = self.micro_batches(images)
            size = max((part.stop - part.start for part in micro_batches), default=0)
            try:
                return work(micro_batches)
            except (RuntimeError, MemoryError) as e:
                if rollback is None or not self._halve(size, e):
                    raise
            except ValueError as e:
                if self.limit is None or "more than 1 value per channel" not in str(e):
                    raise
                raise TrainingError(
                    f"only micro-batches of {self.limit} fit in memory, and batch norm cannot train on one image",
                    "a smaller --img-size takes less memory",
                ) from e
            rollback()
            _empty_cache()

    def first(self, images: int, work: Callable[[int], T]) -> T:
        """`work(n)` with the largest n up to `images` that fits in memory."""
        while True:
            size = images if self.limit is None else min(images, self.limit)
            try:
                return work(size)
            except (RuntimeError, MemoryError) as e:
                if not self._halve(size, e):
                    raise
            _empty_cache()

    def _halve(self, size: int, error: BaseException) -> bool:
        """Lower the limit after an out-of-memory `error`; False if that is not possible."""
        if size < 2 or not is_out_of_memory(error):
            return False
        self.limit = math.ceil(size / 2)
        if self.on_change is not None:
            self.on_change(self.limit)
        return True


@dataclass
class StepSnapshot:
    """Undoes the forward and backward pass of a batch: gradients, buffers, random state.

    Gradients of earlier batches in the same step are set aside and added at the end: the same sums as accumulating, at
    the same speed, without copies. Buffers are those of modules in training mode.
    """

    module: nn.Module
    device: torch.device
    _parameters: list[nn.Parameter] = field(init=False)
    _buffers: list[tuple[list[Tensor], list[Tensor]]] = field(init=False)
    _rng_states: list[Tensor] = field(init=False, default_factory=list)
    _earlier_gradients: list[Tensor | None] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._parameters = [p for p in self.module.parameters() if p.requires_grad]
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for part in self.module.modules():
            for buffer in part.buffers(recurse=False) if part.training else ():
                kinds.setdefault(buffer.dtype, []).append(buffer)  # one kernel copies all tensors of a dtype
        self._buffers = [(results, [buffer.clone() for buffer in results]) for results in kinds.values()]

    @torch.no_grad()
    def capture(self, *, accumulating: bool) -> None:
        """accumulating: whether there are gradients of earlier batches in the same step."""
        for buffers, saved in self._buffers:
            torch._foreach_copy_(saved, buffers)
        self._rng_states = [torch.get_rng_state()]
        if self.device.type == "cuda":
            self._rng_states.append(torch.cuda.get_rng_state(self.device))
        elif self.device.type == "mps":
            self._rng_states.append(torch.mps.get_rng_state())
        self._earlier_gradients = [p.grad for p in self._parameters] if accumulating else []
        if accumulating:
            self._zero_grad()

    @torch.no_grad()
    def rollback(self) -> None:
        """Restore the captured state."""
        self._zero_grad()
        for buffers, saved in self._buffers:
            torch._foreach_copy_(buffers, saved)
        torch.set_rng_state(self._rng_states[0])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(self._rng_states[1], self.device)
        elif self.device.type == "mps":
            torch.mps.set_rng_state(self._rng_states[1])

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add the batch's gradients to those of earlier batches."""
        both = [
            (p, before)
            for p, before in zip(self._parameters, self._earlier_gradients, strict=False)
            if before is not None
        ]
        added = [(before, p.grad) for p, before in both if p.grad is not None]
        if added:
            torch._foreach_add_([before for before, _ in added], [gradient for _, gradient in added])
        for parameter, before in both:
            parameter.grad = before
        self._earlier_gradients = []

    def _zero_grad(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None


def _empty_cache() -> None:
    """Free unused memory, to avoid fragmentation by the larger batch."""
    gc.collect(1)  # the failed attempt's reference cycles are young
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
