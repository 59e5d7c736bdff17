"""How many images each class has, and whether that can be split and learned from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.data.check.findings import Finding, plural
from zoo.data.check.thresholds import IMBALANCE, MIN_CLASS_IMAGES
from zoo.data.dataset import Targets
from zoo.tasks import TaskName, get_task

__all__ = ["class_counts", "count_findings"]


def class_counts(
    targets: Targets, split: NDArray[np.int64], classes: int, splits: int, task: TaskName
) -> NDArray[np.int64]:
    """(classes, splits) images of each class or label; empty for regression."""
    counts = np.zeros((classes, splits), dtype=np.int64)
    if not get_task(task).has_classes:
        return counts[:0]
    for p in range(splits):
        here = targets[split == p]
        counts[:, p] = np.bincount(here, minlength=classes) if here.ndim == 1 else np.count_nonzero(here, axis=0)
    return counts


def count_findings(
    counts: NDArray[np.int64], classes: Sequence[str], task: TaskName, *, images: int, is_split: bool
) -> Iterator[Finding]:
    """counts: (K, splits) as `class_counts` has them, training first. images: of the training split."""
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
            f"one class only: {classes[int(total.argmax())]}",
            "a classifier needs two; is this the folder above the class folders?",
            names=named(total > 0, total),
        )
    if (gone := total == 0).any():
        yield Finding(
            "class-without-images",
            "error",
            f"{plural(int(gone.sum()), 'class', 'classes')} without one readable image",
            "replace the files, or remove the folder",
            names=named(gone),
        )
    if is_split:
        held_out = counts[:, 1]
        if (only := (train == 0) & (held_out > 0)).any():
            yield Finding(
                "class-not-in-training",
                "error",
                f"{plural(int(only.sum()), 'class', 'classes')} in validation that training does not have",
                "give both splits the same class folders",
                names=named(only, held_out),
            )
        if (only := (train > 0) & (held_out == 0)).any():
            yield Finding(
                "class-not-in-validation",
                "error",
                f"{plural(int(only.sum()), 'class', 'classes')} in training that validation does not have",
                "give both splits the same class folders, or leave --val out and let zoo split",
                names=named(only),
            )
    if (single := train == 1).any():
        yield Finding(
            "one-image-classes",
            "warning" if is_split else "error",
            f"{plural(int(single.sum()), 'class', 'classes')} with one image only"
            + ("" if is_split else ": they cannot be split"),
            "add images, or remove the class" + ("" if is_split else ", or give the validation images with --val"),
            names=named(single),
        )
    if (few := (train > 1) & (train < MIN_CLASS_IMAGES)).any():
        yield Finding(
            "few-images",
            "warning",
            f"{plural(int(few.sum()), 'class', 'classes')} with fewer than {MIN_CLASS_IMAGES} images",
            "add images; validation can hardly judge these classes",
            names=named(few),
        )
    some = train[train > 0]
    if len(some) > 1 and (ratio := some.max() / some.min()) >= IMBALANCE:
        most, least = int(train.argmax()), int(np.where(train > 0, train, train.max() + 1).argmin())
        yield Finding(
            "imbalance",
            "warning",
            f"the largest class has {ratio:,.0f} times the images of the smallest",
            "weigh the classes with --class-weights balanced, and watch balanced accuracy instead of top-1",
            names=tuple(f"{classes[k]} ({train[k]:,})" for k in (most, least)),
        )


def _of_labels(train: NDArray[np.int64], classes: Sequence[str], images: int) -> Iterator[Finding]:
    if (rare := train < 2).any():
        yield Finding(
            "rare-labels",
            "warning",
            f"{plural(int(rare.sum()), 'label')} of fewer than two training images",
            "add images, or leave the label out: it cannot be both learned and judged",
            names=tuple(f"{classes[k]} ({train[k]:,})" for k in np.flatnonzero(rare).tolist()),
        )
    if images and (always := train == images).any():
        yield Finding(
            "constant-labels",
            "warning",
            f"{plural(int(always.sum()), 'label')} that every training image has",
            "there is nothing to learn: leave the label out",
            names=tuple(classes[k] for k in np.flatnonzero(always).tolist()),
        )
