"""`zoo finetune`, step by step. Start reading here.

recipe  = make_recipe("resnet34", data="photos", freeze="backbone")   options.py: what to do
session = build_session(recipe)     build.py: data, model, loss, precision, caches, all checked before the first step
run     = finetune(recipe)          the same, then the epochs (loop.py)

transfer.py adapts the pretrained weights, record.py writes the run directory, summary.py prints.
"""

from __future__ import annotations

import json
from pathlib import Path

from typing_extensions import Unpack

from zoo import dist_env
from zoo.errors import RecipeError, UsageError
from zoo.models import rebuild
from zoo.options import Options
from zoo.recipe import Recipe, build
from zoo.run import InMemoryRun, Run
from zoo.training.autotune.workers import preserve_num_threads
from zoo.training.distributed import broadcast_object
from zoo.workflows.finetune import record, transfer
from zoo.workflows.finetune.build import build_session
from zoo.workflows.finetune.loop import OnEpoch, train
from zoo.workflows.finetune.options import make_recipe, uses_auto


@preserve_num_threads()
def finetune(
    model: str | Recipe | None = None,
    *,
    output_dir: str | Path | None = None,
    progress: bool = True,
    on_epoch: OnEpoch | None = None,
    **options: Unpack[Options],
) -> Run:
    """Fine-tune `model` (a name of `zoo list`, or a whole Recipe) and return its run.

    Args:
        model: a model name or a complete recipe.
        output_dir: the run directory to create; default: runs/MODEL-DATA, with a number if that exists.
        progress: whether to print on stderr.
        on_epoch: called with each row of metrics.jsonl; a ZooError that it raises ends the run.
        options: the options of the command line, see `zoo.options.Options`.

    Raises:
        ZooError: any problem that the caller can fix.
        Interrupted: Ctrl-C. The run can then be resumed.
    """
    folder = Path(output_dir) if output_dir is not None else None
    progress = progress and dist_env.is_main_process()
    recipe = (
        model if isinstance(model, Recipe) else resolve_options(model, output_dir=folder, progress=progress, **options)
    )
    session = build_session(recipe, output_dir=folder, progress=progress)
    run = _create(folder, record.default_name(session.recipe, session.data))
    record.begin(run, session)
    return train(run, session, first=None, best=None, progress=progress, on_epoch=on_epoch)


def _create(folder: Path | None, default_name: str) -> Run:
    """The run directory, which only the first process writes."""
    if dist_env.is_main_process():
        run = Run.create(folder, default_name=default_name)
        broadcast_object(str(run.path))
        return run
    return InMemoryRun(Path(broadcast_object("")))


def resolve_options(
    model: str | None = None, *, output_dir: Path | None = None, progress: bool = False, **options: Unpack[Options]
) -> Recipe:
    """The recipe of a run; recipe or freeze plan `auto` are chosen by measuring the data.

    If the recipe has errors, its valid part is still checked against the data and the model, so that all errors are
    raised at once.
    """
    if uses_auto(options):
        from zoo.workflows.finetune.auto import resolve_auto  # imports much that other runs do not need

        model, options = resolve_auto(model, options, progress=progress)
    try:
        return make_recipe(model, **options)
    except RecipeError as e:
        if isinstance(e.valid_part, Recipe):
            build_session(e.valid_part, output_dir=output_dir, earlier_problems=[e])
        raise


@preserve_num_threads()
def resume(path: str | Path, *, progress: bool = True, on_epoch: OnEpoch | None = None) -> Run:
    """Continue the run at `path` after its last finished epoch; on the CPU the result is that of an unbroken run.

    Args:
        path: the run directory.
        progress: whether to print on stderr.
        on_epoch: called with each row of metrics.jsonl; a ZooError that it raises ends the run.

    Raises:
        UsageError: the run has finished or is still running.
        DataError: `path` is not a run, or its data have changed.
    """
    run = Run.open(path)
    if run.status == "finished":
        raise UsageError(
            f"{run.path} has finished", f"`zoo evaluate {run.path}`, or start another with --recipe {run.path}"
        )
    if dist_env.is_main_process() and run.is_alive():
        raise UsageError(
            f"{run.path} is in use by a running zoo (process {run.info().get('pid')})", "wait for it or stop it"
        )
    progress = progress and dist_env.is_main_process()
    if not dist_env.is_main_process():
        run = InMemoryRun.of(run)
    recipe = make_recipe(recipe=run.path)
    if run.split_file.is_file():  # the same held-out images, even if the rule or file that chose them has changed
        recipe = build(recipe.model_dump(), {"data.split": str(run.path), "data.folds": None, "data.fold": None})
    if not run.checkpoint_file.is_file() and not run.info()["epochs_done"]:  # stopped before the first epoch
        session = build_session(recipe, progress=progress)
        record.check_same_data(run, session.data)
        record.resume(run)
        return train(run, session, first=None, best=None, progress=progress, on_epoch=on_epoch)
    tensors, values = run.checkpoint()
    state = json.loads(values["zoo"])
    # Only the structure is rebuilt: all tensors come from the checkpoint, and the initial weights may be gone.
    session = build_session(recipe, progress=progress, model=rebuild(run.model_record()["model"]))
    record.check_same_data(run, session.data)
    transfer.attach_start_weights(run, session)
    session.trainer.load(tensors, state["trainer"])
    run.write_metrics(run.metrics()[: state["epoch"]])  # an epoch without a checkpoint is repeated
    record.resume(run)
    return train(run, session, first=state["epoch"], best=state["best"], progress=progress, on_epoch=on_epoch)


def resume_or_none(path: Path | None, *, progress: bool = True) -> Run | None:
    """`--resume auto`, for jobs that are restarted: continue the unfinished run at `path`, or return a finished one.

    None if there is no run at `path`; the caller then starts one. Raises UsageError if `path` is None.
    """
    if path is None:
        raise UsageError("--resume auto needs --output-dir, where the run is or will be", "add --output-dir DIR")
    if not (path / "run.json").is_file():
        return None
    run = Run(path)
    return run if run.status == "finished" else resume(path, progress=progress)
