"""`zoo export`: write the best weights of a run as files that run without zoo.

exported = zoo.export("runs/resnet34-digits", format="safetensors")
timm.create_model(f"local-dir:{exported.folder}", pretrained=True)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zoo.console import note
from zoo.errors import UsageError, did_you_mean, nearest
from zoo.formats import FORMATS
from zoo.formats.folder import ExportResult, check_target, write_folder
from zoo.formats.spec import ExportSpec
from zoo.models import without_auxiliary
from zoo.recipe import data_source
from zoo.tasks import get_task
from zoo.workflows.load_run import LoadedRun, RunLike, load_run, open_run


def export(run: RunLike, format: str = "safetensors", output_dir: str | os.PathLike[str] | None = None) -> ExportResult:
    """Export the best weights of a run, and check that the exported model gives the same logits.

    Args:
        run: run directory, or the result of `zoo.finetune`. An unfinished run is exported with its best weights so far.
        format: name in `zoo.formats.FORMATS`.
        output_dir: folder for the files; None: RUN/export/FORMAT. An existing export is replaced.

    Raises:
        UsageError: no such format, or the folder is in use.
        DataError: no such run, or it has no weights yet.
        WeightsError: the run is damaged.
        ExportError: the files cannot be written, or give other logits.
    """
    if format not in FORMATS:
        hint = did_you_mean(nearest(format, FORMATS, n=1), more=f"known: {', '.join(FORMATS)}")
        raise UsageError(f"no export format named {format!r}", hint)
    write = FORMATS[format].load()
    opened = open_run(run)
    target = Path(output_dir) if output_dir is not None else opened.path / "export" / format
    check_target(target)
    loaded = load_run(opened)
    if loaded.note:
        note(loaded.note)
    return write_folder(_export_spec(loaded), format, write, target)


def _export_spec(loaded: LoadedRun) -> ExportSpec:
    model, info = without_auxiliary(loaded.model), loaded.run.info()
    facts = {}
    best = info.get("best")
    if isinstance(best, dict) and {"epoch", "value", "monitor"} <= best.keys():
        facts["best epoch"] = f"{best['epoch']}, validation {best['monitor']} {best['value']:.4g}"
    source = data_source(loaded.run.path)
    if source:
        facts["data"] = f"`{Path(source).name}`, {len(loaded.classes)} {get_task(loaded.task).outputs}"
    return ExportSpec(
        model=model,
        classes=loaded.classes,
        preprocess=loaded.preprocess,
        title=loaded.run.path.resolve().name,
        license=_license(model.weights.source, model.pretrained_cfg),
        facts=facts,
        task=loaded.task,
    )


def _license(source: str, model_config: dict[str, Any]) -> str | None:
    """The license of the pretrained weights, if the training started from them."""
    published = source.startswith(("hf-hub:", "builtin:", "pypi:", "http://", "https://"))
    value = model_config.get("license")
    return str(value) if published and value else None
