"""`zoo tune`: search for the recipe values that validate best. Every trial is a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from typing_extensions import Unpack

from zoo import metrics
from zoo.atomic_io import atomic_write
from zoo.errors import RecipeError, TrainingError, UsageError, translate_write_errors
from zoo.options import Options
from zoo.progress import TrainingProgress
from zoo.recipe import Recipe, build, dump, load_values
from zoo.run import Run
from zoo.workflows.finetune.build import build_session
from zoo.workflows.finetune.options import make_recipe
from zoo.workflows.tune.search_space import Space, check_space, first_values, read_space, space_record
from zoo.workflows.tune.study import Study, TrialRecord, open_study, require_optuna
from zoo.workflows.tune.trials import TrialRunner, best_trial, flatten, trial_folder

# Fields of `data` that do not change the validation images.
_SPLIT_SAFE_KEYS = tuple(
    f"data.{name}" for name in ("balance", "batch_size", "fit", "intensity_range", "norm", "workers")
)
_DEVICE_KEYS = ("train.device", "data.workers")  # trials on other devices are comparable


@dataclass(frozen=True)
class Search:
    """The result of a search so far.

    trials: all trials by number, those of earlier commands too. best: the best finished trial. importance: key → share
    of the variance between trials that it explains; empty if it cannot be computed. notes: sentences for the reader.
    """

    folder: Path
    monitor: str
    higher_is_better: bool
    trials: tuple[TrialRecord, ...]
    best: TrialRecord
    best_recipe: Path
    importance: dict[str, float]
    notes: tuple[str, ...]

    def run_path(self, trial: TrialRecord) -> Path:
        return trial_folder(self.folder, trial.number if trial.duplicate_of is None else trial.duplicate_of)

    def ranked(self) -> list[TrialRecord]:
        """The finished trials, best first; equal ones by number."""
        sign = -1 if self.higher_is_better else 1
        finished = [t for t in self.trials if t.state == "finished" and t.value is not None]
        return sorted(finished, key=lambda t: (sign * (t.value or 0.0), t.number))

    def to_dict(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "monitor": self.monitor,
            "higher_is_better": self.higher_is_better,
            "best": self.best.number,
            "best_recipe": str(self.best_recipe),
            "importance": self.importance,
            "trials": [{**asdict(t), "run": str(self.run_path(t))} for t in self.trials],
        }


def tune(
    recipe: str | Path,
    search: str | Path | Mapping[str, Any],
    /,
    *,
    trials: int,
    model: str | None = None,
    output_dir: str | Path | None = None,
    timeout: float | None = None,
    prune: bool = True,
    progress: bool = True,
    **options: Unpack[Options],
) -> Search:
    """Try up to `trials` sets of values, each as a fine-tuning of `recipe`. The same call again continues the search.

    Trials are compared by the monitored metric in their best epoch.

    Args:
        recipe: the recipe of every trial: a shipped name or a file.
        search: a YAML file or a mapping of dotted recipe keys to possible values; see `search_space`.
        trials: number of trials, those of earlier calls included.
        model: model name; default: the recipe's.
        output_dir: where runs, study.db, best.yaml and pictures go; default: runs/tune-RECIPE.
        timeout: seconds after which no further trial starts.
        prune: stop a trial early if it is worse than the median of the others after as many epochs.
        progress: whether to print on stderr.
        options: the options of `finetune`, for every trial.

    Raises:
        UsageError: Optuna is missing, or the search was started with other settings.
        RecipeError: every error of the search space.
        TrainingError: no trial has finished, or the disk is full.
        Interrupted: Ctrl-C.
    """
    require_optuna()
    if trials < 1:
        raise UsageError(f"{trials} trials", "give 1 or more")
    if options.get("recipe") is not None:
        raise UsageError("two recipes", "the first argument is the recipe of every trial")
    settings = dict(options.get("settings") or {})

    space, problems = read_space(search)
    steps = {"train.linear_probe": "off"} if any(map(_is_of_steps, space)) else {}

    def make(values: Mapping[str, Any]) -> Recipe:
        given: Options = {**options, "recipe": recipe, "settings": {**steps, **settings, **values}}
        return make_recipe(model, **given)

    problems += [f"{key}: it is also given by --set; leave one of them out" for key in space if key in settings]
    problems += check_space(space, make)
    where = "search" if isinstance(search, Mapping) else str(search)
    if problems:
        raise RecipeError(problems, "`zoo recipes full` shows every key of a recipe", where=where)
    folder = Path(output_dir) if output_dir is not None else Path("runs") / f"tune-{Path(recipe).stem}"
    _check_folder(folder)
    base = make(first_values(space))
    log = TrainingProgress(0, quiet=not progress).log
    monitor, settings_record = _fixed_settings(base, space, where)
    higher_is_better = metrics.higher_is_better(monitor)
    log(
        f"search on {base.data.source} in {folder}: {', '.join(space)}; {trials} trials, "
        f"{'highest' if higher_is_better else 'lowest'} {monitor}"
    )
    for text in _warnings(space):
        log(f"warning: {text}")
    with (
        _lock_folder(folder),
        open_study(
            folder / "study.db",
            space,
            higher_is_better=higher_is_better,
            seed=base.train.seed,
            prune=prune,
            settings_record=settings_record,
        ) as study,
    ):
        for number in study.recover():
            log(f"trial {number} was interrupted: its values will be tried again")
        TrialRunner(study, folder, monitor, make, trials, log, quiet=not progress).run(timeout)
        return _summarize(study, folder, monitor, base.train.seed)


def _fixed_settings(base: Recipe, space: Space, where: str) -> tuple[str, dict[str, Any]]:
    """The monitored metric, and the settings that make trials comparable. A session is built first, so that errors in
    recipe, data and model are raised before anything is written."""
    session = build_session(base)
    monitor = session.recipe.train.monitor
    if monitor == "loss" and (own := [key for key in space if key.partition(".")[0] == "loss"]):
        raise RecipeError(
            [f"{key}: with --monitor loss, trials of different losses cannot be compared" for key in own],
            "choose another train.monitor",
            where=where,
        )
    fixed = {
        k: v for k, v in flatten(base.model_dump(mode="json")) if k not in _DEVICE_KEYS and not _searched(k, space)
    }
    searched = {f"search of {key}": entry for key, entry in space_record(space).items()}
    return monitor, {**searched, **fixed, "monitor": monitor, "images": session.data.fingerprint()}


def _searched(key: str, space: Space) -> bool:
    return any(key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.") for other in space)


def _is_of_steps(key: str) -> bool:
    """Whether only gradient steps use the setting. A linear probe that is fitted directly has no learning rate."""
    return key.startswith(("optimizer.", "schedule.")) or key in ("train.epochs", "train.clip_grad", "data.batch_size")


def _warnings(space: Space) -> list[str]:
    split_keys = [
        k
        for k in space
        if k in ("data", "train", "train.seed") or (k.startswith("data.") and k not in _SPLIT_SAFE_KEYS)
    ]
    if not split_keys:
        return []
    return [f"{', '.join(split_keys)} may change the validation images: the trials are then not comparable"]


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"output directory {folder} is a file", "choose another --output-dir")
    if folder.is_dir() and not (folder / "study.db").is_file() and any(p.name != _LOCK for p in folder.iterdir()):
        raise UsageError(
            f"output directory {folder} is in use: it is not empty and has no study.db", "choose another --output-dir"
        )


_LOCK = ".lock"


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Lock the folder: two processes in one study would treat each other's running trials as interrupted."""
    with translate_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    with translate_write_errors(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"{folder} is in use by another zoo tune", "wait for it, or choose another --output-dir"
            ) from None
    try:
        yield
    finally:
        lock.release()


def _summarize(study: Study, folder: Path, monitor: str, seed: int) -> Search:
    from zoo.reports.search_pictures import importance, search_history

    records = study.records()
    best = best_trial(records, monitor)
    if best is None:
        reasons = [f"trial {r.number}: {r.reason}" for r in records if r.reason]
        raise TrainingError(
            f"none of {len(records)} trials has finished" + (f"; {reasons[0]}" if reasons else ""),
            "narrow the search, or allow more trials",
        )
    run = Run(trial_folder(folder, best.number))
    best_recipe = folder / "best.yaml"
    description = f"the best of {len(records)} trials by {monitor} ({best.value:.4g})"
    atomic_write(best_recipe, dump(build(load_values(run.path), {"description": description})))
    higher_is_better = metrics.higher_is_better(monitor)
    notes = []
    search_history(
        [(r.number, r.state, r.value) for r in records],
        folder / "history.png",
        monitor=monitor,
        higher_is_better=higher_is_better,
    )
    shares = study.importance(seed)
    picture = folder / "importance.png"
    if isinstance(shares, str):
        notes.append(f"importance is not available: {shares}")
        picture.unlink(missing_ok=True)
        shares = {}
    else:
        importance(shares, picture, monitor=monitor, trials=sum(r.state == "finished" for r in records))
    return Search(folder, monitor, higher_is_better, tuple(records), best, best_recipe, shares, tuple(notes))
