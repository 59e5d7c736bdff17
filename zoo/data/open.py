"""A source -> training and validation images with targets, checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.data.config import DataConfig
from zoo.data.dataset import BadFile, Data, ImageDataset, Subset, class_counts
from zoo.data.decode.errors import printable
from zoo.data.listing import Listing
from zoo.data.schema.columns import UNNAMED, Columns
from zoo.data.schema.labels import format_list
from zoo.data.sources.source import OpenOptions, SourceSplits, find_source, with_classes
from zoo.data.split.strategy import SplitStrategy
from zoo.errors import DataError, UsageError
from zoo.tasks import DEFAULT_TASK, TaskName, get_task

_NO_FLIPS = "horizontal flips are off: they may change the target values, for example an angle or a position"


def data_config(source: str, columns: Columns = UNNAMED, **settings: Any) -> DataConfig:
    """The `data` section for `source`. settings: its other keys, not validated here but where the data are opened."""
    return DataConfig.model_construct(
        source=source,
        image_column=columns.image,
        label_column=columns.labels,
        label_separator=columns.separator,
        split_column=columns.split,
        group_column=columns.group,
        **settings,
    )


def open_data(
    config: DataConfig,
    *,
    task: str = "auto",
    seed: int = 0,
    channels: int = 3,
    expected_classes: tuple[str, ...] | None = None,
) -> Data:
    """Training and validation images of `config.source`, of any kind in `SOURCES`.

    Args:
        config: the `data` section of a recipe: source, columns, split, policy for unreadable files.
        task: name of a task, or "auto": inferred from the labels of a table, single-label for other sources.
        seed: of the split, where zoo makes one.
        channels: input channels of the model, 1 or 3 for ordinary images.
        expected_classes: names of a model's classes, labels or targets; the data must have the same, and the targets
            follow this order.

    Raises:
        DataError: no such path, no images, images outside class folders, a single class, a class with one image where a
            split is made, different classes in training and validation, unreadable files under the policy "error",
            labels that do not fit the task, wrong rows of a table (with their line numbers).
        UsageError: columns or options that do not exist or do not fit the source.
    """
    columns, options = _options(config, task, channels)
    strategy = SplitStrategy(config.val_fraction, seed, config.folds, config.fold, config.split)
    found = find_source(config.source, columns).open_train(config.source, config.val, options)
    own = found.train.classes
    if get_task(found.task).targets == "multi_hot" and found.val is not None:
        own = tuple(sorted({*own, *found.val.classes}))
    classes = _class_order(own, expected_classes, found.where)
    whole = with_classes(found.train, classes)
    _require_targets(whole, found)
    if found.val is None:
        train_indices, val_indices, rule, split_notes = strategy.of(whole, found.task)
        train: ImageDataset = Subset(whole, train_indices)
        val: ImageDataset = Subset(whole, val_indices)
    else:
        strategy.reject_given_val(found.where)
        train, val, rule, split_notes = whole, with_classes(found.val, classes), found.rule, ()
    notes = [*found.notes, *split_notes, *_missing_class_notes(train, val, found.task)]
    keeps_targets = get_task(found.task).keeps_targets_under_geometry
    if not keeps_targets:
        notes.append(_NO_FLIPS)
    return Data(
        name=found.name,
        source=config.source,
        train=train,
        val=val,
        classes=classes,
        rule=rule,
        problems=found.problems,
        flips_ok=found.flips_ok and keeps_targets,
        notes=tuple(notes),
        useful_size=found.useful_size,
        task=found.task,
        was_split=found.val is None,
    )


def open_eval(
    config: DataConfig,
    classes: tuple[str, ...],
    *,
    task: str = DEFAULT_TASK.name,
    seed: int = 0,
    channels: int = 3,
    split: str | None = None,
) -> tuple[ImageDataset, tuple[BadFile, ...]]:
    """(images to evaluate a model on, files left out). Targets follow the order of the model's `classes`.

    Args:
        config: as for `open_data`. Columns are ignored by sources that have none, so the section of a run can be used.
        classes: names of the model's classes, labels or targets. The data may lack classes and labels, not targets.
        task: the model's task.
        seed: of the split. A source without images of its own for evaluation, such as digits, gives a `Subset`: the
            held-out images of the split that `open_data` makes.
        channels: input channels of the model.
        split: name of the split; None: val (or test) if the source has splits, else all images.

    Raises:
        DataError: classes that the model does not know, no such source, split or target column, no images, unreadable
            files under the policy "error", wrong rows.
    """
    chosen = get_task(task)
    _, options = _options(config, chosen.name, channels)
    found = find_source(config.source).open_eval(config.source, split, classes, options)
    where = printable(config.source)
    unknown = [c for c in found.source.classes if c not in set(classes)]
    if unknown:
        raise DataError(
            f"{where} has {chosen.outputs} that the model does not know: {format_list(unknown)}",
            f"the model knows {format_list(classes)}",
        )
    missing = [c for c in classes if c not in set(found.source.classes)]
    if missing and not chosen.has_classes:
        raise DataError(
            f"{where} lacks {chosen.outputs} of the model: {format_list(missing)}",
            "name their columns with --label-column",
        )
    source = with_classes(found.source, classes)
    if found.held_out_only:
        strategy = SplitStrategy(config.val_fraction, seed, config.folds, config.fold, config.split)
        source = Subset(source, strategy.of(source, chosen.name)[1])
    return source, found.problems


def open_listing(config: DataConfig, *, task: str = "auto") -> Listing:
    """The images for `zoo check`: as `open_data` finds them, but problems are listed where possible instead of raised.

    A source without a validation split is listed as one split, "all". Raises DataError if there is nothing to check.
    """
    columns, options = _options(config, task, 3)
    return find_source(config.source, columns).list_for_check(config.source, config.val, options)


def _options(config: DataConfig, task: str, channels: int) -> tuple[Columns, OpenOptions]:
    if config.unreadable not in ("error", "skip"):
        raise UsageError(f"no policy {config.unreadable!r} for unreadable files", "known: error, skip")
    if task != "auto":
        get_task(task)
    columns = Columns(
        image=config.image_column,
        labels=config.label_column,
        separator=config.label_separator,
        split=config.split_column,
        group=config.group_column,
    )
    return columns, OpenOptions(task, columns, channels, config.unreadable == "skip")


def _require_targets(source: ImageDataset, found: SourceSplits) -> None:
    """Raises DataError if a class has no image left, or if a target has the same value for all images."""
    task = get_task(found.task)
    if task.has_one_class_per_image:
        empty = [source.classes[i] for i in np.flatnonzero(class_counts(source.targets, len(source.classes)) == 0)]
        if empty:
            raise DataError(f"no readable image of class {format_list(empty)}", "replace the files or remove the class")
    elif not task.has_classes:
        for name, column in zip(source.classes, source.targets.T, strict=True):
            if (column == column[0]).all():
                raise DataError(
                    f"the target {name!r} is {column[0]:g} for every image of {found.where}",
                    "omit this column: a constant target cannot be trained",
                )


def _missing_class_notes(train: ImageDataset, val: ImageDataset, task: TaskName) -> list[str]:
    """Sentences on classes or labels without an image in a split."""
    if not get_task(task).has_classes:
        return []
    notes = []
    for split, source in (("training", train), ("validation", val)):
        absent = [source.classes[i] for i in np.flatnonzero(class_counts(source.targets, len(source.classes)) == 0)]
        if absent:
            what = get_task(task).outputs
            notes.append(
                f"no {split} image for {len(absent):,} of the {len(source.classes):,} {what}: {format_list(absent)}"
            )
    return notes


def _class_order(own: tuple[str, ...], expected: tuple[str, ...] | None, where: str) -> tuple[str, ...]:
    if expected is None:
        return own
    if set(expected) != set(own):
        raise DataError(
            f"{where} has the classes {format_list(own)}; expected {format_list(expected)}",
            "give data with the same classes",
        )
    return expected
