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

from zoo.training.microbatch import is_out_of_memory
from zoo.training.module_state import preserve_module_state

__all__ = ["BatchSizeChoice", "StepCost", "choose_batch_size", "free_memory", "lr_factor", "step_profiler"]

# Where it begins: what the shipped recipes' rates are for. Below it batch norm's statistics become noisy (Wu and He
# 2018, 1803.08494, figure 1: ResNet-50's error at 16 images a GPU is that at 32, and rises from 8 on).
_DEFAULT_SIZE = 32
_MIN_SIZE = 8
# Twice the images are half the updates: not worth it for a gain that nobody notices.
_MIN_SPEEDUP = 1.1
_MIN_STEPS_PER_EPOCH = 8  # of an epoch, at least
_TIME_BUDGET = 20.0  # for all trial steps together, about
_SECONDS_PER_SIZE = 1.0  # before the last repetition of a step begins

# Of the free memory: a GPU is the run's own, and its allocator needs a reserve for fragments; a machine's memory is
# shared with the loader's processes, and where it ends the system ends the run.
_MEMORY_FRACTION = {"cuda": 0.9}
_HOST_MEMORY_FRACTION = 0.5
# Memory of a step over what its forward pass saves: resident memory grew by 0.86 (resnet34 in bf16), 1.02 (vit_small,
# mobilenetv3) and 1.04 (resnet34) of that with 32 images at 224 px on a CPU, gradients included.
_BACKWARD_FACTOR = 1.1


@dataclass(frozen=True)
class StepCost:
    """Of a trial step: seconds, and bytes that it takes for each image and besides."""

    seconds: float
    bytes_per_image: float
    fixed_bytes: int

    def bytes(self, images: int) -> float:
        return self.fixed_bytes + images * self.bytes_per_image


@dataclass(frozen=True)
class BatchSizeChoice:
    """size: images a step. reason: one clause for the output."""

    size: int
    reason: str


def choose_batch_size(
    measure: Callable[[int], StepCost | None], *, images: int, batches_per_step: int, available_bytes: float
) -> BatchSizeChoice | None:
    """The largest power of two that fits into `available_bytes` bytes and beyond which steps of twice the size gain
    less than a tenth in images a second, from 32 on; smaller ones only if memory or the data ask for them.

    measure(n): a trial step of n images, None if memory refuses it. images: of an epoch; the choice leaves 8 updates
    of it, each of `batches_per_step` batches, or is 8. None if not even one image fits.
    """
    max_size = max(_floor_power_of_two(images // (_MIN_STEPS_PER_EPOCH * batches_per_step)), _MIN_SIZE)
    size = min(_DEFAULT_SIZE, max_size)
    started = time.perf_counter()
    cost = measure(size)
    while cost is None or cost.bytes(size) > available_bytes:
        if size == 1:
            return None
        size //= 2
        cost = measure(size)
        if cost is not None and cost.bytes(size) <= available_bytes:
            return BatchSizeChoice(size, "the largest power of two that fits into memory")
    measured_note = ""
    while True:
        next_size = 2 * size
        if next_size > max_size:
            return BatchSizeChoice(
                size, f"{measured_note}{next_size} would leave fewer than {_MIN_STEPS_PER_EPOCH} updates an epoch"
            )
        if cost.bytes(next_size) > available_bytes:
            return BatchSizeChoice(size, f"{measured_note}{next_size} would not fit into memory")
        if time.perf_counter() - started > _TIME_BUDGET:
            return BatchSizeChoice(size, f"{measured_note}{next_size} would take long to try")
        larger = measure(next_size)
        if larger is None or larger.bytes(next_size) > available_bytes:
            return BatchSizeChoice(size, f"{measured_note}{next_size} do not fit into memory")
        gain = 2 * cost.seconds / larger.seconds
        if gain < _MIN_SPEEDUP:
            speedup_text = f"{gain:.2f}x as fast an image" if not measured_note else f"{gain:.2f}x"
            return BatchSizeChoice(size, f"{measured_note}{next_size} only {speedup_text}")
        measured_note = f"measured {gain:.1f}x as fast an image as {size}; "
        size, cost = next_size, larger


def _floor_power_of_two(number: int) -> int:
    """The largest power of two that is not larger; 0 for 0."""
    return 1 << (number.bit_length() - 1) if number else 0


def lr_factor(optimizer: str, ratio: float) -> tuple[float, str]:
    """By what a learning rate changes where the images of an update are `ratio` times as many, and the rule's name.

    Plain gradient descent: in proportion (Goyal et al. 2017, 1706.02677; Krizhevsky 2014, 1404.5997, section 5). All
    others divide by the size of their gradients: by the square root (Malladi et al. 2022, 2205.10287, for Adam and
    RMSprop), an optimizer of the user's own as well, for it is the smaller change.
    """
    if optimizer.lower() in _SGD_FAMILY:
        return ratio, "in proportion"
    return math.sqrt(ratio), "by the square root"


_SGD_FAMILY = {
    "asgd", "csgdc", "csgdp", "csgdw", "momentum", "nesterov", "nesterovw", "sgd", "sgdc", "sgdp", "sgdw",
}  # fmt: skip


# --- on a device -----------------------------------------------------------------------------------------------------


def free_memory(device: torch.device) -> float:
    """Bytes that a step may take on `device`: most of what is free on a GPU, half of what is free in the machine."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return _MEMORY_FRACTION["cuda"] * torch.cuda.mem_get_info(device)[0]
    free = int(psutil.virtual_memory().available)
    return _HOST_MEMORY_FRACTION * min(free, _cgroup_free_memory())


def _cgroup_free_memory() -> float:
    """What the control group allows beyond what it holds: psutil tells the whole machine's."""
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # no such group, or no limit ("max")
            return max(int(Path(limit).read_text()) - int(Path(used).read_text()), 0)
    return math.inf


def step_profiler(
    module: nn.Module,
    step: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    *,
    amp_dtype: torch.dtype | None,
    available_bytes: float,
) -> Callable[[int], StepCost | None]:
    """measure(n) for `choose_batch_size`: forward and backward of n of `images` (m, C, H, W), repeated as needed.

    step(images, targets) → scalar loss. The module is left unchanged. Memory is what a GPU's allocator reserves at
    most. Elsewhere it is estimated from what the forward pass of `images` saves for the backward pass, and a step that
    would take more than `available_bytes` bytes is not tried: a system that runs out of memory ends processes without
    a word.
    """
    device = images.device
    trainable_bytes = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)

    def run_step(size: int) -> float:
        indices = torch.arange(size, device=device) % len(images)
        start = time.perf_counter()
        with torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
            loss = step(images[indices], targets[indices])
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        module.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter() - start

    saved = _SavedTensors(module)
    with preserve_module_state(module), saved_tensors_hooks(saved.pack_hook, lambda tensor: tensor):
        run_step(len(images))  # the first step is the slowest, too
    image_bytes = _BACKWARD_FACTOR * saved.bytes / len(images)

    def measure(size: int) -> StepCost | None:
        if device.type != "cuda" and trainable_bytes + size * image_bytes > available_bytes:
            return None
        with preserve_module_state(module):
            try:
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats(device)
                before = torch.cuda.memory_reserved(device) if device.type == "cuda" else 0
                best = spent = run_step(size)
                while spent < _SECONDS_PER_SIZE:
                    seconds = run_step(size)
                    best, spent = min(best, seconds), spent + seconds
            except (RuntimeError, MemoryError) as e:
                if not is_out_of_memory(e):
                    raise
                best = 0.0
        if not best:
            return None
        if device.type != "cuda":
            return StepCost(best, image_bytes, trainable_bytes)
        peak_bytes = torch.cuda.max_memory_reserved(device) - before
        return StepCost(best, max(peak_bytes - trainable_bytes, 0) / size, trainable_bytes)

    return measure


class _SavedTensors:
    """Sums the bytes of what a forward pass saves for the backward pass, parameters left out."""

    def __init__(self, module: nn.Module) -> None:
        self._known = {p.untyped_storage().data_ptr() for p in module.parameters()}
        self.bytes = 0

    def pack_hook(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:  # several views of one are held once
            self._known.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor
