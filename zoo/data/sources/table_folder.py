"""Table files, and folders that contain a table of their images or the shards of one.

- Hugging Face image folders: metadata.csv, .jsonl or .parquet with a column `file_name`, next to the images or in
  ROOT/train and ROOT/validation.
- Parquet shards: ROOT/train-00000-of-00002.parquet …, in ROOT itself, ROOT/data or ROOT/train. The split of a shard is
  the first word of its path that is the name of a split.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from zoo.data.dataset import SPLIT_NAMES, TRAIN_SPLIT_NAMES, VAL_SPLIT_NAMES
from zoo.data.decode.errors import is_image_name, printable
from zoo.data.schema.cells import TableReader
from zoo.data.sources.parquet import ParquetTable, is_parquet_name
from zoo.data.sources.scan import is_ignored, list_entries, split_in_path
from zoo.data.sources.source import require_path
from zoo.data.sources.table import TableSet, TabularSource
from zoo.data.sources.text_formats import JsonTable, ListTable, TextTable
from zoo.errors import DataError

_TEXT_EXTENSIONS = (".csv", ".tsv", ".tab")
_JSON_EXTENSIONS = (".jsonl", ".ndjson")
_LIST_EXTENSIONS = (".txt", ".lst", ".list")


def is_table_name(path: str) -> bool:
    """Whether only tables have this extension; a list of files (.txt) is excluded."""
    return _extension(path) in (*_TEXT_EXTENSIONS, *_JSON_EXTENSIONS) or is_parquet_name(path)


class TableSource(TabularSource):
    """A table file, or a list of files. It need not exist to match."""

    def matches(self, source: str) -> bool:
        path = os.path.expanduser(source)
        return (is_table_name(path) or _extension(path) in _LIST_EXTENSIONS) and not os.path.isdir(path)

    def open_tables(self, source: str) -> TableSet:
        path = require_path(source)
        return TableSet(os.path.splitext(os.path.basename(path))[0], source, {"": open_table(path)})


def open_table(path: str) -> TableReader:
    """The reader for the extension of `path`. Raises DataError if the file cannot be read."""
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


class TableFolderSource(TabularSource):
    """A folder with a metadata table or Parquet shards."""

    def matches(self, source: str) -> bool:
        root = os.path.expanduser(source)
        if not os.path.isdir(root):
            return False
        splits = _split_folders(root)
        train = _train_folder(splits)
        return bool(_metadata(root) or (train is not None and _metadata(train)) or _parquet_shards(root, splits))

    def open_tables(self, source: str) -> TableSet:
        """Raises DataError if the folder may be one of class folders too: two or more folders contain images."""
        root = os.path.expanduser(source)
        splits = _split_folders(root)
        train = _train_folder(splits)
        own = os.path.basename(os.path.abspath(root))
        if _metadata(root):
            return TableSet(own, root, {"": _open_metadata(root)})
        if train is not None and _metadata(train):
            first_val = next((n for n in VAL_SPLIT_NAMES if n in splits), None)
            wanted = [n for n in SPLIT_NAMES if n in splits and (n == first_val or _metadata(splits[n]))]
            return TableSet(own, root, {n: _open_metadata(splits[n]) for n in wanted})
        shards = _parquet_shards(root, splits)
        tables = {n: ParquetTable(f, name=f"{own}{n and f' ({n})'}", folder=root) for n, f in shards.items()}
        return TableSet(own, root, dict(tables))


def _split_folders(root: str) -> dict[str, str]:
    """Name in lower case -> path of each folder in `root`."""
    return {os.path.basename(folder).lower(): folder for folder in _folders(root)}


def _train_folder(folders: dict[str, str]) -> str | None:
    return next((folders[n] for n in TRAIN_SPLIT_NAMES if n in folders), None)


def _metadata(folder: str) -> list[str]:
    """Metadata tables in `folder` that have the column `file_name`."""
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
            f"{printable(folder)} contains {names}"
            if found
            else f"{printable(folder)} has no metadata.csv, but train has",
            "name one of them, as in --data FOLDER/metadata.csv"
            if found
            else "give a table for each of --data and --val",
        )
    classes = [f for f in _folders(folder) if _contains_images(f)]
    if len(classes) > 1 and not _contains_images(folder):
        names = ", ".join(printable(os.path.basename(f)) for f in classes[:3])
        raise DataError(
            f"{printable(folder)} contains {os.path.basename(found[0])} and class folders ({names} …): the labels may "
            "come from either",
            f"for the labels of the table give {printable(found[0])}; for class folders move the table away",
        )
    return open_table(found[0])


def _parquet_shards(root: str, folders: dict[str, str]) -> dict[str, list[str]]:
    """Split -> Parquet files; {} if there are none, or images next to them."""
    inner = [folder for name, folder in folders.items() if name in (*SPLIT_NAMES, "data")]
    files = sorted(p for folder in (root, *inner) for p in _files(folder) if is_parquet_name(p))
    if not files or any(_contains_images(f) for f in (root, *folders.values())):
        return {}
    by_split: dict[str, list[str]] = {}
    for path in files:
        by_split.setdefault(split_in_path(os.path.relpath(path, root)), []).append(path)
    if len(by_split) > 1:
        by_split.pop("", None)
    return by_split


def _folders(root: str) -> Iterator[str]:
    return (path for path in _entries(root) if os.path.isdir(path))


def _files(folder: str) -> Iterator[str]:
    return (path for path in _entries(folder) if os.path.isfile(path))


def _contains_images(folder: str) -> bool:
    return any(is_image_name(path) for path in _files(folder))


def _entries(folder: str) -> list[str]:
    return [e.path for e in list_entries(folder) if not is_ignored(e.name)]
