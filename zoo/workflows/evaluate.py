"""`zoo evaluate`: how good a run's best weights are, on its own validation images or on others.

    result = zoo.evaluate("runs/resnet34-digits")
    result.evaluation.top1, result.evaluation.per_class

The files that it writes are listed at `Evaluated.save`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from zoo import reports
from zoo.atomic_io import atomic_write, read_json, write_json
from zoo.console import track
from zoo.data import BadFile, Columns, ImageDataset, auto_workers, make_loader, open_data, open_eval
from zoo.data.config import DataConfig
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

__all__ = ["EvaluationResult", "evaluate"]

COLUMNS_OF_RUN = (
    Columns()
)  # nothing named: a table's columns are those that the run's recipe named, or found by their names


@dataclass(frozen=True)
class EvaluationResult:
    """What `evaluate` measured.

    data: what the user calls the images. rule: one sentence, which images these are. folder: where `save` writes.
    notes: sentences that a reader of the numbers should know. skipped_files: files that could not be read and were
    skipped. outputs (N, K) float32 and targets (N,) int64 or (N, K) float32: what the numbers were computed from.
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
        return self.accumulator.statistic(Collected).outputs

    @property
    def targets(self) -> Tensor:
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
        """Write evaluation.json, a CSV with a line for each class, label or target, and a picture into `folder`; their
        paths.

        Single-label: per_class.csv, confusion.csv (a row a true class, a column a predicted one) and confusion.png.
        Multi-label: per_label.csv and labels.png. Regression: per_target.csv and scatter.png. Raises TrainingError if
        the disk refuses.
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
            said = e.message if isinstance(e, TrainingError) else f"cannot make {self.folder}: {e.strerror or e}"
            raise TrainingError(
                said, "the numbers stand, but are not saved: free some space or allow writing there"
            ) from e
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
    """Measure the run's best weights in fp32.

    data: a folder of class folders, a table, or "digits"; None: the run's own validation images, found again by the
    recorded rule and seed. Classes, labels and targets are matched by name. split: the part of other data to take, a
    folder or a word of the split column. columns: of another table, where they are not called as in the run's. save:
    also write the files, into the run, or into RUN/evaluation-NAME for other data.

    Raises DataError (no such run or folder, classes that the model does not know, unreadable files if the run refuses
    them), UsageError (device, numbers), WeightsError (damaged run), TrainingError (the files cannot be written).
    """
    if batch_size < 1:
        raise UsageError(f"--batch-size {batch_size} is less than 1", "give 1 or more")
    if workers != "auto" and workers < 0:
        raise UsageError(f"--workers {workers} is less than 0", "give 0 or more, or auto")
    if data is None and (split is not None or columns != COLUMNS_OF_RUN):
        raise UsageError("a split and columns are of other data", "name it with --data")
    where = pick_device(device)
    loaded = load_run(run)
    source, images = _run_images(loaded) if data is None else _other_images(loaded, data, split, columns)
    loader = make_loader(
        images.source,
        preprocess=loaded.preprocess,
        batch_size=batch_size,
        train=False,
        augment=None,
        seed=0,
        workers=auto_workers(images.source) if workers == "auto" else workers,
        pin_memory=where.type == "cuda",
    )
    module, normalize = loaded.model.module.to(where), Normalize(loaded.preprocess).to(where)
    accumulator = evaluation_accumulator(loaded.task)
    with raise_on_oom(where, UsageError):
        for outputs, targets in forward_batches(module, track(loader, "evaluating"), normalize, device=where):
            accumulator.update(outputs, targets)
    result = EvaluationResult(
        evaluation=evaluation_of(accumulator, loaded.classes, loaded.task),
        data=source,
        rule=images.rule,
        folder=loaded.run.path if data is None else _folder_for(loaded.run.path, source),
        notes=tuple(n for n in (loaded.note, *images.notes) if n),
        skipped_files=(*images.skipped_files, *loader.problems),
        accumulator=accumulator,
    )
    if save:
        result.save()
    return result


@dataclass(frozen=True)
class _Images:
    source: ImageDataset
    rule: str
    notes: tuple[str, ...]
    skipped_files: tuple[BadFile, ...]


def _run_images(loaded: LoadedRun) -> tuple[str, _Images]:
    """The validation images of the run, by the rule that its training followed."""
    run_data = load_run_data(loaded.run)
    name = run_data.config.source
    data = open_data(
        _held_out_config(loaded.run, run_data),
        seed=run_data.seed,
        channels=loaded.preprocess.channels,
        expected_classes=loaded.classes,
        task=loaded.task,
    ).with_intensity_range(loaded.preprocess.levels)
    if run_data.fingerprint in (None, data.fingerprint()):
        return name, _Images(data.val, run_data.rule or data.rule, (), data.problems)
    # With the run's own list of them, held-out images are never ones that it learned from, however the data grow.
    has_split_file = loaded.run.split_file.is_file() and data.was_split
    risk = (
        "it is judged on those left that it held out"
        if has_split_file
        else "it may be judged on some that it learned from"
    )
    changed = f"the images of {name} have changed since the run: {risk}"
    notes = (changed, *(n for n in data.notes if n.startswith("split ")))
    return name, _Images(data.val, data.rule, notes, data.problems)


def _other_images(loaded: LoadedRun, name: str, split: str | None, columns: Columns) -> tuple[str, _Images]:
    run_data = load_run_data(loaded.run)
    same_source = run_data.config.source == name
    config = (
        _held_out_config(loaded.run, run_data) if same_source else DataConfig(unreadable=run_data.config.unreadable)
    )
    source, problems = open_eval(
        config.model_copy(
            update={
                "source": name,
                "image_column": columns.image or run_data.config.image_column,
                "label_column": columns.labels or run_data.config.label_column,
                "label_separator": columns.separator or run_data.config.label_separator,
                "split_column": columns.split or run_data.config.split_column,
            }
        ),
        loaded.classes,
        seed=run_data.seed if same_source else 0,
        channels=loaded.preprocess.channels,
        task=loaded.task,
        split=split,
    )
    source = source.with_intensity_range(loaded.preprocess.levels)
    if name == "digits":
        return name, _Images(source, f"the {len(source):,} images of digits that are held out", (), problems)
    path = Path(name).resolve()
    display_name = str(path) if path.exists() else name
    rule = f"all {len(source):,} images found" if split is None else f"the {len(source):,} images of {split}"
    notes = []
    if path == Path(run_data.config.source).resolve() and len(source) == run_data.images:
        notes.append("these are all images of the run, those it learned from included; leave --data out for the others")
    return display_name, _Images(source, rule, tuple(notes), problems)


def _held_out_config(run: Run, run_data: RunData) -> DataConfig:
    """The data of the run, split by its list of held-out images; without a list by its rule.

    Raises DataError if the list is missing and the split does not come from a rule.
    """
    config, own = run_data.config, run.split_file
    if own.is_file():
        return config.model_copy(update={"split": str(own), "folds": None, "fold": None})
    if config.split is not None:
        raise DataError(f"{own} is missing: it says what the run held out", "put it back, or name images with --data")
    return config


def _folder_for(run: Path, source: str) -> Path:
    """RUN/evaluation-NAME, with a number behind it if that is of another folder with the same name."""
    base = re.sub(r"[^\w.-]+", "_", Path(source).resolve().name).strip("._") or "data"
    number = 1
    while True:
        folder = run / (f"evaluation-{base}" if number == 1 else f"evaluation-{base}-{number}")
        before = folder / "evaluation.json"
        if not before.exists() or read_json(before).get("data") == source:
            return folder
        number += 1


def _write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    atomic_write(path, text.getvalue())
