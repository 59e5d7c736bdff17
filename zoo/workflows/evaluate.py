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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zoo import metrics, reports
from zoo.data import BadFile, ImageSource, auto_workers, make_loader, open_data, open_eval
from zoo.errors import TrainingError, UsageError
from zoo.files import read_json, write_json, write_text
from zoo.metrics import Evaluation
from zoo.output import track
from zoo.training.device import pick_device
from zoo.training.inference import Normalize, forward_all
from zoo.workflows.restore import Restored, RunLike, enough_memory, restore

__all__ = ["Evaluated", "evaluate"]


@dataclass(frozen=True)
class Evaluated:
    """What `evaluate` measured.

    data: what the user calls the images. rule: one sentence, which images these are. folder: where `save` writes.
    notes: sentences that a reader of the numbers should know. left_out: files that could not be read and were skipped.
    """

    evaluation: Evaluation
    data: str
    rule: str
    folder: Path
    notes: tuple[str, ...]
    left_out: tuple[BadFile, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "rule": self.rule,
            "notes": list(self.notes),
            "left_out": [{"path": b.path, "reason": b.reason} for b in self.left_out],
            **self.evaluation.to_dict(),
        }

    def save(self) -> tuple[Path, ...]:
        """Write evaluation.json, per_class.csv, confusion.csv and confusion.png into `folder`; their paths.

        confusion.csv: a row a true class, a column a predicted one. Raises TrainingError if the disk refuses.
        """
        found = self.evaluation
        header = ["class", "support", "precision", "recall", "f1"]
        scores = [[c.name, c.support, c.precision, c.recall, c.f1] for c in found.per_class]
        matrix = [[name, *row] for name, row in zip(found.classes, found.confusion, strict=True)]
        try:
            if not self.folder.is_dir():
                self.folder.mkdir()
            write_json(self.folder / "evaluation.json", self.to_dict())
            _write_csv(self.folder / "per_class.csv", [header, *scores])
            _write_csv(self.folder / "confusion.csv", [["true \\ predicted", *found.classes], *matrix])
            reports.confusion(found.confusion, found.classes, self.folder / "confusion.png")
        except (TrainingError, OSError) as e:
            said = e.message if isinstance(e, TrainingError) else f"cannot make {self.folder}: {e.strerror or e}"
            raise TrainingError(
                said, "the numbers stand, but are not saved: free some space or allow writing there"
            ) from e
        names = ("evaluation.json", "per_class.csv", "confusion.csv", "confusion.png")
        return tuple(self.folder / name for name in names)


def evaluate(
    run: RunLike,
    data: str | None = None,
    *,
    batch_size: int = 64,
    workers: int | Literal["auto"] = "auto",
    device: str = "auto",
    save: bool = True,
) -> Evaluated:
    """Measure the run's best weights in fp32.

    data: a folder of class folders or "digits"; None: the run's own validation images, found again by the recorded rule
    and seed. Classes are matched by name. save: also write the files, into the run, or into RUN/evaluation-NAME for
    other data.

    Raises DataError (no such run or folder, classes that the model does not know, unreadable files if the run refuses
    them), UsageError (device, numbers), WeightsError (damaged run), TrainingError (the files cannot be written).
    """
    if batch_size < 1:
        raise UsageError(f"--batch-size {batch_size} is less than 1", "give 1 or more")
    if workers != "auto" and workers < 0:
        raise UsageError(f"--workers {workers} is less than 0", "give 0 or more, or auto")
    where = pick_device(device)
    restored = restore(run)
    source, images = _own(restored) if data is None else _other(restored, data)
    loader = make_loader(
        images.source,
        preprocess=restored.preprocess,
        batch_size=batch_size,
        train=False,
        augment=None,
        seed=0,
        workers=auto_workers(images.source) if workers == "auto" else workers,
        pin=where.type == "cuda",
    )
    module, normalize = restored.model.module.to(where), Normalize(restored.preprocess).to(where)
    with enough_memory(where, batch_size):
        logits, targets = forward_all(module, track(loader, "evaluating"), normalize, device=where)
    result = Evaluated(
        evaluation=metrics.report(logits, targets, restored.classes),
        data=source,
        rule=images.rule,
        folder=restored.run.path if data is None else _folder_for(restored.run.path, source),
        notes=tuple(n for n in (restored.note, *images.notes) if n),
        left_out=(*images.left_out, *loader.problems),
    )
    if save:
        result.save()
    return result


@dataclass(frozen=True)
class _Images:
    source: ImageSource
    rule: str
    notes: tuple[str, ...]
    left_out: tuple[BadFile, ...]


def _own(restored: Restored) -> tuple[str, _Images]:
    """The validation images of the run, by the rule that its training followed."""
    recorded = restored.record.get("data") or {}
    name = str(recorded.get("source", "digits"))
    data = open_data(
        name,
        val=recorded.get("val"),
        val_fraction=float(recorded.get("val_fraction", 0.2)),
        seed=int(recorded.get("seed", 0)),
        channels=restored.preprocess.channels,
        unreadable=recorded.get("unreadable", "error"),
        expected_classes=restored.classes,
    )
    notes = []
    if recorded.get("fingerprint") not in (None, data.fingerprint()):
        notes.append(f"the images of {name} have changed since the run: it may be judged on some that it learned from")
    return name, _Images(data.val, data.rule, tuple(notes), data.problems)


def _other(restored: Restored, name: str) -> tuple[str, _Images]:
    recorded = restored.record.get("data") or {}
    source, problems = open_eval(
        name,
        restored.classes,
        channels=restored.preprocess.channels,
        val_fraction=float(recorded.get("val_fraction", 0.2)),
        seed=int(recorded.get("seed", 0)),
        unreadable=recorded.get("unreadable", "error"),
    )
    if name == "digits":
        return name, _Images(source, f"the {len(source):,} images of digits that are held out", (), problems)
    path = Path(name).resolve()
    notes = []
    everything = recorded.get("train_images", 0) + recorded.get("val_images", 0)
    if path == Path(str(recorded.get("source"))).resolve() and len(source) == everything:
        notes.append("these are all images of the run, those it learned from included; leave --data out for the others")
    return str(path), _Images(source, f"all {len(source):,} images found", tuple(notes), problems)


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
    write_text(path, text.getvalue())
