"""Forward passes of every task: outputs and targets."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.errors import DataError
from zoo.metrics import compute, report
from zoo.preprocess import Preprocess
from zoo.training.inference import Normalize, forward_all

PREPROCESS = Preprocess.from_dict(
    {"input_size": [3, 4, 4], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "crop_pct": 1.0}
)
CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_target_columns_are_float32_and_in_order(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    images = torch.randint(0, 256, (7, 3, 4, 4), dtype=torch.uint8)
    targets = torch.arange(14.0, dtype=dtype).view(7, 2)
    batches = [(images[:4], targets[:4]), (images[4:], targets[4:])]
    outputs, seen = forward_all(module, batches, Normalize(PREPROCESS), device=CPU)
    assert seen.dtype == torch.float32
    assert torch.equal(seen, targets.float())
    assert torch.allclose(outputs, module(Normalize(PREPROCESS)(images)), atol=1e-6)


@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression"])
def test_without_a_batch_outputs_are_empty(task: str) -> None:
    outputs, targets = forward_all(nn.Flatten(), [], Normalize(PREPROCESS), device=CPU)
    assert (len(outputs), len(targets)) == (0, 0)
    with pytest.raises(DataError, match="no image"):
        compute(["loss"], outputs, targets, task=task)
    with pytest.raises(DataError, match="no image"):
        report(outputs, targets, "ab", task)
