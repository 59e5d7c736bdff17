"""Tasks: activation, predictions, and that nothing outside zoo.tasks compares their names."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from zoo.errors import UsageError
from zoo.tasks import TASKS, Task, get_task


def test_activation() -> None:
    outputs = torch.tensor([[0.0, 3.0], [-1.0, 1.0]])
    assert torch.allclose(get_task("single-label").activate(outputs).sum(1), torch.ones(2))
    assert torch.equal(get_task("multi-label").activate(outputs), outputs.sigmoid())
    assert torch.equal(get_task("regression").activate(outputs), outputs)
    half = get_task("single-label").activate(outputs.bfloat16())
    assert half.dtype == torch.float32
    assert torch.allclose(half.sum(1), torch.ones(2))


def test_unknown_task_suggests_the_nearest() -> None:
    with pytest.raises(UsageError) as e:
        get_task("regresion")
    assert "did you mean regression" in e.value.hint


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_csv_rows_have_the_columns_of_the_header(task: Task) -> None:
    prediction = task.prediction_maker(["a", "b"], None, None)("image.jpg", torch.tensor([0.6, 0.4]))
    assert prediction.task == task.name
    assert {len(row) for row in prediction.csv_rows()} == {len(prediction.csv_header())}
    assert prediction.to_dict()["path"] == "image.jpg"


def test_tasks_import_no_torch() -> None:
    code = "import sys, zoo.tasks; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'pydantic')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
