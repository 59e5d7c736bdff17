"""`zoo finetune`: every step of a fine-tuning, in order. Start reading here.

recipe   = make_recipe("resnet34", data="photos", freeze="backbone")   what to do
prepared = prepare(recipe)             data, model, plan, loss, precision: all checked before any step is taken
run      = finetune(recipe)            the same, then the epochs, then the pictures
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from typing_extensions import Unpack

from zoo import metrics
from zoo.augment import make_augment
from zoo.data import Data, make_loader, open_data
from zoo.errors import UsageError, ZooError, combine
from zoo.losses import make_loss
from zoo.models import Model, build
from zoo.optim.groups import make_optimizer, parameter_groups
from zoo.optim.schedules import make_schedule
from zoo.progress import TrainingProgress
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.strategy.freeze import FreezePlan, resolve_plan, set_train_mode
from zoo.training.device import make_engine, pick_device
from zoo.training.inference import Normalize
from zoo.training.precision import choose_precision
from zoo.training.trainer import Trainer
from zoo.training.trial import try_step
from zoo.workflows import checks, journal
from zoo.workflows.epochs import save_checkpoint, train
from zoo.workflows.prepared import Prepared
from zoo.workflows.settle import Options, make_recipe

__all__ = ["Prepared", "finetune", "prepare", "resume", "resume_or_none"]


def finetune(
    model: str | Recipe | None = None,
    *,
    output_dir: str | Path | None = None,
    progress: bool = True,
    **options: Unpack[Options],
) -> Run:
    """Fine-tune `model` (a name of `zoo list`, or a whole Recipe) and return its run.

    The named options are those of the command line; see `zoo.workflows.settle.Options`. The run directory is
    `output_dir`, or runs/MODEL-DATA with a number behind it. Raises a ZooError for anything the caller can mend, and
    Interrupted on Ctrl-C; the run is then resumable.
    """
    recipe = model if isinstance(model, Recipe) else make_recipe(model, **options)
    folder = Path(output_dir) if output_dir is not None else None
    prepared = prepare(recipe, output_dir=folder, progress=progress)
    run = Run.create(folder, default_name=journal.default_name(prepared.recipe, prepared.data))
    journal.begin(
        run, prepared.recipe, prepared.model, prepared.data, prepared.preprocess, prepared.trainer.engine.device
    )
    save_checkpoint(run, prepared.trainer, epoch=0, best=None)
    return train(run, prepared, first=0, best=None, progress=progress)


def resume(path: str | Path, *, progress: bool = True) -> Run:
    """Continue the run at `path` behind its last finished epoch; on the CPU the result is that of an unbroken run.

    Raises UsageError if it has finished or is still running, DataError if it is not a run or its data have changed.
    """
    run = Run.open(path)
    if run.status == "finished":
        raise UsageError(
            f"{run.path} has finished", f"`zoo evaluate {run.path}`, or start another with --recipe {run.path}"
        )
    if run.is_alive():
        raise UsageError(
            f"{run.path} is in use by a running zoo (process {run.info().get('pid')})", "wait for it or stop it"
        )
    tensors, values = run.checkpoint()
    state = json.loads(values["zoo"])
    prepared = prepare(make_recipe(recipe=run.path), output_dir=None, progress=progress)
    journal.check_same_data(run, prepared.data)
    prepared.trainer.load(tensors, state["trainer"])
    run.write_metrics(run.metrics()[: state["epoch"]])  # an epoch whose checkpoint was not written is done again
    journal.resume(run)
    return train(run, prepared, first=state["epoch"], best=state["best"], progress=progress)


def resume_or_none(path: Path | None, *, progress: bool = True) -> Run | None:
    """`--resume auto`, for jobs that are restarted: the unfinished run at `path` is continued, a finished one returned.

    None if there is nothing at `path`, so that the caller begins. Raises UsageError if no path was given.
    """
    if path is None:
        raise UsageError("--resume auto needs --output-dir, where the run is or will be", "add --output-dir DIR")
    if not (path / "run.json").is_file():
        return None
    run = Run(path)
    return run if run.status == "finished" else resume(path, progress=progress)


def prepare(recipe: Recipe, *, output_dir: Path | None = None, progress: bool = False) -> Prepared:
    """Build everything that `recipe` names and try one step, without writing a file.

    Raises one ZooError that lists every problem found: recipe, data, model, plan and output directory.
    """
    say = TrainingProgress(0, quiet=not progress).say
    problems: list[ZooError] = checks.components(recipe)
    problems += checks.output_directory(output_dir)

    # Data: path → samples → split.
    data: Data | None = None
    with checks.collecting(problems):
        data = open_data(
            recipe.data.source,
            val=recipe.data.val,
            val_fraction=recipe.data.val_fraction,
            seed=recipe.train.seed,
            channels=recipe.model.in_chans,
            unreadable=recipe.data.unreadable,
        )
        checks.classes(recipe.model.classes, data)

    # Model: name → module with a head for these classes. After a problem its structure is checked without its weights.
    torch.manual_seed(recipe.train.seed)  # the new head, and everything if the weights are none
    model: Model | None = None
    plan: FreezePlan | None = None
    with checks.collecting(problems):
        device = pick_device(recipe.train.device)
        model = build(
            recipe.model.name,
            classes=len(data.classes) if data else recipe.model.classes or 2,
            in_chans=recipe.model.in_chans,
            img_size=recipe.model.img_size,
            weights="none" if problems else recipe.model.weights,
            drop=recipe.model.drop,
            drop_path=recipe.model.drop_path,
            pool=recipe.model.pool,
            stem=recipe.model.stem,
            head_init=recipe.model.head_init,
        )
        plan = resolve_plan(recipe.freeze, model.groups, model.module)
    if problems or data is None or model is None or plan is None:
        raise combine(problems)
    plan.apply(model.module)
    preprocess, size_note = checks.input_size(recipe, model, data)

    # Batches: uint8 until they are on the device.
    augment = make_augment(
        recipe.augment.name, preprocess=preprocess, flips=data.flips_ok, params=recipe.augment.params
    )
    workers = checks.workers(recipe.data.workers, data)
    pin = device.type == "cuda"
    batch = min(recipe.data.batch_size, len(data.train))
    train = make_loader(
        data.train,
        preprocess=preprocess,
        batch_size=batch,
        train=True,
        augment=augment,
        seed=recipe.train.seed,
        workers=workers,
        pin=pin,
    )
    val = make_loader(
        data.val,
        preprocess=preprocess,
        batch_size=recipe.data.batch_size,
        train=False,
        augment=None,
        seed=0,
        workers=workers,
        pin=pin,
    )

    # How it learns.
    loss = make_loss(recipe.loss.name, recipe.loss.params)
    module = model.module.to(device)
    normalize = Normalize(preprocess).to(device)
    set_train_mode(module, plan)
    images, targets = checks.a_few(data, preprocess, device)
    asked = recipe.train.amp_dtype if recipe.train.amp else "fp32"
    precision = try_step(
        module,
        normalize,
        loss,
        images,
        targets,
        auxiliary=model.auxiliary or 0.0,
        then=lambda step: choose_precision(asked, device, step, module, images),
    )
    groups = parameter_groups(
        module,
        [(g.name, g.parameters) for g in model.groups],
        lr=recipe.optimizer.lr,
        head_lr=recipe.optimizer.head_lr,
        layer_decay=recipe.optimizer.layer_decay,
        weight_decay=recipe.optimizer.weight_decay,
    )
    optimizer = make_optimizer(recipe.optimizer.name, groups, recipe.optimizer.params)
    schedule = make_schedule(
        recipe.schedule.name,
        optimizer,
        recipe.schedule.params,
        updates_per_epoch=math.ceil(len(train) / recipe.train.grad_accum_steps),
        epochs=recipe.train.epochs,
        warmup_epochs=recipe.schedule.warmup_epochs,
        higher_is_better=metrics.METRICS[recipe.train.monitor].higher_is_better,
    )
    trainer = Trainer(
        engine=make_engine(device, precision.dtype),
        module=module,
        optimizer=optimizer,
        schedule=schedule,
        loss=loss,
        normalize=normalize,
        set_train_mode=lambda: set_train_mode(module, plan),
        seed=recipe.train.seed,
        amp_dtype=precision.dtype,
        grad_accum_steps=recipe.train.grad_accum_steps,
        clip_grad=recipe.train.clip_grad,
        auxiliary=model.auxiliary or 0.0,
    )
    resolved = checks.resolved(recipe, data=data, preprocess=preprocess, precision=precision.name, workers=workers)
    notes = tuple(n for n in (data.rule, size_note, f"precision {precision.name}: {precision.reason}") if n)
    prepared = Prepared(resolved, data, model, preprocess, plan, precision, trainer, train, val, notes)
    journal.announce(prepared.recipe, data, model, plan, notes, say)
    return prepared
