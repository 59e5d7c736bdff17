"""The interface of a kind of data source, and what opening one takes and returns."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.data.dataset import BadFile, ImageDataset
from zoo.data.decode.errors import printable
from zoo.data.file_dataset import FileDataset, relabel
from zoo.data.listing import ListedSplit, Listing
from zoo.data.schema.columns import UNNAMED, Columns
from zoo.data.schema.labels import format_list
from zoo.data.sources.registry import SOURCES, describe_sources
from zoo.errors import DataError, UsageError, did_you_mean, nearest
from zoo.tasks import DEFAULT_TASK, TaskName, get_task

_REMOTE = re.compile(r"^(pipe|[a-z][a-z0-9+.-]+:/)[/:]")


@dataclass(frozen=True)
class OpenOptions:
    """How a source is opened.

    Args:
        task: name of a task, or "auto": inferred from the labels of a table, single-label for other sources.
        columns: names of a table's columns.
        channels: input channels of the model.
        skip_unreadable: skip unreadable files; False: DataError if there are any.
    """

    task: str = "auto"
    columns: Columns = UNNAMED
    channels: int = 3
    skip_unreadable: bool = False

    @property
    def class_task(self) -> TaskName:
        """The task of a source with class names only."""
        return DEFAULT_TASK.name if self.task == "auto" else get_task(self.task).name


@dataclass(frozen=True)
class EvalImages:
    """Images to evaluate on.

    Args:
        source: the readable images.
        problems: files left out.
        held_out_only: evaluate on the validation split that training would make, not on all images.
    """

    source: ImageDataset
    problems: tuple[BadFile, ...] = ()
    held_out_only: bool = False


@dataclass(frozen=True)
class SourceSplits:
    """The training and validation images of a source.

    Args:
        name: name of the data set.
        where: the source in messages.
        task: task of the targets.
        train: training images, or all images if `val` is None.
        val: validation images; None if the source has no validation split.
        rule: a sentence on the two splits; "" without `val`.
        problems: files left out.
        notes: what was ignored or assumed.
        flips_ok: whether a horizontal flip keeps the label, as far as the class names tell.
        useful_size: size in pixels above which a larger input gains nothing, if known.
    """

    name: str
    where: str
    task: TaskName
    train: ImageDataset
    val: ImageDataset | None = None
    rule: str = ""
    problems: tuple[BadFile, ...] = ()
    notes: tuple[str, ...] = ()
    flips_ok: bool = True
    useful_size: int | None = None


class Source(ABC):
    """One kind of data source, an entry of `SOURCES`."""

    @abstractmethod
    def matches(self, source: str) -> bool:
        """Whether `source`, as the user wrote it, is of this kind. Cheap: it may be called for every kind."""

    @abstractmethod
    def open_train(self, source: str, val: str | None, options: OpenOptions) -> SourceSplits:
        """Training and validation images. val: a separate source of validation images.

        Raises:
            DataError: no images, wrong labels, unreadable files that are not to be skipped.
            UsageError: an option that this kind of source does not have.
        """

    @abstractmethod
    def open_eval(self, source: str, split: str | None, classes: tuple[str, ...], options: OpenOptions) -> EvalImages:
        """Images to evaluate on. split: name of the split; None: val (or test), or all images if there are no splits.

        classes: names of the model's classes, labels or targets. Raises as `open_train`.
        """

    def list_for_check(self, source: str, val: str | None, options: OpenOptions) -> Listing:
        """The images for `zoo check`, with as many problems as possible reported, not raised."""
        found = self.open_train(source, val, replace(options, skip_unreadable=True))
        classes = found.train.classes
        if found.val is None:
            splits: tuple[ListedSplit, ...] = (ListedSplit("all", found.train),)
        else:
            if get_task(found.task).has_classes:
                classes = tuple(sorted({*classes, *found.val.classes}))
            splits = (
                ListedSplit("training", with_classes(found.train, classes)),
                ListedSplit("validation", with_classes(found.val, classes)),
            )
        return Listing(found.name, found.task, classes, splits, found.problems, (), found.notes)


def find_source(source: str, columns: Columns = UNNAMED) -> Source:
    """The kind of `source`, the last in `SOURCES` that matches.

    Raises:
        DataError: no such path, or a file of no known kind.
        UsageError: `columns` are given, but this kind has none.
    """
    for entry in reversed(SOURCES.values()):
        kind: Source = entry.load()()
        if kind.matches(source):
            if columns != UNNAMED and not entry.has_columns:
                raise UsageError(
                    f"{printable(source)} is not a table and has no columns",
                    "omit the options of columns and the label separator, or give a table",
                )
            return kind
    require_path(source)
    raise DataError(f"{printable(source)} is a file of no known kind", f"give {describe_sources()}")


def is_remote(source: str) -> bool:
    """Whether `source` is a URL or a command, not a path."""
    return bool(_REMOTE.match(source.lower()))


def require_path(path: str) -> str:
    """`path` with ~ expanded.

    Raises:
        DataError: it does not exist; the hint has the nearest names in its folder.
        UsageError: it is a URL.
    """
    if is_remote(path):
        raise UsageError(f"{path} is not a local path", "download it and give its path")
    expanded = os.path.expanduser(path)
    if os.path.exists(expanded):
        return expanded
    if os.path.lexists(expanded):
        raise DataError(
            f"{printable(path)} is a broken symbolic link", "give the folder that contains the class folders"
        )
    parent = Path(expanded).absolute().parent
    try:
        names = sorted(e.name for e in os.scandir(parent) if not e.name.startswith("."))
    except OSError:
        raise DataError(f"no such path: {printable(path)}", f"{printable(str(parent))} does not exist either") from None
    close = [printable(str(Path(path).parent / c)) for c in nearest(Path(expanded).name, names)]
    if os.path.basename(path) == path:
        close = nearest(path, ["digits"]) + close
    raise DataError(f"no such path: {printable(path)}", did_you_mean(close, f"give {describe_sources()}"))


def describe_given_splits(train: ImageDataset, train_where: str, val: ImageDataset, val_where: str) -> str:
    return f"given: {len(train):,} training images {train_where}, {len(val):,} validation images {val_where}"


def require_two_classes(source: ImageDataset, where: str) -> None:
    if len(source.classes) < 2:
        raise DataError(f"only one class in {where}: {format_list(source.classes)}", "a classifier needs two or more")


def require_known_classes(val: ImageDataset, train: ImageDataset, what: str) -> None:
    """what: the validation images and the verb "have", for the message."""
    unknown = [c for c in val.classes if c not in set(train.classes)]
    if unknown:
        raise DataError(
            f"{what} classes without training images: {format_list(unknown)}",
            "add training images of these classes, or remove them",
        )


def with_classes(source: ImageDataset, classes: tuple[str, ...]) -> ImageDataset:
    """`source` with targets that refer to `classes`, a superset of its own.

    Raises:
        DataError: the classes of `source` have a fixed order.
    """
    if classes == source.classes:
        return source
    if isinstance(source, FileDataset):
        return relabel(source, classes)
    raise DataError(
        f"{source.name} has the classes {format_list(source.classes)}, the model {format_list(classes)}",
        f"train the model on {source.name}",
    )
