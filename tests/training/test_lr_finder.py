"""The range test, compared with a plain torch loop on problems with known stable learning rates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.errors import TrainingError
from zoo.optim.schedules import make_schedule
from zoo.preprocess import Preprocess
from zoo.training.device import make_accelerator
from zoo.training.inference import Normalize
from zoo.training.lr_finder import SMOOTHING, RangeTest, lr_grid, range_test, smooth, suggest
from zoo.training.trainer import Trainer


class Batches:
    """`count` batches of 8 images (1, 2, 2), in another order in every epoch; numbers to learn are linear in them."""

    def __init__(self, count: int, noise: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (count * 8, 1, 2, 2), generator=generator, dtype=torch.uint8)
        targets = images.flatten(1).float().div(255) @ torch.tensor([[1.0], [-2.0], [3.0], [0.5]])
        targets = targets + noise * torch.randn(targets.shape, generator=generator)
        self.all = list(zip(images.split(8), targets.split(8), strict=True))
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        start = self.epoch % max(len(self.all), 1)
        yield from self.all[start:] + self.all[:start]

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.0), nn.Linear(8, 1))


def trainer_of(module: nn.Module, groups: list[dict[str, Any]], **options: Any) -> Trainer:
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=options.pop("momentum", 0.9))
    return Trainer(
        accelerator=make_accelerator(torch.device("cpu"), None),
        module=module,
        optimizer=optimizer,
        schedule=make_schedule("constant", optimizer, {}, steps_per_epoch=1, epochs=1),
        loss=nn.functional.mse_loss,
        normalize=Normalize(Preprocess((1, 2, 2), (0.0,), (1.0,))),
        set_train_mode=lambda epoch: module.train() and None,
        seed=0,
        **options,
    )


def groups_of(module: Any) -> list[dict[str, Any]]:
    return [
        {"params": list(module[1].parameters()) + list(module[2].parameters()), "lr": 0.01, "name": "body"},
        {"params": list(module[4].parameters()), "lr": 0.1, "name": "head"},
    ]


def plain_losses(batches: Batches, rates: list[float], accumulate: int, clip: float) -> list[float]:
    """What a loop without any of zoo's training code meets at the same rates: body at the rate, head at ten times."""
    module = model()
    optimizer = torch.optim.SGD([{k: v for k, v in g.items() if k != "name"} for g in groups_of(module)], momentum=0.9)
    stream = (batch for epoch in range(99) for batch in (batches.set_epoch(epoch), list(batches))[1])
    losses = []
    for rate in rates:
        optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = rate, 10 * rate
        total = 0.0
        for images, targets in islice(stream, accumulate):
            loss = nn.functional.mse_loss(module(images.float() / 255), targets)
            (loss / accumulate).backward()
            total += loss.item()
        nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total / accumulate)
    return losses


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_losses_are_those_of_a_plain_loop(accumulate: int) -> None:
    rates = lr_grid(1e-4, 1e-2, 40)
    module = model()
    trainer = trainer_of(module, groups_of(module), grad_accum_steps=accumulate, clip_grad=0.5)
    test = range_test(trainer, Batches(5), rates, base=0.01)
    assert test.ended == "steps"
    assert test.lrs == tuple(rates)
    assert test.losses == pytest.approx(plain_losses(Batches(5), rates, accumulate, 0.5), rel=1e-5)


def test_it_leaves_no_trace() -> None:
    module = model()
    trainer = trainer_of(module, groups_of(module))
    trainer.train_epoch(Batches(5), 0)  # there is momentum to lose
    state, optimizer = {k: v.clone() for k, v in module.state_dict().items()}, trainer.optimizer
    momenta = [optimizer.state[p]["momentum_buffer"].clone() for g in optimizer.param_groups for p in g["params"]]
    rates, random = [g["lr"] for g in optimizer.param_groups], torch.get_rng_state()
    range_test(trainer, Batches(5), lr_grid(1e-3, 1.0, 30), base=0.01)
    assert all(torch.equal(state[k], v) for k, v in module.state_dict().items())
    after = [optimizer.state[p]["momentum_buffer"] for g in optimizer.param_groups for p in g["params"]]
    assert all(torch.equal(a, b) for a, b in zip(momenta, after, strict=True))
    assert [g["lr"] for g in optimizer.param_groups] == rates
    assert torch.equal(random, torch.get_rng_state())
    assert all(p.grad is None for p in module.parameters())


def test_a_quadratic_breaks_where_theory_says() -> None:
    """Gradient descent on (w·x)² contracts below a rate of 2 over the curvature, and grows above."""

    class Same(Batches):
        def __init__(self) -> None:
            self.all = [(torch.full((8, 1, 2, 2), 255, dtype=torch.uint8), torch.zeros(8, 1))]
            self.epoch = 0

    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
    trainer = trainer_of(module, [{"params": list(module.parameters()), "lr": 1.0, "name": "all"}], momentum=0.0)
    test = range_test(trainer, Same(), lr_grid(1e-4, 1e3, 200), base=1.0)
    # The curvature is 2·|x|² = 8 along x = (1, 1, 1, 1): stable below a rate of 2 / 8.
    rising = [r for r, (a, b) in zip(test.lrs[:-1], pairwise(test.losses), strict=True) if b > a > 0]
    assert rising[0] == pytest.approx(0.25, rel=0.09)  # a step of the rates is 8.4 %
    assert test.ended in ("diverged", "not finite")
    assert len(test.lrs) < 200


def test_a_loss_that_is_not_finite_ends_the_test() -> None:
    module = model()
    trainer = trainer_of(module, groups_of(module))
    trainer.loss = lambda output, target: (output - target).square().mean() * math.inf
    test = range_test(trainer, Batches(2), lr_grid(1e-4, 1, 30), base=0.01)
    assert (len(test.losses), test.ended) == (1, "not finite")
    assert "start at a lower learning rate" in suggest(test).reason


def test_no_image_is_an_error() -> None:
    module = model()
    batches = Batches(1)
    batches.all = []
    with pytest.raises(TrainingError, match="without images"):
        range_test(trainer_of(module, groups_of(module)), batches, lr_grid(1e-4, 1, 30), base=0.01)


def test_smoothing_is_a_weighted_mean() -> None:
    losses = [3.0, 1.0, 4.0, 1.0, 5.0]
    weights = [SMOOTHING ** (4 - i) for i in range(5)]
    assert smooth(losses)[0] == pytest.approx(3.0)
    assert smooth(losses)[-1] == pytest.approx(np.average(losses, weights=weights))


def curve(losses: Any, ended: str = "steps") -> RangeTest:
    values = tuple(float(v) for v in losses)
    return RangeTest(tuple(lr_grid(1e-7, 10, len(values))), values, tuple(smooth(values)), ended)


def test_a_clear_curve_gets_a_suggestion_before_its_lowest_point() -> None:
    x = np.linspace(-7, 1, 100)
    losses = 2.3 - 2 / (1 + np.exp(-4 * (x + 3))) + np.where(x > -0.5, (x + 0.5) * 8, 0)
    found = suggest(curve(losses + np.random.default_rng(0).normal(0, 0.05, 100), "diverged"))
    assert found.lr is not None
    assert found.steepest is not None
    assert found.lowest is not None
    assert found.lr == min(found.steepest, found.lowest / 10)
    assert 1e-4 < found.lr < 10**-0.5 / 2


@pytest.mark.parametrize("kind", ["normal", "exponential"])
def test_noise_without_a_fall_gets_none(kind: str) -> None:
    rng = np.random.default_rng(0)
    found = [suggest(curve(getattr(rng, kind)(size=100) + 1)).lr for _ in range(300)]
    assert sum(rate is not None for rate in found) <= 6


def test_a_curve_that_only_rises_gets_none() -> None:
    found = suggest(curve(np.linspace(1, 4, 60) ** 2, "diverged"))
    assert found.lr is None
    assert "without a clear decrease" in found.reason


def test_a_late_and_small_decrease_gives_a_suggestion_near_it() -> None:
    """As after linear probing: flat and noisy up to 1e-4, down by half at 1e-2, then it breaks."""
    rates = lr_grid(1e-7, 10.0, 100)
    suggestions = []
    for seed in range(5):
        noise = np.random.default_rng(seed).exponential(0.3, size=100)
        fall = [0.8 * min(max(math.log10(rate / 1e-4) / 2, 0.0), 1.0) for rate in rates]
        broken = [max(math.log10(rate / 1e-2), 0.0) * 2 for rate in rates]
        losses = [0.5 * (1 - f) + n * (1 - f) + b for f, n, b in zip(fall, noise, broken, strict=True)]
        test = RangeTest(tuple(rates), tuple(losses), tuple(smooth(losses)), "diverged")
        found = suggest(test).lr
        if found is not None:
            suggestions.append(found)
    assert len(suggestions) >= 3
    assert all(3e-5 < rate < 5e-3 for rate in suggestions)
