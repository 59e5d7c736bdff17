"""Which paths are tables, and how each is opened."""

from __future__ import annotations

import os

from zoo.data.cells import Cells
from zoo.data.json_table import JsonTable
from zoo.data.list_table import ListTable
from zoo.data.parquet_table import ParquetTable, is_parquet_name
from zoo.data.text_table import TextTable

__all__ = ["TABLES", "is_table", "is_table_name", "open_table"]

# As messages name them.
TABLES = "a table (.csv, .tsv, .jsonl, .parquet) or a list of files (.txt)"

_TEXT = (".csv", ".tsv", ".tab")
_JSON = (".jsonl", ".ndjson")
_LISTS = (".txt", ".lst", ".list")


def is_table_name(path: str) -> bool:
    """True for names that only tables have: no list of files, whose ending any text has."""
    return _ending(path) in (*_TEXT, *_JSON) or is_parquet_name(path)


def is_table(path: str) -> bool:
    """True for the path of a table or a list of files; it need not exist."""
    return (is_table_name(path) or _ending(path) in _LISTS) and not os.path.isdir(path)


def open_table(path: str) -> Cells:
    """Raises DataError if it cannot be read as what its name says."""
    if is_parquet_name(path):
        return ParquetTable([path])
    if _ending(path) in _JSON:
        return JsonTable(path)
    if _ending(path) in _LISTS:
        return ListTable(path)
    return TextTable(path)


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()
