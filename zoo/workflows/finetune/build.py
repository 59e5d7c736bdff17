"""A recipe → everything that it names, built and tried, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo import dist_env, metrics
from zoo.data import sampler
from zoo.errors import ZooError
from zoo.losses import make_loss
from zoo.models import Model
from zoo.progress import TrainingProgress
from zoo.recipe import Recipe
from zoo.training.autotune.precision import PrecisionChoice
from zoo.training.autotune.workers import CpuLayout, threads
from zoo.training.device import make_accelerator
from zoo.training.distributed import join
from zoo.training.inference import Normalize, forward_all
from zoo.training.microbatch import MicroBatcher, raise_on_oom
from zoo.training.sanity_check import check_step, has_unused_parameters
from zoo.training.trainer import Trainer
from zoo.workflows.finetune import autotune, components, linear_probe, preprocessing, record, transfer, validate
from zoo.workflows.finetune.autotune import resolve_batch_size
from zoo.workflows.finetune.feature_cache import choose_feature_cache
from zoo.workflows.finetune.image_cache import choose_image_cache
from zoo.workflows.finetune.inputs import open_inputs
from zoo.workflows.finetune.session import TrainingSession

__all__ = ["build_session"]

Loss = Callable[[Tensor, Tensor], Tensor]


def build_session(
    recipe: Recipe,
    *,
    output_dir: Path | None = None,
    progress: bool = False,
    model: Model | None = None,
    earlier_problems: Sequence[ZooError] = (),
) -> TrainingSession:
    """Build everything that `recipe` names and try one step, without writing a file.

    model: the one to train, where it exists already. Raises one ZooError that lists every problem: those
    `earlier_problems` before, and those of recipe, data, model, plan and output directory.
    """
    inputs = open_inputs(
        recipe, output_dir=output_dir, model=model, earlier_problems=earlier_problems, run_preflight=progress
    )
    task, device, scale = inputs.task, inputs.device, inputs.scale
    join(device)
    uses_lp_ft = transfer.uses_lp_ft(recipe, inputs.model, inputs.plan)
    model, plan = transfer.add_adapters(recipe, inputs.model, inputs.plan)
    plan.apply(model.module)
    module = components.convert_sync_batch_norm(recipe, model.module).to(device)
    pixel_settings = preprocessing.resolve_preprocessing(recipe, model, inputs.data)
    data, preprocess = pixel_settings.data, pixel_settings.preprocess

    # How it learns, tried on a few images.
    loss_name, loss_params, loss_note = validate.resolve_loss(recipe, task)
    loss = make_loss(loss_name, loss_params, class_weights=inputs.class_weights)
    if isinstance(loss, nn.Module):
        loss.to(device)
    normalize = Normalize(preprocess).to(device)
    set_train_mode = transfer.train_mode_setter(recipe, model, plan)
    set_train_mode(0)
    images, targets = validate.sample_batch(data, preprocess, device)
    mixing = components.make_mixing(recipe, data)
    sample_targets = targets if scale is None else scale.to(device).transform(targets)
    if mixing is not None:
        _, sample_targets = mixing(images, sample_targets, torch.Generator().manual_seed(0))
    if recipe.execution.threads != "auto":
        threads(int(recipe.execution.threads))
    context = autotune.AutotuneContext(
        recipe, model, plan, preprocess, device, batch=components.per_process_batch_size(recipe, data)
    )
    step, fits = _first_step(context, normalize, loss, images, sample_targets)
    recipe, batch_note = resolve_batch_size(
        recipe, module, normalize, loss, images, sample_targets,
        auxiliary=model.auxiliary or 0.0, amp_dtype=step.dtype, epoch_images=len(data.train),
    )  # fmt: skip
    batch = components.per_process_batch_size(recipe, data)
    context = replace(context, recipe=recipe, batch=min(batch, fits or batch))
    workers, pin_memory = validate.workers(recipe.data.workers, data), device.type == "cuda"
    train, val, unaugmented_loader = components.make_loaders(recipe, data, preprocess, workers, pin_memory=pin_memory)
    find_unused_parameters = _find_unused_parameters(context, normalize, loss, images, sample_targets)
    plan.apply(module)  # all that will learn at some time goes to the optimizer
    monitor = task.monitor if recipe.train.monitor == "auto" else recipe.train.monitor
    custom_metrics = [name for name in (monitor, recipe.schedule.monitor) if name is not None and ":" in name]
    if custom_metrics:  # a user's metric is tried, too
        metrics.compute(
            custom_metrics, *forward_all(module, [(images, targets)], normalize, device=device), task=task.name
        )
    optimizer = components.make_recipe_optimizer(recipe, model)
    trainer = Trainer(
        accelerator=make_accelerator(device, step.dtype, find_unused_parameters=find_unused_parameters),
        module=module,
        optimizer=optimizer,
        schedule=components.make_recipe_schedule(recipe, optimizer, len(train), monitor),
        loss=loss,
        normalize=normalize,
        set_train_mode=set_train_mode,
        seed=recipe.train.seed,
        amp_dtype=step.dtype,
        grad_accum_steps=recipe.train.grad_accum_steps,
        clip_grad=recipe.train.clip_grad,
        auxiliary=model.auxiliary or 0.0,
        scale=scale,
        mixing=mixing,
        scaled_layers=scale.layers(module, model.head) if scale is not None else (),
        blocks=components.fsdp_blocks(recipe, model),
    )
    set_train_mode(0)
    feature_cache, feature_cache_note = choose_feature_cache(
        recipe, model, plan, images[: max(fits or len(images), 3)], normalize, step.dtype,
        random=train.is_random, mixed=mixing is not None, sources=(data.train, data.val),
    )  # fmt: skip
    fits_linear_probe, linear_probe_note = linear_probe.choose(
        recipe, feature_cache, loss_name, loss_params, images=len(data.train), outputs=len(data.classes)
    )
    execution = autotune.choose_execution(
        context, step, trainer, images, sample_targets, data=data, uses_feature_cache=feature_cache is not None,
        layout=CpuLayout(torch.get_num_threads(), workers),
        batches=lambda n, size: components.make_loaders(recipe, data, preprocess, n, pin_memory=False, size=size)[0],
    )  # fmt: skip
    if execution.workers != workers:
        train, val, unaugmented_loader = components.make_loaders(
            recipe, data, preprocess, execution.workers, pin_memory=pin_memory
        )
    uses_image_cache, image_cache_note = choose_image_cache(
        recipe, data, preprocess, trainer, images, sample_targets, step_seconds=step.seconds, workers=execution.workers,
        uses_feature_cache=feature_cache is not None,
        key=context.key(precision=step.precision, memory_format=step.memory_format),
    )  # fmt: skip
    changes = {
        "loss.name": loss_name,
        "loss.params": loss_params,
        "train.amp_dtype": execution.precision,
        "execution.memory_format": execution.memory_format,
        "execution.compile": "on" if execution.compile else "off",
        **({"execution.threads": execution.threads} if device.type == "cpu" else {}),
        "train.monitor": monitor,
        "train.linear_probe": "on" if fits_linear_probe else "off",
        "data.workers": execution.workers,
        "data.image_cache": "on" if uses_image_cache else "off",
        "data.norm": pixel_settings.norm,
        "transfer.start": "lp-ft" if uses_lp_ft else "plain",
    }
    messages = (
        data.rule,
        validate.data_leakage_note(recipe, data),
        sampler.describe_balance(data.train.targets, data.classes, recipe.data.balance),
        *pixel_settings.notes,
        loss_note,
        validate.random_crop_note(recipe, task),
        execution.text,
        batch_note,
        feature_cache_note,
        image_cache_note,
        linear_probe_note,
    )
    session = TrainingSession(
        recipe=validate.resolved_recipe(recipe, data=data, preprocess=preprocess, changes=changes),
        task=task,
        data=data,
        model=model,
        preprocess=preprocess,
        plan=plan,
        execution=execution,
        trainer=trainer,
        train=train,
        val=val,
        unaugmented_loader=unaugmented_loader,
        uses_lp_ft=uses_lp_ft,
        feature_cache=feature_cache,
        fits_linear_probe=fits_linear_probe,
        notes=tuple(n for n in messages if n),
    )
    log = TrainingProgress(0, quiet=not progress).log
    record.print_summary(session, log)
    if inputs.preflight is not None:
        record.print_preflight(inputs.preflight, log)
    return session


def _first_step(
    context: autotune.AutotuneContext, normalize: Normalize, loss: Loss, images: Tensor, targets: Tensor
) -> tuple[PrecisionChoice, int | None]:
    """What steps compute with, found on `images`; and how many of them memory holds at once, if not all."""
    fits = MicroBatcher()

    def first(n: int) -> PrecisionChoice:
        return check_step(
            context.model.module, normalize, loss, images[:n], targets[:n], auxiliary=context.model.auxiliary or 0.0,
            callback=lambda step: autotune.choose(replace(context, batch=n), step, normalize, images[:n]),
        )  # fmt: skip

    with raise_on_oom(context.device):
        return fits.first(context.batch, first), fits.limit


def _find_unused_parameters(
    context: autotune.AutotuneContext, normalize: Normalize, loss: Loss, images: Tensor, targets: Tensor
) -> bool:
    """Whether parameters that learn go without a gradient in some steps, which several processes must know of."""
    if context.recipe.transfer.unfreeze_every is not None or dist_env.world_size() == 1:
        return context.recipe.transfer.unfreeze_every is not None
    module = context.model.module
    return check_step(
        module, normalize, loss, images, targets, auxiliary=context.model.auxiliary or 0.0,
        callback=lambda step: has_unused_parameters(module, step, images),
    )  # fmt: skip
