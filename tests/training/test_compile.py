"""Compiled steps train the same as steps without compilation."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._inductor import config as inductor
from torch.nn import functional as F

from zoo.optim.schedules import make_schedule
from zoo.preprocess import Preprocess
from zoo.training.compile import CompiledForward, time_compiled
from zoo.training.device import make_accelerator
from zoo.training.ema import ExponentialMovingAverage
from zoo.training.inference import Normalize
from zoo.training.trainer import Trainer

PREPROCESS = Preprocess((3, 4, 4), (0.5,) * 3, (0.5,) * 3)


class Batches:
    def __init__(self, n: int, batch: int) -> None:
        g = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (n, 3, 4, 4), generator=g, dtype=torch.uint8)
        self.targets, self.batch = torch.randint(0, 4, (n,), generator=g), batch

    def set_epoch(self, epoch: int) -> None:
        pass

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self.images.split(self.batch), self.targets.split(self.batch), strict=True)


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.3), nn.Linear(8, 4))


def _trainer(net: nn.Module, batches: Batches, dtype: torch.dtype | None = None) -> Trainer:
    optimizer = torch.optim.SGD([{"params": list(net.parameters()), "lr": 0.05, "name": "all"}], lr=0.05)
    return Trainer(
        accelerator=make_accelerator(torch.device("cpu"), dtype),
        module=net,
        optimizer=optimizer,
        schedule=make_schedule("cosine", optimizer, {}, steps_per_epoch=len(batches), epochs=2),
        loss=F.cross_entropy,
        normalize=Normalize(PREPROCESS),
        set_train_mode=lambda epoch: net.train() and None,
        seed=0,
        amp_dtype=dtype,
    )


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Spy(CompiledForward):
    """Says which batches went through compiled code."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        compiled, self.compiled = self._compiled, []
        self.eager: list[int] = []
        own = self._model
        self._compiled = lambda x: (self.compiled.append(len(x)), compiled(x))[1]
        self._model = lambda x: (self.eager.append(len(x)), own(x))[1]  # type: ignore[assignment]


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="no C++ compiler")
@pytest.mark.parametrize("dtype", [None, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
def test_the_same_weights_names_and_average(
    dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch, evaluate: Callable[..., Any]
) -> None:
    monkeypatch.setattr("zoo.training.trainer.CompiledForward", Spy)
    batches = Batches(35, 8)  # the last batch has three images
    plain, quick = _trainer(_net(), batches, dtype), _trainer(_net(), batches, dtype)
    quick.compile()
    for trainer in (plain, quick):
        trainer.ema = ExponentialMovingAverage(trainer.module, 0.9)
        for epoch in range(2):
            trainer.train_epoch(batches, epoch)
    assert isinstance(quick.compiled, Spy)
    assert quick.compiled.compiled == [8, 8, 8] * 2, "all but the first of an epoch and the odd one"
    assert quick.compiled.eager == [8, 3] * 2
    tolerance = 1e-5 if dtype is None else 2e-2
    assert list(plain.tensors()) == list(quick.tensors())
    for name, tensor in plain.tensors().items():
        torch.testing.assert_close(quick.tensors()[name], tensor, rtol=tolerance, atol=tolerance)
    assert list(plain.weights()) == list(quick.weights())
    torch.testing.assert_close(evaluate(quick, batches)[0], evaluate(plain, batches)[0], rtol=tolerance, atol=tolerance)


def test_an_epoch_does_not_depend_on_the_one_before() -> None:
    spy = Spy(nn.Flatten())
    spy._compiled = lambda x: spy.compiled.append(len(x))
    for _ in range(2):
        spy.begin_epoch()
        for n in (4, 4, 2, 4, 4):
            spy(torch.zeros(n, 3, 4, 4))
    assert (spy.eager, spy.compiled) == ([4, 2, 4] * 2, [4, 4] * 2)


def test_a_missing_compiler_is_reported() -> None:
    net = _net()
    before = copy.deepcopy(net.state_dict())

    def learn(forward: Any) -> None:
        F.cross_entropy(forward(torch.ones(4, 3, 4, 4)), torch.zeros(4, dtype=torch.int64)).backward()

    with inductor.patch({"cpp.cxx": ("/nowhere/c++",)}):
        gain = time_compiled(CompiledForward(net), net, learn, compare=True)
    assert "ompiler" in gain.failure
    assert "\n" not in gain.failure
    assert net.state_dict().keys() == before.keys()
