"""`zoo export`: a run's best weights as files that run without zoo.

exported = zoo.export("runs/resnet34-digits", format="safetensors")
timm.create_model(f"local-dir:{exported.folder}", pretrained=True)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zoo.console import note
from zoo.errors import UsageError, nearest
from zoo.formats import FORMATS
from zoo.formats.folder import Exported, check_free, write_folder
from zoo.formats.spec import Subject
from zoo.models import without_auxiliary
from zoo.tasks import get_task
from zoo.workflows.load_run import Restored, RunLike, open_run, restore

__all__ = ["export"]


def export(run: RunLike, format: str = "safetensors", output_dir: str | os.PathLike[str] | None = None) -> Exported:
    """Write the run's best weights in `format` to `output_dir`, RUN/export/FORMAT by default, and check that they load.

    A run that has not finished is exported with its best weights so far. A former export in `output_dir` is replaced.
    Raises UsageError (no such format, the folder is in use), DataError (no such run, no weights yet), WeightsError
    (damaged run), ExportError (cannot be written, or does not give the same logits).
    """
    if format not in FORMATS:
        close = nearest(format, FORMATS, n=1)
        advice = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"no export format named {format!r}", f"{advice}known: {', '.join(FORMATS)}")
    write = FORMATS[format].load()
    opened = open_run(run)
    target = Path(output_dir) if output_dir is not None else opened.path / "export" / format
    check_free(target)
    restored = restore(opened)
    if restored.note:
        note(restored.note)
    return write_folder(_subject(restored), format, write, target)


def _subject(restored: Restored) -> Subject:
    model, info = without_auxiliary(restored.model), restored.run.info()
    facts = {}
    best = info.get("best")
    if isinstance(best, dict) and {"epoch", "value", "monitor"} <= best.keys():
        facts["best epoch"] = f"{best['epoch']}, validation {best['monitor']} {best['value']:.4g}"
    data = restored.record.get("data")
    if isinstance(data, dict) and data.get("source"):
        facts["data"] = f"`{Path(str(data['source'])).name}`, {len(restored.classes)} {get_task(restored.task).outputs}"
    return Subject(
        model=model,
        classes=restored.classes,
        preprocess=restored.preprocess,
        title=restored.run.path.resolve().name,
        licence=_licence(model.weights.source, model.pretrained_cfg),
        facts=facts,
        task=restored.task,
    )


def _licence(source: str, described: dict[str, Any]) -> str | None:
    """The licence that the description of the weights names, if it is those that the training started from."""
    published = source.startswith(("hf-hub:", "builtin:", "http://", "https://"))
    value = described.get("license")
    return str(value) if published and value else None
