"""Folders that hold a table of the images in them, or the shards of one.

- Hugging Face's image folders: a metadata.csv, .jsonl or .parquet with a column `file_name`, beside the images or in
  ROOT/train and ROOT/validation.
- Parquet shards: ROOT/train-00000-of-00002.parquet …, in ROOT itself, ROOT/data or ROOT/train. The part of a shard is
  the first word of its path that is the name of one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from zoo.data.dataset import SPLIT_NAMES, TRAIN_SPLIT_NAMES, VAL_SPLIT_NAMES
from zoo.data.decode.read import is_image_name, printable
from zoo.data.schema.cells import TableReader
from zoo.data.sources.parquet import ParquetTable, is_parquet_name
from zoo.data.sources.scan import is_ignored
from zoo.data.sources.table import TableSet
from zoo.data.sources.text_formats import JsonTable, ListTable, TextTable
from zoo.errors import DataError

__all__ = ["TABLES", "find_tables", "is_table", "is_table_name", "open_table"]

# As messages name them.
TABLES = "a table (.csv, .tsv, .jsonl, .parquet) or a list of files (.txt)"

_TEXT_EXTENSIONS = (".csv", ".tsv", ".tab")
_JSON_EXTENSIONS = (".jsonl", ".ndjson")
_LIST_EXTENSIONS = (".txt", ".lst", ".list")


def is_table_name(path: str) -> bool:
    """True for names that only tables have: no list of files, whose ending any text has."""
    return _extension(path) in (*_TEXT_EXTENSIONS, *_JSON_EXTENSIONS) or is_parquet_name(path)


def is_table(path: str) -> bool:
    """True for the path of a table or a list of files; it need not exist."""
    return (is_table_name(path) or _extension(path) in _LIST_EXTENSIONS) and not os.path.isdir(path)


def open_table(path: str) -> TableReader:
    """Raises DataError if it cannot be read as what its name says."""
    if is_parquet_name(path):
        return ParquetTable([path])
    if _extension(path) in _JSON_EXTENSIONS:
        return JsonTable(path)
    if _extension(path) in _LIST_EXTENSIONS:
        return ListTable(path)
    return TextTable(path)


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()


_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_COLUMN = "file_name"


def find_tables(root: str) -> TableSet | None:
    """The tables in the folder `root` that stand for it, None if there are none.

    Raises DataError if it may as well be a folder of class folders: two folders or more hold images directly.
    """
    parts = {os.path.basename(folder).lower(): folder for folder in _folders(root)}
    train = next((parts[n] for n in TRAIN_SPLIT_NAMES if n in parts), None)
    own = os.path.basename(os.path.abspath(root))
    if _metadata(root):
        return TableSet(own, root, {"": _open_metadata(root)})
    if train is not None and _metadata(train):
        first_val = next((n for n in VAL_SPLIT_NAMES if n in parts), None)
        wanted = [n for n in SPLIT_NAMES if n in parts and (n == first_val or _metadata(parts[n]))]
        return TableSet(own, root, {n: _open_metadata(parts[n]) for n in wanted})
    return _parquet_shards(root, own, parts)


def _metadata(folder: str) -> list[str]:
    """Tables in `folder` that are called metadata and have the column."""
    found = []
    for name in _METADATA:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and _has_column(path):
            found.append(path)
    return found


def _has_column(path: str) -> bool:
    if is_parquet_name(path):
        return _COLUMN in open_table(path).header
    with open(path, "rb") as f:
        return _COLUMN.encode() in f.readline(1 << 16)


def _open_metadata(folder: str) -> TableReader:
    found = _metadata(folder)
    if len(found) != 1:
        names = " and ".join(os.path.basename(path) for path in found)
        raise DataError(
            f"{printable(folder)} holds {names}"
            if found
            else f"{printable(folder)} holds no metadata.csv, as train does",
            "name one of them, as in --data FOLDER/metadata.csv" if found else "give --data and --val a table each",
        )
    classes = [f for f in _folders(folder) if _holds_images(f)]
    if len(classes) > 1 and not _holds_images(folder):
        names = ", ".join(printable(os.path.basename(f)) for f in classes[:3])
        raise DataError(
            f"{printable(folder)} holds {os.path.basename(found[0])} and folders of images ({names} …): the "
            "labels may be "
            "either's",
            f"for those of the table give {printable(found[0])}; for those of the folders move the table away",
        )
    return open_table(found[0])


def _parquet_shards(root: str, own: str, parts: dict[str, str]) -> TableSet | None:
    inner = [folder for name, folder in parts.items() if name in (*SPLIT_NAMES, "data")]
    files = sorted(p for folder in (root, *inner) for p in _files(folder) if is_parquet_name(p))
    if not files or any(_holds_images(f) for f in (root, *parts.values())):
        return None
    by_part: dict[str, list[str]] = {}
    for path in files:
        words = re.split(r"[^a-z]+", os.path.relpath(path, root).lower())
        by_part.setdefault(next((w for w in words if w in SPLIT_NAMES), ""), []).append(path)
    if len(by_part) > 1:
        by_part.pop("", None)
    return TableSet(
        own, root, {p: ParquetTable(f, name=f"{own}{p and f' ({p})'}", folder=root) for p, f in by_part.items()}
    )


def _folders(root: str) -> Iterator[str]:
    return (path for path in _entries(root) if os.path.isdir(path))


def _files(folder: str) -> Iterator[str]:
    return (path for path in _entries(folder) if os.path.isfile(path))


def _holds_images(folder: str) -> bool:
    return any(is_image_name(path) for path in _files(folder))


def _entries(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.path for e in entries if not is_ignored(e.name))
    except OSError as e:
        raise DataError(f"cannot read the folder {printable(folder)}: {(e.strerror or str(e)).lower()}") from e
