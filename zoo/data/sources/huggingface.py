"""Hugging Face data sets as tables: `hf:NAME`, `hf:NAME:CONFIG`, and `hf:PATH` of a local one.

Names are looked up on the hub, or in the library's cache ($HF_HOME) when offline. A path is a folder written by
`save_to_disk`, or one that `load_dataset` can read (imagefolder, parquet …). Code of a data set is never run: the
library cannot do so since version 4. Images are read as stored files, and decoded by zoo.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from zoo.arrays import Indices
from zoo.data.decode.errors import printable
from zoo.data.packed_files import BadMember, StoredImages
from zoo.data.schema.arrow import ArrowColumns
from zoo.data.schema.cells import StoredRows
from zoo.data.sources.scan import file_size
from zoo.data.sources.source import require_path
from zoo.data.sources.table import TableSet, TabularSource
from zoo.data.sources.text_formats import BLOCK
from zoo.errors import DataError, UsageError

_PREFIX = "hf:"


class HuggingFaceSource(TabularSource):
    """`hf:NAME`, a table for each split."""

    def matches(self, source: str) -> bool:
        return source.startswith(_PREFIX)

    def open_tables(self, source: str) -> TableSet:
        name = source.removeprefix(_PREFIX)
        if not name:
            raise UsageError(f"{source} has no name", "give hf:OWNER/NAME, hf:OWNER/NAME:CONFIG or hf:PATH")
        try:
            import datasets
        except ImportError:
            raise DataError(
                f"{source} needs the library datasets of Hugging Face, which is not installed",
                "pip install 'zoo[hf]', or pip install datasets",
            ) from None
        path = require_path(name) if name.startswith((".", "~", os.sep)) else name
        is_path = os.path.exists(path)
        found = _from_disk(path, source) if is_path else _by_name(name, source)
        own = os.path.basename(os.path.abspath(path)) if is_path else name.replace("/", "-").replace(":", "-")
        splits = found if isinstance(found, datasets.DatasetDict) else {"": found}
        tables = {str(n).lower(): HubTable(rows, own, source, str(n)) for n, rows in splits.items()}
        return TableSet(own, source, dict(tables))


class HubTable:
    """A `datasets.Dataset` as a table. Rows count from 1; a stored image is named "SOURCE/SPLIT/row 12"."""

    unit = "row"

    def __init__(self, rows: Any, name: str, source: str, split: str) -> None:
        from datasets import Image

        self.name = f"{name} ({split})" if split else name
        self.folder = os.path.join(source, split) if split else source
        for column, feature in rows.features.items():
            if isinstance(feature, Image):
                rows = rows.cast_column(column, Image(decode=False))
        self._rows = rows
        self._columns = ArrowColumns.of(rows.features.arrow_schema, rows.features.to_dict())
        self.header = self._columns.header
        self.classes = frozenset(self._columns.names)
        self.images: Mapping[str, Callable[[Indices], StoredRows]] = {
            column: partial(self._stored, column) for column in self._columns.images
        }
        if not len(rows):
            raise DataError(f"{self.name} of {source} has no rows", "choose another split or data set")

    def blocks(self) -> Iterator[tuple[Sequence[int], list[Sequence[str]]]]:
        wanted = self._columns.readable
        start = 0
        if not wanted:
            for start in range(0, len(self._rows), BLOCK):
                numbers = list(range(start + 1, min(start + BLOCK, len(self._rows)) + 1))
                yield numbers, self._columns.cells(None, [f"row {n}" for n in numbers])
            return
        for table in self._rows.select_columns(wanted).with_format("arrow").iter(BLOCK):
            numbers = list(range(start + 1, start + table.num_rows + 1))
            yield numbers, self._columns.cells(table, [f"row {n}" for n in numbers])
            start += table.num_rows

    def _stored(self, column: str, rows: Indices) -> StoredRows:
        images = HubImages(self._rows.select_columns([column]), column, rows - 1)
        return StoredRows(images, self._sizes(column)[rows - 1])

    def _sizes(self, column: str) -> Indices:
        """Size in bytes of every image, from the offsets alone, without reading the bytes. 0 where unknown."""
        from pyarrow import compute, types

        sizes = []
        for table in self._rows.select_columns([column]).with_format("arrow").iter(BLOCK):
            chunk = table.column(column).combine_chunks()
            is_struct = types.is_struct(chunk.type)
            found = compute.binary_length(chunk.field("bytes") if is_struct else chunk).fill_null(0)
            lengths = found.to_numpy(zero_copy_only=False).astype(np.int64)
            if is_struct and not lengths.all():
                paths = chunk.field("path").to_pylist()
                for i in np.flatnonzero(lengths == 0).tolist():
                    lengths[i] = file_size(paths[i] or "")
            sizes.append(lengths)
        return np.concatenate(sizes)


@dataclass(frozen=True)
class HubImages(StoredImages):
    """The images in `column` of `dataset` at `rows` (N,)."""

    dataset: Any
    column: str
    rows: Indices

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Indices) -> HubImages:
        return replace(self, rows=self.rows[rows])

    def read_file_bytes(self, row: int) -> bytes:
        """Raises BadMember."""
        data, path = self._item(row)
        if data is not None:
            return data
        if not path:
            raise BadMember("no image: the cell is empty (null)")
        try:
            with open(path, "rb") as f:
                return f.read()
        except OSError as e:
            raise BadMember(f"{path}: {(e.strerror or str(e)).lower()}") from e

    def content_version(self, row: int) -> int:
        _, path = self._item(row)
        try:
            return os.stat(path or "").st_mtime_ns
        except OSError:  # stored in the data set, whose fingerprint changes with its contents
            return int(self.dataset._fingerprint[:15], 16)

    def _item(self, row: int) -> tuple[bytes | None, str | None]:
        value = self.dataset[int(self.rows[row])][self.column]
        if isinstance(value, dict):
            return value.get("bytes"), value.get("path")
        return value, None


def _from_disk(path: str, source: str) -> Any:
    import datasets

    saved = ("dataset_dict.json", "state.json")
    try:
        if any(os.path.isfile(os.path.join(path, name)) for name in saved):
            return datasets.load_from_disk(path)
        return datasets.load_dataset(path)
    except _library_errors() as e:
        raise DataError(
            f"datasets {datasets.__version__} cannot read {printable(source)}: {_first_line(e)}",
            "give a folder written by save_to_disk, or one of images or Parquet files",
        ) from e


def _by_name(name: str, source: str) -> Any:
    import datasets
    from huggingface_hub.errors import HFValidationError

    repo, _, config = name.partition(":")
    try:
        return datasets.load_dataset(repo, config or None)
    except datasets.exceptions.DatasetNotFoundError as e:
        if "gated" in str(e):
            raise DataError(
                f"{source} is gated: its owner grants access per account",
                f"request access on https://huggingface.co/datasets/{repo}, then run `hf auth login`",
            ) from e
        raise DataError(
            f"{source}: not found on the Hugging Face Hub, or private",
            "check the name; for a private data set run `hf auth login`; for a local one give its path",
        ) from e
    except HFValidationError as e:
        raise DataError(
            f"{source}: no such path, and not a valid name on the Hugging Face Hub", "give OWNER/NAME or a path"
        ) from e
    except ConnectionError as e:
        offline = datasets.config.HF_HUB_OFFLINE
        raise DataError(
            f"{source} is not in the cache, and the Hugging Face Hub "
            + ("is offline (HF_HUB_OFFLINE is set)" if offline else f"cannot be reached: {_first_line(e)}"),
            "unset HF_HUB_OFFLINE to download it" if offline else "check the internet connection and try again",
        ) from e
    except _library_errors() as e:
        what = _first_line(e)
        missing = "config name is missing" in what.lower()
        listed = str(e).partition("[")[2].partition("]")[0].replace("'", "")
        raise DataError(
            f"{source} has several configurations: {listed}" if missing else f"{source} cannot be loaded: {what}",
            f"name one, as hf:{repo}:{listed.split(',')[0]}"
            if missing
            else "try `datasets.load_dataset` with this name",
        ) from e


def _library_errors() -> tuple[type[Exception], ...]:
    """The errors that `datasets` raises for data that it cannot read."""
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    library = (pa.ArrowException, DatasetsError)
    return (OSError, ValueError, KeyError, TypeError, NotImplementedError, RuntimeError, *library)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
