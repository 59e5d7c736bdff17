"""`zoo evaluate`: metrics of a run's best weights on its validation images, or on other images.

    result = zoo.evaluate("runs/resnet34-digits")
    result.evaluation.top1, result.evaluation.per_class

`EvaluationResult.save` lists the files that are written.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from zoo import reports
from zoo.atomic_io import atomic_write, read_json, write_json
from zoo.console import track
from zoo.data import BadFile, Columns, ImageDataset, Subset, auto_workers, make_loader, open_data, open_eval
from zoo.data.config import DataConfig
from zoo.data.loader import LoaderOptions
from zoo.errors import DataError, TrainingError, UsageError
from zoo.metrics import Evaluation, MetricAccumulator
from zoo.metrics.reporting import evaluation_accumulator, evaluation_of
from zoo.metrics.statistics import Collected
from zoo.run import Run
from zoo.tasks import get_task
from zoo.training.device import pick_device
from zoo.training.inference import Normalize, forward_batches
from zoo.training.microbatch import raise_on_oom
from zoo.workflows.load_run import LoadedRun, RunData, RunLike, load_run, load_run_data

# No column is named: the columns of the run's recipe, or those found by their names.
COLUMNS_OF_RUN = Columns()


@dataclass(frozen=True)
class EvaluationResult:
    """The result of `evaluate`.

    Attributes:
        evaluation: the metrics.
        data: name or path of the images.
        rule: which of the images were evaluated, in one sentence.
        folder: where `save` writes.
        notes: warnings about the data, in sentences.
        skipped_files: files that could not be read.
        accumulator: the outputs and targets of the model.
    """

    evaluation: Evaluation
    data: str
    rule: str
    folder: Path
    notes: tuple[str, ...]
    skipped_files: tuple[BadFile, ...]
    accumulator: MetricAccumulator = field(repr=False, compare=False)

    @property
    def outputs(self) -> Tensor:
        """(N, K) float32."""
        return self.accumulator.statistic(Collected).outputs

    @property
    def targets(self) -> Tensor:
        """(N,) int64 or (N, K) float32."""
        return self.accumulator.statistic(Collected).targets

    def to_dict(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "rule": self.rule,
            "notes": list(self.notes),
            "skipped_files": [{"path": b.path, "reason": b.reason} for b in self.skipped_files],
            **self.evaluation.to_dict(),
        }

    def save(self) -> tuple[Path, ...]:
        """Write evaluation.json, CSV files and a picture into `folder`.

        Single-label: per_class.csv, confusion.csv (one row per true class, one column per predicted class) and
        confusion.png. Multi-label: per_label.csv and labels.png. Regression: per_target.csv and scatter.png.

        Returns:
            The paths of the files.

        Raises:
            TrainingError: a file cannot be written.
        """
        found = self.evaluation
        tables = found.tables()
        try:
            if not self.folder.is_dir():
                self.folder.mkdir()
            write_json(self.folder / "evaluation.json", self.to_dict())
            for name, rows in tables.items():
                _write_csv(self.folder / name, rows)
            picture = reports.draw_evaluation(self.accumulator, found.classes, self.folder, get_task(found.task))
        except (TrainingError, OSError) as e:
            message = e.message if isinstance(e, TrainingError) else f"cannot make {self.folder}: {e.strerror or e}"
            hint = "the evaluation is complete but not saved: free some disk space, or make the folder writable"
            raise TrainingError(message, hint) from e
        return (*(self.folder / name for name in ("evaluation.json", *tables)), picture)


def evaluate(
    run: RunLike,
    data: str | None = None,
    *,
    split: str | None = None,
    columns: Columns = COLUMNS_OF_RUN,
    batch_size: int = 64,
    workers: int | Literal["auto"] = "auto",
    device: str = "auto",
    save: bool = True,
) -> EvaluationResult:
    """Evaluate the run's best weights in fp32.

    Args:
        run: a run directory.
        data: a data source, as for `finetune`; None: the validation images of the run. Classes, labels and targets are
            matched by name.
        split: the split of `data` to evaluate, a folder or a value of the split column.
        columns: columns of the table `data`, where their names differ from the run's.
        batch_size: images per forward pass.
        workers: number of worker processes that decode images.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        save: write the files into the run directory, for other data into RUN/evaluation-NAME.

    Raises:
        DataError: no such run or data, classes that the model does not know, or unreadable files in a run that does not
            skip them.
        UsageError: an invalid device or number.
        WeightsError: the run is damaged.
        TrainingError: the files cannot be written.
    """
    if batch_size < 1:
        raise UsageError(f"--batch-size {batch_size} is less than 1", "give 1 or more")
    if workers != "auto" and workers < 0:
        raise UsageError(f"--workers {workers} is less than 0", "give 0 or more, or auto")
    if data is None and (split is not None or columns != COLUMNS_OF_RUN):
        raise UsageError("--split and the column options need other data", "give it with --data")
    where = pick_device(device)
    loaded = load_run(run)
    images = _run_images(loaded) if data is None else _other_images(loaded, data, split, columns)
    loader = make_loader(
        images.source,
        preprocess=loaded.preprocess,
        batch_size=batch_size,
        train=False,
        augment=None,
        seed=0,
        workers=auto_workers(images.source) if workers == "auto" else workers,
        options=LoaderOptions(pin_memory=where.type == "cuda"),
    )
    module, normalize = loaded.model.module.to(where), Normalize(loaded.preprocess).to(where)
    accumulator = evaluation_accumulator(loaded.task)
    with raise_on_oom(where, UsageError):
        for outputs, targets in forward_batches(module, track(loader, "evaluating"), normalize, device=where):
            accumulator.update(outputs, targets)
    result = EvaluationResult(
        evaluation=evaluation_of(accumulator, loaded.classes, loaded.task),
        data=images.name,
        rule=images.rule,
        folder=loaded.run.path if data is None else _folder_for(loaded.run.path, images.name),
        notes=tuple(n for n in (loaded.note, *images.notes) if n),
        skipped_files=(*images.skipped_files, *loader.problems),
        accumulator=accumulator,
    )
    if save:
        result.save()
    return result


@dataclass(frozen=True)
class _Images:
    name: str
    source: ImageDataset
    rule: str
    notes: tuple[str, ...]
    skipped_files: tuple[BadFile, ...]


def _run_images(loaded: LoadedRun) -> _Images:
    run_data = load_run_data(loaded.run)
    name = run_data.config.source
    data = open_data(
        _held_out_config(loaded.run, run_data),
        seed=run_data.seed,
        channels=loaded.preprocess.channels,
        expected_classes=loaded.classes,
        task=loaded.task,
    ).with_intensity_range(loaded.preprocess.intensity_range)
    fitted = _refit_notes(loaded.run)
    if run_data.fingerprint in (None, data.fingerprint()):
        return _Images(name, data.val, run_data.rule or data.rule, fitted, data.problems)
    # With the run's list of held-out images, no training image is evaluated, even if the data have grown.
    risk = "the evaluation may include training images"
    if loaded.run.split_file.is_file() and data.was_split:
        risk = "evaluating on the held-out images that remain"
    changed = f"the images of {name} have changed since the run: {risk}"
    notes = (changed, *fitted, *(n for n in data.notes if n.startswith("split ")))
    return _Images(name, data.val, data.rule, notes, data.problems)


def _refit_notes(run: Run) -> tuple[str, ...]:
    """A warning if the held-out images were used to fit the final weights."""
    if not run.info().get("refit"):
        return ()
    return ("the weights were also fitted on these images (--refit): the metrics of the run are from before",)


def _other_images(loaded: LoadedRun, name: str, split: str | None, columns: Columns) -> _Images:
    run_data = load_run_data(loaded.run)
    own = run_data.config
    same_source = own.source == name
    config = _held_out_config(loaded.run, run_data) if same_source else DataConfig(unreadable=own.unreadable)
    changes = {
        "source": name,
        "image_column": columns.image or own.image_column,
        "label_column": columns.labels or own.label_column,
        "label_separator": columns.separator or own.label_separator,
        "split_column": columns.split or own.split_column,
    }
    source, problems = open_eval(
        config.model_copy(update=changes),
        loaded.classes,
        seed=run_data.seed if same_source else 0,
        channels=loaded.preprocess.channels,
        task=loaded.task,
        split=split,
    )
    source = source.with_intensity_range(loaded.preprocess.intensity_range)
    if isinstance(source, Subset):
        return _Images(
            name, source, f"the {len(source):,} held-out images of {name}", _refit_notes(loaded.run), problems
        )
    path = Path(name).resolve()
    display_name = str(path) if path.exists() else name
    rule = f"all {len(source):,} images found" if split is None else f"the {len(source):,} images of {split}"
    notes: tuple[str, ...] = ()
    if path == Path(own.source).resolve() and len(source) == run_data.images:
        notes = ("these images include the training images of the run; omit --data to use the held-out images",)
    return _Images(display_name, source, rule, notes, problems)


def _held_out_config(run: Run, run_data: RunData) -> DataConfig:
    """The data of the run, split by its list of held-out images; without a list by its rule.

    Raises DataError if the list is missing and the split does not come from a rule.
    """
    config, own = run_data.config, run.split_file
    if own.is_file():
        return config.model_copy(update={"split": str(own), "folds": None, "fold": None})
    if config.split is not None:
        raise DataError(
            f"{own} is missing: it lists the held-out images of the run", "restore it, or give images with --data"
        )
    return config


def _folder_for(run: Path, source: str) -> Path:
    """RUN/evaluation-NAME, or RUN/evaluation-NAME-2 … if that exists for other data of the same name."""
    base = re.sub(r"[^\w.-]+", "_", Path(source).resolve().name).strip("._") or "data"
    for number in count(1):
        folder = run / (f"evaluation-{base}" if number == 1 else f"evaluation-{base}-{number}")
        before = folder / "evaluation.json"
        if not before.exists() or read_json(before).get("data") == source:
            break
    return folder


def _write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    atomic_write(path, text.getvalue())
