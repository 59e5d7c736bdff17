"""One part of a torchvision data set: found or downloaded, and what it says of its files, labels and classes."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.catalog.user_file import cache_folder
from zoo.data.torchvision_sets import TorchvisionSet
from zoo.errors import DataError
from zoo.output import note

__all__ = ["classes_of", "download_folder", "files_of", "load", "size_of", "targets_of"]

Indices = NDArray[np.int64]


def download_folder(name: str) -> Path:
    return cache_folder() / "torchvision" / name


def load(source: str, name: str, known: TorchvisionSet, arguments: Mapping[str, Any]) -> Any:
    """The part that `arguments` ask for, downloaded if it is not there. Raises DataError."""
    from torchvision import datasets

    make, root = getattr(datasets, name, None), download_folder(name)
    if make is None:
        raise DataError(f"{source}: this version of torchvision has no {name}", "pip install -U torchvision")
    if name == "FakeData":
        return make(**arguments)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise DataError(f"cannot make {root}: {e.strerror or e}", "ZOO_CACHE=DIR names another place") from e
    has_download = "download" in _parameters(make)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            return make(root, **arguments, **({"download": False} if has_download else {}))
        except ImportError as e:
            raise _missing(source, e) from e
        except (RuntimeError, OSError, ValueError) as e:
            if "install" in str(e):
                raise _missing(source, e) from e
            if known.by_hand or not has_download:
                raise _by_hand(source, known, root, e) from e
        note(f"downloading {source} to {root} …")
        try:
            return make(root, **arguments, download=True)
        except ImportError as e:
            raise _missing(source, e) from e
        except (RuntimeError, OSError, ValueError) as e:  # urllib's errors are OSErrors
            raise DataError(
                f"{source} cannot be downloaded: {_said(e)}",
                f"try again with a connection to the internet, or put its files in {root} as torchvision has them",
            ) from e


def _parameters(make: Any) -> set[str]:
    """Of the class, and of those that it hands further arguments on to."""
    return {p for kind in make.__mro__[:-1] for p in inspect.signature(kind.__init__).parameters}


def _missing(source: str, error: Exception) -> DataError:
    return DataError(f"torchvision cannot read {source}: {_said(error)}", "install what it names, and try again")


def _by_hand(source: str, known: TorchvisionSet, root: Path, error: Exception) -> DataError:
    return DataError(
        f"{source} has to be downloaded by hand ({_said(error)})",
        f"see {known.by_hand or 'torchvision.org'}, and put the files in {root}",
    )


def _said(error: Exception) -> str:
    reason = getattr(error, "reason", None)  # of urllib's URLError
    return (str(reason or error).strip() or type(error).__name__).splitlines()[0]


def files_of(dataset: Any) -> list[str] | None:
    """The image files of a data set that is made of such, None of another. torchvision has no common name for them."""
    for name in ("samples", "_samples", "imgs", "_image_files", "_images"):
        found = getattr(dataset, name, None)
        if isinstance(found, Sequence) and len(found) == len(dataset) > 0:
            paths = [item[0] if isinstance(item, tuple) else item for item in found]
            if all(isinstance(path, str | Path) for path in paths):
                return [os.path.abspath(path) for path in paths]
    return None


def targets_of(dataset: Any) -> Indices:
    """The class number of every image; without decoding them all, where the data set has a list."""
    for name in ("targets", "labels", "_labels", "y"):
        found = getattr(dataset, name, None)
        if found is not None and len(found) == len(dataset):
            return np.asarray(found, np.int64).reshape(-1)
    samples = getattr(dataset, "_samples", None)
    if samples is not None and files_of(dataset) is not None:
        return np.array([int(target) for _, target in samples], np.int64)
    return np.array([int(dataset[i][1]) for i in range(len(dataset))], np.int64)


def classes_of(dataset: Any, count: int) -> tuple[str, ...]:
    """The names of the classes, numbers where there are none; different for each (ImageNet has two cranes)."""
    own = getattr(dataset, "classes", None) or getattr(dataset, "categories", None) or ()
    names = [", ".join(name) if isinstance(name, tuple) else str(name) for name in own]
    names += [str(i) for i in range(len(names), count)]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    return tuple(f"{name} ({i})" if name in twice else name for i, name in enumerate(names))


def size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
