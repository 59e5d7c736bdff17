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
from zoo.training.autotune.batch_size import choose_batch_size, free_memory, rate_factor, trial_steps
from zoo.training.autotune.precision import WORTHWHILE, Execution, Step, choose_step, lay_out
from zoo.training.autotune.timings import machine, recall, remember
from zoo.training.autotune.workers import Layout, layouts, race_layouts, same_threads, threads
from zoo.training.compile import Gain, time_compiled
from zoo.training.distributed import agree
from zoo.training.inference import Normalize
from zoo.training.microbatch import LESS, ONE_IMAGE
from zoo.training.module_state import unchanged
from zoo.training.trainer import Trainer, total_loss

__all__ = ["Job", "choose", "complete", "settle_batch_size"]

# An optimizer's two averages of each gradient, as AdamW keeps them; others keep fewer.
_STATES = 2


def settle_batch_size(
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
    training mode of its plan. Where optimizer.lr_batch says what batch the rates are for, they are scaled to the new
    one. Raises TrainingError if not even one image fits into memory.
    """
    if recipe.data.batch_size != "auto":
        return recipe, ""
    learning = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    whole = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    steps = recipe.train.grad_accum_steps
    later = learning * (_STATES + (steps > 1)) + (whole if recipe.train.model_ema else 0)
    room = free_memory(images.device) - later
    measure = trial_steps(
        module,
        lambda x, y: total_loss(module(normalize(x)), y, loss, auxiliary)[1],
        images,
        targets,
        amp_dtype=amp_dtype,
        room=room,
    )
    found = agree(choose_batch_size(measure, images=epoch_images, batches_a_step=steps * dist_env.count(), room=room))
    if found is None:
        raise TrainingError(ONE_IMAGE.format(device=images.device), LESS)
    changes, rates = _rates(recipe, found.size * steps * dist_env.count())
    changes["data.batch_size"] = found.size
    return build(recipe.model_dump(), changes), f"batch size {found.size}: {found.reason}{rates}"


def _rates(recipe: Recipe, update: int) -> tuple[dict[str, Any], str]:
    """The changes of the recipe, and a clause, that fit the rates to updates of so many images."""
    asked, before = recipe.optimizer, recipe.optimizer.lr_batch
    if before is None or before == update:
        return {"optimizer.lr_batch": None}, ""
    factor, rule = rate_factor(asked.name, update / before)
    changes: dict[str, Any] = {"optimizer.lr_batch": None, "optimizer.lr": _short(asked.lr * factor)}
    if asked.head_lr is not None:
        changes["optimizer.head_lr"] = _short(asked.head_lr * factor)
    changes["optimizer.groups"] = [
        {**group.model_dump(), "lr": None if group.lr is None else _short(group.lr * factor)} for group in asked.groups
    ]
    return changes, (
        f"; learning rates x {factor:.2f}, {rule} of {update}/{before} images an update; --lr sets them yourself"
    )


def _short(rate: float) -> float:
    """Three digits: what is written into the recipe is what is used."""
    return float(f"{rate:.3g}")


# Compiling is tried where the run is expected to take so many times the time that it costs to find out. Measured on two
# cores with torch 2.15: 59 s for resnet34, 28 s for vit_small, forward and backward; on a GPU it is of that order.
_TRIAL_SHARE = 0.02
_USUAL_COMPILING = 60.0
# Taken if it saves this many times what compiling takes, and a tenth of each step.
_REPAID = 2.0
_COMPILED_GAIN = 1.1
# Loading an image takes less than this share of learning from it: however the cores are shared, little can be gained.
_LIGHT = 0.25
# Images of a batch while layouts are compared: small ones, as a whole one may take seconds.
_PROBED = 8


@dataclass(frozen=True)
class Job:
    """What the answers depend on. batch: images of a step in this process."""

    recipe: Recipe
    model: Model
    plan: FreezePlan
    preprocess: Preprocess
    device: torch.device
    batch: int

    def key(self, **more: Any) -> dict[str, Any]:
        """JSON-able; two jobs with the same key take the same time a step."""
        text = json.dumps([record(self.model), self.plan.text, self.recipe.loss.name], sort_keys=True, default=str)
        return {
            **machine(self.device),
            "versions": [timm.__version__, torchvision.__version__],
            "model": self.model.name,
            "details": hashlib.blake2b(text.encode(), digest_size=8).hexdigest(),
            "size": [self.preprocess.channels, self.preprocess.height, self.preprocess.width],
            "batch": self.batch,
            **more,
        }


def choose(job: Job, step: Callable[[Tensor], Tensor], normalize: Normalize, images: Tensor) -> Step:
    """Precision and memory format; module and `normalize` are then laid out so. All processes choose the same.

    step, images: of `zoo.training.sanity_check.try_step`, inside which this is to be called.
    """
    recipe, module = job.recipe, job.model.module
    precision = recipe.train.amp_dtype if recipe.train.amp else "fp32"
    memory_format = recipe.execution.memory_format
    key = job.key(precision=precision, memory_format=memory_format)
    asked = precision != "auto" and memory_format != "auto"
    known = None if asked else recall("step", key)
    found = _step(known)
    if found is None:
        found = choose_step(precision, memory_format, job.device, step, module, normalize, images, batch=job.batch)
        if found.seconds is not None and dist_env.is_first():
            remember("step", key, asdict(found))
    found = agree(found)
    lay_out(module, normalize, found.memory_format)
    return found


def _step(known: dict[str, Any] | None) -> Step | None:
    """None for what is no answer of ours."""
    try:
        found = Step(**known) if known is not None else None
    except TypeError:
        return None
    return found if found is not None and found.precision in ("fp32", "bf16", "fp16") else None


def complete(
    job: Job,
    step: Step,
    trainer: Trainer,
    images: Tensor,
    targets: Tensor,
    *,
    data: Data,
    keeps: bool,
    layout: Layout,
    batches: Callable[[int, int], Loader],
) -> Execution:
    """The rest: whether steps are compiled (the trainer then does so), threads (set here) and loader workers.

    images, targets: a few on the device, as the loss takes them. keeps: whether features stand in for images. layout:
    the usual one. batches(workers, size): a loader of the training images. The trainer is otherwise left unchanged.
    """
    compiled, why = _compile(job, step, trainer, images, targets, data=data, keeps=keeps)
    layout, measured = _layout(
        job,
        step,
        trainer,
        images,
        targets,
        data=data,
        keeps=keeps,
        usual=layout,
        open=lambda n: batches(n, min(job.batch, _PROBED)),
    )
    threads(layout.threads)
    text = f"execution: {step.reason}, {why}, {layout}{measured}"
    return Execution(step.precision, step.memory_format, compiled, layout.threads, layout.workers, text)


# --- compiling -------------------------------------------------------------------------------------------------------


def _compile(
    job: Job, step: Step, trainer: Trainer, images: Tensor, targets: Tensor, *, data: Data, keeps: bool
) -> tuple[bool, str]:
    """Whether to, and a clause about it."""
    asked = job.recipe.execution.compile
    if asked == "off":
        return False, "not compiled (as asked)"
    never = _never(job, trainer, keeps=keeps)
    if asked == "on" and never:
        return False, f"not compiled ({never})"
    if asked == "on":
        why = _try_compiled(job, trainer, images, targets, compare=False).failure
        return not why, f"not compiled ({why})" if why else "compiled (as asked)"
    if never or step.seconds is None or dist_env.count() > 1 or job.recipe.transfer.unfreeze_every is not None:
        return False, "not compiled"
    steps = len(data.train) / job.batch * job.recipe.train.epochs
    seconds = step.seconds / (torch.get_num_threads() if job.device.type == "cpu" else 1)
    key = job.key(precision=step.precision, memory_format=step.memory_format)
    gain = _gain(recall("compiled", key))
    if gain is None and seconds * job.batch * steps * _TRIAL_SHARE < _USUAL_COMPILING:
        return False, "not compiled (too short a run to repay it)"
    if gain is None:
        gain = _try_compiled(job, trainer, images, targets, compare=True)
        if not gain.failure:
            remember("compiled", key, asdict(gain))
    elif _pays(gain, steps):
        failure = _try_compiled(job, trainer, images, targets, compare=False).failure
        gain = replace(gain, failure=failure)
    if not _pays(gain, steps):
        trainer.compiled = None
    said = gain.failure or f"measured {gain.ratio:.2f}x as fast, {gain.compiling:.0f} s to compile"
    return trainer.compiled is not None, f"{'' if trainer.compiled is not None else 'not '}compiled ({said})"


def _pays(gain: Gain, steps: float) -> bool:
    if gain.failure or gain.ratio < _COMPILED_GAIN:
        return False
    return (gain.eager - gain.compiled) * steps > _REPAID * gain.compiling


def _gain(known: dict[str, Any] | None) -> Gain | None:
    """None for what is no answer of ours."""
    try:
        return Gain(**known) if known is not None else None
    except TypeError:
        return None


def _never(job: Job, trainer: Trainer, *, keeps: bool) -> str:
    if keeps:
        return "kept features are trained on"
    if trainer.blocks is not None:
        return "the model is spread over the processes"
    return ""


def _try_compiled(job: Job, trainer: Trainer, images: Tensor, targets: Tensor, *, compare: bool) -> Gain:
    """The trainer's steps are compiled afterwards, unless that failed."""
    whole = torch.arange(job.batch, device=images.device) % len(images)
    images, targets = images[whole].contiguous(memory_format=torch.channels_last), targets[whole]

    def learn(forward: Callable[[Tensor], Any]) -> None:
        with trainer.engine.autocast():
            given = forward(trainer.normalize(images))
            _, loss = total_loss(given, targets, trainer.loss, trainer.auxiliary)
        loss.backward()  # type: ignore[no-untyped-call]
        trainer.module.zero_grad(set_to_none=True)
        if job.device.type == "cuda":
            torch.cuda.synchronize(job.device)

    forward = trainer.compile()
    with unchanged(trainer.module):
        gain = time_compiled(forward, trainer.module, learn, compare=compare)
    if gain.failure:
        trainer.compiled = None
    return gain


# --- threads and workers ---------------------------------------------------------------------------------------------


def _layout(
    job: Job,
    step: Step,
    trainer: Trainer,
    images: Tensor,
    targets: Tensor,
    *,
    data: Data,
    keeps: bool,
    usual: Layout,
    open: Callable[[int], Loader],
) -> tuple[Layout, str]:
    """The layout, and what was measured of it ("" if nothing was)."""
    fixed_threads, fixed_workers = job.recipe.execution.threads, job.recipe.data.workers
    if job.device.type != "cpu" or keeps or dist_env.count() > 1:
        return usual, ""
    arms = layouts(
        usual,
        dist_env.cores(),
        threads=_number(fixed_threads),
        workers=_number(fixed_workers),
    )
    if len(arms) == 1:
        return usual, ""

    def learn(some: Tensor) -> None:
        which = torch.arange(len(some)) % len(targets)
        with trainer.engine.autocast():
            given = trainer.module(trainer.normalize(some))
            _, loss = total_loss(given, targets[which], trainer.loss, trainer.auxiliary)
        loss.backward()  # type: ignore[no-untyped-call]
        trainer.module.zero_grad(set_to_none=True)

    key = job.key(
        data=[data.name, len(data.train)],
        augment=job.recipe.augment.model_dump(mode="json"),
        precision=step.precision,
        memory_format=step.memory_format,
        threads_asked=fixed_threads,
        workers_asked=fixed_workers,
    )
    known = recall("layout", key)
    if known is not None and all(isinstance(known.get(k), int) for k in ("threads", "workers")):
        found = Layout(max(known["threads"], 1), max(known["workers"], 0))
        return found, str(known.get("said", ""))
    with unchanged(trainer.module):
        if _loading(open) < _LIGHT * (step.seconds or _learning(learn, images)):
            found, said = usual, ""
        else:
            speeds = race_layouts(arms, open, learn)
            found = max(arms, key=lambda arm: speeds[arm])
            if speeds[found] < WORTHWHILE * speeds[usual]:
                found, said = usual, ""
            else:
                said = f" (measured {speeds[found] / speeds[usual]:.1f}x as fast as {usual})"
    remember("layout", key, {"threads": found.threads, "workers": found.workers, "said": said})
    return found, said


def _loading(open: Callable[[int], Loader]) -> float:
    """Seconds of one core to load an image."""
    start = time.process_time()
    images, _ = next(iter(open(0)))
    return (time.process_time() - start) / len(images)


def _learning(learn: Callable[[Tensor], None], images: Tensor) -> float:
    """Seconds of one core to learn from an image."""
    with same_threads():
        threads(1)
        learn(images)
        start = time.process_time()
        learn(images)
        return (time.process_time() - start) / len(images)


def _number(asked: int | Literal["auto"]) -> int | None:
    return None if asked == "auto" else int(asked)
