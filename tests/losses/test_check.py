from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zoo.errors import TrainingError, UsageError
from zoo.losses import make_loss
from zoo.losses.check import check_value, loss_name

OUTPUT = torch.zeros(4, 3, requires_grad=True)


def mine(output: Tensor, target: Tensor) -> Tensor:
    return output.sum()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1, r"test_check:mine returned 1 \(int\), not a tensor"),
        (None, r"mine returned None \(NoneType\), not a tensor"),
        (OUTPUT.sum(1), r"mine returned shape \(4,\), not a scalar"),
        (OUTPUT.argmax(), r"mine returned torch.int64, not a real number"),
        (OUTPUT.sum().detach(), "mine returned a number without a gradient"),
    ],
)
def test_invalid_loss_values(value: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_value(value, mine, OUTPUT)


def test_a_first_loss_that_is_not_finite() -> None:
    value = OUTPUT.sum() * float("nan")
    check_value(value, mine, OUTPUT)
    with pytest.raises(TrainingError, match="mine is nan before the first step"):
        check_value(value, mine, OUTPUT, finite=True)


def test_valid_loss_values() -> None:
    check_value(OUTPUT.sum(), mine, OUTPUT, finite=True)
    with torch.no_grad():
        check_value(OUTPUT.sum(), mine, OUTPUT)
    check_value(torch.tensor(1.0), mine, torch.zeros(4, 3))


def test_a_loss_is_called_by_the_name_that_was_typed() -> None:
    assert loss_name(make_loss("CrossEntropyLoss", {})) == "CrossEntropyLoss"
    assert loss_name(make_loss("focal", {})) == "focal"
    assert loss_name(torch.nn.MSELoss()) == "MSELoss"
