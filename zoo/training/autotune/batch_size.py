"""The batch size for this device: the largest that is faster, fits in memory and leaves enough steps per epoch."""

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

from zoo.training.autotune.timings import run_trial_step
from zoo.training.microbatch import is_out_of_memory
from zoo.training.module_state import preserve_module_state

# The shipped recipes' learning rates are for 32 images. With few images, batch-norm statistics become noisy (Wu and He
# 2018, 1803.08494, figure 1: ResNet-50 has the same error with 16 images per GPU as with 32, and a higher one from 8).
_DEFAULT_SIZE = 32
_MIN_SIZE = 8
# Doubling the batch size halves the number of steps: a smaller gain does not justify it.
_MIN_SPEEDUP = 1.1
_MIN_STEPS_PER_EPOCH = 8
_TIME_BUDGET = 20.0  # seconds, for all trial steps
_SECONDS_PER_SIZE = 1.0  # after which a step is not repeated

# Of the free memory: on a GPU, a reserve for fragmentation; on the host, memory is shared with the loader's processes.
_CUDA_MEMORY_FRACTION = 0.9
_HOST_MEMORY_FRACTION = 0.5
# Memory of a step relative to what its forward pass saves; measured, with 32 images at 224 px on a CPU: 0.86 (resnet34
# in bf16), 1.02 (vit_small, mobilenetv3) and 1.04 (resnet34).
_BACKWARD_FACTOR = 1.1


@dataclass(frozen=True)
class StepCost:
    """Seconds and memory of a trial step."""

    seconds: float
    bytes_per_image: float
    fixed_bytes: int

    def bytes(self, images: int) -> float:
        return self.fixed_bytes + images * self.bytes_per_image


@dataclass(frozen=True)
class BatchSizeChoice:
    """size: images per step. reason: a clause for the log."""

    size: int
    reason: str


def choose_batch_size(
    measure: Callable[[int], StepCost | None], *, images: int, batches_per_step: int, available_bytes: float
) -> BatchSizeChoice | None:
    """The largest power of two, from 32, that fits into `available_bytes`; it is not doubled for a speedup of less than
    10%. Smaller than 32 only if memory requires it, or to leave 8 steps of `batches_per_step` batches per epoch.

    measure(n): a trial step of n images, None if out of memory. images: per epoch. None if not even one image fits.
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
                size, f"{measured_note}{next_size} would leave fewer than {_MIN_STEPS_PER_EPOCH} steps per epoch"
            )
        if cost.bytes(next_size) > available_bytes:
            return BatchSizeChoice(size, f"{measured_note}{next_size} would not fit into memory")
        if time.perf_counter() - started > _TIME_BUDGET:
            return BatchSizeChoice(size, f"{measured_note}{next_size} would take long to try")
        larger = measure(next_size)
        if larger is None or larger.bytes(next_size) > available_bytes:
            return BatchSizeChoice(size, f"{measured_note}{next_size} does not fit into memory")
        gain = 2 * cost.seconds / larger.seconds
        if gain < _MIN_SPEEDUP:
            speedup_text = f"{gain:.2f}x as fast per image" if not measured_note else f"{gain:.2f}x"
            return BatchSizeChoice(size, f"{measured_note}{next_size} only {speedup_text}")
        measured_note = f"measured {gain:.1f}x as fast per image as {size}; "
        size, cost = next_size, larger


def _floor_power_of_two(number: int) -> int:
    """The largest power of two up to `number`; 0 for 0."""
    return 1 << (number.bit_length() - 1) if number else 0


def lr_factor(optimizer: str, ratio: float) -> tuple[float, str]:
    """The learning-rate factor if a step has `ratio` times as many images, and the name of the rule.

    SGD: linear (Goyal et al. 2017, 1706.02677; Krizhevsky 2014, 1404.5997, section 5). Adaptive optimizers: square root
    (Malladi et al. 2022, 2205.10287, for Adam and RMSprop). A user's own: square root, the smaller change.
    """
    if optimizer.lower() in _SGD_FAMILY:
        return ratio, "in proportion"
    return math.sqrt(ratio), "by the square root"


_SGD_FAMILY = {
    "asgd", "csgdc", "csgdp", "csgdw", "momentum", "nesterov", "nesterovw", "sgd", "sgdc", "sgdp", "sgdw",
}  # fmt: skip


# --- on a device -----------------------------------------------------------------------------------------------------


def free_memory(device: torch.device) -> float:
    """Bytes that a step may use: most of a GPU's free memory, or half of the host's."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return _CUDA_MEMORY_FRACTION * torch.cuda.mem_get_info(device)[0]
    free = int(psutil.virtual_memory().available)
    return _HOST_MEMORY_FRACTION * min(free, _cgroup_free_memory())


def _cgroup_free_memory() -> float:
    """Free memory within the container's limit, which psutil ignores."""
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
    """measure(n) for `choose_batch_size`: forward and backward pass of n of `images` (m, C, H, W), repeated as needed.

    step(images, targets) → scalar loss. The module is left unchanged. Memory on a GPU is the allocator's peak. On a CPU
    it is estimated from what the forward pass saves, and a step over `available_bytes` is not tried, because the system
    may kill the process.
    """
    device = images.device
    trainable_bytes = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)

    def run_step(size: int) -> float:
        indices = torch.arange(size, device=device) % len(images)
        start = time.perf_counter()
        run_trial_step(module, lambda: step(images[indices], targets[indices]), device, amp_dtype)
        return time.perf_counter() - start

    saved = _SavedTensors(module)
    with preserve_module_state(module), saved_tensors_hooks(saved.pack_hook, lambda tensor: tensor):
        run_step(len(images))  # also a warm-up step
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
    """Bytes that a forward pass saves for the backward pass, without parameters."""

    def __init__(self, module: nn.Module) -> None:
        self._known = {p.untyped_storage().data_ptr() for p in module.parameters()}
        self.bytes = 0

    def pack_hook(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:  # views share memory
            self._known.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor
