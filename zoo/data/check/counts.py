"""Findings on the number of images per class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.data import dataset
from zoo.data.check.findings import Finding, named_finding
from zoo.data.check.thresholds import IMBALANCE, MIN_CLASS_IMAGES
from zoo.tasks import TaskName, get_task


def class_counts(
    targets: dataset.Targets, split: NDArray[np.int64], classes: int, splits: int, task: TaskName
) -> NDArray[np.int64]:
    """(classes, splits) number of images of each class or label; empty for regression."""
    counts = np.zeros((classes, splits), dtype=np.int64)
    if not get_task(task).has_classes:
        return counts[:0]
    for p in range(splits):
        counts[:, p] = dataset.class_counts(targets[split == p], classes)
    return counts


def count_findings(
    counts: NDArray[np.int64], classes: Sequence[str], task: TaskName, *, images: int, is_split: bool
) -> Iterator[Finding]:
    """counts: (K, splits) from `class_counts`, training first. images: number of training images."""
    if get_task(task).has_one_class_per_image:
        yield from _of_classes(counts, classes, is_split=is_split)
    elif get_task(task).has_classes:
        yield from _of_labels(counts[:, 0], classes, images)


def _of_classes(counts: NDArray[np.int64], classes: Sequence[str], *, is_split: bool) -> Iterator[Finding]:
    train = counts[:, 0]
    total = counts.sum(axis=1)

    def named(chosen: NDArray[np.bool_], n: NDArray[np.int64] = train) -> tuple[str, ...]:
        return tuple(f"{classes[k]} ({n[k]:,})" for k in np.flatnonzero(chosen).tolist())

    if np.count_nonzero(total) == 1:
        yield Finding(
            "one-class",
            "error",
            f"only one class: {classes[int(total.argmax())]}",
            "a classifier needs two; give the folder that contains the class folders",
            names=named(total > 0, total),
        )
    yield from named_finding(
        "class-without-images",
        "error",
        named(total == 0),
        "class",
        "without readable images",
        "replace the files, or remove the folder",
    )
    if is_split:
        held_out = counts[:, 1]
        yield from named_finding(
            "class-not-in-training",
            "error",
            named((train == 0) & (held_out > 0), held_out),
            "class",
            "in validation, but not in training",
            "give both splits the same class folders",
        )
        yield from named_finding(
            "class-not-in-validation",
            "error",
            named((train > 0) & (held_out == 0)),
            "class",
            "in training, but not in validation",
            "give both splits the same class folders, or omit --val so that zoo splits",
        )
    yield from named_finding(
        "one-image-classes",
        "warning" if is_split else "error",
        named(train == 1),
        "class",
        "with a single image" + ("" if is_split else ", which cannot be split"),
        "add images, or remove the class" + ("" if is_split else ", or give validation images with --val"),
    )
    yield from named_finding(
        "few-images",
        "warning",
        named((train > 1) & (train < MIN_CLASS_IMAGES)),
        "class",
        f"with fewer than {MIN_CLASS_IMAGES} images",
        "add images: the metrics of these classes are unreliable",
    )
    some = train[train > 0]
    if len(some) > 1 and (ratio := some.max() / some.min()) >= IMBALANCE:
        most, least = int(train.argmax()), int(np.where(train > 0, train, train.max() + 1).argmin())
        yield Finding(
            "imbalance",
            "warning",
            f"the largest class has {ratio:,.0f} times as many images as the smallest",
            "use --class-weights balanced, and balanced accuracy instead of top-1",
            names=tuple(f"{classes[k]} ({train[k]:,})" for k in (most, least)),
        )


def _of_labels(train: NDArray[np.int64], classes: Sequence[str], images: int) -> Iterator[Finding]:
    yield from named_finding(
        "rare-labels",
        "warning",
        [f"{classes[k]} ({train[k]:,})" for k in np.flatnonzero(train < 2).tolist()],
        "label",
        "with fewer than two training images",
        "add images, or omit the label: it cannot be both trained and evaluated",
    )
    yield from named_finding(
        "constant-labels",
        "warning",
        [classes[k] for k in np.flatnonzero(train == images).tolist()] if images else [],
        "label",
        "on every training image",
        "omit the label: it cannot be trained",
    )
