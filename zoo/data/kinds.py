"""Every kind of data set but digits and class folders: what opens it, for training and for evaluation."""

from __future__ import annotations

from zoo.data.columns import UNNAMED, Columns
from zoo.data.decode import shown
from zoo.data.file_source import Found, Parts
from zoo.data.shard_names import is_shards, refuse_remote
from zoo.data.shards import shard_eval, shard_parts
from zoo.data.table_sources import open_tables
from zoo.data.tables import TABLES
from zoo.data.torchvision_sets import is_torchvision_name
from zoo.data.torchvision_source import torchvision_eval, torchvision_parts
from zoo.errors import UsageError
from zoo.tasks import TaskName, get_task

__all__ = ["open_found", "open_parts", "plain_task", "refuse_columns"]


def open_parts(
    source: str, val: str | None, *, columns: Columns, task: str, channels: int, skip_unreadable: bool
) -> Parts | None:
    """Training and validation images of tables (`table_sources`), shards and torchvision's data sets; None for others.

    Raises what those raise, and UsageError for what the kind does not have.
    """
    if is_torchvision_name(source):
        if val is not None:
            raise UsageError(f"{source} brings its own validation images, or is split", "leave --val out")
        refuse_columns(columns, source)
        return torchvision_parts(source, task=plain_task(task), channels=channels, skip_unreadable=skip_unreadable)
    refuse_remote(source)
    if is_shards(source):
        if columns.group is not None:
            raise UsageError(f"{shown(source)} has no columns, and so none of groups", "leave --group-column out")
        return shard_parts(source, val, columns=columns, task=task, channels=channels, skip_unreadable=skip_unreadable)
    tables = open_tables(source)
    if tables is None:
        return None
    other = None if val is None else open_tables(val)
    if val is not None and other is None:
        raise UsageError(f"{shown(source)} is a table, but --val {shown(val)} is none", "give a table for both")
    return tables.open(other, columns=columns, task=task, channels=channels, skip_unreadable=skip_unreadable)


def open_found(
    source: str,
    classes: tuple[str, ...],
    split: str | None,
    *,
    columns: Columns,
    task: TaskName,
    channels: int,
    skip_unreadable: bool,
) -> Found | None:
    """The images to evaluate on, of the same kinds."""
    if is_torchvision_name(source):
        return torchvision_eval(source, task=task, split=split, channels=channels, skip_unreadable=skip_unreadable)
    refuse_remote(source)
    if is_shards(source):
        return shard_eval(
            source, columns=columns, task=task, split=split, channels=channels, skip_unreadable=skip_unreadable
        )
    tables = open_tables(source)
    if tables is None:
        return None
    return tables.evaluate(
        classes, split, columns=columns, task=task, channels=channels, skip_unreadable=skip_unreadable
    )


def plain_task(task: str) -> TaskName:
    """Of data whose labels tell no task by themselves."""
    return "single-label" if task == "auto" else get_task(task).name


def refuse_columns(columns: Columns, source: str) -> None:
    """Raises UsageError if columns are named, of something that has none."""
    if columns != UNNAMED:
        raise UsageError(
            f"columns are those of a table, and {shown(source)} is none",
            f"leave the columns and the label separator out, or give {TABLES}",
        )
