"""Which sources are tables: files, folders with a table in them, and Hugging Face data sets."""

from __future__ import annotations

import os

from zoo.data.folder import require_path
from zoo.data.hub_table import find_hub_tables, is_hub_name
from zoo.data.table_folder import find_tables
from zoo.data.table_set import TableSet
from zoo.data.tables import is_table, open_table

__all__ = ["open_tables"]


def open_tables(source: str) -> TableSet | None:
    """The tables that `source` stands for, None if it is no table. Raises DataError if they cannot be read."""
    if is_hub_name(source):
        return find_hub_tables(source)
    path = os.path.expanduser(source)
    if is_table(path):
        path = require_path(source)
        return TableSet(os.path.splitext(os.path.basename(path))[0], source, {"": open_table(path)})
    return find_tables(path) if os.path.isdir(path) else None
