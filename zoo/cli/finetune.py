"""`zoo finetune`: train a model on images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from zoo import console
from zoo.cli.completion import complete_model, complete_recipe
from zoo.cli.options import number_or_auto
from zoo.errors import UsageError
from zoo.imports import gc_paused

__all__ = ["finetune"]

_DATA = "Data"
_MODEL = "Model"
_TRAINING = "Learning"
_RUN = "Run"


def _option(*names: str, help: str, panel: str, metavar: str | None = None) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(*names, help=help, rich_help_panel=panel, metavar=metavar)
    return option


def finetune(
    model: Annotated[
        str | None,
        typer.Argument(
            help="a name from `zoo list`; may be left out if the recipe names it", autocompletion=complete_model
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|NAME",
            help="folder, .zip or .tar of images; table (.csv, .tsv, .jsonl, .parquet) or list (.txt) of them; "
            "hf:NAME; torchvision:NAME; digits (default: digits)",
        ),
    ] = None,
    val: Annotated[
        str | None, typer.Option(metavar="PATH", help="validation images of the same kind, if not inside --data")
    ] = None,
    task: Annotated[
        str | None,
        _option("--task", help="single-label, multi-label or regression (default: told from the data)", panel=_DATA),
    ] = None,
    image_column: Annotated[
        str | None, _option("--image-column", help="of a table: the paths", panel=_DATA, metavar="NAME")
    ] = None,
    label_column: Annotated[
        list[str] | None,
        _option("--label-column", help="of a table: what to learn; may be repeated", panel=_DATA, metavar="NAME"),
    ] = None,
    label_separator: Annotated[
        str | None, _option("--label-separator", help="of a table: between several labels", panel=_DATA, metavar="TEXT")
    ] = None,
    split_column: Annotated[
        str | None, _option("--split-column", help="of a table: train, val …", panel=_DATA, metavar="NAME")
    ] = None,
    group_column: Annotated[
        str | None,
        _option(
            "--group-column", help="of a table: equal cells stay on one side of a split", panel=_DATA, metavar="NAME"
        ),
    ] = None,
    folds: Annotated[
        int | None, _option("--folds", help="parts to validate on in turn", panel=_DATA, metavar="K")
    ] = None,
    fold: Annotated[int | None, _option("--fold", help="with --folds: which, from 1", panel=_DATA, metavar="I")] = None,
    split: Annotated[
        str | None, _option("--split", help="the split of a run, or a file of names", panel=_DATA, metavar="RUN|FILE")
    ] = None,
    balance: Annotated[
        str | None, _option("--balance", help="how often an epoch shows a class: none, oversample, sqrt", panel=_DATA)
    ] = None,
    fit: Annotated[
        str | None, _option("--fit", help="images of other shapes: crop, squash or pad", panel=_DATA, metavar="MODE")
    ] = None,
    norm: Annotated[
        str | None, _option("--norm", help="mean and deviation of the channels: model or data", panel=_DATA)
    ] = None,
    classes: Annotated[
        int | None,
        _option("--classes", "--num-classes", help="checked against the data; inferred if left out", panel=_MODEL),
    ] = None,
    in_chans: Annotated[
        int | None,
        _option(
            "--in-chans",
            help="input channels (default: 3); pretrained filters are summed for 1, repeated else; see model.stem",
            panel=_MODEL,
        ),
    ] = None,
    img_size: Annotated[int | None, _option("--img-size", help="pixels (default: the model's)", panel=_MODEL)] = None,
    weights: Annotated[
        str | None,
        _option(
            "--weights",
            help="default, none, a tag, a file, a run, hf-hub:OWNER/NAME or local-dir:DIR",
            panel=_MODEL,
            metavar="WEIGHTS",
        ),
    ] = None,
    drop: Annotated[float | None, _option("--drop", help="dropout before the head", panel=_MODEL)] = None,
    drop_path: Annotated[float | None, _option("--drop-path", help="stochastic depth", panel=_MODEL)] = None,
    pool: Annotated[str | None, _option("--pool", help="global pooling: avg, max, avgmax …", panel=_MODEL)] = None,
    freeze: Annotated[
        str | None,
        _option("--freeze", help="none, backbone, N groups, a group, globs, or auto", panel=_MODEL, metavar="PLAN"),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            help="a name from `zoo recipes`, a file, a run, or auto (measured on the data)",
            rich_help_panel=_TRAINING,
            metavar="NAME|FILE|auto",
            autocompletion=complete_recipe,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        _option(
            "--set",
            help="any recipe field: --set loss.params.label_smoothing=0.1",
            panel=_TRAINING,
            metavar="KEY=VALUE",
        ),
    ] = None,
    epochs: Annotated[int | None, _option("--epochs", help="passes over the data", panel=_TRAINING)] = None,
    batch_size: Annotated[
        str | None,
        _option("--batch-size", "-b", help="images a step; auto: measured", panel=_TRAINING, metavar="N|auto"),
    ] = None,
    lr: Annotated[float | None, _option("--lr", help="learning rate", panel=_TRAINING)] = None,
    head_lr: Annotated[float | None, _option("--head-lr", help="learning rate of the head", panel=_TRAINING)] = None,
    layer_decay: Annotated[
        float | None, _option("--layer-decay", help="factor on the rate a group further from the head", panel=_TRAINING)
    ] = None,
    weight_decay: Annotated[
        float | None, _option("--weight-decay", help="but of norms and biases", panel=_TRAINING)
    ] = None,
    opt: Annotated[str | None, _option("--opt", help="optimizer, or module:attribute", panel=_TRAINING)] = None,
    sched: Annotated[str | None, _option("--sched", help="schedule, or module:attribute", panel=_TRAINING)] = None,
    warmup_epochs: Annotated[
        float | None, _option("--warmup-epochs", help="linear rise before the schedule", panel=_TRAINING)
    ] = None,
    loss: Annotated[str | None, _option("--loss", help="loss, or module:attribute", panel=_TRAINING)] = None,
    class_weights: Annotated[
        str | None,
        _option("--class-weights", help="none, balanced, effective or a file", panel=_TRAINING, metavar="KIND|FILE"),
    ] = None,
    grad_accum_steps: Annotated[
        int | None, _option("--grad-accum-steps", help="batches an optimizer step", panel=_TRAINING)
    ] = None,
    clip_grad: Annotated[
        float | None, _option("--clip-grad", help="largest norm of the gradient", panel=_TRAINING)
    ] = None,
    model_ema: Annotated[
        bool | None, _option("--model-ema/--no-model-ema", help="keep a moving average of the weights", panel=_TRAINING)
    ] = None,
    monitor: Annotated[
        str | None, _option("--monitor", help="validation metric that chooses the best epoch", panel=_TRAINING)
    ] = None,
    patience: Annotated[
        int | None, _option("--patience", help="epochs without a better one before stopping", panel=_TRAINING)
    ] = None,
    feature_cache: Annotated[
        str | None,
        _option("--feature-cache", help="of a frozen first part: auto, on (computed once) or off", panel=_TRAINING),
    ] = None,
    linear_probe: Annotated[
        str | None,
        _option("--linear-probe", help="of a linear head on kept features: auto, on or off", panel=_TRAINING),
    ] = None,
    views: Annotated[
        int | None, _option("--views", help="random views of each image whose features are kept", panel=_TRAINING)
    ] = None,
    amp: Annotated[
        bool | None, _option("--amp/--no-amp", help="mixed precision where it gains", panel=_TRAINING)
    ] = None,
    amp_dtype: Annotated[str | None, _option("--amp-dtype", help="auto, bf16, fp16 or fp32", panel=_TRAINING)] = None,
    channels_last: Annotated[
        bool | None,
        _option("--channels-last/--no-channels-last", help="memory format (default: measured)", panel=_RUN),
    ] = None,
    compile: Annotated[
        bool | None,
        _option(
            "--compile/--no-compile", help="torch.compile (default: in long runs, if measured to gain)", panel=_RUN
        ),
    ] = None,
    threads: Annotated[
        str | None, _option("--threads", help="of torch, or auto (default)", panel=_RUN, metavar="N|auto")
    ] = None,
    workers: Annotated[
        str | None, _option("--workers", "-j", help="loader processes, or auto", panel=_RUN, metavar="N")
    ] = None,
    image_cache: Annotated[
        str | None, _option("--image-cache", help="decoded images: auto, keep or off", panel=_RUN)
    ] = None,
    processes: Annotated[
        int | None, _option("--processes", help="on this host, training together; one a GPU", panel=_RUN, metavar="N")
    ] = None,
    seed: Annotated[int | None, _option("--seed", help="of split, head, order and augmentation", panel=_RUN)] = None,
    device: Annotated[str | None, _option("--device", help="auto, cpu, cuda, cuda:N or mps", panel=_RUN)] = None,
    output_dir: Annotated[
        Path | None,
        _option("--output-dir", "-o", help="the run's directory (default: runs/MODEL-DATA)", panel=_RUN, metavar="DIR"),
    ] = None,
    resume: Annotated[
        str | None,
        _option(
            "--resume", help="a run to continue; auto: the one in --output-dir, if any", panel=_RUN, metavar="RUN|auto"
        ),
    ] = None,
    dry_run: Annotated[bool, _option("--dry-run", help="check and build everything, then stop", panel=_RUN)] = False,
    as_json: Annotated[bool, _option("--json", help="the run's outcome as JSON on stdout", panel=_RUN)] = False,
) -> None:
    """Train a model on a folder or a table of images.

    The folder holds one subfolder a class, or train/ and val/ with those; a table names images and what they show.
    Without --data the embedded digits are used.
    Prints the run's directory on stdout; progress and what was decided go to stderr.
    """
    if processes is not None:
        from zoo.workflows.finetune.launch import is_launched, launch

        if not is_launched(processes):
            raise typer.Exit(launch(sys.argv[1:], processes))

    with gc_paused():
        from zoo.recipe import dump, parse_assignments
        from zoo.workflows.finetune.options import Options
        from zoo.workflows.finetune.run import build_session, resolve_options, resume_or_none
        from zoo.workflows.finetune.run import finetune as run_finetune
        from zoo.workflows.finetune.run import resume as run_resume

    options = Options(
        task=task, data=data, val=val, image_column=image_column, label_column=label_column or None,
        label_separator=label_separator, split_column=split_column, group_column=group_column, folds=folds, fold=fold,
        split=split, balance=balance, fit=fit, norm=norm, classes=classes, in_chans=in_chans, img_size=img_size,
        drop=drop, drop_path=drop_path, pool=pool, weights=weights, freeze=freeze, recipe=recipe,
        settings=parse_assignments(assignments or []), epochs=epochs, lr=lr, head_lr=head_lr,
        batch_size=number_or_auto("--batch-size", batch_size, least=1),
        layer_decay=layer_decay, weight_decay=weight_decay, opt=opt, sched=sched, warmup_epochs=warmup_epochs,
        loss=loss, class_weights=class_weights, grad_accum_steps=grad_accum_steps, clip_grad=clip_grad,
        model_ema=model_ema, monitor=monitor, patience=patience, feature_cache=feature_cache,
        linear_probe=linear_probe, views=views, amp=amp, amp_dtype=amp_dtype,
        workers=number_or_auto("--workers", workers, least=0), seed=seed, device=device, image_cache=image_cache,
        channels_last=channels_last, compile=compile, threads=number_or_auto("--threads", threads, least=1),
    )  # fmt: skip
    run = None
    if resume == "auto":
        run = resume_or_none(output_dir)
    elif resume is not None:
        given = [name for name, value in {"MODEL": model, "--output-dir": output_dir, **options}.items() if value]
        if given or dry_run:
            raise UsageError(
                f"--resume continues a run as it was begun; {given[0] if given else '--dry-run'} cannot go with it",
                f"leave it out, or start anew with --recipe {resume}",
            )
        run = run_resume(resume)
    if run is None:
        chosen = resolve_options(model, output_dir=output_dir, progress=True, **options)
        if data is None and recipe is None and "data.source" not in (options["settings"] or {}):
            console.note("no --data given: using the embedded digits (1,797 handwritten digits of scikit-learn)")
        if dry_run:
            resolved = build_session(chosen, output_dir=output_dir, progress=True).recipe
            if as_json:
                console.print_json(resolved.model_dump())
            else:
                console.print_lines(dump(resolved).splitlines())
            console.note("dry run: everything is in place, nothing was trained or written")
            return
        run = run_finetune(chosen, output_dir=output_dir)
    if as_json:
        console.print_json({"run": str(run.path), **run.info(), "metrics": run.metrics()})
    else:
        console.print_lines([str(run.path)])
        console.note(
            f"next: zoo evaluate {run.path}    zoo predict {run.path} IMAGE    "
            f"zoo export {run.path} --format safetensors"
        )
