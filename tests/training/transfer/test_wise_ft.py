from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zoo.errors import ModelError
from zoo.training.transfer.wise_ft import ALPHAS, best_interpolation, interpolate

START = {"w": torch.tensor([0.0, 2.0]), "half": torch.tensor([1.0], dtype=torch.float16), "n": torch.tensor(3)}
END = {"w": torch.tensor([1.0, 6.0]), "half": torch.tensor([2.0], dtype=torch.float16), "n": torch.tensor(9)}


def _higher(a: dict[str, float], b: dict[str, float]) -> bool:
    return a["top1"] > b["top1"]


def test_floats_are_mixed_and_counters_come_from_the_end() -> None:
    mixed = interpolate(START, END, 0.25)
    assert mixed["w"].tolist() == [0.25, 3.0]
    assert mixed["half"].tolist() == [1.25]
    assert mixed["half"].dtype == torch.float16
    assert int(mixed["n"]) == 9
    for alpha, expected in ((0.0, START), (1.0, END)):
        assert torch.equal(interpolate(START, END, alpha)["w"], expected["w"])
    assert START["w"].tolist() == [0.0, 2.0]


def test_states_of_two_architectures() -> None:
    with pytest.raises(ModelError, match="differ in extra"):
        interpolate(START, {**END, "extra": torch.zeros(1)}, 0.5)
    with pytest.raises(ModelError, match="differ in w"):
        interpolate(START, {**END, "w": torch.zeros(3)}, 0.5)


@pytest.mark.parametrize(("peak", "alpha"), [(0.62, 0.6), (0.05, 0.1), (1.0, None), (2.0, None)])
def test_the_best_mixture_is_found(peak: float, alpha: float | None) -> None:
    tried: list[float] = []

    def evaluate(state: dict[str, Tensor]) -> dict[str, float]:
        tried.append(float(state["w"][0]))
        return {"top1": -abs(float(state["w"][0]) - peak)}

    mix = best_interpolation(START, END, evaluate, _higher)
    assert tried == pytest.approx([1.0, *sorted(ALPHAS, reverse=True)])
    assert (mix.alpha if mix else None) == alpha
    if mix is not None:
        assert float(mix.state["w"][0]) == pytest.approx(alpha)
        assert mix.value["top1"] == pytest.approx(-abs(alpha - peak), abs=1e-6)


def test_equal_is_not_better_and_of_equals_the_nearest_to_the_end_wins() -> None:
    assert best_interpolation(START, END, lambda state: {"top1": 0.5}, _higher) is None
    mix = best_interpolation(START, END, lambda state: {"top1": 0.9}, _higher, end_metrics={"top1": 0.5})
    assert mix is not None
    assert mix.alpha == 0.9
    lower = best_interpolation(
        START, END, lambda s: {"loss": float(s["w"][0])}, lambda a, b: a["loss"] < b["loss"], [0.3, 0.7]
    )
    assert lower is not None
    assert lower.alpha == 0.3
