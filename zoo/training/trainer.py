"""The training epoch and the validation pass, without files and printing."""

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
from zoo.metrics.accumulator import MetricAccumulator
from zoo.metrics.statistics import Collected
from zoo.optim.param_groups import NO_DECAY
from zoo.optim.schedules import Schedule
from zoo.optim.state_dict import load_optimizer_state, optimizer_state
from zoo.training.batches import Batches
from zoo.training.compile import CompiledForward
from zoo.training.distributed import any_rank, gather_tensors, synchronize_batches, total
from zoo.training.ema import ExponentialMovingAverage
from zoo.training.feature_extractor import FeatureExtractor
from zoo.training.forward_pass import ForwardPass, total_loss
from zoo.training.inference import Normalize, forward_batches
from zoo.training.lora import merged_state
from zoo.training.microbatch import MicroBatcher, StepSnapshot
from zoo.training.sharding import full_tensors, shard
from zoo.training.target_scaler import TargetScaler


class OnBatch(Protocol):
    """Called after each batch. `read()` gives (mean loss, top-1 or None) so far, and waits for the device."""

    def __call__(
        self, batch: int, batches: int, images: int, read: Callable[[], tuple[float, float | None]]
    ) -> None: ...


@dataclass(frozen=True)
class EpochStats:
    """Means over an epoch. top1: None without class targets. skipped_steps: skipped by the loss scaler (fp16)."""

    loss: float
    top1: float | None
    images: int
    seconds: float
    skipped_steps: int = 0


# Batches between checks that the loss is finite: a check waits for the accelerator.
_CHECK_EVERY = 50


@dataclass
class Trainer:
    """The module on its device, with its optimizer and schedule.

    set_train_mode(epoch) puts the module, without its frozen part, in training mode. auxiliary: weight of auxiliary
    heads' losses. scale: of regression targets; scaled_layers: paths of the output layers. penalty: a scalar added to
    every batch's loss, not to the reported one. ema: updated after every step, and what is evaluated and saved.
    feature_extractor: batches hold its features (n, …) instead of images. micro_batcher, eval_micro_batcher: limits
    after out-of-memory errors. blocks: modules to shard (FSDP); None: every process holds the whole model.
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
            # A performance warning about the strides of 1x1 filters, where both layouts are the same.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            self._model, self._wrapped_optimizer = self.accelerator.prepare(self.module, self.optimizer)

    def compile(self) -> CompiledForward:
        """Compile the forward pass of training steps; validation and cached features are not compiled."""
        self.compiled = CompiledForward(self._model)
        return self.compiled

    def train_epoch(self, batches: Batches, epoch: int, on_batch: OnBatch | None = None) -> EpochStats:
        """Train on every batch once. `epoch`, from 0, and the seed determine order, augmentation and dropout.

        Raises TrainingError if the loss is not finite, UsageError if a user's loss does not return a scalar tensor.
        """
        # A seed per epoch: a resumed epoch repeats its dropout.
        seed = _epoch_seed(self.seed, epoch, dist_env.rank())
        torch.manual_seed(seed)
        batches.set_epoch(epoch)
        self.set_train_mode(epoch)
        if self.compiled is not None:
            self.compiled.begin_epoch()
        device, steps = self.accelerator.device, len(batches)
        loss_sum, correct = torch.zeros(2, device=device)
        class_targets = True
        seen = skipped = pending = 0
        mixing_rng = torch.Generator().manual_seed(seed)
        # With several processes, gradients are exchanged during the backward pass and cannot be rolled back.
        snapshot = StepSnapshot(self.module, device) if dist_env.world_size() == 1 else None
        start = time.perf_counter()

        def read() -> tuple[float, float | None]:
            return float(loss_sum) / max(seen, 1), float(correct) / max(seen, 1) if class_targets else None

        for number, (on_host, labels, count, factor) in enumerate(synchronize_batches(batches)):
            images = on_host.to(device, non_blocking=True)
            target = self.scale_for_loss(labels.to(device, non_blocking=True))
            if self.mixing is not None:
                images, target = self.mixing(images, target, mixing_rng)
            # The last group may be short; a loader that skips bad files may end early.
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
            raise TrainingError("an epoch without images", "check the data: no file could be read")
        mean_loss, top1 = read()
        return EpochStats(mean_loss, top1, seen, time.perf_counter() - start, skipped)

    def _train_batch(
        self, images: Tensor, target: Tensor, factor: float, pending: int, group: int, snapshot: StepSnapshot | None
    ) -> tuple[Tensor, Tensor]:
        """Outputs (n, K) and mean loss of a batch, the next after `pending` ones in a group of accumulated gradients.

        On an out-of-memory error the batch is repeated in micro-batches, and so are later ones.
        """

        def run_micro_batches(parts: list[slice]) -> tuple[Tensor, Tensor]:
            outputs = []
            mean = torch.zeros((), device=images.device)
            for part in parts:
                last = part.stop == len(images)
                share = (part.stop - part.start) / len(images)
                # Processes exchange gradients once per step, with the last micro-batch.
                with nullcontext() if last and pending + 1 == group else self.accelerator.no_sync(self._model):
                    with self.accelerator.autocast():
                        output, loss = total_loss(self._forward(images[part]), target[part], self.loss, self.auxiliary)
                    outputs.append(output.detach())
                    mean += loss.detach().float() * share
                    loss = loss * (share * factor)
                    if last and self.penalty is not None:
                        loss = loss + self.penalty() / group
                    self.accelerator.backward(loss)
            return outputs[0] if len(outputs) == 1 else torch.cat(outputs), mean

        if snapshot is None:
            return self.micro_batcher.run_batch(len(images), run_micro_batches, None)
        snapshot.capture(accumulating=pending > 0)
        found = self.micro_batcher.run_batch(len(images), run_micro_batches, snapshot.rollback)
        snapshot.add_gradients()
        return found

    def _forward(self, images: Tensor) -> Any:
        if self.feature_extractor is None:
            return (self.compiled or self._model)(self.normalize(images))
        if self.feature_extractor.last and dist_env.world_size() == 1:
            return self.feature_extractor.forward_head(images, self.module).float()  # as accelerate returns it
        return self.feature_extractor.forward_head(images, self.module, wrapped_model=self._model)

    def _optimizer_step(self) -> bool:
        """Clip and step. True if the loss scaler skipped the step (fp16 overflow)."""
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
        """Targets or outputs in the targets' units → the scale on which the loss is computed."""
        return values if self.scale is None else self.scale.transform(values)

    def scaled_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of the module's output, and targets in their own units."""
        return self.loss(output, self.scale_for_loss(target))

    @property
    def forward_pass(self) -> ForwardPass:
        return ForwardPass(self.module, self.normalize, self.accelerator.device, self.amp_dtype)

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]], accumulator: MetricAccumulator) -> float:
        """The mean loss of the weights (of the average, if any). `accumulator` receives all outputs and targets."""
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
        """As `evaluate`, for another module. scale: of its outputs, if they are not in the targets' units."""
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
        if accumulator.collects:  # a weighted loss is not a mean over batches
            collected = accumulator.statistic(Collected)
            return self.loss_of(collected.outputs, collected.targets)
        loss, images = total(loss_sum)
        return float(loss / images)

    def shard(self) -> None:
        """Shard all tensors over the processes, if `blocks` are given."""
        if self.blocks is not None and dist_env.world_size() > 1:
            # For validation, where the processes may have different numbers of batches.
            self._eval_copy = copy.deepcopy(self.module)
            shard(self.module, self.optimizer, self.blocks, self.accelerator.device)

    @torch.no_grad()
    def loss_of(self, outputs: Tensor, targets: Tensor) -> float:
        """The loss of outputs (N, K) and targets, both in the targets' units."""
        device = self.accelerator.device
        return float(self.scaled_loss(self.scale_for_loss(outputs.to(device)), targets.to(device)))

    def weights(self) -> dict[str, Tensor]:
        """The weights to save: of the moving average if there is one, with LoRA merged and regression outputs in the
        targets' units."""
        state = full_tensors(merged_state(self.module if self.ema is None else self.ema.module))
        return state if self.scale is None else self.scale.fold_into_state(state, self.scaled_layers)

    def learning_rates(self) -> dict[str, float]:
        """The current learning rate of each stage."""
        return {g["name"].removesuffix(NO_DECAY): g["lr"] for g in self.optimizer.param_groups}

    def _check_finite(self, loss_sum: Tensor, epoch: int, batch: int) -> None:
        if any_rank(not bool(torch.isfinite(loss_sum))):
            lrs = ", ".join(f"{lr:.2g}" for lr in sorted({g["lr"] for g in self.optimizer.param_groups}))
            raise TrainingError(
                f"the loss became {float(loss_sum)} in epoch {epoch + 1}, batch {batch + 1} (learning rate {lrs})",
                "the best weights so far are saved; try a lower --lr, --set train.clip_grad=1 or --no-amp",
            )

    # --- state for resuming ---

    def tensors(self) -> dict[str, Tensor]:
        """ "model.NAME", "optimizer.state.INDEX.NAME" and "ema.NAME"."""
        parts = {"model": full_tensors(self.module.state_dict())}
        parts["optimizer"] = full_tensors(optimizer_state(self.optimizer)[0])
        if self.ema is not None:
            parts["ema"] = self.ema.state()
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def values(self) -> dict[str, Any]:
        """The rest of the state, JSON-able."""
        scaler = self.accelerator.scaler
        return {
            "optimizer": optimizer_state(self.optimizer)[1],
            "schedule": self.schedule.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "micro_batch_limits": [self.micro_batcher.limit, self.eval_micro_batcher.limit],
        }

    def load(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Restore `tensors()` and `values()` in a trainer built from the same recipe."""

        def part(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}

        self.module.load_state_dict(part("model."))
        load_optimizer_state(self.optimizer, part("optimizer."), values["optimizer"])
        self.schedule.load_state_dict(values["schedule"])
        self.micro_batcher.limit, self.eval_micro_batcher.limit = values.get("micro_batch_limits", (None, None))
        if self.ema is not None:
            self.ema.load(part("ema."))
        if values["scaler"] and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(values["scaler"])


def _epoch_seed(seed: int, epoch: int, process: int) -> int:
    """A seed for each epoch and process: multiples of the golden ratio (Knuth, TAOCP 3, 6.4) are far apart."""
    return (seed + (epoch + 1 + (process << 32)) * 0x9E3779B97F4A7C15) % 2**63
