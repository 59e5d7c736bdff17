"""A recipe → a training session: everything that it names is built and tried before a file is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from zoo import dist_env, metrics
from zoo.augment.mixing import Mixing
from zoo.data import Data, sampler
from zoo.errors import ZooError
from zoo.losses import make_loss
from zoo.models import Model
from zoo.optim.param_groups import make_optimizer, parameter_groups
from zoo.optim.schedules import Schedule, make_schedule
from zoo.progress import TrainingProgress
from zoo.recipe import Recipe, build
from zoo.training.autotune.precision import PrecisionChoice, RuntimeSettings
from zoo.training.autotune.workers import threads
from zoo.training.device import make_accelerator
from zoo.training.distributed import join
from zoo.training.features.dataset import FeatureCachePolicy
from zoo.training.inference import Normalize, forward_all
from zoo.training.microbatch import MicroBatcher, raise_on_oom
from zoo.training.sanity_check import check_step, has_unused_parameters
from zoo.training.trainer import Trainer
from zoo.workflows.finetune import autotune, preprocessing, summary, transfer, validate
from zoo.workflows.finetune.feature_cache import choose_feature_cache
from zoo.workflows.finetune.image_cache import choose_image_cache
from zoo.workflows.finetune.inputs import Loaders, OpenedInputs, make_loaders, open_inputs, per_process_batch_size
from zoo.workflows.finetune.linear_probing.fit import choose_linear_probe
from zoo.workflows.finetune.session import BuiltModel, SampleBatch, TrainingSession


def build_session(
    recipe: Recipe,
    *,
    output_dir: Path | None = None,
    progress: bool = False,
    model: Model | None = None,
    earlier_problems: Sequence[ZooError] = (),
) -> TrainingSession:
    """Build everything that `recipe` names and try one step, without writing a file.

    Args:
        recipe: all settings of the run.
        output_dir: the run directory to check; nothing is written to it.
        progress: whether to check the data for common problems and to print the summary on stderr.
        model: the model to train, if it exists already.
        earlier_problems: problems found before, to be raised together with those found here.

    Raises:
        ZooError: every problem of recipe, data, model, freeze plan and output directory at once.
    """
    inputs = open_inputs(
        recipe, output_dir=output_dir, model=model, earlier_problems=earlier_problems, run_preflight=progress
    )
    recipe, built, model_notes = build_model(recipe, inputs)
    recipe, runtime = choose_runtime(recipe, built)
    recipe, trainer = build_trainer(recipe, built, runtime)
    recipe, caches = build_caches(recipe, built, runtime, trainer)
    session = TrainingSession(
        recipe=validate.resolved_recipe(recipe, data=built.data, preprocess=built.preprocess),
        task=built.task,
        data=built.data,
        model=built.model,
        preprocess=built.preprocess,
        plan=built.plan,
        execution=caches.execution,
        trainer=trainer,
        train=caches.loaders.train,
        val=caches.loaders.val,
        unaugmented_loader=caches.loaders.unaugmented,
        feature_cache=caches.features,
        notes=tuple(n for n in (*model_notes, caches.execution.text, runtime.note, *caches.notes) if n),
    )
    log = TrainingProgress(0, quiet=not progress).log
    summary.print_summary(session, log)
    if inputs.preflight is not None:
        summary.print_preflight(inputs.preflight, log)
    return session


# --- the model on its device -----------------------------------------------------------------------------------------


def build_model(recipe: Recipe, inputs: OpenedInputs) -> tuple[Recipe, BuiltModel, tuple[str, ...]]:
    """The model with adapters, loss and preprocessing, on its device in training mode; the recipe with what was chosen
    on the way, and sentences about it."""
    task, device, scale = inputs.task, inputs.device, inputs.scale
    join(device)
    lp_ft = transfer.uses_lp_ft(recipe, inputs.model, inputs.plan)
    model, plan = transfer.add_adapters(recipe, inputs.model, inputs.plan)
    plan.apply(model.module)
    model = replace(model, module=_convert_sync_batch_norm(recipe, model.module).to(device))
    pixels = preprocessing.resolve_preprocessing(recipe, model, inputs.data)
    data, preprocess = pixels.data, pixels.preprocess
    loss_name, loss_params, loss_note = validate.resolve_loss(recipe, task)
    loss = make_loss(loss_name, loss_params, class_weights=inputs.class_weights)
    if isinstance(loss, nn.Module):
        loss.to(device)
    normalize = Normalize(preprocess).to(device)
    set_train_mode = transfer.train_mode_setter(recipe, model, plan)
    set_train_mode(0)
    images, targets = validate.sample_batch(data, preprocess, device)
    mixing = _make_mixing(recipe, data)
    loss_targets = targets if scale is None else scale.to(device).transform(targets)
    if mixing is not None:
        _, loss_targets = mixing(images, loss_targets, torch.Generator().manual_seed(0))
    notes = (
        data.rule,
        validate.data_leakage_note(recipe, data),
        sampler.describe_balance(data.train.targets, data.classes, recipe.data.balance),
        *pixels.notes,
        loss_note,
        validate.random_crop_note(recipe, task),
    )
    sample = SampleBatch(images, targets, loss_targets)
    built = BuiltModel(
        task, data, model, plan, preprocess, device, loss, normalize, scale, mixing, set_train_mode, sample
    )
    changes = {
        "loss.name": loss_name,
        "loss.params": loss_params,
        "data.norm": pixels.norm,
        "transfer.start": "lp-ft" if lp_ft else "plain",
        "transfer.compare_probe": "on" if lp_ft and recipe.transfer.compare_probe != "off" else "off",
    }
    return build(recipe.model_dump(), changes), built, notes


def _convert_sync_batch_norm(recipe: Recipe, module: nn.Module) -> nn.Module:
    """`module` itself; if the recipe asks for it, with batch norm over the batches of all processes."""
    if recipe.execution.sync_batch_norm and dist_env.world_size() > 1:
        from timm.layers import norm_act

        converted: nn.Module = norm_act.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return converted
    return module


def _make_mixing(recipe: Recipe, data: Data) -> Mixing | None:
    config = recipe.augment
    mixing = Mixing(
        config.mixup, config.cutmix, config.mix_prob, config.erase, classes=len(data.classes), task=data.task
    )
    return mixing if mixing.is_on else None


# --- precision, batch size, loaders ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runtime:
    """How steps are computed. images_that_fit: of a step, if memory does not hold a whole batch. note: a sentence about
    the batch size."""

    context: autotune.AutotuneContext
    precision: PrecisionChoice
    images_that_fit: int | None
    workers: int
    loaders: Loaders
    find_unused_parameters: bool
    note: str


def choose_runtime(recipe: Recipe, built: BuiltModel) -> tuple[Recipe, Runtime]:
    """Precision, memory format and batch size, found by trying steps on the sample batch; and the loaders."""
    if recipe.execution.threads != "auto":
        threads(int(recipe.execution.threads))
    batch = per_process_batch_size(recipe, built.data)
    context = autotune.AutotuneContext(recipe, built.model, built.plan, built.preprocess, built.device, batch)
    precision, fits = _try_first_step(context, built)
    recipe, note = autotune.resolve_batch_size(recipe, built, precision.dtype)
    batch = per_process_batch_size(recipe, built.data)
    context = replace(context, recipe=recipe, batch=min(batch, fits or batch))
    workers = validate.resolve_workers(recipe.data.workers, built.data)
    loaders = make_loaders(recipe, built.data, built.preprocess, workers, pin_memory=built.device.type == "cuda")
    unused = _find_unused_parameters(recipe, built)
    return recipe, Runtime(context, precision, fits, workers, loaders, unused, note)


def _try_first_step(context: autotune.AutotuneContext, built: BuiltModel) -> tuple[PrecisionChoice, int | None]:
    """The precision of steps, and how many images of a step fit into memory, if not all."""
    fits = MicroBatcher()
    images, targets = built.sample.images, built.sample.loss_targets

    def first(n: int) -> PrecisionChoice:
        return check_step(
            built.model.module, built.normalize, built.loss, images[:n], targets[:n], auxiliary=built.auxiliary,
            callback=lambda step: autotune.choose(replace(context, batch=n), step, built.normalize, images[:n]),
        )  # fmt: skip

    with raise_on_oom(context.device):
        return fits.first(context.batch, first), fits.limit


def _find_unused_parameters(recipe: Recipe, built: BuiltModel) -> bool:
    """Whether trainable parameters have no gradient in some steps, which DistributedDataParallel must know."""
    if recipe.transfer.unfreeze_every is not None or dist_env.world_size() == 1:
        return recipe.transfer.unfreeze_every is not None
    module, sample = built.model.module, built.sample
    return check_step(
        module, built.normalize, built.loss, sample.images, sample.loss_targets, auxiliary=built.auxiliary,
        callback=lambda step: has_unused_parameters(module, step, sample.images),
    )  # fmt: skip


# --- optimizer, schedule, trainer ------------------------------------------------------------------------------------


def build_trainer(recipe: Recipe, built: BuiltModel, runtime: Runtime) -> tuple[Recipe, Trainer]:
    """The trainer with optimizer and schedule; the recipe with the metric that it monitors."""
    model, module, scale, precision = built.model, built.model.module, built.scale, runtime.precision
    built.plan.apply(module)  # the optimizer gets all parameters that are trained at some time
    monitor = built.task.monitor if recipe.train.monitor == "auto" else recipe.train.monitor
    recipe = build(recipe.model_dump(), {"train.monitor": monitor})
    _try_custom_metrics(recipe, built)
    optimizer = _make_optimizer(recipe, model)
    trainer = Trainer(
        accelerator=make_accelerator(
            built.device, precision.dtype, find_unused_parameters=runtime.find_unused_parameters
        ),
        module=module,
        optimizer=optimizer,
        schedule=_make_schedule(recipe, optimizer, len(runtime.loaders.train)),
        loss=built.loss,
        normalize=built.normalize,
        set_train_mode=built.set_train_mode,
        seed=recipe.train.seed,
        amp_dtype=precision.dtype,
        grad_accum_steps=recipe.train.grad_accum_steps,
        clip_grad=recipe.train.clip_grad,
        auxiliary=built.auxiliary,
        scale=scale,
        mixing=built.mixing,
        scaled_layers=scale.layers(module, model.head) if scale is not None else (),
        blocks=_fsdp_blocks(recipe, model),
    )
    built.set_train_mode(0)
    return recipe, trainer


def _try_custom_metrics(recipe: Recipe, built: BuiltModel) -> None:
    """Compute the user's metrics on the sample batch. Raises what they raise."""
    names = [n for n in (recipe.train.monitor, recipe.schedule.monitor) if n is not None and ":" in n]
    if names:
        batches = [(built.sample.images, built.sample.targets)]
        outputs, targets = forward_all(built.model.module, batches, built.normalize, device=built.device)
        metrics.compute(names, outputs, targets, task=built.task.name)


def _make_optimizer(recipe: Recipe, model: Model) -> torch.optim.Optimizer:
    config = recipe.optimizer
    groups = parameter_groups(
        model.module,
        [(g.name, g.parameters) for g in model.groups],
        lr=config.lr,
        head_lr=config.head_lr,
        layer_decay=config.layer_decay,
        weight_decay=config.weight_decay,
        overrides=validate.group_overrides(recipe),
        per_tensor=recipe.transfer.auto_rgn,
    )
    return make_optimizer(config.name, groups, config.params)


def _make_schedule(recipe: Recipe, optimizer: torch.optim.Optimizer, batches: int) -> Schedule:
    return make_schedule(
        recipe.schedule.name,
        optimizer,
        recipe.schedule.params,
        steps_per_epoch=math.ceil(batches / recipe.train.grad_accum_steps),
        epochs=recipe.train.epochs,
        warmup_epochs=recipe.schedule.warmup_epochs,
        higher_is_better=metrics.higher_is_better(recipe.schedule.monitor or recipe.train.monitor),
    )


def _fsdp_blocks(recipe: Recipe, model: Model) -> list[str] | None:
    """Modules that are sharded one by one: the stages. Stem and head belong to the root."""
    if recipe.execution.parallel != "fsdp":
        return None
    return [path for group in model.groups[1:-1] for path in group.modules]


# --- caches, and the execution that depends on them ------------------------------------------------------------------


@dataclass(frozen=True)
class Caches:
    """features: how they are cached, None if they are not. notes: a sentence about each cache and the linear probe."""

    features: FeatureCachePolicy | None
    execution: RuntimeSettings
    loaders: Loaders
    notes: tuple[str, ...]


def build_caches(recipe: Recipe, built: BuiltModel, runtime: Runtime, trainer: Trainer) -> tuple[Recipe, Caches]:
    """What is cached (features or decoded images), whether the head is fitted directly, and how steps are executed,
    which depends on it; the recipe with these choices."""
    data, loaders, context = built.data, runtime.loaders, runtime.context
    features, features_note = choose_feature_cache(
        recipe, built, runtime.precision.dtype, max_images=runtime.images_that_fit, random=loaders.train.is_random
    )
    fits_probe, probe_note = choose_linear_probe(recipe, features, images=len(data.train), outputs=len(data.classes))
    execution = autotune.choose_execution(
        context, built, runtime.precision, trainer, uses_feature_cache=features is not None, workers=runtime.workers,
        open_loader=lambda workers, size: make_loaders(
            recipe, data, built.preprocess, workers, pin_memory=False, size=size
        ).train,
    )  # fmt: skip
    if execution.workers != runtime.workers:
        pin_memory = built.device.type == "cuda"
        loaders = make_loaders(recipe, data, built.preprocess, execution.workers, pin_memory=pin_memory)
    uses_image_cache, images_note = choose_image_cache(
        recipe, built, trainer, step_seconds=runtime.precision.seconds, workers=execution.workers,
        uses_feature_cache=features is not None,
        key=context.key(precision=runtime.precision.precision, memory_format=runtime.precision.memory_format),
    )  # fmt: skip
    may_refit = fits_probe and data.was_split
    changes = {
        "train.amp_dtype": execution.precision,
        "train.linear_probe": "on" if fits_probe else "off",
        "train.refit": "on" if recipe.train.refit == "on" or (recipe.train.refit == "auto" and may_refit) else "off",
        "data.workers": execution.workers,
        "data.image_cache": "on" if uses_image_cache else "off",
        "execution.memory_format": execution.memory_format,
        "execution.compile": "on" if execution.compile else "off",
        **({"execution.threads": execution.threads} if built.device.type == "cpu" else {}),
    }
    notes = (features_note, images_note, probe_note)
    return build(recipe.model_dump(), changes), Caches(features, execution, loaders, notes)
