"""Class weights against class imbalance, from the training targets or from a file."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import UsageError, did_you_mean, nearest
from zoo.tasks import TaskName, get_task

KINDS = ("none", "balanced", "effective")
# The value of Cui et al. 2019 for ImageNet and iNaturalist (they try 0.9 to 0.9999): close to `balanced` below some
# hundred images per class, close to equal weights above some thousand.
BETA = 0.999
# Larger weights, of labels rarer than 1 in 101, would let a single image dominate a step.
LIMIT = 100.0

_Counts = NDArray[np.float64]


def class_weights(kind: str, targets: NDArray[Any], classes: Sequence[str], *, task: TaskName) -> Tensor | None:
    """(K,) float32 factors for the `classes`; None for the kind "none".

    | kind | single-label | multi-label: of the positives |
    |---|---|---|
    | balanced | N / (K·n), as in scikit-learn | (N - n) / n |
    | effective | (1 - β) / (1 - β^n), scaled to mean 1 | (1 - β^(N - n)) / (1 - β^n) |
    | a file | its numbers | its numbers |

    n is the number of training images of a class or label, N of all images, β is BETA (Cui et al. 2019, equation 2 and
    section 4.1). A class without images gets the largest weight of the others. Multi-label weights are limited to
    [1/LIMIT, LIMIT]; a label without positives gets 1. A file is a .json mapping of names to numbers, or a .csv or .tsv
    with the columns class and weight.

    targets: (N,) int64, or (N, K) 0 and 1; of masks, pixels are counted. Raises UsageError for regression, an unknown
    kind, or a file with problems.
    """
    if kind == "none":
        return None
    owner = get_task(task)
    if not owner.has_classes:
        raise UsageError(f"class weights need classes, and {task} has none", "leave --class-weights out")
    if kind not in KINDS:
        return torch.tensor(_from_file(kind, classes), dtype=torch.float32)
    if not owner.has_one_class_per_image:
        positives = np.asarray(targets, dtype=np.float64).reshape(-1, len(classes)).sum(0)
        weights = _of_positives(kind, positives, float(targets.size // len(classes)))
    else:
        numbers = np.asarray(targets).ravel()
        inside = numbers[(numbers >= 0) & (numbers < len(classes))]  # masks: the rest is ignored
        weights = _of_classes(kind, np.bincount(inside, minlength=len(classes)).astype(np.float64))
    return torch.from_numpy(weights).float()


def _of_classes(kind: str, counts: _Counts) -> _Counts:
    present = counts > 0
    weights = np.ones_like(counts)
    if not present.any():
        return weights
    if kind == "balanced":
        weights[present] = counts.sum() / (present.sum() * counts[present])
    else:
        weights[present] = 1 / _effective(counts[present])
    weights[~present] = weights[present].max()
    return weights if kind == "balanced" else weights / weights.mean()


def _of_positives(kind: str, positives: _Counts, total: float) -> _Counts:
    present = positives > 0
    weights = np.ones_like(positives)
    yes, no = positives[present], total - positives[present]
    weights[present] = no / yes if kind == "balanced" else _effective(no) / _effective(yes)
    return np.clip(weights, 1 / LIMIT, LIMIT)


def _effective(counts: _Counts) -> _Counts:
    """The effective number of images, (1 - β^n) / (1 - β)."""
    return np.asarray(-np.expm1(counts * math.log(BETA)) / (1 - BETA))


def _from_file(name: str, classes: Sequence[str]) -> list[float]:
    path = Path(name)
    if not path.is_file():
        raise UsageError(
            f"class weights {name!r} are not {', '.join(KINDS)} or a file",
            did_you_mean(nearest(name, KINDS, n=1), "a file is a .json mapping, or a .csv or .tsv of class and weight"),
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as e:
        raise UsageError(f"class weights {path} cannot be read: {(e.strerror or str(e)).lower()}") from e
    except UnicodeDecodeError as e:
        raise UsageError(f"class weights {path} are not UTF-8 text", "save the file again as UTF-8") from e
    readers = {".json": _read_json, ".csv": _read_table, ".tsv": _read_table}
    if path.suffix.lower() not in readers:
        raise UsageError(f"class weights {path} have the unknown type {path.suffix!r}", f"known: {', '.join(readers)}")
    pairs = readers[path.suffix.lower()](text, path)
    return _checked(pairs, path, classes)


def _read_json(text: str, path: Path) -> list[tuple[str, Any]]:
    try:
        found = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as e:
        raise UsageError(f"class weights {path} are not JSON: {e}", 'write {"cat": 1.0, "dog": 2.5}') from e
    if not isinstance(found, _Pairs):
        raise UsageError(f"class weights {path} are not a mapping of names", 'write {"cat": 1.0, "dog": 2.5}')
    return list(found)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with repeated names."""


def _read_table(text: str, path: Path) -> list[tuple[str, Any]]:
    header = text.partition("\n")[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ";" if ";" in header and "," not in header else ","
    try:
        rows = [
            [cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
        ]
    except csv.Error as e:
        raise UsageError(f"class weights {path} are not a table: {e}", "put quotes around names with commas") from e
    rows = [row for row in rows if any(row)]
    names = [cell.lower() for cell in rows[0]] if rows else []
    if "class" not in names or "weight" not in names:
        raise UsageError(f"class weights {path} have no columns class and weight", "write class,weight as first line")
    name, weight = names.index("class"), names.index("weight")
    return [(row[name], row[weight] if weight < len(row) else "") for row in rows[1:] if name < len(row)]


def _checked(pairs: list[tuple[str, Any]], path: Path, classes: Sequence[str]) -> list[float]:
    problems = []
    weights: dict[str, float] = {}
    for name, given in pairs:
        value = _number(given)
        if name not in classes:
            hint = did_you_mean(map(repr, nearest(name, classes, n=1)))
            problems.append(f"no class {name!r}" + (hint and f"; {hint}"))
        elif name in weights:
            problems.append(f"{name!r} is given twice")
        elif value is None:
            problems.append(f"{name!r} has the weight {given!r}: not a finite number from 0")
        weights.setdefault(name, 0.0 if value is None else value)
    missing = [name for name in classes if name not in weights]
    if missing:
        more = f", … ({len(missing):,} in all)" if len(missing) > 20 else ""
        problems.append(f"no weight for {', '.join(map(repr, missing[:20]))}{more}")
    if not problems and not any(weights.values()):
        problems.append("all weights are 0")
    if problems:
        listed = (
            problems[0] if len(problems) == 1 else f"{len(problems)} problems" + "".join(f"\n  - {p}" for p in problems)
        )
        raise UsageError(f"class weights {path}: {listed}", f"the classes are {_some(classes)}")
    return [weights[name] for name in classes]


def _number(given: Any) -> float | None:
    if isinstance(given, bool) or not isinstance(given, (int, float, str)):
        return None
    try:
        value = float(given)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _some(classes: Sequence[str]) -> str:
    return ", ".join(classes[:20]) + (", …" if len(classes) > 20 else "")
