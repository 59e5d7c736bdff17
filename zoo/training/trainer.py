"""One epoch of learning, one pass of validation: the loop, without files and without printing."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo import dist_env
from zoo.augment.mixing import Mixing
from zoo.errors import TrainingError
from zoo.losses.check import check_value
from zoo.metrics.accumulator import MetricAccumulator
from zoo.metrics.statistics import Collected
from zoo.optim.param_groups import NO_DECAY
from zoo.optim.schedules import Schedule
from zoo.optim.state_dict import load_optimizer_state, optimizer_state
from zoo.training.compile import CompiledForward
from zoo.training.distributed import any_rank, gather_tensors, sync_module_states, synchronize_batches, total
from zoo.training.ema import ExponentialMovingAverage
from zoo.training.feature_extractor import FeatureExtractor
from zoo.training.inference import Normalize, forward_batches
from zoo.training.lora import merged_state
from zoo.training.microbatch import MicroBatcher, StepSnapshot
from zoo.training.sharding import full_tensors, shard
from zoo.training.target_scaler import TargetScaler

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

    top1: None where an image has no single right class. skipped_steps: steps that the loss scaler left out (fp16).
    """

    loss: float
    top1: float | None
    images: int
    seconds: float
    skipped_steps: int = 0


# How often an accelerator is asked whether the loss is still finite: each time it is asked it must catch up.
_CHECK_EVERY = 50


@dataclass
class Trainer:
    """Owns the module on its device, the optimizer and the schedule.

    set_train_mode(epoch) puts the module in training mode, all but what is frozen in that epoch. With accumulation a
    step's gradient is the mean over its batches, a last short group included. auxiliary: weight of the losses of
    auxiliary heads. scale: of regression targets; scaled_layers: paths of the layers that give them. penalty: a scalar
    added to every batch's loss, and not counted in the reported one. ema: moved at every step; it is then what is
    validated and kept. mixing: of training batches. feature_extractor: what is frozen at the beginning; if there is
    one, batches hold its features (n, …) instead of images, in training and validation. at_once, eval_micro_batcher:
    how many images memory takes, while training and while validating, if those are fewer than a batch has. blocks: of
    fully sharded training, paths of modules that are put together as one; None: every process holds the whole model.
    """

    accelerator: Accelerator
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
    scale: TargetScaler | None = None
    scaled_layers: tuple[str, ...] = ()
    penalty: Callable[[], Tensor] | None = None
    ema: ExponentialMovingAverage | None = None
    mixing: Mixing | None = None
    feature_extractor: FeatureExtractor | None = None
    blocks: Sequence[str] | None = None
    micro_batcher: MicroBatcher = field(default_factory=MicroBatcher)
    eval_micro_batcher: MicroBatcher = field(default_factory=MicroBatcher)
    compiled: CompiledForward | None = None
    _model: nn.Module = field(init=False)
    _wrapped_optimizer: Any = field(init=False)
    _eval_copy: nn.Module | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.normalize.to(self.accelerator.device)
        if self.scale is not None:
            self.scale = self.scale.to(self.accelerator.device)
        if isinstance(self.loss, nn.Module):
            self.loss.to(self.accelerator.device)
        if self.blocks is not None:
            self._model, self._wrapped_optimizer = self.module, self.accelerator.prepare(self.optimizer)
        else:
            # Layouts of 1x1 filters that differ in name only: it would be said once, to no purpose.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            self._model, self._wrapped_optimizer = self.accelerator.prepare(self.module, self.optimizer)

    def compile(self) -> CompiledForward:
        """From here on, training steps run through compiled code; validation does not, nor do kept features."""
        self.compiled = CompiledForward(self._model)
        return self.compiled

    def train_epoch(self, batches: Batches, epoch: int, on_batch: OnBatch | None = None) -> EpochStats:
        """Learn from every batch once. `epoch` counts from 0; with the seed it fixes order, augmentation and dropout.

        Raises TrainingError if the loss is not finite, UsageError if a user's loss does not return a scalar tensor.
        """
        # Seeding each epoch makes dropout and drop-path a function of (seed, epoch): a resumed epoch repeats them.
        torch.manual_seed(_epoch_seed(self.seed, epoch, dist_env.rank()))
        batches.set_epoch(epoch)
        self.set_train_mode(epoch)
        if self.compiled is not None:
            self.compiled.begin_epoch()
        device = self.accelerator.device
        steps = len(batches)
        loss_sum = torch.zeros((), device=device)
        correct = torch.zeros((), device=device)
        class_targets = True
        seen = skipped = pending = 0
        mixing_rng = torch.Generator().manual_seed(_epoch_seed(self.seed, epoch, dist_env.rank()))
        # Processes that exchange gradients in the midst of a backward pass cannot take one back.
        snapshot = StepSnapshot(self.module, device) if dist_env.world_size() == 1 else None
        start = time.perf_counter()

        def read() -> tuple[float, float | None]:
            return float(loss_sum) / max(seen, 1), float(correct) / max(seen, 1) if class_targets else None

        for number, (on_host, labels, count, factor) in enumerate(synchronize_batches(batches)):
            images = on_host.to(device, non_blocking=True)
            target = self.scale_for_loss(labels.to(device, non_blocking=True))
            if self.mixing is not None:
                images, target = self.mixing(images, target, mixing_rng)
            # The last group may be short; a loader that leaves bad files out may end early: a smaller step.
            group_size = min(self.grad_accum_steps, steps - number // self.grad_accum_steps * self.grad_accum_steps)
            output, loss = self._train_batch(images, target, factor / group_size, pending, group_size, snapshot)
            loss_sum += loss * count
            class_targets = not target.is_floating_point()
            if class_targets:
                correct += (output[:count].argmax(1) == target[:count]).sum()
            seen += count
            if device.type == "cpu" or number % _CHECK_EVERY == 0 or number + 1 == steps:
                self._check_finite(loss_sum, epoch, number)
            pending += 1
            if pending == group_size:
                skipped += self._optimizer_step()
                pending = 0
            if on_batch is not None:
                on_batch(number + 1, steps, seen * dist_env.world_size(), read)
        if pending:
            skipped += self._optimizer_step()
        loss_sum, correct, number_seen = total(torch.stack([loss_sum, correct, loss_sum.new_tensor(seen)]))
        seen = int(number_seen)
        if not seen:
            raise TrainingError("an epoch without a single image", "check the data: every file proved unreadable")
        mean_loss, top1 = read()
        return EpochStats(mean_loss, top1, seen, time.perf_counter() - start, skipped)

    def _train_batch(
        self,
        images: Tensor,
        target: Tensor,
        factor: float,
        pending: int,
        group_size: int,
        snapshot: StepSnapshot | None,
    ) -> tuple[Tensor, Tensor]:
        """Outputs (n, K) and mean loss of a batch, whose gradient is added to that of the `pending` ones of its group.

        If memory refuses it, the batch is done again in pieces, and later ones are cut alike; its loss is then the mean
        of the pieces' losses, weighted by their images.
        """

        def run_micro_batches(parts: list[slice]) -> tuple[Tensor, Tensor]:
            outputs = []
            mean = torch.zeros((), device=images.device)
            for part in parts:
                last = part.stop == len(images)
                share = (part.stop - part.start) / len(images)
                # Processes exchange gradients once a step, with the last of its group.
                with nullcontext() if last and pending + 1 == group_size else self.accelerator.no_sync(self._model):
                    with self.accelerator.autocast():
                        raw_output = self._forward(images[part])
                        output, loss = total_loss(raw_output, target[part], self.loss, self.auxiliary)
                    outputs.append(output.detach())
                    mean += loss.detach().float() * share
                    loss = loss * (share * factor)
                    if last and self.penalty is not None:
                        loss = loss + self.penalty() / group_size
                    self.accelerator.backward(loss)
            return outputs[0] if len(outputs) == 1 else torch.cat(outputs), mean

        if snapshot is None:
            return self.micro_batcher.run_batch(len(images), run_micro_batches, None)
        snapshot.capture(accumulating=pending > 0)
        found = self.micro_batcher.run_batch(len(images), run_micro_batches, snapshot.rollback)
        snapshot.add_gradients()
        return found

    def _forward(self, images: Tensor) -> Any:
        """The model's output for images, or for what is kept of them."""
        if self.feature_extractor is not None and self.feature_extractor.last and dist_env.world_size() == 1:
            return self.feature_extractor.forward_head(images, self.module).float()  # as the engine gives it
        if self.feature_extractor is not None:
            return self.feature_extractor.forward_head(images, self.module, wrapped_model=self._model)
        return (self.compiled or self._model)(self.normalize(images))

    def _optimizer_step(self) -> bool:
        """Clip, step, clear, schedule. True if the loss scaler left the step out (fp16 overflow)."""
        if self.clip_grad is not None:
            self.accelerator.clip_grad_norm_(self.module.parameters(), self.clip_grad)
        self._wrapped_optimizer.step()
        skipped = bool(self._wrapped_optimizer.step_was_skipped)
        self._wrapped_optimizer.zero_grad(set_to_none=True)
        self.schedule.after_step()
        if self.ema is not None and not skipped:
            self.ema.update(self.module)
        return skipped

    def scale_for_loss(self, values: Tensor) -> Tensor:
        """Targets, or outputs in the targets' units, as the loss meets them."""
        return values if self.scale is None else self.scale.transform(values)

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]], accumulator: MetricAccumulator) -> float:
        """Evaluate the weights, those of the moving average if there is one.

        Args:
            batches: images (or cached features) and targets.
            accumulator: gets the outputs and targets of all processes, in the targets' units.

        Returns:
            The mean loss.
        """
        eval_module = self.module if self.ema is None else self.ema.module
        if self._eval_copy is not None:
            self._eval_copy.load_state_dict(full_tensors(self.module.state_dict()))
            eval_module = self._eval_copy
        return self.evaluate_module(eval_module, batches, accumulator, scale=self.scale)

    def evaluate_module(
        self,
        module: nn.Module,
        batches: Iterable[tuple[Tensor, Tensor]],
        accumulator: MetricAccumulator,
        feature_extractor: FeatureExtractor | None = None,
        *,
        scale: TargetScaler | None = None,
    ) -> float:
        """Evaluate `module`, the trainer's or a copy; as `evaluate`.

        Args:
            feature_extractor: the extractor of the features in `batches`, if not the trainer's.
            scale: of the outputs, if they are not in the targets' units.
        """
        loss_sum = torch.zeros(2, dtype=torch.float64)
        for raw, targets in forward_batches(
            module,
            batches,
            self.normalize,
            device=self.accelerator.device,
            amp_dtype=self.amp_dtype,
            feature_extractor=feature_extractor or self.feature_extractor,
            micro_batcher=self.eval_micro_batcher,
        ):
            outputs = raw if scale is None else scale.inverse_transform(raw.to(self.accelerator.device)).cpu()
            accumulator.update(outputs, targets)
            if not accumulator.collects:
                loss_sum += torch.tensor([self.loss_of(outputs, targets) * len(targets), len(targets)])
        accumulator.merge(gather_tensors)
        if accumulator.collects:  # some losses, such as weighted ones, are no mean over batches
            collected = accumulator.statistic(Collected)
            return self.loss_of(collected.outputs, collected.targets)
        loss, images = total(loss_sum)
        return float(loss / images)

    def shard(self) -> None:
        """From here on each process holds a part of every tensor, if `blocks` are given.

        Validation runs on a whole copy, because the processes need not have the same number of batches there.
        """
        if self.blocks is not None and dist_env.world_size() > 1:
            self._eval_copy = copy.deepcopy(self.module)
            shard(self.module, self.optimizer, self.blocks, self.accelerator.device)

    def sync_module_states(self) -> None:
        """Give every process the first one's weights: what each has learned by itself may differ in the last bits."""
        sync_module_states(self.module)

    @torch.no_grad()
    def loss_of(self, outputs: Tensor, targets: Tensor) -> float:
        """The run's own loss of (N, K) outputs and their targets, both in the targets' units."""
        device = self.accelerator.device
        return float(self.loss(self.scale_for_loss(outputs.to(device)), self.scale_for_loss(targets.to(device))))

    def weights(self) -> dict[str, Tensor]:
        """What is kept: the plain architecture's tensors, of the moving average if there is one, adapters merged, and
        regression at the scale of the user's units."""
        state = full_tensors(merged_state(self.module if self.ema is None else self.ema.module))
        return state if self.scale is None else self.scale.fold_into_state(state, self.scaled_layers)

    def rates(self) -> dict[str, float]:
        """The learning rate of each stage now; its parameters with and without weight decay share one."""
        return {g["name"].removesuffix(NO_DECAY): g["lr"] for g in self.optimizer.param_groups}

    def _check_finite(self, loss_sum: Tensor, epoch: int, batch: int) -> None:
        if any_rank(not bool(torch.isfinite(loss_sum))):
            rates = ", ".join(f"{lr:.2g}" for lr in sorted({g["lr"] for g in self.optimizer.param_groups}))
            raise TrainingError(
                f"the loss became {float(loss_sum)} in epoch {epoch + 1}, batch {batch + 1} (learning rate {rates})",
                "the best weights so far are kept; try a lower --lr, --set train.clip_grad=1 or --no-amp",
            )

    # --- state for resuming ---

    def tensors(self) -> dict[str, Tensor]:
        """Module, optimizer and average, flat: "model.NAME", "optimizer.state.INDEX.NAME" and "ema.NAME"."""
        found = {f"model.{k}": v for k, v in full_tensors(self.module.state_dict()).items()}
        found.update({f"optimizer.{k}": v for k, v in full_tensors(optimizer_state(self.optimizer)[0]).items()})
        if self.ema is not None:
            found.update({f"ema.{k}": v for k, v in self.ema.state().items()})
        return found

    def values(self) -> dict[str, Any]:
        """The rest of the state, JSON-able."""
        scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None
        return {
            "optimizer": optimizer_state(self.optimizer)[1],
            "schedule": self.schedule.state_dict(),
            "scaler": scaler,
            "micro_batch_limits": [self.micro_batcher.limit, self.eval_micro_batcher.limit],
        }

    def load(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Take back what `tensors()` and `values()` gave, into a trainer built from the same recipe."""
        self.module.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        optimizer_tensors = {k[10:]: v for k, v in tensors.items() if k.startswith("optimizer.")}
        load_optimizer_state(self.optimizer, optimizer_tensors, values["optimizer"])
        self.schedule.load_state_dict(values["schedule"])
        self.micro_batcher.limit, self.eval_micro_batcher.limit = values.get("micro_batch_limits", (None, None))
        if self.ema is not None:
            self.ema.load({k[4:]: v for k, v in tensors.items() if k.startswith("ema.")})
        if values["scaler"] and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(values["scaler"])


def _epoch_seed(seed: int, epoch: int, process: int) -> int:
    """A seed of its own for each epoch and process: golden-ratio steps (Knuth, TAOCP 3, 6.4) keep neighbours apart."""
    return (seed + (epoch + 1 + (process << 32)) * 0x9E3779B97F4A7C15) % 2**63


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
