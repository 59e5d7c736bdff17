"""torchvision's classification data sets: `torchvision:CIFAR10`, downloaded to $ZOO_CACHE/torchvision/CIFAR10.

Image files are read and decoded by zoo. Images from arrays are taken as torchvision returns them, and handled as
uncompressed files. Classes are in torchvision's order.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.arrays import Indices
from zoo.cache import kind_folder, touch
from zoo.console import note
from zoo.data.dataset import VAL_SPLIT_NAMES, BadFile, StringTable, flips_safe
from zoo.data.file_dataset import FileDataset
from zoo.data.packed_files import BadMember, StoredImages
from zoo.data.schema.labels import from_classes
from zoo.data.sources.scan import file_size
from zoo.data.sources.source import EvalImages, OpenOptions, Source, SourceSplits, describe_given_splits
from zoo.data.sources.torchvision_sets import TorchvisionSet, find_set, is_torchvision_name
from zoo.data.validate import raise_if_any, verify_dataset
from zoo.errors import DataError, UsageError
from zoo.tasks import TaskName


def download_folder(name: str) -> Path:
    return kind_folder("torchvision") / name


def load_dataset(source: str, name: str, known: TorchvisionSet, arguments: Mapping[str, Any]) -> Any:
    """torchvision's data set for `arguments`, downloaded if necessary. Raises DataError."""
    from torchvision import datasets

    make, root = getattr(datasets, name, None), download_folder(name)
    if make is None:
        raise DataError(f"{source}: the installed torchvision has no {name}", "pip install -U torchvision")
    if name == "FakeData":
        return make(**arguments)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise DataError(f"cannot create {root}: {e.strerror or e}", "set ZOO_CACHE=DIR to use another folder") from e
    touch(root)
    has_download = "download" in _parameters(make)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            return make(root, **arguments, **({"download": False} if has_download else {}))
        except ImportError as e:
            raise _missing(source, e) from e
        except (RuntimeError, OSError, ValueError) as e:
            if "install" in str(e):
                raise _missing(source, e) from e
            if known.manual_download or not has_download:
                raise _manual_download_error(source, known, root, e) from e
        note(f"downloading {source} to {root} …")
        try:
            return make(root, **arguments, download=True)
        except ImportError as e:
            raise _missing(source, e) from e
        except (RuntimeError, OSError, ValueError) as e:  # urllib's errors are OSErrors
            raise DataError(
                f"{source} cannot be downloaded: {_error_text(e)}",
                f"check the internet connection, or put its files into {root} as torchvision expects them",
            ) from e


def _parameters(make: Any) -> set[str]:
    """Parameters of the class and its base classes."""
    return {p for kind in make.__mro__[:-1] for p in inspect.signature(kind.__init__).parameters}


def _missing(source: str, error: Exception) -> DataError:
    return DataError(
        f"torchvision cannot read {source}: {_error_text(error)}", "install the package that it names, and try again"
    )


def _manual_download_error(source: str, known: TorchvisionSet, root: Path, error: Exception) -> DataError:
    return DataError(
        f"{source} must be downloaded manually ({_error_text(error)})",
        f"see {known.manual_download or 'torchvision.org'}, and put the files into {root}",
    )


def _error_text(error: Exception) -> str:
    reason = getattr(error, "reason", None)  # of urllib's URLError
    return (str(reason or error).strip() or type(error).__name__).splitlines()[0]


def image_files(dataset: Any) -> list[str] | None:
    """The image files of a data set, None if it has none. torchvision has no common attribute for them."""
    for name in ("samples", "_samples", "imgs", "_image_files", "_images"):
        found = getattr(dataset, name, None)
        if isinstance(found, Sequence) and len(found) == len(dataset) > 0:
            paths = [item[0] if isinstance(item, tuple) else item for item in found]
            if all(isinstance(path, str | Path) for path in paths):
                return [os.path.abspath(path) for path in paths]
    return None


def read_targets(dataset: Any) -> Indices:
    """(N,) class indices, without decoding the images if the data set has a list."""
    for name in ("targets", "labels", "_labels", "y"):
        found = getattr(dataset, name, None)
        if found is not None and len(found) == len(dataset):
            return np.asarray(found, np.int64).reshape(-1)
    samples = getattr(dataset, "_samples", None)
    if samples is not None and image_files(dataset) is not None:
        return np.array([int(target) for _, target in samples], np.int64)
    return np.array([int(dataset[i][1]) for i in range(len(dataset))], np.int64)


def class_names(dataset: Any, count: int) -> tuple[str, ...]:
    """Class names, or numbers if there are none; made unique (ImageNet has two classes named crane)."""
    own = getattr(dataset, "classes", None) or getattr(dataset, "categories", None) or ()
    names = [", ".join(name) if isinstance(name, tuple) else str(name) for name in own]
    names += [str(i) for i in range(len(names), count)]
    repeated = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    return tuple(f"{name} ({i})" if name in repeated else name for i, name in enumerate(names))


class TorchvisionSource(Source):
    """`torchvision:NAME`, or `torchvision:NAME:VARIANT`."""

    def matches(self, source: str) -> bool:
        return is_torchvision_name(source)

    def open_train(self, source: str, val: str | None, options: OpenOptions) -> SourceSplits:
        if val is not None:
            raise UsageError(f"{source} brings its own validation images, or is split", "omit --val")
        task = options.class_task
        name, known, _ = find_set(source)
        train_split, val_split = next(iter(known.splits)), _val_split(known)
        train, problems = _read(source, train_split, options)
        held_out: FileDataset | None = None
        rule = ""
        if val_split is not None:
            held_out, more = _read(source, val_split, options)
            problems += more
            rule = describe_given_splits(train, f"of {source}", held_out, f"of its split {val_split}")
        present = _present_classes(train, held_out)
        unused = [split for split in known.splits if split not in (val_split, train_split)]
        return SourceSplits(
            name=name,
            where=source,
            task=task,
            train=_with_classes(train, present, task),
            val=None if held_out is None else _with_classes(held_out, present, task),
            rule=rule,
            problems=problems,
            notes=(f"not used: split {', '.join(unused)} of {source}",) if unused else (),
            flips_ok=known.flips_ok and flips_safe(train.classes),
        )

    def open_eval(self, source: str, split: str | None, classes: tuple[str, ...], options: OpenOptions) -> EvalImages:
        _, known, _ = find_set(source)
        chosen = _val_split(known) or next(iter(known.splits))
        if split is not None:
            chosen = split.lower()
            if chosen not in known.splits:
                has = ", ".join(filter(None, known.splits)) or "no splits"
                raise DataError(f"{source} has no split {split!r}", f"it has {has}")
        found, bad = _read(source, chosen, options)
        return EvalImages(_with_classes(found, _present_classes(found), options.class_task), bad)


def _present_classes(*sources: FileDataset | None) -> Indices:
    """Class indices that occur in the targets, in rising order."""
    return np.unique(np.concatenate([np.asarray(s.targets, np.int64) for s in sources if s is not None]))


def _val_split(known: TorchvisionSet) -> str | None:
    return next((name for name in VAL_SPLIT_NAMES if name in known.splits), None)


def _with_classes(source: FileDataset, present: Indices, task: TaskName) -> FileDataset:
    """`source` with the classes `present` only, as targets of `task`."""
    numbers = np.searchsorted(present, np.asarray(source.targets, np.int64))
    classes = tuple(source.classes[i] for i in present.tolist())
    targets, classes = from_classes(numbers, classes, task, source.name)
    return replace(source, targets=targets, classes=classes)


@dataclass(frozen=True)
class TorchvisionImages(StoredImages):
    """The images at `rows` (N,) of a torchvision `dataset`."""

    dataset: Any
    rows: Indices

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Indices) -> TorchvisionImages:
        return replace(self, rows=self.rows[rows])

    def read_file_bytes(self, row: int) -> bytes:
        """Raises BadMember."""
        try:
            image = self.dataset[int(self.rows[row])][0]
            if not isinstance(image, Image.Image):
                raise BadMember(f"torchvision returns a {type(image).__name__}, not an image")
            return _encode(image)
        except (OSError, SyntaxError, IndexError, KeyError, RuntimeError) as e:
            raise BadMember(str(e) or type(e).__name__) from e

    def content_version(self, row: int) -> int:
        return 0  # torchvision verifies checksums


def _encode(image: Image.Image) -> bytes:
    """The bytes of its file if it has one, else of an uncompressed file."""
    path = getattr(image, "filename", "")
    if path:
        with open(path, "rb") as f:
            return f.read()
    file = io.BytesIO()
    if image.mode in ("L", "RGB"):
        image.save(file, "PPM")
    elif image.mode == "CMYK":
        image.save(file, "TIFF")
    else:
        image.save(file, "PNG", compress_level=0)
    return file.getvalue()


def _read(source: str, split: str, options: OpenOptions) -> tuple[FileDataset, tuple[BadFile, ...]]:
    """(images of one split, files left out)."""
    name, known, extra = find_set(source)
    dataset = load_dataset(source, name, known, {**known.splits[split], **extra})
    files = image_files(dataset)
    root = f"{source}/{split}".rstrip("/")
    if files is None:
        names, sizes = StringTable(f"{i}" for i in range(len(dataset))), np.zeros(len(dataset), np.int64)
        stored = TorchvisionImages(dataset, np.arange(len(dataset)))
    else:
        root = str(download_folder(name))
        names = StringTable(os.path.relpath(f, root) for f in files)
        sizes, stored = np.array([file_size(f) for f in files], np.int64), None
    targets = read_targets(dataset)
    found = FileDataset(
        name=source,
        root=root,
        classes=class_names(dataset, int(targets.max(initial=0)) + 1),
        names=names,
        targets=targets,
        sizes=sizes,
        channels=options.channels,
        skip_unreadable=options.skip_unreadable,
        labels_in_names=False,
        packed=stored,
    )
    if stored is not None:  # mostly arrays, which cannot be damaged
        return found, ()
    readable, bad = verify_dataset(found)
    if not options.skip_unreadable:
        raise_if_any(bad)
    return readable, tuple(bad)
