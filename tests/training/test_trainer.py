"""The trainer, compared with a plain loop."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ModelError, TrainingError, UsageError
from zoo.optim.param_groups import make_optimizer, parameter_groups
from zoo.optim.schedules import make_schedule
from zoo.preprocess import Preprocess
from zoo.training.device import make_accelerator
from zoo.training.ema import ExponentialMovingAverage
from zoo.training.inference import Normalize, forward_all
from zoo.training.target_scaler import TargetScaler
from zoo.training.trainer import Trainer

PREPROCESS = Preprocess((3, 8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


class Fixed:
    """The same images in an order that depends on the epoch."""

    def __init__(self, images: Tensor, targets: Tensor, batch: int) -> None:
        self.images, self.targets, self.batch, self.epoch = images, targets, batch, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(self.epoch))
        for part in order.split(self.batch):
            yield self.images[part], self.targets[part]


def _data(n: int = 32) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, 8, 8), generator=g, dtype=torch.uint8), torch.randint(0, 4, (n,), generator=g)


def _net(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(288, 4))


def _trainer(
    net: nn.Module, batches: Fixed, *, epochs: int = 3, loss: Any = F.cross_entropy, lr: float = 0.05, **more: Any
) -> Trainer:
    optimizer = torch.optim.SGD([{"params": list(net.parameters()), "lr": lr, "name": "all"}], lr=lr, momentum=0.9)
    accumulation = more.get("grad_accum_steps", 1)
    schedule = make_schedule("cosine", optimizer, {}, steps_per_epoch=-(-len(batches) // accumulation), epochs=epochs)
    return Trainer(
        accelerator=make_accelerator(torch.device("cpu"), more.get("amp_dtype")),
        module=net,
        optimizer=optimizer,
        schedule=schedule,
        loss=loss,
        normalize=Normalize(PREPROCESS),
        set_train_mode=lambda epoch: net.train() and None,
        seed=0,
        **more,
    )


def _plain(net: nn.Module, batches: Fixed, *, epochs: int = 3, clip: float | None = None) -> None:
    """Forty lines that anyone can check."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(batches))
    mean, std = torch.tensor(PREPROCESS.mean).view(1, 3, 1, 1), torch.tensor(PREPROCESS.std).view(1, 3, 1, 1)
    net.train()
    for epoch in range(epochs):
        batches.set_epoch(epoch)
        for images, targets in batches:
            optimizer.zero_grad()
            F.cross_entropy(net((images / 255 - mean) / std), targets).backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            scheduler.step()


def _close(a: nn.Module, b: nn.Module, tolerance: float = 1e-6) -> bool:
    return all(
        torch.allclose(p, q, atol=tolerance, rtol=1e-5) for p, q in zip(a.parameters(), b.parameters(), strict=True)
    )


@pytest.mark.parametrize("clip", [None, 0.1])
def test_same_weights_as_a_plain_loop(clip: float | None) -> None:
    batches = Fixed(*_data(), batch=8)
    ours, plain = _net(), _net()
    trainer = _trainer(ours, batches, clip_grad=clip)
    for epoch in range(3):
        trainer.train_epoch(batches, epoch)
    _plain(plain, batches, clip=clip)
    assert _close(ours, plain)
    assert not _close(ours, _net())


@pytest.mark.parametrize(("n", "small", "steps"), [(64, 8, 4), (64, 4, 8)])
def test_accumulation_equals_a_large_batch(n: int, small: int, steps: int) -> None:
    a, b = _net(), _net()
    many, one = Fixed(*_data(n), batch=small), Fixed(*_data(n), batch=small * steps)
    first, second = _trainer(a, many, grad_accum_steps=steps), _trainer(b, one)
    for epoch in range(3):
        first.train_epoch(many, epoch)
        second.train_epoch(one, epoch)
    assert _close(a, b)


def test_a_short_last_group_counts_as_its_own_mean() -> None:
    """6 batches of 4 in groups of 4: the last step is the mean over 2 batches, not their sum over 4."""
    images, targets = _data(24)
    a, b = _net(), _net()
    small = Fixed(images, targets, batch=4)
    trainer = _trainer(a, small, epochs=1, grad_accum_steps=4)
    trainer.train_epoch(small, 0)

    class Uneven(Fixed):
        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            order = torch.randperm(24, generator=torch.Generator().manual_seed(self.epoch))
            for part in order.split([16, 8]):
                yield self.images[part], self.targets[part]

    uneven = Uneven(images, targets, batch=16)
    _trainer(b, uneven, epochs=1).train_epoch(uneven, 0)
    assert _close(a, b)


def test_statistics_are_means_over_images(evaluate: Callable[..., Any]) -> None:
    images, targets = _data(20)
    batches = Fixed(images, targets, batch=8)  # 8 + 8 + 4: a mean of batch means would be wrong
    net = _net()
    trainer = _trainer(net, batches, lr=1e-12)
    stats = trainer.train_epoch(batches, 0)
    logits, order, _ = evaluate(trainer, Fixed(images, targets, batch=7))
    assert stats.images == 20
    assert stats.loss == pytest.approx(float(F.cross_entropy(logits, order)), rel=1e-5)
    assert stats.top1 == pytest.approx(float((logits.argmax(1) == order).float().mean()))


def test_dropout_is_a_function_of_seed_and_epoch() -> None:
    batches = Fixed(*_data(), batch=8)
    nets = [_net(0.5) for _ in range(2)]
    for net in nets:
        trainer = _trainer(net, batches)
        torch.rand(17)  # whatever else the program draws
        trainer.train_epoch(batches, 0)
    assert all(torch.equal(p, q) for p, q in zip(*(n.parameters() for n in nets), strict=True))


# LAMB and Adan count their steps in the parameter groups
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb", "adan"])
def test_state_goes_through_json_and_tensors(optimizer: str) -> None:
    batches = Fixed(*_data(), batch=8)

    def make() -> tuple[nn.Module, Trainer]:
        net = _net(0.3)
        trainer = _trainer(net, batches)
        if optimizer != "sgd":
            trainer = _with(optimizer, net, batches)
        return net, trainer

    whole, trainer = make()
    for epoch in range(3):
        trainer.train_epoch(batches, epoch)
        trainer.schedule.after_epoch(0.0)
    _, first = make()
    first.train_epoch(batches, 0)
    first.schedule.after_epoch(0.0)
    tensors = {k: v.clone() for k, v in first.tensors().items()}
    values = json.loads(json.dumps(first.values()))
    resumed, second = make()
    second.load(tensors, values)
    for epoch in (1, 2):
        second.train_epoch(batches, epoch)
        second.schedule.after_epoch(0.0)
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), resumed.parameters(), strict=True))


def _with(name: str, net: nn.Module, batches: Fixed) -> Trainer:
    group = {"params": list(net.parameters()), "lr": 0.01, "weight_decay": 0.01, "name": "all"}
    optimizer = make_optimizer(name, [group], {})
    return Trainer(
        accelerator=make_accelerator(torch.device("cpu"), None), module=net, optimizer=optimizer,
        schedule=make_schedule("cosine", optimizer, {}, steps_per_epoch=len(batches), epochs=3),
        loss=F.cross_entropy, normalize=Normalize(PREPROCESS), seed=0,
        set_train_mode=lambda epoch: net.train() and None,
    )  # fmt: skip


def test_bf16_stays_close_to_fp32() -> None:
    batches = Fixed(*_data(), batch=8)
    a, b = _net(), _net()
    half, full = _trainer(a, batches, amp_dtype=torch.bfloat16), _trainer(b, batches)
    seen: list[torch.dtype] = []
    a[0].register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    losses = [(half.train_epoch(batches, e).loss, full.train_epoch(batches, e).loss) for e in range(3)]
    assert set(seen) == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in a.parameters())
    assert losses[-1][0] == pytest.approx(losses[-1][1], rel=0.05)


def test_a_loss_that_is_not_finite_stops_the_epoch_before_the_weights_move() -> None:
    batches = Fixed(*_data(), batch=8)
    net = _net()
    calls = iter(range(100))

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target) * (float("nan") if next(calls) == 2 else 1.0)

    trainer = _trainer(net, batches, loss=loss)
    with pytest.raises(TrainingError, match="the loss became nan in epoch 1, batch 3"):
        trainer.train_epoch(batches, 0)
    assert all(torch.isfinite(p).all() for p in net.parameters())


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda o, t: F.cross_entropy(o, t, reduction="none"), "returned shape \\(8,\\), not a scalar"),
        (lambda o, t: 1, "returned 1 \\(int\\), not a tensor"),
    ],
)
def test_a_user_s_loss_of_the_wrong_kind_is_named(loss: Callable[[Tensor, Tensor], Any], said: str) -> None:
    batches = Fixed(*_data(), batch=8)
    with pytest.raises(UsageError, match=f"<lambda> {said}"):
        _trainer(_net(), batches, loss=loss).train_epoch(batches, 0)


def test_on_batch_is_called_after_each_batch() -> None:
    batches = Fixed(*_data(), batch=8)
    told: list[tuple[int, int, int, float]] = []
    trainer = _trainer(_net(), batches)
    stats = trainer.train_epoch(
        batches, 0, lambda batch, total, images, read: told.append((batch, total, images, read()[0]))
    )
    assert [t[:3] for t in told] == [(1, 4, 8), (2, 4, 16), (3, 4, 24), (4, 4, 32)]
    assert told[-1][3] == pytest.approx(stats.loss)


def test_normalize_is_the_textbook_formula() -> None:
    images, _ = _data(4)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (PREPROCESS.mean, PREPROCESS.std))
    assert torch.allclose(Normalize(PREPROCESS)(images), (images / 255 - mean) / std, atol=1e-6)


def test_forward_all_keeps_order_and_mode() -> None:
    images, targets = _data(10)
    net = _net(0.5)
    reference = copy.deepcopy(net).eval()
    logits, seen = forward_all(
        net, [(images[:6], targets[:6]), (images[6:], targets[6:])], Normalize(PREPROCESS), device=torch.device("cpu")
    )
    assert torch.equal(seen, targets)
    assert torch.allclose(logits, reference(Normalize(PREPROCESS)(images)), atol=1e-6)
    assert not net.training


class _WithAuxiliary(nn.Module):
    """Two heads on one convolution: (logits, [auxiliary]) in training, logits in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(144, 4)
        self.side = nn.Linear(144, 4)

    def forward(self, x: Tensor) -> Any:
        features = self.body(x)
        return (self.head(features), [self.side(features)]) if self.training else self.head(features)


def test_auxiliary_heads_add_their_weighted_loss_and_vanish_in_evaluation(evaluate: Callable[..., Any]) -> None:
    images, targets = _data(16)
    batches = Fixed(images, targets, batch=16)
    ours, plain = _WithAuxiliary(), _WithAuxiliary()
    trainer = _trainer(ours, batches, epochs=1, auxiliary=0.3)
    stats = trainer.train_epoch(batches, 0)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
    batches.set_epoch(0)
    for x, y in batches:
        main, (side,) = plain(Normalize(PREPROCESS)(x))
        loss = F.cross_entropy(main, y) + 0.3 * F.cross_entropy(side, y)
        loss.backward()
        optimizer.step()
    assert _close(ours, plain)
    assert stats.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    assert evaluate(trainer, batches)[0].shape == (16, 4)


def test_layer_decay_and_head_lr_equal_a_plain_loop() -> None:
    """Three stages at lr · decay^distance, a separate rate for the head, no decay of biases; against groups by hand."""
    batches = Fixed(*_data(), batch=8)
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(128, 4))
    plain = copy.deepcopy(ours)
    stages = [("stem", ["0.weight", "0.bias"]), ("stage1", ["1.weight", "1.bias"]), ("head", ["3.weight", "3.bias"])]
    groups = parameter_groups(ours, stages, lr=0.02, head_lr=0.05, layer_decay=0.5, weight_decay=0.1)
    trainer = Trainer(
        accelerator=make_accelerator(torch.device("cpu"), None), module=ours, loss=F.cross_entropy,
        optimizer=(optimizer := torch.optim.SGD(groups, lr=1.0)),
        schedule=make_schedule("constant", optimizer, {}, steps_per_epoch=4, epochs=2),
        normalize=Normalize(PREPROCESS), set_train_mode=lambda epoch: ours.train() and None, seed=0,
    )  # fmt: skip
    by_hand = torch.optim.SGD(
        [
            {"params": [plain[i].weight], "lr": lr, "weight_decay": 0.1}
            for i, lr in ((0, 0.02 * 0.25), (1, 0.02 * 0.5), (3, 0.05))
        ]
        + [{"params": [plain[i].bias], "lr": lr} for i, lr in ((0, 0.02 * 0.25), (1, 0.02 * 0.5), (3, 0.05))]
    )
    normalize = Normalize(PREPROCESS)
    for epoch in range(2):
        trainer.train_epoch(batches, epoch)
        batches.set_epoch(epoch)
        for images, targets in batches:
            by_hand.zero_grad()
            F.cross_entropy(plain(normalize(images)), targets).backward()
            by_hand.step()
    assert _close(ours, plain)


def test_the_moving_average_is_evaluated(evaluate: Callable[..., Any]) -> None:
    batches = Fixed(*_data(), batch=8)
    ours, plain = _net(), _net()
    trainer = _trainer(ours, batches, ema=ExponentialMovingAverage(ours, 0.9))
    average, updates = {k: v.clone() for k, v in plain.state_dict().items()}, 0
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3 * len(batches))
    normalize = Normalize(PREPROCESS)
    for epoch in range(3):
        trainer.train_epoch(batches, epoch)
        batches.set_epoch(epoch)
        for images, targets in batches:
            optimizer.zero_grad()
            F.cross_entropy(plain(normalize(images)), targets).backward()
            optimizer.step()
            scheduler.step()
            decay = min(0.9, (1 + updates) / (10 + updates))
            updates += 1
            average = {k: decay * a + (1 - decay) * plain.state_dict()[k] for k, a in average.items()}
    assert _close(ours, plain)
    assert all(torch.allclose(t, average[k], atol=1e-6) for k, t in trainer.weights().items())
    logits, targets, loss = evaluate(trainer, batches)
    averaged = _net()
    averaged.load_state_dict(average)
    expected, _ = forward_all(averaged, batches, normalize, device=torch.device("cpu"))
    assert torch.allclose(logits, expected, atol=1e-5)
    assert loss == pytest.approx(float(F.cross_entropy(expected, targets)), rel=1e-5)


def test_a_penalty_moves_the_weights_and_is_not_reported() -> None:
    batches = Fixed(*_data(), batch=8)
    ours, plain = _net(), _net()
    trainer = _trainer(ours, batches, epochs=1, grad_accum_steps=2)
    trainer.penalty = lambda: 0.3 * sum(p.square().sum() for p in ours.parameters())
    stats = trainer.train_epoch(batches, 0)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2)
    batches.set_epoch(0)
    losses = []
    for number, (images, targets) in enumerate(batches):
        loss = F.cross_entropy(plain(Normalize(PREPROCESS)(images)), targets)
        losses.append(loss.item())
        (loss / 2).backward()
        if number % 2:
            penalty = 0.3 * sum(p.square().sum() for p in plain.parameters())
            penalty.backward()
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
    assert _close(ours, plain)
    assert stats.loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_regression_targets_are_standardized_and_weights_rescaled(evaluate: Callable[..., Any]) -> None:
    images, _ = _data()
    values = images.float().mean((1, 2, 3))[:, None] * torch.tensor([10.0, -0.01]) + torch.tensor([1000.0, 5.0])
    batches = Fixed(images, values, batch=8)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    scale = TargetScaler.fit(values.numpy())
    assert scale.layers(net, ["1"]) == ("1",)
    trainer = _trainer(net, batches, loss=F.mse_loss, lr=0.01, epochs=3, scale=scale, scaled_layers=("1",))
    first = trainer.train_epoch(batches, 0)
    assert first.top1 is None
    assert first.loss < 100  # of targets near 0 and 1; in their own units it would be a million
    outputs, targets, loss = evaluate(trainer, batches)
    assert torch.equal(targets.sum(), values.sum()) or torch.allclose(targets.sum(), values.sum())
    assert loss == pytest.approx(float(((outputs - targets) / scale.std).square().mean()), rel=1e-4)
    rescaled = copy.deepcopy(net)
    rescaled.load_state_dict(trainer.weights())
    ours, _ = forward_all(rescaled, batches, Normalize(PREPROCESS), device=torch.device("cpu"))
    assert torch.allclose(ours, outputs, rtol=1e-4, atol=1e-3)
    with pytest.raises(ModelError, match="linear layer with a bias"):
        scale.layers(nn.Sequential(nn.Flatten(), nn.Linear(192, 2, bias=False)), ["1"])
    constant = TargetScaler.fit(np.full((4, 1), 7.0, np.float32))
    assert (float(constant.mean), float(constant.std)) == (7.0, 1.0)
