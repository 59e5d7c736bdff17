"""Metrics of batches are those of all outputs, and counts need no outputs in memory."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from zoo.errors import DataError
from zoo.metrics import METRICS, MetricAccumulator, compute
from zoo.metrics.single_label import balanced_accuracy, top1
from zoo.metrics.statistics import Collected, ConfusionMatrix
from zoo.tasks import TaskName


def _outputs_and_targets(task: TaskName) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    outputs = torch.randn(203, 6, generator=generator)
    if task == "single-label":
        return outputs, torch.randint(0, 6, (203,), generator=generator)
    values = torch.randn(203, 6, generator=generator)
    return outputs, values if task == "regression" else (values > 0.5).float()


@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression"])
def test_batches_give_the_same_bits_as_all_outputs_at_once(task: TaskName) -> None:
    outputs, targets = _outputs_and_targets(task)
    names = [name for name, metric in METRICS.items() if task in metric.tasks]
    accumulator = MetricAccumulator.of(names, task)
    for batch in torch.arange(203).split(16):
        accumulator.update(outputs[batch], targets[batch])
    assert accumulator.images == 203
    assert accumulator.compute() == compute(names, outputs, targets, task=task)


def test_a_confusion_matrix_of_masks_keeps_no_outputs() -> None:
    """Three classes, (n, 3, H, W) outputs: every pixel counts once, and the outputs are freed."""
    accumulator = MetricAccumulator({"balanced_accuracy": balanced_accuracy}, [ConfusionMatrix])
    seen = []
    for seed in range(3):
        masks = torch.randint(0, 3, (2, 5, 7), generator=torch.Generator().manual_seed(seed))
        outputs = torch.nn.functional.one_hot(masks, 3).permute(0, 3, 1, 2).float()
        accumulator.update(outputs, masks)
        seen.append(weakref.ref(outputs))
    del outputs
    gc.collect()
    assert all(reference() is None for reference in seen)
    assert int(accumulator.statistic(ConfusionMatrix).counts.sum()) == 3 * 2 * 5 * 7
    assert accumulator.compute() == {"balanced_accuracy": 1.0}


def test_a_statistic_that_was_not_accumulated_comes_from_the_collected_outputs() -> None:
    outputs, targets = torch.eye(3), torch.tensor([0, 1, 1])
    accumulator = MetricAccumulator({}, [Collected])
    accumulator.update(outputs, targets)
    assert accumulator.statistic(ConfusionMatrix).counts.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    with pytest.raises(KeyError):
        MetricAccumulator({"top1": top1}).statistic(ConfusionMatrix)


def test_processes_are_merged_also_if_one_has_no_batch() -> None:
    outputs, targets = torch.eye(3), torch.tensor([0, 1, 1])
    accumulator, empty = MetricAccumulator({"top1": top1}), MetricAccumulator({"top1": top1})
    accumulator.update(outputs, targets)
    empty.merge(lambda *tensors: tensors)
    with pytest.raises(DataError):
        empty.compute()
    accumulator.merge(lambda *tensors: tuple(torch.cat([t, t]) for t in tensors))
    assert accumulator.images == 6
    assert accumulator.compute() == {"top1": 2 / 3}
