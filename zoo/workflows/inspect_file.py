"""`zoo inspect PATH`: contents of a weights file or run, and the matching architectures. Executes no code of it."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import DataError, ModelError, WeightsError, did_you_mean, nearest
from zoo.hub.hashes import sha256_of
from zoo.models.architectures import ArchitectureMatch, architectures_for
from zoo.models.contents import read_contents
from zoo.recipe import data_source
from zoo.run import Run


@dataclass(frozen=True)
class TensorSummary:
    """Statistics of a tensor. mean, std: over all elements (population std); None for an empty tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    mean: float | None
    std: float | None

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "shape": list(self.shape)}


def summarise(tensors: Mapping[str, Tensor]) -> tuple[TensorSummary, ...]:
    """One summary per tensor, in the given order."""
    return tuple(
        TensorSummary(
            name=name,
            shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            mean=float(tensor.detach().double().mean()) if tensor.numel() else None,
            std=float(tensor.detach().double().std(correction=0)) if tensor.numel() else None,
        )
        for name, tensor in tensors.items()
    )


# Share of common tensors below which an architecture is not reported.
_MIN_SHARE = 0.5
_STATISTICS = ("running_mean", "running_var")
_CLASSIFIER = re.compile(r"(?:^|\.)(?:fc|head|heads|classifier|logits|last_linear|linear)\b.*weight$")


@dataclass(frozen=True)
class RunSummary:
    """Summary of a run directory.

    Args:
        classes: class names in the order of the logits.
        best: {"epoch", "monitor", "value"} of the epoch of the saved weights; None before the first.
    """

    path: str
    status: str
    model: str
    source: str
    classes: tuple[str, ...]
    input_size: tuple[int, ...]
    data: str | None
    epochs_done: int | None
    epochs: int | None
    best: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "classes": list(self.classes), "input_size": list(self.input_size)}


@dataclass(frozen=True)
class FileSummary:
    """Contents of a weights file.

    Args:
        bytes: size of the file.
        format: "safetensors", "pytorch" (a zip archive) or "pytorch, legacy" (a plain pickle).
        wrapping: keys of the dictionaries around the tensors, outermost first.
        prefix: prefix that was removed from all tensor names.
        others: other entries of the file, name → type.
        metadata: of the safetensors header.
        tensors: number of tensors.
        params: number of parameters: elements of floating-point tensors without batch-norm statistics.
        dtypes: dtype → number of tensors.
        first, last: name and shape of the first and last tensor in the file.
        non_finite: names of tensors with NaN or infinity.
        classes, in_chans: number of logits and of image channels of the best match, or guessed from names and shapes;
            None if unknown.
        fits: matching architectures of the catalog, best first, with at least half of the tensors in common.
        summaries: of the requested tensors.
    """

    path: str
    bytes: int
    sha256: str
    format: str
    wrapping: tuple[str, ...]
    prefix: str
    others: dict[str, str]
    metadata: dict[str, str]
    tensors: int
    params: int
    dtypes: dict[str, int]
    first: tuple[str, tuple[int, ...]]
    last: tuple[str, tuple[int, ...]]
    non_finite: tuple[str, ...]
    classes: int | None
    in_chans: int | None
    fits: tuple[ArchitectureMatch, ...]
    run: RunSummary | None
    summaries: tuple[TensorSummary, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All fields, JSON-able."""
        return {
            **vars(self),
            "wrapping": list(self.wrapping),
            "first": {"name": self.first[0], "shape": list(self.first[1])},
            "last": {"name": self.last[0], "shape": list(self.last[1])},
            "non_finite": list(self.non_finite),
            "fits": [fit.to_dict() for fit in self.fits],
            "run": None if self.run is None else self.run.to_dict(),
            "summaries": [s.to_dict() for s in self.summaries],
        }


def is_weights_path(text: str) -> bool:
    """True if `text` is a path and not a model name. A model name has priority; `./resnet34` is always a path."""
    from zoo.catalog import find_weights
    from zoo.models.weight_files import SUFFIXES

    path = Path(text).expanduser()
    if text.startswith((".", "/", "~")) or text.endswith(("/", *SUFFIXES)):
        return True
    try:
        find_weights(text)
    except ModelError:
        return path.exists()
    return False


def inspect_file(path: str | Path, *, params: str | None = None, n: int = 3) -> FileSummary:
    """Contents of a weights file, run or exported folder, and the best matching architectures.

        zoo.inspect_file("runs/resnet34-photos").fits[0].names      # ('resnet34', 'torchvision/resnet34')

    Args:
        path: file or folder.
        params: path of a module or tensor to summarise.
        n: maximum number of matching architectures.

    Raises:
        WeightsError: the file is missing, damaged or would execute code.
        DataError: the run is damaged.
    """
    given = Path(path).expanduser()
    file, run = _locate(given)
    contents = read_contents(file)
    tensors = contents.tensors
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    fits = tuple(fit for fit in architectures_for(shapes, n) if fit.share >= _MIN_SHARE)
    names = list(shapes)
    modules = sorted({name.rpartition(".")[0] for name in names} | shapes.keys())
    return FileSummary(
        path=str(file),
        bytes=file.stat().st_size,
        sha256=sha256_of(file),
        format=_format(file),
        wrapping=contents.wrapping,
        prefix=contents.prefix,
        others=contents.others,
        metadata=contents.metadata,
        tensors=len(tensors),
        params=sum(t.numel() for n, t in tensors.items() if t.is_floating_point() and not n.endswith(_STATISTICS)),
        dtypes=dict(Counter(str(t.dtype).removeprefix("torch.") for t in tensors.values()).most_common()),
        first=(names[0], shapes[names[0]]),
        last=(names[-1], shapes[names[-1]]),
        non_finite=tuple(name for name, tensor in tensors.items() if not _finite(tensor)),
        classes=fits[0].classes if fits else _guess_classes(shapes),
        in_chans=fits[0].in_chans if fits else _guess_channels(shapes),
        fits=fits,
        run=None if run is None else _summarize_run(run),
        summaries=() if params is None else summarise(select_tensors(tensors, params, modules, "file")),
    )


def _locate(path: Path) -> tuple[Path, Run | None]:
    """The weights file at `path`, and its run if `path` is a run."""
    if not path.exists():
        raise WeightsError(f"no file or run {path}", "check the path; `zoo list` shows the models")
    if not path.is_dir():
        return path, None
    if (path / "run.json").is_file():
        run = Run.open(path)
        if not run.weights_file.is_file():
            raise WeightsError(
                f"{path} has no weights yet ({run.status})", f"continue it with `zoo finetune --resume {path}`"
            )
        return run.weights_file, run
    inside = path / "model.safetensors"
    if not inside.is_file():
        raise WeightsError(f"{path} is not a run and has no model.safetensors", "give a run directory or a file")
    return inside, None


def _summarize_run(run: Run) -> RunSummary:
    info, record = run.info(), run.model_record()
    model, best = record["model"], info.get("best")
    try:
        return RunSummary(
            path=str(run.path),
            status=run.status,
            model=str(model["name"]),
            source=str(model["source"]),
            classes=tuple(str(name) for name in record["classes"]),
            input_size=tuple(int(n) for n in record["preprocess"]["input_size"]),
            data=data_source(run.path),
            epochs_done=info.get("epochs_done"),
            epochs=info.get("epochs"),
            best=best if isinstance(best, dict) else None,
        )
    except (KeyError, TypeError, ValueError) as e:
        reason = f"{e} is missing" if isinstance(e, KeyError) else str(e)
        raise DataError(f"{run.model_file} is damaged: {reason}", "repeat the run with its recipe.yaml") from e


def _format(file: Path) -> str:
    if file.suffix == ".safetensors":
        return "safetensors"
    return "pytorch" if zipfile.is_zipfile(file) else "pytorch, legacy"


def _finite(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    # isfinite does not support 8-bit floats.
    return bool(torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor).all())


def _guess_classes(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Rows of the last matrix with the name of a classifier."""
    rows = [shape[0] for name, shape in shapes.items() if len(shape) in (2, 4) and _CLASSIFIER.search(name)]
    return rows[-1] if rows else None


def _guess_channels(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Input channels of the first convolution with a kernel larger than 1."""
    return next((s[1] for s in shapes.values() if len(s) == 4 and s[2] > 1), None)


def select_tensors(tensors: Mapping[str, Tensor], path: str, modules: Sequence[str], where: str) -> dict[str, Tensor]:
    """The tensors of the module at `path`, or the one of that name. Raises ModelError if there are none.

    modules: paths of all modules. where: "file" or "model".
    """
    found = {name: t for name, t in tensors.items() if name == path or name.startswith(f"{path}.")}
    if found:
        return found
    top = ", ".join(dict.fromkeys(name.partition(".")[0] for name in tensors))
    if path in modules:
        raise ModelError(f"module {path!r} has no tensors", f"modules with tensors: {top}")
    hint = did_you_mean(nearest(path, modules), more=f"its modules: {top}")
    raise ModelError(f"no module or tensor {path!r} in the {where}", hint)
