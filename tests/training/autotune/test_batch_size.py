"""The choice of the batch size, from given and measured costs."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.optim import OPTIMIZERS
from zoo.training.autotune import batch_size
from zoo.training.autotune.batch_size import StepCost, choose_batch_size, free_memory, lr_factor, step_profiler

MIB = 1 << 20


def _device(
    *, launch: float = 0.0, image: float = 1.0, full: int = 1, memory: int = 10**6
) -> tuple[Callable[[int], StepCost | None], list[int]]:
    """A device that works on `full` images at a time, `image` each, `launch` a step, and takes 1 MiB an image."""
    tried: list[int] = []

    def measure(size: int) -> StepCost | None:
        tried.append(size)
        seconds = launch + image * math.ceil(size / full) * full
        return StepCost(seconds, MIB, 10 * MIB) if size <= memory else None

    return measure, tried


def test_doubles_while_that_is_faster() -> None:
    measure, tried = _device(full=256)  # up to 256 images take as long as one
    found = choose_batch_size(measure, images=10**6, batches_per_step=1, available_bytes=math.inf)
    assert found is not None
    assert found.size == 256
    assert found.reason == "measured 2.0x as fast per image as 128; 512 only 1.00x"
    assert tried == [32, 64, 128, 256, 512]


def test_does_not_double_without_speedup() -> None:
    measure, tried = _device(launch=0.1)
    found = choose_batch_size(measure, images=10**6, batches_per_step=1, available_bytes=math.inf)
    assert found is not None
    assert (found.size, tried) == (32, [32, 64])
    assert found.reason == "64 only 1.00x as fast per image"


@pytest.mark.parametrize(
    ("images", "steps", "size"), [(2000, 1, 128), (2000, 4, 32), (300, 1, 32), (130, 1, 16), (20, 1, 8)]
)
def test_leaves_eight_steps_per_epoch(images: int, steps: int, size: int) -> None:
    measure, tried = _device(full=10**6)
    found = choose_batch_size(measure, images=images, batches_per_step=steps, available_bytes=math.inf)
    assert found is not None
    assert found.size == max(tried) == size
    assert size == 8 or images / (size * steps) >= 8
    assert found.reason.endswith(f"{2 * size} would leave fewer than 8 steps per epoch")


def test_stays_within_memory() -> None:
    measure, tried = _device(full=10**6)
    found = choose_batch_size(measure, images=10**6, batches_per_step=1, available_bytes=150 * MIB)
    assert found is not None
    assert (found.size, tried) == (128, [32, 64, 128])  # 256 images would take 266 MiB: not tried
    assert found.reason.endswith("256 would not fit into memory")
    measure, tried = _device(full=10**6, memory=100)
    found = choose_batch_size(measure, images=10**6, batches_per_step=1, available_bytes=math.inf)
    assert found is not None
    assert (found.size, tried) == (64, [32, 64, 128])


@pytest.mark.parametrize(
    ("memory", "available_bytes", "size"), [(5, math.inf, 4), (10**6, 13 * MIB, 2), (0, math.inf, None)]
)
def test_smaller_than_32_if_memory_requires_it(memory: int, available_bytes: float, size: int | None) -> None:
    found = choose_batch_size(
        _device(full=10**6, memory=memory)[0], images=10**6, batches_per_step=1, available_bytes=available_bytes
    )
    assert (None if found is None else found.size) == size


def test_stops_after_the_time_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(batch_size.time, "perf_counter", lambda: now[0])

    def slow(size: int) -> StepCost:
        now[0] += size / 2
        return StepCost(1.0, MIB, 0)

    found = choose_batch_size(slow, images=10**6, batches_per_step=1, available_bytes=math.inf)
    assert found is not None
    assert found.size == 64
    assert found.reason.endswith("128 would take long to try")


def test_learning_rate_rule_of_the_optimizer() -> None:
    assert lr_factor("SGD", 4.0) == (4.0, "in proportion")
    assert lr_factor("adamw", 4.0) == (2.0, "by the square root")
    assert lr_factor("mine:Optimizer", 0.25) == (0.5, "by the square root")
    names = {name.lower() for name in OPTIMIZERS}
    assert names >= batch_size._SGD_FAMILY


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(4096, 4)
    )


def test_a_trial_step_measures_memory_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "_SECONDS_PER_SIZE", 0.02)
    net = _net()
    images, targets = torch.rand(8, 3, 16, 16), torch.arange(8) % 4
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    sizes: list[int] = []

    def step(x: Tensor, y: Tensor) -> Tensor:
        sizes.append(len(x))
        return F.cross_entropy(net(x), y)

    measure = step_profiler(net, step, images, targets, amp_dtype=None, available_bytes=math.inf)
    cost = measure(32)
    assert cost is not None
    # the image, the convolution's output and that of ReLU, in float32
    assert cost.bytes_per_image == pytest.approx(1.1 * 4 * (3 + 16 + 16) * 256, rel=0.01)
    assert cost.fixed_bytes == 4 * sum(p.numel() for p in net.parameters())
    assert cost.seconds > 0
    assert sizes[0] == 8
    assert set(sizes[1:]) == {32}
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    tight = step_profiler(net, step, images, targets, amp_dtype=None, available_bytes=cost.bytes(16))
    assert tight(16) is not None
    tried = len(sizes)
    assert tight(32) is None
    assert len(sizes) == tried  # not tried at all


def test_frozen_layers_need_no_memory() -> None:
    net = _net()
    net[:4].requires_grad_(False).eval()
    images, targets = torch.rand(8, 3, 16, 16), torch.arange(8) % 4
    cost = step_profiler(
        net, lambda x, y: F.cross_entropy(net(x), y), images, targets, amp_dtype=None, available_bytes=math.inf
    )(8)
    assert cost is not None
    assert cost.bytes_per_image < 1.1 * 4 * 4200  # the head's input


def test_free_memory_is_a_part_of_the_host_memory() -> None:
    import psutil

    assert 0 < free_memory(torch.device("cpu")) < psutil.virtual_memory().total
