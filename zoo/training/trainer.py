"""One epoch of learning, one pass of validation: the loop, without files and without printing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.augment.mixing import Mixing
from zoo.errors import TrainingError
from zoo.losses.check import check_value
from zoo.optim.groups import NO_DECAY
from zoo.optim.plain_state import load_optimizer_state, optimizer_state
from zoo.optim.schedules import Schedule
from zoo.training.ema import ExponentialMovingAverage
from zoo.training.inference import Normalize, forward_all
from zoo.training.lora import merged_state
from zoo.training.prefix import Prefix
from zoo.training.targets import TargetScale

__all__ = ["Batches", "EpochStats", "OnBatch", "Trainer", "total_loss"]


class Batches(Protocol):
    """(images (n, C, H, W) uint8, targets (n,) int64 or (n, K) float32), reshuffled by the number of the epoch."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Any: ...
    def set_epoch(self, epoch: int) -> None: ...


class OnBatch(Protocol):
    """Told after each batch: `read()` gives (mean loss, top-1 or None) so far, and costs a wait for the device."""

    def __call__(
        self, batch: int, batches: int, images: int, read: Callable[[], tuple[float, float | None]]
    ) -> None: ...


@dataclass(frozen=True)
class EpochStats:
    """Means over the epoch's images, as the model was when it met each of them; seconds of wall time.

    top1: None where an image has no single right class. skipped_updates: steps that the loss scaler left out (fp16).
    """

    loss: float
    top1: float | None
    images: int
    seconds: float
    skipped_updates: int = 0


# How often an accelerator is asked whether the loss is still finite: each time it is asked it must catch up.
_CHECK_EVERY = 50


@dataclass
class Trainer:
    """Owns the module on its device, the optimizer and the schedule.

    set_train_mode(epoch) puts the module in training mode, all but what is frozen in that epoch. With accumulation a
    step's gradient is the mean over its batches, a last short group included. auxiliary: weight of the losses of
    auxiliary heads. scale: of regression targets; scaled_layers: paths of the layers that give them. penalty: a scalar
    added to every batch's loss, and not counted in the reported one. ema: moved at every step; it is then what is
    validated and kept. mixing: of training batches. prefix: what is frozen at the beginning; if there is one, batches
    hold its features (n, …) instead of images, in training and validation.
    """

    engine: Accelerator
    module: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    loss: Callable[[Tensor, Tensor], Tensor]
    normalize: Normalize
    set_train_mode: Callable[[int], None]
    seed: int
    amp_dtype: torch.dtype | None = None
    grad_accum_steps: int = 1
    clip_grad: float | None = None
    auxiliary: float = 0.0
    scale: TargetScale | None = None
    scaled_layers: tuple[str, ...] = ()
    penalty: Callable[[], Tensor] | None = None
    ema: ExponentialMovingAverage | None = None
    mixing: Mixing | None = None
    prefix: Prefix | None = None
    _model: nn.Module = field(init=False)
    _stepper: Any = field(init=False)

    def __post_init__(self) -> None:
        self.normalize.to(self.engine.device)
        if self.scale is not None:
            self.scale = self.scale.to(self.engine.device)
        if isinstance(self.loss, nn.Module):
            self.loss.to(self.engine.device)
        self._model, self._stepper = self.engine.prepare(self.module, self.optimizer)

    def train_epoch(self, batches: Batches, epoch: int, on_batch: OnBatch | None = None) -> EpochStats:
        """Learn from every batch once. `epoch` counts from 0; with the seed it fixes order, augmentation and dropout.

        Raises TrainingError if the loss is not finite, UsageError if a user's loss does not return a scalar tensor.
        """
        # Seeding each epoch makes dropout and drop-path a function of (seed, epoch): a resumed epoch repeats them.
        torch.manual_seed(_mix(self.seed, epoch))
        batches.set_epoch(epoch)
        self.set_train_mode(epoch)
        device = self.engine.device
        total = len(batches)
        loss_sum = torch.zeros((), device=device)
        right = torch.zeros((), device=device)
        one_class = True
        seen = skipped = pending = 0
        mixed = torch.Generator().manual_seed(_mix(self.seed, epoch))
        start = time.perf_counter()

        def read() -> tuple[float, float | None]:
            return float(loss_sum) / max(seen, 1), float(right) / max(seen, 1) if one_class else None

        for number, (on_host, labels) in enumerate(batches):
            images = on_host.to(device, non_blocking=True)
            target = self.for_loss(labels.to(device, non_blocking=True))
            if self.mixing is not None:
                images, target = self.mixing(images, target, mixed)
            with self.engine.autocast():
                given = self._model(self.normalize(images)) if self.prefix is None else self.prefix.rest(images)
                output, loss = total_loss(given, target, self.loss, self.auxiliary)
            with torch.no_grad():
                loss_sum += loss.detach().float() * len(images)
                one_class = not target.is_floating_point()
                if one_class:
                    right += (output.argmax(1) == target).sum()
            seen += len(images)
            if device.type == "cpu" or number % _CHECK_EVERY == 0 or number + 1 == total:
                self._check_finite(loss_sum, epoch, number)
            # The last group may be short; a loader that leaves bad files out may end early: a smaller step.
            in_group = min(self.grad_accum_steps, total - number // self.grad_accum_steps * self.grad_accum_steps)
            if self.penalty is not None:
                loss = loss + self.penalty()
            self.engine.backward(loss / in_group)
            pending += 1
            if pending == in_group:
                skipped += self._update()
                pending = 0
            if on_batch is not None:
                on_batch(number + 1, total, seen, read)
        if pending:
            skipped += self._update()
        if not seen:
            raise TrainingError("an epoch without a single image", "check the data: every file proved unreadable")
        mean_loss, top1 = read()
        return EpochStats(mean_loss, top1, seen, time.perf_counter() - start, skipped)

    def _update(self) -> bool:
        """Clip, step, clear, schedule. True if the loss scaler left the step out (fp16 overflow)."""
        if self.clip_grad is not None:
            self.engine.clip_grad_norm_(self.module.parameters(), self.clip_grad)
        self._stepper.step()
        skipped = bool(self._stepper.step_was_skipped)
        self._stepper.zero_grad(set_to_none=True)
        self.schedule.after_update()
        if self.ema is not None and not skipped:
            self.ema.update(self.module)
        return skipped

    def for_loss(self, values: Tensor) -> Tensor:
        """Targets, or outputs in the targets' units, as the loss meets them."""
        return values if self.scale is None else self.scale.standardise(values)

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, float]:
        """Outputs (N, K) float32 and targets (N,) or (N, K) on the CPU, in the targets' units, and the mean loss.

        Of the moving average if there is one, else of the module itself.
        """
        judged = self.module if self.ema is None else self.ema.module
        device = self.engine.device
        outputs, targets = forward_all(
            judged, batches, self.normalize, device=device, amp_dtype=self.amp_dtype, prefix=self.prefix
        )
        if self.scale is not None:
            outputs = self.scale.restore(outputs.to(device)).cpu()
        return outputs, targets, self.loss_of(outputs, targets)

    @torch.no_grad()
    def loss_of(self, outputs: Tensor, targets: Tensor) -> float:
        """The run's own loss of (N, K) outputs and their targets, both in the targets' units."""
        device = self.engine.device
        return float(self.loss(self.for_loss(outputs.to(device)), self.for_loss(targets.to(device))))

    def weights(self) -> dict[str, Tensor]:
        """What is kept: the plain architecture's tensors, of the moving average if there is one, adapters merged, and
        regression at the scale of the user's units."""
        state = merged_state(self.module if self.ema is None else self.ema.module)
        return state if self.scale is None else self.scale.fold(state, self.scaled_layers)

    def rates(self) -> dict[str, float]:
        """The learning rate of each stage now; its parameters with and without weight decay share one."""
        return {g["name"].removesuffix(NO_DECAY): g["lr"] for g in self.optimizer.param_groups}

    def _check_finite(self, loss_sum: Tensor, epoch: int, batch: int) -> None:
        if not bool(torch.isfinite(loss_sum)):
            rates = ", ".join(f"{lr:.2g}" for lr in sorted({g["lr"] for g in self.optimizer.param_groups}))
            raise TrainingError(
                f"the loss became {float(loss_sum)} in epoch {epoch + 1}, batch {batch + 1} (learning rate {rates})",
                "the best weights so far are kept; try a lower --lr, --set train.clip_grad=1 or --no-amp",
            )

    # --- state for resuming ---

    def tensors(self) -> dict[str, Tensor]:
        """Module, optimizer and average, flat: "model.NAME", "optimizer.state.INDEX.NAME" and "ema.NAME"."""
        found = {f"model.{k}": v for k, v in self.module.state_dict().items()}
        found.update({f"optimizer.{k}": v for k, v in optimizer_state(self.optimizer)[0].items()})
        if self.ema is not None:
            found.update({f"ema.{k}": v for k, v in self.ema.state().items()})
        return found

    def values(self) -> dict[str, Any]:
        """The rest of the state, JSON-able."""
        scaler = self.engine.scaler.state_dict() if self.engine.scaler is not None else None
        return {
            "optimizer": optimizer_state(self.optimizer)[1],
            "schedule": self.schedule.state_dict(),
            "scaler": scaler,
        }

    def load(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Take back what `tensors()` and `values()` gave, into a trainer built from the same recipe."""
        self.module.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        gathered = {k[10:]: v for k, v in tensors.items() if k.startswith("optimizer.")}
        load_optimizer_state(self.optimizer, gathered, values["optimizer"])
        self.schedule.load_state_dict(values["schedule"])
        if self.ema is not None:
            self.ema.load({k[4:]: v for k, v in tensors.items() if k.startswith("ema.")})
        if values["scaler"] and self.engine.scaler is not None:
            self.engine.scaler.load_state_dict(values["scaler"])


def _mix(seed: int, epoch: int) -> int:
    """A seed of its own for each epoch: golden-ratio steps (Knuth, TAOCP 3, 6.4) keep neighbours apart."""
    return (seed + (epoch + 1) * 0x9E3779B97F4A7C15) % 2**63


def total_loss(
    output: Any, target: Tensor, loss: Callable[[Tensor, Tensor], Tensor], auxiliary: float
) -> tuple[Tensor, Tensor]:
    """The logits (N, K) of the main head, and the scalar to minimise.

    A module with auxiliary heads gives `(logits, [auxiliary logits, ...])` in training mode: each adds its loss, times
    `auxiliary` (Szegedy et al. 2015, 2016). Raises UsageError if `loss` does not return a scalar tensor.
    """
    logits, others = output if isinstance(output, tuple) else (output, [])
    logits = logits.float()  # half precision has too few digits for the differences that a loss takes
    total = loss(logits, target)
    check_value(total, loss, logits)
    for other in others:
        total = total + auxiliary * loss(other.float(), target)
    return logits, total
