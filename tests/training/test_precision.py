from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from zoo.errors import ModelError, UsageError
from zoo.preprocess import Preprocess
from zoo.training import precision
from zoo.training.device import make_engine, pick_device
from zoo.training.inference import Normalize
from zoo.training.precision import choose_precision
from zoo.training.trial import try_step, unchanged

CPU = torch.device("cpu")
NORMALIZE = Normalize(Preprocess((3, 8, 8), (0.5,) * 3, (0.5,) * 3))


def _net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3))


def _step(net: nn.Module) -> Callable[[Tensor], Tensor]:
    zeros = torch.zeros(8, dtype=torch.int64)
    return lambda images: nn.functional.cross_entropy(net(NORMALIZE(images)), zeros[: len(images)])


IMAGES = torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8)


@pytest.mark.parametrize(("asked", "dtype"), [("bf16", torch.bfloat16), ("fp32", None)])
def test_what_is_asked_for_is_taken(asked: str, dtype: torch.dtype | None) -> None:
    net = _net()
    assert choose_precision(asked, CPU, _step(net), net, IMAGES).dtype is dtype


def test_fp16_is_refused_on_the_cpu() -> None:
    with pytest.raises(UsageError, match="fp16 does not train on the CPU"):
        choose_precision("fp16", CPU, _step(_net()), _net(), IMAGES)


@pytest.mark.parametrize(("ratio", "name"), [(2.0, "bf16"), (1.05, "fp32"), (0.3, "fp32")])
def test_auto_takes_bf16_only_if_it_gains(monkeypatch: pytest.MonkeyPatch, ratio: float, name: str) -> None:
    monkeypatch.setattr(precision, "_measure", lambda *_: ratio)
    chosen = choose_precision("auto", CPU, _step(_net()), _net(), IMAGES)
    assert chosen.name == name
    assert f"{ratio:.1f}x" in chosen.reason


def test_measuring_runs_both_precisions_and_changes_nothing() -> None:
    net = _net().train()
    seen: set[torch.dtype] = set()
    net[0].register_forward_hook(lambda m, i, o: seen.add(o.dtype))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with unchanged(net):
        chosen = choose_precision("auto", CPU, _step(net), net, IMAGES)
    assert torch.equal(torch.rand(3), expected)
    assert seen == {torch.float32, torch.bfloat16}
    assert chosen.name in ("fp32", "bf16")
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_a_model_that_cannot_take_the_images_is_said() -> None:
    targets = torch.zeros(8, dtype=torch.int64)
    images = torch.zeros(8, 3, 9, 9, dtype=torch.uint8)
    with pytest.raises(ModelError, match="cannot take 3x9x9 images"):
        try_step(_net(), NORMALIZE, nn.functional.cross_entropy, images, targets, then=lambda step: None)


@pytest.mark.parametrize("name", ["tpu", "gpu", "cuda:99", "xpu:0"])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(UsageError, match="device"):
        pick_device(name)


def test_one_process_may_use_two_precisions_in_turn() -> None:
    assert make_engine(CPU, torch.bfloat16).mixed_precision == "bf16"
    assert make_engine(CPU, None).mixed_precision == "no"
