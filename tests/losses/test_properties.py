"""Properties of every loss of the table, in each of its tasks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.losses import LOSSES, make_loss
from zoo.losses.base import LogitsLoss
from zoo.metrics import better, compute
from zoo.tasks import TASKS

Draw = Callable[..., tuple[Tensor, Tensor]]
PAIRS = [(name, task) for name, entry in LOSSES.items() for task in entry.tasks]
SHAPES = [(1, 2), (5, 3), (4, 1), (3, 4, 2, 5), (2, 2, 1, 1)]


def _value_and_gradient(name: str, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().clone().requires_grad_()
    value = make_loss(name, {})(x, target)
    value.backward()
    assert value.ndim == 0
    assert x.grad is not None
    return value.detach(), x.grad


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_finite_whatever_the_outputs_and_targets(sample: Draw, name: str, task: str) -> None:
    for seed, shape in enumerate(SHAPES):
        if shape[1] == 1 and task == "single-label":
            continue
        x, target = sample(task, shape, seed)
        targets = [target]
        if task != "regression":
            targets += [torch.zeros_like(target), torch.ones_like(target)]
        for t in targets:
            signs = torch.sign(x)
            for outputs in (x, torch.zeros_like(x), signs * 1e4, -signs * 1e4, torch.full_like(x, 1e4), signs * 100):
                for dtype in (torch.float32, torch.float16, torch.bfloat16):
                    value, gradient = _value_and_gradient(name, outputs.to(dtype), t)
                    assert value.dtype == torch.float32
                    assert value.isfinite(), (shape, dtype)
                    assert value >= -1e-6
                    assert gradient.isfinite().all(), (shape, dtype)


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_the_order_of_the_batch_does_not_matter(sample: Draw, name: str, task: str) -> None:
    for shape in ((6, 3), (6, 3, 2, 2)):
        x, target = sample(task, shape)
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        torch.testing.assert_close(make_loss(name, {})(x[order], target[order]), make_loss(name, {})(x, target))


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_right_is_better_than_wrong_and_costs_nothing(sample: Draw, name: str, task: str) -> None:
    for shape in ((6, 3), (6, 3, 2, 2)):
        x, target = sample(task, shape)
        if task == "single-label":
            right = 40.0 * F.one_hot(target, 3).movedim(-1, 1).float() - 20
        else:
            right = 40 * target - 20 if task == "multi-label" else target
        loss = make_loss(name, {})
        assert loss(right, target) == pytest.approx(0, abs=1e-5)
        assert loss(right, target) < loss(x, target)
        wrong = -right if task == "multi-label" else right.roll(1, 1)
        assert loss(right, target) < loss(wrong, target)


@pytest.mark.parametrize(("name", "task"), PAIRS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_numbers_are_computed_in_full_precision(sample: Draw, name: str, task: str, dtype: torch.dtype) -> None:
    x, target = sample(task, (7, 5))
    x = x.to(dtype)
    value, gradient = _value_and_gradient(name, x, target)
    exact, slope = _value_and_gradient(name, x.float(), target)
    assert torch.equal(value, exact)
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient, slope.to(dtype))


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_autocast_changes_nothing(sample: Draw, name: str, task: str) -> None:
    for shape in ((7, 5), (2, 3, 2, 2)):
        x, target = sample(task, shape)
        plain = _value_and_gradient(name, x, target)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = _value_and_gradient(name, x, target)
        assert torch.equal(plain[0], cast[0])
        assert torch.equal(plain[1], cast[1])


def test_no_loss_computes_under_autocast() -> None:
    class Product(LogitsLoss):
        def compute(self, output: Tensor, target: Tensor) -> Tensor:
            return (output @ target).sum()  # the CPU's autocast shortens matrix products

    exact = torch.full((1, 1), 1.001)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Product()(exact, exact) == pytest.approx(1.001**2, rel=1e-6)


def _problem(task: str) -> tuple[Tensor, Tensor]:
    """64 points in 8 dimensions, whose targets a linear layer can learn."""
    random = torch.Generator().manual_seed(3)
    x = torch.randn(64, 8, generator=random)
    scores = x @ torch.randn(8, 4, generator=random)
    if task == "single-label":
        return x, scores.argmax(1)
    return x, (scores > 1).float() if task == "multi-label" else (scores - scores.mean(0)) / scores.std(0)


@pytest.mark.parametrize(("name", "task"), PAIRS)
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_thirty_steps_lower_the_loss_and_improve_the_measure(
    name: str, task: str, optimizer: type[torch.optim.Optimizer]
) -> None:
    x, target = _problem(task)
    torch.manual_seed(0)
    model, loss = nn.Linear(8, 4), make_loss(name, {})
    steps = optimizer(model.parameters(), lr=0.5 if optimizer is torch.optim.SGD and task != "regression" else 0.1)
    measure = TASKS[task].monitor

    def evaluate() -> tuple[float, float]:
        with torch.no_grad():
            output = model(x)
            return float(loss(output, target)), compute([measure], output, target, task=task)[measure]

    before = evaluate()
    for _ in range(30):
        steps.zero_grad()
        loss(model(x), target).backward()
        steps.step()
    after = evaluate()
    assert after[0] < 0.95 * before[0]
    assert better(measure, after[1], before[1])
