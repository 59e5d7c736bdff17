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
from zoo.training.autotune.precision import Step
from zoo.training.autotune.workers import Layout, threads
from zoo.training.device import make_engine
from zoo.training.distributed import join
from zoo.training.inference import Normalize, forward_all
from zoo.training.microbatch import AtOnce, enough_for_one
from zoo.training.sanity_check import some_without_gradient, try_step
from zoo.training.trainer import Trainer
from zoo.workflows.finetune import autotune as executing
from zoo.workflows.finetune import components, linear_probe, preprocessing, record, transfer, validate
from zoo.workflows.finetune.autotune import settle_batch_size
from zoo.workflows.finetune.feature_cache import decide
from zoo.workflows.finetune.image_cache import decide_image_cache
from zoo.workflows.finetune.inputs import gather
from zoo.workflows.finetune.session import Prepared

__all__ = ["prepare"]

Loss = Callable[[Tensor, Tensor], Tensor]


def prepare(
    recipe: Recipe,
    *,
    output_dir: Path | None = None,
    progress: bool = False,
    model: Model | None = None,
    found: Sequence[ZooError] = (),
) -> Prepared:
    """Build everything that `recipe` names and try one step, without writing a file.

    model: the one to train, where it exists already. Raises one ZooError that lists every problem: those `found`
    before, and those of recipe, data, model, plan and output directory.
    """
    given = gather(recipe, output_dir=output_dir, model=model, found=found, look=progress)
    task, device, scale = given.task, given.device, given.scale
    join(device)
    head_first = transfer.head_first(recipe, given.model, given.plan)
    model, plan = transfer.adapt(recipe, given.model, given.plan)
    plan.apply(model.module)
    module = components.with_batch_norm_together(recipe, model.module).to(device)
    seen = preprocessing.settle(recipe, model, given.data)
    data, preprocess = seen.data, seen.preprocess

    # How it learns, tried on a few images.
    loss_name, loss_params, loss_note = validate.loss_of(recipe, task)
    loss = make_loss(loss_name, loss_params, class_weights=given.class_weights)
    if isinstance(loss, nn.Module):
        loss.to(device)
    normalize = Normalize(preprocess).to(device)
    set_train_mode = transfer.modes(recipe, model, plan)
    set_train_mode(0)
    images, targets = validate.a_few(data, preprocess, device)
    mixing = components.make_mixing(recipe, data)
    few = targets if scale is None else scale.to(device).standardise(targets)
    if mixing is not None:
        _, few = mixing(images, few, torch.Generator().manual_seed(0))
    if recipe.execution.threads != "auto":
        threads(int(recipe.execution.threads))
    job = executing.Job(recipe, model, plan, preprocess, device, batch=components.batch_of(recipe, data))
    step, fits = _first_step(job, normalize, loss, images, few)
    recipe, batch_note = settle_batch_size(
        recipe, module, normalize, loss, images, few,
        auxiliary=model.auxiliary or 0.0, amp_dtype=step.dtype, epoch_images=len(data.train),
    )  # fmt: skip
    batch = components.batch_of(recipe, data)
    job = replace(job, recipe=recipe, batch=min(batch, fits or batch))
    workers, pin = validate.workers(recipe.data.workers, data), device.type == "cuda"
    train, val, plain = components.make_loaders(recipe, data, preprocess, workers, pin=pin)
    some_unused = _some_unused(job, normalize, loss, images, few)
    plan.apply(module)  # all that will learn at some time goes to the optimizer
    monitor = task.monitor if recipe.train.monitor == "auto" else recipe.train.monitor
    own = [name for name in (monitor, recipe.schedule.monitor) if name is not None and ":" in name]
    if own:  # a user's metric is tried, too
        metrics.compute(own, *forward_all(module, [(images, targets)], normalize, device=device), task=task.name)
    optimizer = components.make_recipe_optimizer(recipe, model)
    trainer = Trainer(
        engine=make_engine(device, step.dtype, some_unused=some_unused),
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
        blocks=components.blocks_of(recipe, model),
    )
    set_train_mode(0)
    keeping, keeping_note = decide(
        recipe, model, plan, images[: max(fits or len(images), 3)], normalize, step.dtype,
        random=train.is_random, mixed=mixing is not None, sources=(data.train, data.val),
    )  # fmt: skip
    solves, solver_note = linear_probe.choose(
        recipe, keeping, loss_name, loss_params, images=len(data.train), outputs=len(data.classes)
    )
    execution = executing.complete(
        job, step, trainer, images, few, data=data, keeps=keeping is not None,
        layout=Layout(torch.get_num_threads(), workers),
        batches=lambda n, size: components.make_loaders(recipe, data, preprocess, n, pin=False, size=size)[0],
    )  # fmt: skip
    if execution.workers != workers:
        train, val, plain = components.make_loaders(recipe, data, preprocess, execution.workers, pin=pin)
    keeps_images, images_note = decide_image_cache(
        recipe, data, preprocess, trainer, images, few, learn=step.seconds, workers=execution.workers,
        keeps_features=keeping is not None, key=job.key(precision=step.precision, memory_format=step.memory_format),
    )  # fmt: skip
    changes = {
        "loss.name": loss_name,
        "loss.params": loss_params,
        "train.amp_dtype": execution.precision,
        "execution.memory_format": execution.memory_format,
        "execution.compile": "on" if execution.compile else "off",
        **({"execution.threads": execution.threads} if device.type == "cpu" else {}),
        "train.monitor": monitor,
        "train.solver": "direct" if solves else "steps",
        "data.workers": execution.workers,
        "data.image_cache": "keep" if keeps_images else "off",
        "data.norm": seen.norm,
        "transfer.start": "lp-ft" if head_first else "plain",
    }
    sentences = (
        data.rule,
        validate.learned_before(recipe, data),
        sampler.says(data.train.targets, data.classes, recipe.data.balance),
        *seen.notes,
        loss_note,
        validate.crops(recipe, task),
        execution.text,
        batch_note,
        keeping_note,
        images_note,
        solver_note,
    )
    prepared = Prepared(
        recipe=validate.resolved(recipe, data=data, preprocess=preprocess, changes=changes),
        task=task,
        data=data,
        model=model,
        preprocess=preprocess,
        plan=plan,
        execution=execution,
        trainer=trainer,
        train=train,
        val=val,
        plain=plain,
        head_first=head_first,
        keeping=keeping,
        solves=solves,
        notes=tuple(n for n in sentences if n),
    )
    say = TrainingProgress(0, quiet=not progress).say
    record.announce(prepared, say)
    if given.quick is not None:
        record.looked_at(given.quick, say)
    return prepared


def _first_step(
    job: executing.Job, normalize: Normalize, loss: Loss, images: Tensor, targets: Tensor
) -> tuple[Step, int | None]:
    """What steps compute with, found on `images`; and how many of them memory holds at once, if not all."""
    fits = AtOnce()

    def first(n: int) -> Step:
        return try_step(
            job.model.module, normalize, loss, images[:n], targets[:n], auxiliary=job.model.auxiliary or 0.0,
            then=lambda step: executing.choose(replace(job, batch=n), step, normalize, images[:n]),
        )  # fmt: skip

    with enough_for_one(job.device):
        return fits.first(job.batch, first), fits.limit


def _some_unused(job: executing.Job, normalize: Normalize, loss: Loss, images: Tensor, targets: Tensor) -> bool:
    """Whether parameters that learn go without a gradient in some steps, which several processes must know of."""
    if job.recipe.transfer.unfreeze_every is not None or dist_env.count() == 1:
        return job.recipe.transfer.unfreeze_every is not None
    module = job.model.module
    return try_step(
        module, normalize, loss, images, targets, auxiliary=job.model.auxiliary or 0.0,
        then=lambda step: some_without_gradient(module, step, images),
    )  # fmt: skip
