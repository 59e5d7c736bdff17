from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from zoo.errors import UsageError
from zoo.training.autotune.step_profile import StepProfile, profile_steps
from zoo.workflows.finetune.build import build_session
from zoo.workflows.finetune.options import make_recipe


class _Slow:
    """Batches of digits that take a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.epochs: list[int] = []

    def __len__(self) -> int:
        return 4

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for size in (8, 8, 8, 3):
            time.sleep(self.seconds)
            yield torch.zeros(size, 3, 32, 32, dtype=torch.uint8), torch.zeros(size, dtype=torch.int64)


def _times(seconds: float, steps: int = 6) -> tuple[StepProfile, _Slow]:
    session = build_session(make_recipe("zoo_tiny", weights="none", settings={"augment.name": "none"}, amp=False))
    batches = _Slow(seconds)
    return profile_steps(session.trainer, batches, steps=steps), batches


def test_a_slow_loader_is_the_bottleneck() -> None:
    times, batches = _times(0.2)
    assert times.data == pytest.approx(0.2, rel=0.3)
    assert times.real >= 0.2
    assert times.share < 0.5
    assert times.images_per_second == 8 / times.real
    assert times.batch == 8  # the short batch at the end of an epoch is not measured
    assert max(batches.epochs) >= 1  # begun again


def test_the_phases_add_up_to_the_step() -> None:
    times, _ = _times(0.0, steps=12)
    whole = times.forward + times.backward + times.optimizer
    assert 0.3 * times.synthetic < whole < 3 * times.synthetic
    assert times.memory > 50 << 20


def test_two_steps_are_not_enough() -> None:
    with pytest.raises(UsageError, match="not enough"):
        _times(0.0, steps=2)
