"""A batch that does not fit into memory goes through in pieces, and what a failed attempt has left behind is undone.

accelerate's `find_executable_batch_size` starts the whole training anew with a smaller batch, and so loses the epoch.
Here the batch that failed is done again, and the step that it belongs to stays what it was.
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

__all__ = ["OOM_AT_ONE_IMAGE", "OOM_HINT", "MicroBatcher", "StepSnapshot", "is_out_of_memory", "raise_on_oom"]

T = TypeVar("T")

# The error behind the smallest piece, and what helps.
OOM_AT_ONE_IMAGE = "out of memory on {device} with one image at a time"
OOM_HINT = "a smaller image size or a smaller model takes less; in training, also one with more of it frozen (--freeze)"

# What allocators say that raise a plain RuntimeError: torch's on the CPU and on Apple's devices, CUDA's libraries, and
# oneDNN's, whose words these are under a limit on the address space (what it does not support is a "descriptor").
_OOM_MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "STATUS_ALLOC_FAILED",
    "could not create a memory object",
)
_ONEDNN_OOM = "could not create a primitive"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory, of the device or of the machine, is exhausted."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error)
    return isinstance(error, RuntimeError) and (
        message.strip() == _ONEDNN_OOM or any(text in message for text in _OOM_MESSAGES)
    )


@contextmanager
def raise_on_oom(device: torch.device, kind: type[ZooError] = TrainingError) -> Iterator[None]:
    """For what has been cut down to one image already: raises a `kind` if even that does not fit."""
    try:
        yield
    except (RuntimeError, MemoryError) as e:
        if not is_out_of_memory(e):
            raise
        raise kind(OOM_AT_ONE_IMAGE.format(device=device), OOM_HINT) from e


@dataclass
class MicroBatcher:
    """How many images go through a model at a time: a whole batch, until memory refuses one.

    limit: None, or the number that is tried since. on_change is told of a new limit.
    """

    limit: int | None = None
    on_change: Callable[[int], None] | None = None

    def micro_batches(self, images: int) -> list[slice]:
        """A batch of `images` in as few pieces as the limit allows, of sizes that differ by one at most."""
        count = 1 if self.limit is None else max(math.ceil(images / self.limit), 1)
        return [slice(a, b) for a, b in pairwise([images * k // count for k in range(count + 1)])]

    def each(self, images: int, work: Callable[[slice], T]) -> list[T]:
        """`work(piece)` for all pieces of a batch, for what leaves nothing behind: one that does not fit is cut again,
        those before it stay done. Raises the allocator's error if a single image does not fit."""
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
            _empty_cache()  # behind the handler: the error's traceback holds what the attempt has allocated
        return results

    def run_batch(self, images: int, work: Callable[[list[slice]], T], rollback: Callable[[], None] | None) -> T:
        """`work(pieces)`, done again with smaller pieces if memory refuses one, behind `rollback`; None: never again.

        Raises the allocator's error if a single image does not fit, TrainingError if batch norm cannot train on one.
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
                    f"memory allows {self.limit} images at a time, and batch norm cannot train on a piece of one",
                    "a smaller --img-size takes less memory",
                ) from e
            rollback()
            _empty_cache()

    def first(self, images: int, work: Callable[[int], T]) -> T:
        """`work(n)` with as many of `images` as fit. Raises the allocator's error if one does not."""
        while True:
            size = images if self.limit is None else min(images, self.limit)
            try:
                return work(size)
            except (RuntimeError, MemoryError) as e:
                if not self._halve(size, e):
                    raise
            _empty_cache()

    def _halve(self, size: int, error: BaseException) -> bool:
        """Whether there is a smaller piece to try behind `error`, which is then the limit."""
        if size < 2 or not is_out_of_memory(error):
            return False
        self.limit = math.ceil(size / 2)
        if self.on_change is not None:
            self.on_change(self.limit)
        return True


@dataclass
class StepSnapshot:
    """One batch's forward and backward pass, which may have to be taken back: gradients, buffers, random numbers.

    For the module in the mode in which it trains; buffers of parts in evaluation mode do not move. The gradients of the
    batches before, in a step of several, are laid aside and added at the end. That gives the same sums as adding each
    batch to them would, and takes as much time; copies of them would take more.
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
                kinds.setdefault(buffer.dtype, []).append(buffer)  # one kernel copies many tensors of one type
        self._buffers = [(results, [buffer.clone() for buffer in results]) for results in kinds.values()]

    @torch.no_grad()
    def capture(self, *, accumulating: bool) -> None:
        """accumulating: whether there are gradients of batches before, which this one's are to be added to."""
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
        """Everything as it was at the beginning, ready for another attempt."""
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
        """Add the batch's gradients to those of the batches before it."""
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
    """Give memory that nothing refers to back, so that smaller pieces do not meet the holes of larger ones."""
    gc.collect(1)  # cycles are young: those of the attempt that failed
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
