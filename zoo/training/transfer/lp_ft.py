"""The linear-probing phase of LP-FT: the head is trained on the frozen backbone's features before fine-tuning.

Kumar et al. 2022 (2202.10054): the first gradients through a random head distort pretrained features; a head that
already fits them distorts less. The backbone is frozen in this phase, so its features are computed once. A linear head
is then fitted directly; another head is trained by gradient steps on the features in memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn

from zoo.errors import ModelError, TrainingError
from zoo.training.batches import Batches
from zoo.training.features.head_inputs import head_inputs
from zoo.training.forward_pass import ForwardPass
from zoo.training.microbatch import MicroBatcher
from zoo.training.module_state import eval_mode

# With 20,000 images a linear layer has converged: more of them do not change where fine-tuning starts.
MAX_IMAGES = 20_000
MAX_FEATURE_BYTES = 512 << 20
# Without cached features, an epoch costs a forward pass of the whole model.
FALLBACK_EPOCHS = 3

Loss = Callable[[Tensor, Tensor], Tensor]
# Fits a linear layer to features (n, D) and targets, sets its weights, and returns the training loss.
Fit = Callable[[nn.Linear, Tensor, Tensor], float]


@dataclass(frozen=True)
class ProbingOptions:
    """AdamW from `lr` with a cosine to 0; weight decay on matrices only. memory: bytes of cached features at most."""

    epochs: int
    lr: float
    weight_decay: float
    seed: int
    batch_size: int = 64
    memory: int = MAX_FEATURE_BYTES


@dataclass(frozen=True)
class ProbingPhase:
    """What the phase did. epochs: of gradient steps, 0 if the head was fitted directly. first_loss, last_loss: training
    loss of the first and the last epoch, or before and after fitting. cached: whether cached features were used instead
    of the whole model."""

    images: int
    epochs: int
    seconds: float
    first_loss: float
    last_loss: float
    cached: bool


@dataclass(frozen=True)
class _HeadData:
    """batches(epoch): (inputs, targets). forward(inputs) → outputs. steps(batch size): steps per epoch."""

    batches: Callable[[int], Iterator[tuple[Tensor, Tensor]]]
    forward: Callable[[Tensor], Tensor]
    steps: Callable[[int], int]


def run_probing_phase(
    forward: ForwardPass,
    head: Sequence[str],
    batches: Batches,
    loss: Loss,
    options: ProbingOptions,
    *,
    cached: tuple[Tensor, Tensor] | None = None,
    fit: Fit | None = None,
) -> ProbingPhase:
    """Train the trainable parameters under `head`, and nothing else.

    The module is in evaluation mode (no dropout, running batch-norm statistics). Features are cached if the head is one
    module that is called once with one tensor, and its output is the model's. Otherwise (distilled DeiT has two heads)
    each epoch runs the whole frozen model, for at most FALLBACK_EPOCHS epochs. A head on cached features computes in
    float32. Modes, `requires_grad`, buffers, gradients and torch's CPU random state are restored at the end.

    Args:
        forward: the model.
        head: paths of the head's modules.
        batches: shuffled images without augmentation, and targets; the first MAX_IMAGES images are used, or fewer if
            their features exceed `options.memory`.
        loss: outputs (n, K) and targets of `batches` → scalar.
        options: length, optimizer and seed.
        cached: inputs (n, …) of the head for the first images of `batches`, and their targets, if already known.
        fit: used instead of gradient steps if features are cached and the head is a linear layer.

    Raises:
        ModelError: if no parameter under `head` is trainable.
        TrainingError: if there are no images or the loss is not finite.
    """
    start = time.perf_counter()
    module, device = forward.module, forward.device
    parameters = [p for path in head for p in module.get_submodule(path).parameters() if p.requires_grad]
    if not parameters:
        raise ModelError("linear probing: the head has no trainable parameter", "set transfer.start=plain")

    def limited_batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        batches.set_epoch(epoch)
        seen = 0
        for images, on_host in batches:
            part = slice(MAX_IMAGES - seen)
            yield images[part], on_host[part].to(device, non_blocking=True)
            seen += len(images)
            if seen >= MAX_IMAGES:
                return

    with train_only(module, parameters), torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)  # loaders draw from it
        if len(head) == 1 and cached is None:
            cached = head_inputs(
                module.get_submodule(head[0]),
                forward,
                limited_batches(0),
                images=MAX_IMAGES,
                memory=options.memory,
                device=device,
                amp_dtype=forward.amp_dtype,
            )
        if cached is not None:
            layer, epochs = module.get_submodule(head[0]), options.epochs
            features, targets = cached[0].to(device), cached[1].to(device)
            if fit is not None and _is_linear(layer, features):
                with torch.no_grad():
                    first_loss = float(loss(layer(features.float()), targets))
                last_loss = fit(layer, features, targets)
                return ProbingPhase(len(features), 0, time.perf_counter() - start, first_loss, last_loss, True)
            data = _feature_data(layer, features, targets, options)
        else:
            epochs = min(options.epochs, FALLBACK_EPOCHS)
            data = _HeadData(limited_batches, forward, lambda size: min(len(batches), math.ceil(MAX_IMAGES / size)))
        # Only a loss in fp16 needs its gradients scaled, and cached features are used in float32.
        scaled = forward.amp_dtype is torch.float16 and cached is None
        scaler = torch.amp.GradScaler(device.type, enabled=scaled)
        images, losses = _train(data, parameters, loss, options, epochs=epochs, scaler=scaler)
    return ProbingPhase(images, len(losses), time.perf_counter() - start, losses[0], losses[-1], cached is not None)


def _is_linear(layer: nn.Module, features: Tensor) -> TypeGuard[nn.Linear]:
    """Whether `layer` is a linear layer that is trained as a whole, with one row of features per image."""
    trainable = all(p.requires_grad for p in layer.parameters())
    return type(layer) is nn.Linear and layer.bias is not None and trainable and features.ndim == 2


def _feature_data(layer: nn.Module, features: Tensor, targets: Tensor, options: ProbingOptions) -> _HeadData:
    order = torch.Generator().manual_seed(options.seed)

    def minibatches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        permutation = torch.randperm(len(features), generator=order).to(features.device)
        for indices in torch.split(permutation, options.batch_size):
            yield features[indices], targets[indices]

    return _HeadData(minibatches, lambda x: layer(x.float()), lambda _: math.ceil(len(features) / options.batch_size))


def _train(
    data: _HeadData,
    parameters: list[nn.Parameter],
    loss: Loss,
    options: ProbingOptions,
    *,
    epochs: int,
    scaler: torch.amp.GradScaler,
) -> tuple[int, list[float]]:
    """Images per epoch, and the mean loss of each epoch."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=options.lr)
    means: list[float] = []
    step = seen = 0
    steps = 1
    micro_batcher = MicroBatcher()
    for epoch in range(epochs):
        total: Tensor | float = 0.0
        seen = 0
        for inputs, target in data.batches(epoch):
            if not step:
                steps = epochs * data.steps(len(inputs))
            for group in optimizer.param_groups:
                group["lr"] = options.lr * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))

            def run_micro_batches(parts: list[slice], inputs: Tensor = inputs, target: Tensor = target) -> Tensor:
                mean = torch.zeros((), device=target.device)
                for part in parts:
                    share = (part.stop - part.start) / len(inputs)
                    value = loss(data.forward(inputs[part]), target[part])
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
            raise TrainingError("linear probing: no training images", "check the data: no file could be read")
        means.append(float(total) / seen)
        if not math.isfinite(means[-1]):
            raise TrainingError(
                f"the loss became {means[-1]} in the linear-probing phase (learning rate {options.lr:.2g})",
                "try a lower transfer.probe_lr, or transfer.start=plain",
            )
    return seen, means


@contextmanager
def train_only(module: nn.Module, trainable: list[nn.Parameter]) -> Iterator[None]:
    """Evaluation mode, and gradients for `trainable` only; modes and gradients are restored afterwards."""
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
