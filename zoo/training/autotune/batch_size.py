"""How many images a step should have on this device: as many as make it faster, fit, and leave steps enough."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from zoo.training.microbatch import out_of_memory
from zoo.training.module_state import unchanged

__all__ = ["BatchChoice", "Cost", "choose_batch_size", "free_memory", "rate_factor", "trial_steps"]

# Where it begins: what the shipped recipes' rates are for. Below it batch norm's statistics become noisy (Wu and He
# 2018, 1803.08494, figure 1: ResNet-50's error at 16 images a GPU is that at 32, and rises from 8 on).
_START = 32
_FEWEST = 8
# Twice the images are half the updates: not worth it for a gain that nobody notices.
_WORTHWHILE = 1.1
_UPDATES = 8  # of an epoch, at least
_SECONDS = 20.0  # for all trial steps together, about
_SECONDS_A_SIZE = 1.0  # before the last repetition of a step begins

# Of the free memory: a GPU is the run's own, and its allocator needs a reserve for fragments; a machine's memory is
# shared with the loader's processes, and where it ends the system ends the run.
_SHARE = {"cuda": 0.9}
_SHARE_OF_MACHINE = 0.5
# Memory of a step over what its forward pass saves: resident memory grew by 0.86 (resnet34 in bf16), 1.02 (vit_small,
# mobilenetv3) and 1.04 (resnet34) of that with 32 images at 224 px on a CPU, gradients included.
_BACKWARD = 1.1


@dataclass(frozen=True)
class Cost:
    """Of a trial step: seconds, and bytes that it takes for each image and besides."""

    seconds: float
    row_bytes: float
    fixed_bytes: int

    def bytes(self, images: int) -> float:
        return self.fixed_bytes + images * self.row_bytes


@dataclass(frozen=True)
class BatchChoice:
    """size: images a step. reason: one clause for the output."""

    size: int
    reason: str


def choose_batch_size(
    measure: Callable[[int], Cost | None], *, images: int, batches_a_step: int, room: float
) -> BatchChoice | None:
    """The largest power of two that fits into `room` bytes and beyond which steps of twice the size gain less than a
    tenth in images a second, from 32 on; smaller ones only if memory or the data ask for them.

    measure(n): a trial step of n images, None if memory refuses it. images: of an epoch; the choice leaves 8 updates
    of it, each of `batches_a_step` batches, or is 8. None if not even one image fits.
    """
    most = max(_power(images // (_UPDATES * batches_a_step)), _FEWEST)
    size = min(_START, most)
    begun = time.perf_counter()
    cost = measure(size)
    while cost is None or cost.bytes(size) > room:
        if size == 1:
            return None
        size //= 2
        cost = measure(size)
        if cost is not None and cost.bytes(size) <= room:
            return BatchChoice(size, "the largest power of two that fits into memory")
    tried = ""
    while True:
        twice = 2 * size
        if twice > most:
            return BatchChoice(size, f"{tried}{twice} would leave fewer than {_UPDATES} updates an epoch")
        if cost.bytes(twice) > room:
            return BatchChoice(size, f"{tried}{twice} would not fit into memory")
        if time.perf_counter() - begun > _SECONDS:
            return BatchChoice(size, f"{tried}{twice} would take long to try")
        larger = measure(twice)
        if larger is None or larger.bytes(twice) > room:
            return BatchChoice(size, f"{tried}{twice} do not fit into memory")
        gain = 2 * cost.seconds / larger.seconds
        if gain < _WORTHWHILE:
            said = f"{gain:.2f}x as fast an image" if not tried else f"{gain:.2f}x"
            return BatchChoice(size, f"{tried}{twice} only {said}")
        tried = f"measured {gain:.1f}x as fast an image as {size}; "
        size, cost = twice, larger


def _power(number: int) -> int:
    """The largest power of two that is not larger; 0 for 0."""
    return 1 << (number.bit_length() - 1) if number else 0


def rate_factor(optimizer: str, ratio: float) -> tuple[float, str]:
    """By what a learning rate changes where the images of an update are `ratio` times as many, and the rule's name.

    Plain gradient descent: in proportion (Goyal et al. 2017, 1706.02677; Krizhevsky 2014, 1404.5997, section 5). All
    others divide by the size of their gradients: by the square root (Malladi et al. 2022, 2205.10287, for Adam and
    RMSprop), an optimizer of the user's own as well, for it is the smaller change.
    """
    if optimizer.lower() in _PLAIN:
        return ratio, "in proportion"
    return math.sqrt(ratio), "by the square root"


_PLAIN = {
    "asgd", "csgdc", "csgdp", "csgdw", "momentum", "nesterov", "nesterovw", "sgd", "sgdc", "sgdp", "sgdw",
}  # fmt: skip


# --- on a device -----------------------------------------------------------------------------------------------------


def free_memory(device: torch.device) -> float:
    """Bytes that a step may take on `device`: most of what is free on a GPU, half of what is free in the machine."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return _SHARE["cuda"] * torch.cuda.mem_get_info(device)[0]
    free = int(psutil.virtual_memory().available)
    return _SHARE_OF_MACHINE * min(free, _left_in_container())


def _left_in_container() -> float:
    """What the control group allows beyond what it holds: psutil tells the whole machine's."""
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # no such group, or no limit ("max")
            return max(int(Path(limit).read_text()) - int(Path(used).read_text()), 0)
    return math.inf


def trial_steps(
    module: nn.Module,
    step: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    *,
    amp_dtype: torch.dtype | None,
    room: float,
) -> Callable[[int], Cost | None]:
    """measure(n) for `choose_batch_size`: forward and backward of n of `images` (m, C, H, W), repeated as needed.

    step(images, targets) → scalar loss. The module is left unchanged. Memory is what a GPU's allocator reserves at
    most. Elsewhere it is estimated from what the forward pass of `images` saves for the backward pass, and a step that
    would take more than `room` bytes is not tried: a system that runs out of memory ends processes without a word.
    """
    device = images.device
    learning = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)

    def once(size: int) -> float:
        places = torch.arange(size, device=device) % len(images)
        start = time.perf_counter()
        with torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
            loss = step(images[places], targets[places])
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        module.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter() - start

    saved = _Saved(module)
    with unchanged(module), saved_tensors_hooks(saved.note, lambda tensor: tensor):
        once(len(images))  # the first step is the slowest, too
    row = _BACKWARD * saved.bytes / len(images)

    def measure(size: int) -> Cost | None:
        if device.type != "cuda" and learning + size * row > room:
            return None
        with unchanged(module):
            try:
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats(device)
                before = torch.cuda.memory_reserved(device) if device.type == "cuda" else 0
                best = spent = once(size)
                while spent < _SECONDS_A_SIZE:
                    seconds = once(size)
                    best, spent = min(best, seconds), spent + seconds
            except (RuntimeError, MemoryError) as e:
                if not out_of_memory(e):
                    raise
                best = 0.0
        if not best:
            return None
        if device.type != "cuda":
            return Cost(best, row, learning)
        taken = torch.cuda.max_memory_reserved(device) - before
        return Cost(best, max(taken - learning, 0) / size, learning)

    return measure


class _Saved:
    """Sums the bytes of what a forward pass saves for the backward pass, parameters left out."""

    def __init__(self, module: nn.Module) -> None:
        self._known = {p.untyped_storage().data_ptr() for p in module.parameters()}
        self.bytes = 0

    def note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:  # several views of one are held once
            self._known.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor
