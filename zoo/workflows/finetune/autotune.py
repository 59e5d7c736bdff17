"""How a run is executed, as far as its recipe leaves that open: asked, remembered from an earlier run, or measured."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import timm
import torch
import torchvision
from torch import Tensor, nn

from zoo import dist_env
from zoo.data import Data, Loader
from zoo.errors import TrainingError
from zoo.losses import Loss
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
from zoo.training.autotune.timings import load_timing, machine, save_timing
from zoo.training.autotune.workers import CpuLayout, benchmark_layouts, candidate_layouts, preserve_num_threads, threads
from zoo.training.compile import CompileTiming, time_compiled
from zoo.training.distributed import broadcast_object
from zoo.training.inference import Normalize
from zoo.training.microbatch import OOM_AT_ONE_IMAGE, OOM_HINT
from zoo.training.module_state import preserve_module_state
from zoo.training.trainer import Trainer, total_loss

__all__ = ["AutotuneContext", "choose", "choose_execution", "resolve_batch_size"]

# An optimizer's two averages of each gradient, as AdamW keeps them; others keep fewer.
_OPTIMIZER_STATES = 2


def resolve_batch_size(
    recipe: Recipe,
    module: nn.Module,
    normalize: Normalize,
    loss: Loss,
    images: Tensor,
    targets: Tensor,
    *,
    auxiliary: float,
    amp_dtype: torch.dtype | None,
    epoch_images: int,
) -> tuple[Recipe, str]:
    """The recipe with a number in place of data.batch_size auto, and a sentence about it; as it is, and "", otherwise.

    images: a few, (n, C, H, W) uint8 on the module's device, with targets as the loss wants them; the module is in the
    training mode of its plan. Where optimizer.lr_base_size says what batch the rates are for, they are scaled to the
    new one. Raises TrainingError if not even one image fits into memory.
    """
    if recipe.data.batch_size != "auto":
        return recipe, ""
    trainable_bytes = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    whole = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    steps = recipe.train.grad_accum_steps
    optimizer_bytes = trainable_bytes * (_OPTIMIZER_STATES + (steps > 1)) + (whole if recipe.train.model_ema else 0)
    available_bytes = free_memory(images.device) - optimizer_bytes
    measure = step_profiler(
        module,
        lambda x, y: total_loss(module(normalize(x)), y, loss, auxiliary)[1],
        images,
        targets,
        amp_dtype=amp_dtype,
        available_bytes=available_bytes,
    )
    found = broadcast_object(
        choose_batch_size(
            measure,
            images=epoch_images,
            batches_per_step=steps * dist_env.world_size(),
            available_bytes=available_bytes,
        )
    )
    if found is None:
        raise TrainingError(OOM_AT_ONE_IMAGE.format(device=images.device), OOM_HINT)
    changes, rates = _scale_lrs(recipe, found.size * steps * dist_env.world_size())
    changes["data.batch_size"] = found.size
    return build(recipe.model_dump(), changes), f"batch size {found.size}: {found.reason}{rates}"


def _scale_lrs(recipe: Recipe, effective_batch_size: int) -> tuple[dict[str, Any], str]:
    """The changes of the recipe, and a clause, that fit the rates to updates of so many images."""
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
        f"; learning rates x {factor:.2f}, {rule} of {effective_batch_size}/{before} images an update; --lr "
        "sets them yourself"
    )


def _round_lr(rate: float) -> float:
    """Three digits: what is written into the recipe is what is used."""
    return float(f"{rate:.3g}")


# Compiling is tried where the run is expected to take so many times the time that it costs to find out. Measured on two
# cores with torch 2.15: 59 s for resnet34, 28 s for vit_small, forward and backward; on a GPU it is of that order.
_TRIAL_SHARE = 0.02
_TYPICAL_COMPILE_SECONDS = 60.0
# Taken if it saves this many times what compiling takes, and a tenth of each step.
_MIN_PAYBACK = 2.0
_MIN_COMPILE_SPEEDUP = 1.1
# Loading an image takes less than this share of learning from it: however the cores are shared, little can be gained.
_LIGHT_LOADING_SHARE = 0.25
# Images of a batch while layouts are compared: small ones, as a whole one may take seconds.
_PROBE_BATCH_SIZE = 8


@dataclass(frozen=True)
class AutotuneContext:
    """What the answers depend on. batch: images of a step in this process."""

    recipe: Recipe
    model: Model
    plan: FreezePlan
    preprocess: Preprocess
    device: torch.device
    batch: int

    def key(self, **extra: Any) -> dict[str, Any]:
        """JSON-able; two jobs with the same key take the same time a step."""
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
    """Precision and memory format; module and `normalize` are then laid out so. All processes choose the same.

    step, images: of `zoo.training.sanity_check.check_step`, inside which this is to be called.
    """
    recipe, module = context.recipe, context.model.module
    precision = recipe.train.amp_dtype if recipe.train.amp else "fp32"
    memory_format = recipe.execution.memory_format
    key = context.key(precision=precision, memory_format=memory_format)
    requested = precision != "auto" and memory_format != "auto"
    cached = None if requested else load_timing("step", key)
    found = _parse_step(cached)
    if found is None:
        found = choose_precision(
            precision, memory_format, context.device, step, module, normalize, images, batch=context.batch
        )
        if found.seconds is not None and dist_env.is_main_process():
            save_timing("step", key, asdict(found))
    found = broadcast_object(found)
    set_memory_format(module, normalize, found.memory_format)
    return found


def _parse_step(cached: dict[str, Any] | None) -> PrecisionChoice | None:
    """None for what is no answer of ours."""
    try:
        found = PrecisionChoice(**cached) if cached is not None else None
    except TypeError:
        return None
    return found if found is not None and found.precision in ("fp32", "bf16", "fp16") else None


def choose_execution(
    context: AutotuneContext,
    step: PrecisionChoice,
    trainer: Trainer,
    images: Tensor,
    targets: Tensor,
    *,
    data: Data,
    uses_feature_cache: bool,
    layout: CpuLayout,
    batches: Callable[[int, int], Loader],
) -> RuntimeSettings:
    """The rest: whether steps are compiled (the trainer then does so), threads (set here) and loader workers.

    images, targets: a few on the device, as the loss takes them. uses_feature_cache: whether features stand in for
    images. layout: the usual one. batches(workers, size): a loader of the training images. The trainer is otherwise
    left unchanged.
    """
    compiled, why = _choose_compile(
        context, step, trainer, images, targets, data=data, uses_feature_cache=uses_feature_cache
    )
    layout, note = _choose_layout(
        context,
        step,
        trainer,
        images,
        targets,
        data=data,
        uses_feature_cache=uses_feature_cache,
        default=layout,
        open_loader=lambda n: batches(n, min(context.batch, _PROBE_BATCH_SIZE)),
    )
    threads(layout.threads)
    text = f"execution: {step.reason}, {why}, {layout}{note}"
    return RuntimeSettings(step.precision, step.memory_format, compiled, layout.threads, layout.workers, text)


# --- compiling -------------------------------------------------------------------------------------------------------


def _choose_compile(
    context: AutotuneContext,
    step: PrecisionChoice,
    trainer: Trainer,
    images: Tensor,
    targets: Tensor,
    *,
    data: Data,
    uses_feature_cache: bool,
) -> tuple[bool, str]:
    """Whether to, and a clause about it."""
    requested = context.recipe.execution.compile
    if requested == "off":
        return False, "not compiled (as asked)"
    reason = _why_not_compile(context, trainer, uses_feature_cache=uses_feature_cache)
    if requested == "on" and reason:
        return False, f"not compiled ({reason})"
    if requested == "on":
        why = _benchmark_compile(context, trainer, images, targets, compare=False).failure
        return not why, f"not compiled ({why})" if why else "compiled (as asked)"
    if (
        reason
        or step.seconds is None
        or dist_env.world_size() > 1
        or context.recipe.transfer.unfreeze_every is not None
    ):
        return False, "not compiled"
    steps = len(data.train) / context.batch * context.recipe.train.epochs
    seconds = step.seconds / (torch.get_num_threads() if context.device.type == "cpu" else 1)
    key = context.key(precision=step.precision, memory_format=step.memory_format)
    gain = _parse_gain(load_timing("compiled", key))
    if gain is None and seconds * context.batch * steps * _TRIAL_SHARE < _TYPICAL_COMPILE_SECONDS:
        return False, "not compiled (too short a run to repay it)"
    if gain is None:
        gain = _benchmark_compile(context, trainer, images, targets, compare=True)
        if not gain.failure:
            save_timing("compiled", key, asdict(gain))
    elif _speedup_justifies_compile(gain, steps):
        failure = _benchmark_compile(context, trainer, images, targets, compare=False).failure
        gain = replace(gain, failure=failure)
    if not _speedup_justifies_compile(gain, steps):
        trainer.compiled = None
    message = gain.failure or f"measured {gain.speedup:.2f}x as fast, {gain.compile_seconds:.0f} s to compile"
    return trainer.compiled is not None, f"{'' if trainer.compiled is not None else 'not '}compiled ({message})"


def _speedup_justifies_compile(gain: CompileTiming, steps: float) -> bool:
    if gain.failure or gain.speedup < _MIN_COMPILE_SPEEDUP:
        return False
    return (gain.eager - gain.compiled) * steps > _MIN_PAYBACK * gain.compile_seconds


def _parse_gain(cached: dict[str, Any] | None) -> CompileTiming | None:
    """None for what is no answer of ours."""
    try:
        return CompileTiming(**cached) if cached is not None else None
    except TypeError:
        return None


def _why_not_compile(context: AutotuneContext, trainer: Trainer, *, uses_feature_cache: bool) -> str:
    if uses_feature_cache:
        return "kept features are trained on"
    if trainer.blocks is not None:
        return "the model is spread over the processes"
    return ""


def _benchmark_compile(
    context: AutotuneContext, trainer: Trainer, images: Tensor, targets: Tensor, *, compare: bool
) -> CompileTiming:
    """The trainer's steps are compiled afterwards, unless that failed."""
    whole = torch.arange(context.batch, device=images.device) % len(images)
    images, targets = images[whole].contiguous(memory_format=torch.channels_last), targets[whole]

    def train_step(forward: Callable[[Tensor], Any]) -> None:
        with trainer.accelerator.autocast():
            outputs = forward(trainer.normalize(images))
            _, loss = total_loss(outputs, targets, trainer.loss, trainer.auxiliary)
        loss.backward()  # type: ignore[no-untyped-call]
        trainer.module.zero_grad(set_to_none=True)
        if context.device.type == "cuda":
            torch.cuda.synchronize(context.device)

    forward = trainer.compile()
    with preserve_module_state(trainer.module):
        gain = time_compiled(forward, trainer.module, train_step, compare=compare)
    if gain.failure:
        trainer.compiled = None
    return gain


# --- threads and workers ---------------------------------------------------------------------------------------------


def _choose_layout(
    context: AutotuneContext,
    step: PrecisionChoice,
    trainer: Trainer,
    images: Tensor,
    targets: Tensor,
    *,
    data: Data,
    uses_feature_cache: bool,
    default: CpuLayout,
    open_loader: Callable[[int], Loader],
) -> tuple[CpuLayout, str]:
    """The layout, and what was measured of it ("" if nothing was)."""
    requested_threads, requested_workers = context.recipe.execution.threads, context.recipe.data.workers
    if context.device.type != "cpu" or uses_feature_cache or dist_env.world_size() > 1:
        return default, ""
    candidates = candidate_layouts(
        default,
        dist_env.cores(),
        threads=_as_int(requested_threads),
        workers=_as_int(requested_workers),
    )
    if len(candidates) == 1:
        return default, ""

    def train_step(batch: Tensor) -> None:
        which = torch.arange(len(batch)) % len(targets)
        with trainer.accelerator.autocast():
            outputs = trainer.module(trainer.normalize(batch))
            _, loss = total_loss(outputs, targets[which], trainer.loss, trainer.auxiliary)
        loss.backward()  # type: ignore[no-untyped-call]
        trainer.module.zero_grad(set_to_none=True)

    key = context.key(
        data=[data.name, len(data.train)],
        augment=context.recipe.augment.model_dump(mode="json"),
        precision=step.precision,
        memory_format=step.memory_format,
        threads_asked=requested_threads,
        workers_asked=requested_workers,
    )
    cached = load_timing("layout", key)
    if cached is not None and all(isinstance(cached.get(k), int) for k in ("threads", "workers")):
        found = CpuLayout(max(cached["threads"], 1), max(cached["workers"], 0))
        return found, str(cached.get("message", ""))
    with preserve_module_state(trainer.module):
        if _loading_seconds(open_loader) < _LIGHT_LOADING_SHARE * (step.seconds or _step_seconds(train_step, images)):
            found, message = default, ""
        else:
            speeds = benchmark_layouts(candidates, open_loader, train_step)
            found = max(candidates, key=lambda candidate: speeds[candidate])
            if speeds[found] < MIN_SPEEDUP * speeds[default]:
                found, message = default, ""
            else:
                message = f" (measured {speeds[found] / speeds[default]:.1f}x as fast as {default})"
    save_timing("layout", key, {"threads": found.threads, "workers": found.workers, "message": message})
    return found, message


def _loading_seconds(open_loader: Callable[[int], Loader]) -> float:
    """Seconds of one core to load an image."""
    start = time.process_time()
    images, _ = next(iter(open_loader(0)))
    return (time.process_time() - start) / len(images)


def _step_seconds(train_step: Callable[[Tensor], None], images: Tensor) -> float:
    """Seconds of one core to learn from an image."""
    with preserve_num_threads():
        threads(1)
        train_step(images)
        start = time.process_time()
        train_step(images)
        return (time.process_time() - start) / len(images)


def _as_int(requested: int | Literal["auto"]) -> int | None:
    return None if requested == "auto" else int(requested)
