"""Tasks: activation, predictions, and that nothing outside zoo.tasks compares their names."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import zoo
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


def test_image_losses_have_the_mean_of_the_default_loss() -> None:
    g = torch.Generator().manual_seed(0)
    outputs = torch.randn(9, 3, generator=g)
    one, many = torch.randint(0, 3, (9,), generator=g), torch.randint(0, 2, (9, 3), generator=g).float()
    losses = get_task("single-label").image_losses(outputs, one)
    assert losses.shape == (9,)
    assert torch.isclose(losses.mean(), torch.nn.functional.cross_entropy(outputs, one))
    losses = get_task("multi-label").image_losses(outputs, many)
    assert torch.isclose(losses.mean(), torch.nn.functional.binary_cross_entropy_with_logits(outputs, many))
    values = torch.randn(9, 3, generator=g) * torch.tensor([1.0, 10.0, 100.0])
    losses = get_task("regression").image_losses(values.mean(0).expand(9, 3), values)
    assert torch.isclose(losses.mean(), torch.tensor(1.0))  # predicting the mean: one variance


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


def _compared_constants(tree: ast.AST) -> Iterator[ast.Constant]:
    """Constants in comparisons, in patterns of `match`, and among the keys of dictionaries."""
    for node in ast.walk(tree):
        values: list[ast.expr | None] = []
        if isinstance(node, ast.Compare):
            values = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            values = [node.value]
        elif isinstance(node, ast.Dict):
            values = list(node.keys)
        for value in values:
            if value is not None:
                yield from (n for n in ast.walk(value) if isinstance(n, ast.Constant))


def test_no_other_package_compares_task_names() -> None:
    """What differs between tasks is an attribute or a method of the task."""
    root = Path(zoo.__file__).parent
    files = [path for path in root.rglob("*.py") if path.parent != root / "tasks"]
    compared = [
        f"{path.relative_to(root)}:{constant.lineno}"
        for path in files
        for constant in _compared_constants(ast.parse(path.read_text(encoding="utf-8")))
        if constant.value in TASKS
    ]
    assert len(files) > 100
    assert compared == []
