"""fp16 with a loss scaler on the CPU, with a hand-made accelerator, because accelerate refuses it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.optim.schedules import make_schedule
from zoo.preprocess import Preprocess
from zoo.training.device import make_accelerator
from zoo.training.ema import ExponentialMovingAverage
from zoo.training.inference import Normalize
from zoo.training.trainer import Trainer

MEAN, STD = 0.5, 0.25
PREPROCESS = Preprocess((3, 8, 8), (MEAN,) * 3, (STD,) * 3)
# The largest finite fp16 is 65,504: the first scales make infinite gradients, then halving has made one that fits.
FIRST_SCALE = 2.0**22


class Once:
    """Eight batches of eight."""

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (64, 3, 8, 8), generator=g, dtype=torch.uint8)
        self.targets = torch.randint(0, 4, (64,), generator=g)

    def set_epoch(self, epoch: int) -> None:
        """Always the same order."""

    def __len__(self) -> int:
        return 8

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(zip(self.images.split(8), self.targets.split(8), strict=True))


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))


def _trainer(net: nn.Module, **more: Any) -> Trainer:
    accelerator = make_accelerator(torch.device("cpu"), None)
    accelerator.state._mixed_precision = "fp16"
    accelerator.native_amp = True
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=FIRST_SCALE)
    optimizer = torch.optim.SGD([{"params": list(net.parameters()), "lr": 0.05, "name": "all"}], lr=0.05, momentum=0.9)
    updates = math.ceil(8 / more.get("grad_accum_steps", 1))
    return Trainer(
        accelerator=accelerator,
        module=net,
        optimizer=optimizer,
        schedule=make_schedule("constant", optimizer, {}, steps_per_epoch=updates, epochs=2),
        loss=F.cross_entropy,
        normalize=Normalize(PREPROCESS),
        set_train_mode=lambda epoch: net.train() and None,
        seed=0,
        amp_dtype=torch.float16,
        **more,
    )


def _plain(net: nn.Module, batches: Once, clip: float | None, average: ExponentialMovingAverage) -> list[int]:
    """Two epochs of torch's own example; how many steps the scaler left out in each."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=FIRST_SCALE)
    left_out = []
    for _ in range(2):
        for images, targets in batches:
            with torch.autocast("cpu", dtype=torch.float16):
                output = net((images / 255 - MEAN) / STD)
            scaler.scale(F.cross_entropy(output.float(), targets)).backward()
            if clip is not None:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
            before = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            left_out.append(scaler.get_scale() < before)
            if not left_out[-1]:
                average.update(net)
    return [sum(left_out[:8]), sum(left_out[8:])]


@pytest.mark.parametrize("clip", [None, 0.1])
def test_steps_that_overflow_are_left_out_counted_and_not_averaged(clip: float | None) -> None:
    batches, ours, plain = Once(), _net(), _net()
    averages = [ExponentialMovingAverage(net, 0.9) for net in (ours, plain)]
    trainer = _trainer(ours, clip_grad=clip, ema=averages[0])
    stats = [trainer.train_epoch(batches, epoch) for epoch in range(2)]
    expected = _plain(plain, batches, clip, averages[1])
    assert 0 < expected[0] < 8
    assert [s.skipped_steps for s in stats] == expected
    for a, b in ((ours, plain), (averages[0].module, averages[1].module)):
        assert all(torch.allclose(p, q, atol=1e-5) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.allclose(next(ours.parameters()), next(_net().parameters()), atol=1e-3)


def test_the_scale_is_resumed() -> None:
    batches, whole, half = Once(), _net(), _net()
    trainer = _trainer(whole)
    trainer.train_epoch(batches, 0)
    tensors, values = copy.deepcopy((trainer.tensors(), trainer.values()))
    skipped = trainer.train_epoch(batches, 1).skipped_steps
    resumed = _trainer(half)
    resumed.load(tensors, values)
    assert resumed.train_epoch(batches, 1).skipped_steps == skipped < 3
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), half.parameters(), strict=True))
