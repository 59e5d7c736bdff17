"""Chooses how a run is executed where its recipe says auto: as an earlier run measured it, or by timing steps now."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import timm
import torch
import torchvision
from torch import Tensor

from zoo import dist_env
from zoo.data import Loader
from zoo.errors import TrainingError
from zoo.models import Model, record
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe, build
from zoo.strategy.freeze import FreezePlan
from zoo.training.autotune.batch_size import choose_batch_size, free_memory, lr_factor, step_profiler
from zoo.training.autotune.precision import (
    MIN_SPEEDUP,
    PrecisionChoice,
    RuntimeSettings,
    choose_precision,
    set_memory_format,
)
from zoo.training.autotune.timings import load_timing, machine, save_timing, synchronize
from zoo.training.autotune.workers import CpuLayout, benchmark_layouts, candidate_layouts, preserve_num_threads, threads
from zoo.training.compile import CompileTiming, time_compiled
from zoo.training.distributed import broadcast_object
from zoo.training.forward_pass import total_loss
from zoo.training.inference import Normalize
from zoo.training.microbatch import OOM_AT_ONE_IMAGE, OOM_HINT
from zoo.training.module_state import preserve_module_state
from zoo.training.trainer import Trainer
from zoo.workflows.finetune.session import BuiltModel, SampleBatch

T = TypeVar("T")

# Moving averages per parameter: AdamW keeps two, other optimizers fewer.
_OPTIMIZER_STATES = 2


def resolve_batch_size(recipe: Recipe, built: BuiltModel, amp_dtype: torch.dtype | None) -> tuple[Recipe, str]:
    """The recipe with a number in place of data.batch_size auto, and a sentence about it; otherwise unchanged and "".

    With optimizer.lr_base_size, the learning rates are scaled to the new batch size. Raises TrainingError if not even
    one image fits into memory.
    """
    if recipe.data.batch_size != "auto":
        return recipe, ""
    module, images = built.model.module, built.sample.images
    trainable_bytes = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    model_bytes = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    steps = recipe.train.grad_accum_steps
    ema_bytes = model_bytes if recipe.train.model_ema else 0
    optimizer_bytes = trainable_bytes * (_OPTIMIZER_STATES + (steps > 1)) + ema_bytes
    available_bytes = free_memory(images.device) - optimizer_bytes
    measure = step_profiler(
        module,
        lambda x, y: total_loss(module(built.normalize(x)), y, built.loss, built.auxiliary)[1],
        images,
        built.sample.loss_targets,
        amp_dtype=amp_dtype,
        available_bytes=available_bytes,
    )
    batches_per_step = steps * dist_env.world_size()
    found = broadcast_object(
        choose_batch_size(
            measure, images=len(built.data.train), batches_per_step=batches_per_step, available_bytes=available_bytes
        )
    )
    if found is None:
        raise TrainingError(OOM_AT_ONE_IMAGE.format(device=images.device), OOM_HINT)
    changes, lr_note = _scale_lrs(recipe, found.size * batches_per_step)
    changes["data.batch_size"] = found.size
    return build(recipe.model_dump(), changes), f"batch size {found.size}: {found.reason}{lr_note}"


def _scale_lrs(recipe: Recipe, effective_batch_size: int) -> tuple[dict[str, Any], str]:
    """The changes of the recipe that scale the learning rates to steps of so many images, and a clause about them."""
    requested, before = recipe.optimizer, recipe.optimizer.lr_base_size
    if before is None or before == effective_batch_size:
        return {"optimizer.lr_base_size": None}, ""
    factor, rule = lr_factor(requested.name, effective_batch_size / before)
    changes: dict[str, Any] = {"optimizer.lr_base_size": None, "optimizer.lr": _round_lr(requested.lr * factor)}
    if requested.head_lr is not None:
        changes["optimizer.head_lr"] = _round_lr(requested.head_lr * factor)
    changes["optimizer.groups"] = [
        {**group.model_dump(), "lr": None if group.lr is None else _round_lr(group.lr * factor)}
        for group in requested.groups
    ]
    return changes, (
        f"; learning rates x {factor:.2f}, {rule} of {effective_batch_size}/{before} images per step; --lr fixes them"
    )


def _round_lr(lr: float) -> float:
    """Three digits, so that the recipe shows exactly what is used."""
    return float(f"{lr:.3g}")


# Compiling is tried if it takes at most this share of the expected time of the run. Measured on two cores with torch
# 2.15: 59 s for resnet34, 28 s for vit_small, forward and backward; on a GPU the time is of the same order.
_TRIAL_SHARE = 0.02
_TYPICAL_COMPILE_SECONDS = 60.0
# Compiled steps are used if they save this many times the compile time, and a tenth of each step.
_MIN_PAYBACK = 2.0
_MIN_COMPILE_SPEEDUP = 1.1
# If loading an image takes less than this share of the time of its training step, threads and workers matter little.
_LIGHT_LOADING_SHARE = 0.25
# Images per batch while layouts are compared; a whole batch may take seconds.
_PROBE_BATCH_SIZE = 8


@dataclass(frozen=True)
class AutotuneContext:
    """What the choices depend on. batch: images per step in this process."""

    recipe: Recipe
    model: Model
    plan: FreezePlan
    preprocess: Preprocess
    device: torch.device
    batch: int

    def key(self, **extra: Any) -> dict[str, Any]:
        """The key of the timing cache, as JSON values: two runs with the same key take the same time per step."""
        text = json.dumps([record(self.model), self.plan.text, self.recipe.loss.name], sort_keys=True, default=str)
        return {
            **machine(self.device),
            "versions": [timm.__version__, torchvision.__version__],
            "model": self.model.name,
            "details": hashlib.blake2b(text.encode(), digest_size=8).hexdigest(),
            "size": [self.preprocess.channels, self.preprocess.height, self.preprocess.width],
            "batch": self.batch,
            **extra,
        }


def choose(
    context: AutotuneContext, step: Callable[[Tensor], Tensor], normalize: Normalize, images: Tensor
) -> PrecisionChoice:
    """Precision and memory format, the same in all processes; the module and `normalize` are converted to the latter.

    Called inside `check_step`, which gives `step`; images: (n, C, H, W) uint8.
    """
    recipe, module = context.recipe, context.model.module
    precision = recipe.train.amp_dtype if recipe.train.amp else "fp32"
    memory_format = recipe.execution.memory_format
    key = context.key(precision=precision, memory_format=memory_format)
    requested = precision != "auto" and memory_format != "auto"
    found = _parse_cached(PrecisionChoice, None if requested else load_timing("step", key))
    if found is not None and found.precision not in ("fp32", "bf16", "fp16"):
        found = None
    if found is None:
        found = choose_precision(
            precision, memory_format, context.device, step, module, normalize, images, batch=context.batch
        )
        if found.seconds is not None and dist_env.is_main_process():
            save_timing("step", key, asdict(found))
    found = broadcast_object(found)
    set_memory_format(module, normalize, found.memory_format)
    return found


def _parse_cached(kind: type[T], cached: dict[str, Any] | None) -> T | None:
    """None if nothing is cached, or if another version wrote it."""
    try:
        return kind(**cached) if cached is not None else None
    except TypeError:
        return None


def choose_execution(
    context: AutotuneContext,
    built: BuiltModel,
    precision: PrecisionChoice,
    trainer: Trainer,
    *,
    uses_feature_cache: bool,
    workers: int,
    open_loader: Callable[[int, int], Loader],
) -> RuntimeSettings:
    """Compilation of the steps (set in the trainer), threads (set here) and loader workers.

    workers: the default. open_loader(workers, batch size): a loader of the training images. The trainer is otherwise
    unchanged.
    """
    compiled, why = _choose_compile(context, built, precision, trainer, uses_feature_cache=uses_feature_cache)
    layout, note = CpuLayout(torch.get_num_threads(), workers), ""
    if context.device.type == "cpu" and not uses_feature_cache and dist_env.world_size() == 1:
        layout, note = _choose_layout(
            context, built, precision, trainer, layout, lambda n: open_loader(n, min(context.batch, _PROBE_BATCH_SIZE))
        )
    threads(layout.threads)
    text = f"execution: {precision.reason}, {why}, {layout}{note}"
    return RuntimeSettings(precision.precision, precision.memory_format, compiled, layout.threads, layout.workers, text)


# --- compiling -------------------------------------------------------------------------------------------------------


def _choose_compile(
    context: AutotuneContext,
    built: BuiltModel,
    precision: PrecisionChoice,
    trainer: Trainer,
    *,
    uses_feature_cache: bool,
) -> tuple[bool, str]:
    """Whether steps are compiled, and a clause about it."""
    requested = context.recipe.execution.compile
    if requested == "off":
        return False, "not compiled (as asked)"
    sharded = "the model is sharded over the processes" if trainer.blocks is not None else ""
    reason = "the run trains on cached features" if uses_feature_cache else sharded
    if requested == "on" and reason:
        return False, f"not compiled ({reason})"
    if requested == "on":
        why = _benchmark_compile(context, trainer, built.sample, compare=False).failure
        return not why, f"not compiled ({why})" if why else "compiled (as asked)"
    several = dist_env.world_size() > 1
    if reason or precision.seconds is None or several or context.recipe.transfer.unfreeze_every is not None:
        return False, "not compiled"
    steps = len(built.data.train) / context.batch * context.recipe.train.epochs
    seconds = precision.seconds / (torch.get_num_threads() if context.device.type == "cpu" else 1)
    key = context.key(precision=precision.precision, memory_format=precision.memory_format)
    gain = _parse_cached(CompileTiming, load_timing("compiled", key))
    if gain is None and seconds * context.batch * steps * _TRIAL_SHARE < _TYPICAL_COMPILE_SECONDS:
        return False, "not compiled (the run is too short)"
    if gain is None:
        gain = _benchmark_compile(context, trainer, built.sample, compare=True)
        if not gain.failure:
            save_timing("compiled", key, asdict(gain))
    elif _speedup_justifies_compile(gain, steps):
        failure = _benchmark_compile(context, trainer, built.sample, compare=False).failure
        gain = replace(gain, failure=failure)
    if not _speedup_justifies_compile(gain, steps):
        trainer.compiled = None
    message = gain.failure or f"measured {gain.speedup:.2f}x as fast, {gain.compile_seconds:.0f} s to compile"
    return trainer.compiled is not None, f"{'' if trainer.compiled is not None else 'not '}compiled ({message})"


def _speedup_justifies_compile(gain: CompileTiming, steps: float) -> bool:
    if gain.failure or gain.speedup < _MIN_COMPILE_SPEEDUP:
        return False
    return (gain.eager - gain.compiled) * steps > _MIN_PAYBACK * gain.compile_seconds


def _benchmark_compile(
    context: AutotuneContext, trainer: Trainer, sample: SampleBatch, *, compare: bool
) -> CompileTiming:
    """The trainer's steps are compiled afterwards, unless that failed."""
    indices = torch.arange(context.batch, device=sample.images.device) % len(sample.images)
    images = sample.images[indices].contiguous(memory_format=torch.channels_last)
    targets = sample.loss_targets[indices]

    def train_step(forward: Callable[[Tensor], Any]) -> None:
        forward_backward(trainer, images, targets, forward)
        synchronize(context.device)

    forward = trainer.compile()
    with preserve_module_state(trainer.module):
        gain = time_compiled(forward, trainer.module, train_step, compare=compare)
    if gain.failure:
        trainer.compiled = None
    return gain


def forward_backward(trainer: Trainer, images: Tensor, targets: Tensor, forward: Callable[[Tensor], Any]) -> None:
    with trainer.accelerator.autocast():
        outputs = forward(trainer.normalize(images))
        _, loss = total_loss(outputs, targets, trainer.loss, trainer.auxiliary)
    loss.backward()  # type: ignore[no-untyped-call]
    trainer.module.zero_grad(set_to_none=True)


# --- threads and workers ---------------------------------------------------------------------------------------------


def _choose_layout(
    context: AutotuneContext,
    built: BuiltModel,
    precision: PrecisionChoice,
    trainer: Trainer,
    default: CpuLayout,
    open_loader: Callable[[int], Loader],
) -> tuple[CpuLayout, str]:
    """Threads and workers, and a clause about the measured speedup ("" if nothing was measured)."""
    requested_threads, requested_workers = context.recipe.execution.threads, context.recipe.data.workers
    candidates = candidate_layouts(
        default,
        dist_env.cores(),
        threads=None if requested_threads == "auto" else requested_threads,
        workers=None if requested_workers == "auto" else requested_workers,
    )
    if len(candidates) == 1:
        return default, ""
    key = context.key(
        data=[built.data.name, len(built.data.train)],
        augment=context.recipe.augment.model_dump(mode="json"),
        precision=precision.precision,
        memory_format=precision.memory_format,
        threads_asked=requested_threads,
        workers_asked=requested_workers,
    )
    cached = load_timing("layout", key)
    if cached is not None and all(isinstance(cached.get(k), int) for k in ("threads", "workers")):
        return CpuLayout(max(cached["threads"], 1), max(cached["workers"], 0)), str(cached.get("message", ""))
    targets = built.sample.loss_targets

    def train_step(batch: Tensor) -> None:
        forward_backward(trainer, batch, targets[torch.arange(len(batch)) % len(targets)], trainer.module)

    found, message = default, ""
    with preserve_module_state(trainer.module):
        step_seconds = precision.seconds or _step_seconds(train_step, built.sample.images)
        if _loading_seconds(open_loader) >= _LIGHT_LOADING_SHARE * step_seconds:
            speeds = benchmark_layouts(candidates, open_loader, train_step)
            best = max(candidates, key=lambda candidate: speeds[candidate])
            if speeds[best] >= MIN_SPEEDUP * speeds[default]:
                found = best
                message = f" (measured {speeds[best] / speeds[default]:.1f}x as fast as {default})"
    save_timing("layout", key, {"threads": found.threads, "workers": found.workers, "message": message})
    return found, message


def _loading_seconds(open_loader: Callable[[int], Loader]) -> float:
    """CPU seconds to load an image."""
    start = time.process_time()
    images, _ = next(iter(open_loader(0)))
    return (time.process_time() - start) / len(images)


def _step_seconds(train_step: Callable[[Tensor], None], images: Tensor) -> float:
    """CPU seconds of a training step, per image."""
    with preserve_num_threads():
        threads(1)
        train_step(images)
        start = time.process_time()
        train_step(images)
        return (time.process_time() - start) / len(images)
