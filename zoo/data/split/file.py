"""Split files: the names of the validation images, one per line, so that other trainings can reuse the split.

    # zoo split: the validation images, one name per line, relative to the root of the data
    # images: 8 for training, 2 for validation
    cat/003.jpg
    dog/017.jpg

Names are relative to the root of the data, which may move. Images that are not named are for training. Lines starting
with "#" are comments; the line with the counts is read if present. A name is written as a JSON string if it contains a
line break or invalid UTF-8, starts with "#" or a quotation mark, or has leading or trailing spaces.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.data.dataset import Data, ImageDataset
from zoo.errors import DataError

SPLIT_FILE = "split.txt"  # in a run's directory

_HEADER = "# zoo split: the validation images, one name per line, relative to the root of the data"
_COUNTS = re.compile(r"# images: (\d+) for training, (\d+) for validation")
_FORMAT_HINT = "a split is a text file with the name of a validation image on each line, or a run that made one"


@dataclass(frozen=True)
class SplitFile:
    """path: path of the file. names: names of the validation images. n_train: recorded number of training images."""

    path: str
    names: frozenset[str]
    n_train: int | None

    def apply(self, source: ImageDataset) -> tuple[NDArray[np.bool_], str]:
        """(N,) whether each image of `source` is held out, and a message about changes since then, or "".

        Raises DataError if no image is named, or every image is.
        """
        held_out = np.fromiter((name in self.names for name in source.names), np.bool_, len(source))
        found = int(np.count_nonzero(held_out))
        if not found:
            example = min(self.names)
            raise DataError(
                f"{self.path} is no split of {source.name}: none of its {len(self.names):,} names is that of an image "
                f"there (it says {example!r}, the data {source.names[0]!r})",
                "names start from the root of the data: give the folder or table that the split was made of",
            )
        if found == len(source):
            raise DataError(
                f"{self.path} names every image of {source.name}: none is left for training",
                "give the data that the split was made of",
            )
        changes = []
        if found < len(self.names):
            changes.append(f"{len(self.names) - found:,} of its {len(self.names):,} images are not there any more")
        n_train = len(source) - found
        if self.n_train is not None and n_train != self.n_train:
            kind = "more" if n_train > self.n_train else "fewer"
            changes.append(f"{abs(n_train - self.n_train):,} images {kind} than when it was made are for training")
        return held_out, f"split {self.path}: {', and '.join(changes)}" if changes else ""


def split_text(data: Data) -> str:
    """The content of a split file for `data`."""
    counts = f"# images: {len(data.train)} for training, {len(data.val)} for validation"
    return "\n".join([_HEADER, counts, *map(_format_name, data.val.names), ""])


def read_split(where: str | os.PathLike[str]) -> SplitFile:
    """Read the split file of a run or at the path `where`. Raises DataError if it is missing or invalid."""
    path = Path(where)
    if path.is_dir():
        if not (path / SPLIT_FILE).is_file():
            is_run = (path / "run.json").is_file()
            raise DataError(
                f"{path} holds no {SPLIT_FILE}"
                + (": its validation images were given, not split off" if is_run else ""),
                "give the same --data and --val again" if is_run else _FORMAT_HINT,
            )
        path = path / SPLIT_FILE
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"no such split: {path}", _FORMAT_HINT) from None
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is no split: it is not UTF-8 text", _FORMAT_HINT) from e
    except OSError as e:
        raise DataError(f"cannot read the split {path}: {(e.strerror or str(e)).lower()}", _FORMAT_HINT) from e
    counts = _COUNTS.search(text)
    names = frozenset(_names(text.split("\n"), path))
    if not names:
        raise DataError(f"{path} is no split: it names no image", _FORMAT_HINT)
    return SplitFile(str(path), names, int(counts[1]) if counts else None)


def _names(lines: Iterable[str], path: Path) -> Iterable[str]:
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith('"'):
            yield line
            continue
        try:
            name = json.loads(line)
        except ValueError as e:
            raise DataError(f"{path}, line {number}: a quoted name that is no JSON string: {e}", _FORMAT_HINT) from e
        yield str(name)


def _format_name(name: str) -> str:
    plain = name.isprintable() and name == name.strip() and not name.startswith(("#", '"'))
    return name if plain else json.dumps(name)
