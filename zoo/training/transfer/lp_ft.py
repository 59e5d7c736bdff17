"""The first phase of LP-FT: the head learns on the frozen backbone's features before anything else moves.

Kumar et al. 2022 (2202.10054): the first gradients through a random head distort pretrained features; a head that fits
them already leaves fine-tuning less to spoil. The backbone does not change meanwhile, so each image passes it once, and
every epoch after that is a pass of a single layer over what is kept in memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.errors import ModelError, TrainingError
from zoo.training.features.head_inputs import head_inputs
from zoo.training.inference import Normalize
from zoo.training.microbatch import MicroBatcher
from zoo.training.module_state import eval_mode
from zoo.training.trainer import Batches

__all__ = ["FALLBACK_EPOCHS", "MAX_FEATURE_BYTES", "MAX_IMAGES", "ProbingPhase", "run_probing_phase", "train_only"]

# A linear layer on 20,000 images is past the point where more of them change where fine-tuning starts.
MAX_IMAGES = 20_000
# Bytes of features.
MAX_FEATURE_BYTES = 512 << 20
# Without kept features an epoch costs a forward pass of the whole model.
FALLBACK_EPOCHS = 3

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ProbingPhase:
    """images: different ones that the head learned from. epochs: passes over them. seconds: of wall time.

    first_loss, last_loss: mean over the first and the last pass, as the head was when it met each batch. cached:
    whether the features were kept, or each pass went through the whole model.
    """

    images: int
    epochs: int
    seconds: float
    first_loss: float
    last_loss: float
    cached: bool


@dataclass(frozen=True)
class _HeadData:
    """batches(epoch): (inputs, targets for the loss). forward(inputs) → outputs. steps(size of a batch) an epoch."""

    batches: Callable[[int], Iterator[tuple[Tensor, Tensor]]]
    forward: Callable[[Tensor], Tensor]
    steps: Callable[[int], int]


def run_probing_phase(
    module: nn.Module,
    head: Sequence[str],
    batches: Batches,
    loss: Loss,
    normalize: Normalize,
    *,
    epochs: int,
    lr: float,
    weight_decay: float,
    device: torch.device,
    amp_dtype: torch.dtype | None = None,
    seed: int,
    batch_size: int = 64,
    memory: int = MAX_FEATURE_BYTES,
    kept: tuple[Tensor, Tensor] | None = None,
    prepare_target: Callable[[Tensor], Tensor] | None = None,
) -> ProbingPhase:
    """Train the parameters under `head` (module paths) that require a gradient, and nothing else, for `epochs`.

    batches: (images (n, C, H, W) uint8, targets), shuffled, because only the first images up to `memory` bytes of
    features and MAX_IMAGES are used; without augmentation, because each is seen once. prepare_target: targets, on the
    device, as the loss wants them. AdamW from `lr`, a cosine to 0, decay on matrices only; minibatches of `batch_size`
    in an order that `seed` fixes. kept: the inputs (n, …) of the only head for the first images of `batches`, and their
    targets, if they are known already; the images are then not opened. The whole module is in evaluation mode: no
    dropout, in the head neither, and batch norm on its running statistics.

    Features are kept if one module is the head, is called once with one tensor, and its output is the model's; else
    (two heads as in distilled DeiT, something behind the head) each pass goes through the frozen model, in the batches
    as they come and at most FALLBACK_EPOCHS times. A head on kept features computes in fp32.

    Modes, `requires_grad`, buffers, gradients and torch's CPU random state come out as they went in. A batch that
    memory refuses goes through in pieces, and those behind it as well.
    Raises ModelError if there is nothing to learn under `head`, TrainingError if there are no images or the loss is not
    finite.
    """
    start = time.perf_counter()
    parameters = [p for path in head for p in module.get_submodule(path).parameters() if p.requires_grad]
    if not parameters:
        raise ModelError("no head that learns, so none can learn first", "set transfer.start=plain, or open the head")
    prepare = prepare_target or (lambda target: target)

    def forward(images: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
            output: Tensor = module(normalize(images.to(device, non_blocking=True)))
        return output

    def limited_batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        batches.set_epoch(epoch)
        seen = 0
        for images, on_host in batches:
            part = slice(MAX_IMAGES - seen)
            yield images[part], prepare(on_host[part].to(device, non_blocking=True))
            seen += len(images)
            if seen >= MAX_IMAGES:
                return

    head_data = _HeadData(limited_batches, forward, lambda size: min(len(batches), math.ceil(MAX_IMAGES / size)))
    cached = False
    with train_only(module, parameters), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # what a loader draws
        if len(head) == 1:
            layer = module.get_submodule(head[0])
            if kept is None:
                kept = head_inputs(
                    layer,
                    forward,
                    limited_batches(0),
                    images=MAX_IMAGES,
                    memory=memory,
                    device=device,
                    amp_dtype=amp_dtype,
                )
            else:
                kept = kept[0].to(device), prepare(kept[1].to(device))
            if kept is not None:
                cached = True
                head_data = _feature_data(layer, *kept, batch_size=batch_size, seed=seed)
        # A loss in fp16 needs its small gradients scaled; kept features are used in fp32.
        scaled = amp_dtype is torch.float16 and not cached
        images, losses = _train(
            head_data,
            parameters,
            loss,
            epochs=epochs if cached else min(epochs, FALLBACK_EPOCHS),
            lr=lr,
            weight_decay=weight_decay,
            scaler=torch.amp.GradScaler(device.type, enabled=scaled),
        )
    return ProbingPhase(images, len(losses), time.perf_counter() - start, losses[0], losses[-1], cached)


def _feature_data(layer: nn.Module, features: Tensor, targets: Tensor, *, batch_size: int, seed: int) -> _HeadData:
    order = torch.Generator().manual_seed(seed)

    def minibatches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        permutation = torch.randperm(len(features), generator=order).to(features.device)
        for first in range(0, len(permutation), batch_size):
            rows = permutation[first : first + batch_size]
            yield features[rows], targets[rows]

    return _HeadData(minibatches, lambda x: layer(x.float()), lambda size: math.ceil(len(features) / batch_size))


def _train(
    head_data: _HeadData,
    parameters: list[nn.Parameter],
    loss: Loss,
    *,
    epochs: int,
    lr: float,
    weight_decay: float,
    scaler: torch.amp.GradScaler,
) -> tuple[int, list[float]]:
    """Images an epoch, and the mean loss of each epoch."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=lr)
    means: list[float] = []
    step = seen = 0
    steps = 1
    micro_batcher = MicroBatcher()
    for epoch in range(epochs):
        total: Tensor | float = 0.0
        seen = 0
        for inputs, target in head_data.batches(epoch):
            if not step:
                steps = epochs * head_data.steps(len(inputs))
            for group in optimizer.param_groups:
                group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))

            def run_micro_batches(parts: list[slice], inputs: Tensor = inputs, target: Tensor = target) -> Tensor:
                mean = torch.zeros((), device=target.device)
                for part in parts:
                    share = (part.stop - part.start) / len(inputs)
                    value = loss(head_data.forward(inputs[part]), target[part])
                    scaler.scale(value * share).backward()
                    mean += value.detach().float() * share
                return mean

            value = micro_batcher.run_batch(len(inputs), run_micro_batches, optimizer.zero_grad)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            total = total + value * len(inputs)
            seen += len(inputs)
        if not seen:
            raise TrainingError("the head met no images", "check the data: every file proved unreadable")
        means.append(float(total) / seen)
        if not math.isfinite(means[-1]):
            raise TrainingError(
                f"the loss became {means[-1]} while the head learned first (learning rate {lr:.2g})",
                "try a lower transfer.probe_lr, or transfer.start=plain",
            )
    return seen, means


@contextmanager
def train_only(module: nn.Module, trainable: list[nn.Parameter]) -> Iterator[None]:
    """Evaluation mode, and gradients for `trainable` alone; afterwards modes and gradients are as they were."""
    saved = [(p, p.requires_grad, p.grad) for p in module.parameters()]
    chosen = {id(p) for p in trainable}
    with eval_mode(module):
        try:
            for parameter, _, _ in saved:
                parameter.grad = None
                parameter.requires_grad_(id(parameter) in chosen)
            yield
        finally:
            for parameter, required_grad, gradient in saved:
                parameter.requires_grad_(required_grad)
                parameter.grad = gradient
