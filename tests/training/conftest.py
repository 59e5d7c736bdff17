"""Shared by the tests of training."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from torch import Tensor

from zoo.metrics.accumulator import MetricAccumulator
from zoo.metrics.statistics import Collected
from zoo.training.trainer import Trainer


@pytest.fixture
def evaluate() -> Callable[[Trainer, Iterable[tuple[Tensor, Tensor]]], tuple[Tensor, Tensor, float]]:
    """Outputs, targets and loss of `Trainer.evaluate`."""

    def evaluate(trainer: Trainer, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, float]:
        accumulator = MetricAccumulator({}, [Collected])
        loss = trainer.evaluate(batches, accumulator)
        collected = accumulator.statistic(Collected)
        return collected.outputs, collected.targets, loss

    return evaluate
