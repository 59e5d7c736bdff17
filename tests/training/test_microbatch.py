"""Out-of-memory errors, simulated by a module that refuses more than a number of images."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import TrainingError
from zoo.optim.schedules import make_schedule
from zoo.preprocess import Preprocess
from zoo.training.device import make_accelerator
from zoo.training.forward_pass import ForwardPass
from zoo.training.inference import Normalize, forward_all
from zoo.training.microbatch import MicroBatcher, is_out_of_memory, raise_on_oom
from zoo.training.trainer import Trainer
from zoo.training.transfer.auto_rgn import relative_gradient_norms
from zoo.training.transfer.bn_adapt import update_bn_stats
from zoo.training.transfer.lp_ft import ProbingOptions, run_probing_phase

PREPROCESS = Preprocess((3, 8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
CPU = torch.device("cpu")


class Fixed:
    """The same images in an order that depends on the epoch."""

    def __init__(self, n: int, batch: int) -> None:
        g = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (n, 3, 8, 8), generator=g, dtype=torch.uint8)
        self.targets = torch.randint(0, 4, (n,), generator=g)
        self.batch, self.epoch = batch, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(self.epoch))
        for part in order.split(self.batch):
            yield self.images[part], self.targets[part]


class _Backward(torch.autograd.Function):
    """Out of memory in the backward pass, when later layers have their gradients already."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, room: Room) -> Tensor:
        ctx.room = room
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.room.take(len(gradient))
        return gradient, None


class Room(nn.Module):
    """An identity with memory for `images` at a time, from its call number `begin` on."""

    def __init__(self, images: int, *, when: str = "forward", begin: int = 0, error: Exception | None = None) -> None:
        super().__init__()
        self.images, self.when, self.begin = images, when, begin
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.calls = self.refused = 0
        self.met: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.met.append(len(x))
        if self.when == "backward" and self.training:
            return _Backward.apply(x, self)
        if self.when == "forward" or not self.training:
            self.take(len(x))
        return x

    def take(self, images: int) -> None:
        if images > self.images and self.calls > self.begin:
            self.refused += 1
            raise self.error


PLENTY = 10**6


def _net(room: Room, *, dropout: float = 0.0, norm: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8) if norm else nn.Identity(), nn.ReLU(), room,
        nn.Flatten(), nn.Dropout(dropout), nn.Linear(288, 4),
    )  # fmt: skip


def _trainer(net: nn.Module, batches: Fixed, **more: Any) -> Trainer:
    optimizer = torch.optim.SGD([{"params": list(net.parameters()), "lr": 0.05, "name": "all"}], lr=0.05, momentum=0.9)
    steps = -(-len(batches) // more.get("grad_accum_steps", 1))
    return Trainer(
        accelerator=make_accelerator(CPU, more.get("amp_dtype")),
        module=net,
        optimizer=optimizer,
        schedule=make_schedule("cosine", optimizer, {}, steps_per_epoch=steps, epochs=3),
        loss=more.pop("loss", F.cross_entropy),
        normalize=Normalize(PREPROCESS),
        set_train_mode=lambda epoch: net.train() and None,
        seed=0,
        **more,
    )


def _close(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.allclose(p, q, atol=1e-6) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("when", ["forward", "backward"])
@pytest.mark.parametrize("begin", [0, 3])
@pytest.mark.parametrize("steps", [1, 4])
def test_the_same_weights_as_with_memory_enough(when: str, begin: int, steps: int) -> None:
    """From the first batch on, and from the fourth: with accumulation that is in the midst of a step."""
    batches = Fixed(70, 10 if steps == 4 else 16)  # the last batch, and the last group, are short
    tight, wide = Room(3, when=when, begin=begin), Room(PLENTY)
    a, b = _net(tight), _net(wide)
    small, large = (_trainer(net, batches, grad_accum_steps=steps, clip_grad=0.5) for net in (a, b))
    for epoch in range(2):
        ours, theirs = small.train_epoch(batches, epoch), large.train_epoch(batches, epoch)
        assert ours.images == theirs.images == 70
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert ours.top1 == theirs.top1
    assert _close(a, b)
    assert not _close(a, _net(wide))
    assert small.micro_batcher.limit == (3 if steps == 4 else 2)
    assert tight.refused == (2 if steps == 4 else 3)  # the limit is found once and reused


def test_the_penalty_counts_once_per_batch() -> None:
    batches = Fixed(32, 16)
    nets = [_net(Room(n)) for n in (5, PLENTY)]
    for net in nets:
        weight = net[-1].weight
        trainer = _trainer(net, batches, penalty=lambda weight=weight: weight.square().sum())
        trainer.train_epoch(batches, 0)
    assert _close(*nets)


def test_a_failed_attempt_changes_no_batch_norm_statistics_and_no_random_numbers() -> None:
    """Micro-batches from the start, or after an attempt that failed after batch norm and dropout: bit-identical."""
    batches = Fixed(32, 16)
    found, known = (_net(Room(8, when="backward"), dropout=0.3, norm=True) for _ in range(2))
    learned = _trainer(found, batches)
    told = _trainer(known, batches, micro_batcher=MicroBatcher(8))
    for trainer in (learned, told):
        trainer.train_epoch(batches, 0)
    assert learned.micro_batcher.limit == 8
    states = [net.state_dict() for net in (found, known)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert int(states[0]["1.num_batches_tracked"]) == 4


def test_frozen_batch_norm_is_exact() -> None:
    batches = Fixed(32, 16)
    nets = [_net(Room(n), norm=True) for n in (5, PLENTY)]
    for net in nets:
        trainer = _trainer(net, batches)
        trainer.set_train_mode = lambda epoch, net=net: net.train()[1].eval() and None
        trainer.train_epoch(batches, 0)
    assert _close(*nets)


def test_a_resumed_run_keeps_the_micro_batch_size() -> None:
    batches = Fixed(48, 16)
    whole = _net(Room(4), dropout=0.3)
    trainer = _trainer(whole, batches)
    told: list[int] = []
    trainer.micro_batcher.on_change = told.append
    trainer.train_epoch(batches, 0)
    state = {k: v.clone() for k, v in trainer.tensors().items()}, json.loads(json.dumps(trainer.values()))
    trainer.train_epoch(batches, 1)
    assert told == [8, 4]
    room = Room(4)
    resumed = _net(room, dropout=0.3)
    second = _trainer(resumed, batches)
    second.load(*state)
    second.train_epoch(batches, 1)
    assert (room.refused, set(room.met)) == (0, {4})
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), resumed.parameters(), strict=True))
    older = {k: v for k, v in state[1].items() if k != "micro_batch_limits"}
    second.load(state[0], older)  # a checkpoint of a version that did not store this
    assert second.micro_batcher.limit is None


def test_validation_is_halved_as_well(evaluate: Callable[..., Any]) -> None:
    batches = Fixed(50, 16)
    room = Room(5)
    net = _net(room)
    trainer = _trainer(net, batches)
    told: list[int] = []
    trainer.eval_micro_batcher.on_change = told.append
    outputs, targets, loss = evaluate(trainer, batches)
    reference = forward_all(_net(Room(PLENTY)), batches, Normalize(PREPROCESS), device=CPU)
    assert torch.allclose(outputs, reference[0], atol=1e-6)
    assert torch.equal(targets, reference[1])
    assert loss == pytest.approx(float(F.cross_entropy(*reference)))
    assert told == [8, 4]
    refused = room.refused
    evaluate(trainer, batches)
    assert room.refused == refused
    assert trainer.micro_batcher.limit is None


@pytest.mark.parametrize("when", ["forward", "backward"])
def test_one_image_that_does_not_fit_is_an_error(when: str, evaluate: Callable[..., Any]) -> None:
    batches = Fixed(8, 8)
    with pytest.raises(torch.OutOfMemoryError):
        _trainer(_net(Room(0, when=when)), batches).train_epoch(batches, 0)
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(_trainer(_net(Room(0)), batches), batches)
    with pytest.raises(RuntimeError, match="another"), raise_on_oom(CPU):
        raise RuntimeError("another")
    with pytest.raises(TrainingError, match="out of memory on cpu with one image at a time"), raise_on_oom(CPU):
        MicroBatcher().first(8, lambda n: _net(Room(0))(torch.zeros(n, 3, 8, 8)))


def test_batch_norm_over_single_values_says_so() -> None:
    net = nn.Sequential(nn.Flatten(), Room(1), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    batches = Fixed(8, 8)
    with pytest.raises(TrainingError, match="only micro-batches of 1 fit in memory, and batch norm"):
        _trainer(net, batches).train_epoch(batches, 0)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 12 bytes"),
            True,
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("could not create a primitive"), True),  # oneDNN, from which torch asks for a convolution
        (RuntimeError("could not create a primitive descriptor for a convolution forward propagation"), False),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_errors_are_recognized(error: Exception, is_one: bool) -> None:
    assert is_out_of_memory(error) == is_one
    if isinstance(error, ValueError):
        return
    batches = Fixed(16, 8)
    net = _net(Room(4, error=error))
    trainer = _trainer(net, batches)
    if is_one:
        assert trainer.train_epoch(batches, 0).images == 16
    else:
        with pytest.raises(RuntimeError, match=str(error)):
            trainer.train_epoch(batches, 0)


def test_the_real_allocator_of_the_cpu_is_understood() -> None:
    class Greedy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 4:
                torch.empty(1 << 60, dtype=torch.uint8)
            return x

    batches = Fixed(16, 8)
    torch.manual_seed(0)
    trainer = _trainer(nn.Sequential(Greedy(), nn.Flatten(), nn.Linear(192, 4)), batches)
    trainer.train_epoch(batches, 0)
    assert trainer.micro_batcher.limit == 4


# --- before the first epoch ---


def _forward(net: nn.Module) -> ForwardPass:
    return ForwardPass(net, Normalize(PREPROCESS), CPU)


@pytest.mark.parametrize("single_head", [True, False])
def test_linear_probing_phase(single_head: bool) -> None:
    """On cached features, and, with a layer after the head, through the frozen model."""
    heads = []
    for room in (Room(3), Room(PLENTY)):
        net = _net(room)
        if not single_head:
            net.append(nn.Tanh())
        options = ProbingOptions(epochs=2, lr=1e-2, weight_decay=0.0, seed=0)
        run_probing_phase(_forward(net), ["6"], Fixed(32, 8), F.cross_entropy, options)
        heads.append(net[6])
        assert room.refused == (0 if room.images == PLENTY else 2 if single_head else 4)
    assert _close(*heads)


def test_statistics_and_gradient_norms() -> None:
    batches = Fixed(32, 8)
    found = []
    for room in (Room(3), Room(PLENTY)):
        net = _net(room, norm=True)
        optimizer = torch.optim.SGD([{"params": [p]} for p in net.parameters()], lr=0.1)
        rates = relative_gradient_norms(_forward(net), optimizer, batches, F.cross_entropy)
        before = copy.deepcopy(net[1].running_mean)
        assert update_bn_stats(_forward(net), batches) == 1
        assert not torch.allclose(net[1].running_mean, before)
        found.append((rates, net[1].running_mean, net[1].running_var))
    (rates, mean, variance), (true_rates, true_mean, true_variance) = found
    assert rates == pytest.approx(true_rates, rel=1e-4)
    assert torch.allclose(mean, true_mean, atol=1e-6)
    assert torch.allclose(variance, true_variance, atol=1e-5)
