"""Duplicates and near-duplicates: leakage between splits, conflicting labels, redundant images.

Two images are equal if their files have the same bytes, or if they have the same pixels after decoding (a PNG saved
again, a JPEG without its metadata). Pixels are compared only if size and perceptual hash agree. Near-duplicates are
defined in `zoo.data.check.perceptual_hash`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices
from zoo.data.check import image_record as r
from zoo.data.check.findings import Finding, Severity, plural
from zoo.data.check.perceptual_hash import close_pairs, confirmed_correlation, distances
from zoo.data.dataset import Targets
from zoo.tasks import TaskName, get_task

# Up to this number of images with the same perceptual hash are compared with each other; of more, each with the first.
_MAX_EQUAL_HASHES = 32


@dataclass(frozen=True)
class NearDuplicatePairs:
    """Pairs of similar images."""

    left: Indices
    right: Indices
    bits: NDArray[np.uint8]  # (n,) hash bits that differ
    correlation: NDArray[np.float32]  # (n,) correlation of the thumbnails
    complete: bool = True  # False if the search stopped early


def split_by_equality(codes: NDArray[np.uint64]) -> tuple[list[Indices], Indices]:
    """(indices of rows that occur twice or more, in groups; index of the first occurrence of every row)."""
    _, first, inverse, counts = np.unique(codes, axis=0, return_index=True, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(counts)
    groups = [order[ends[g] - counts[g] : ends[g]] for g in np.flatnonzero(counts > 1)]
    return sorted(groups, key=lambda g: int(g[0])), np.sort(first)


def same_pixel_candidates(rows: r.Records, near: NearDuplicatePairs) -> Indices:
    """Images whose pixels must be compared: same size, and same perceptual hash or a near pair (a JPEG is decoded at
    reduced size, so its PNG copy differs a little). Of files with equal bytes only the first is included."""
    read = np.flatnonzero((rows["flags"] & r.READABLE) > 0)
    if not len(read):
        return read
    read = read[split_by_equality(rows["content"][read])[1]]
    shape = np.stack([rows["width"][read], rows["height"][read], rows["phash"][read]], axis=1).astype(np.uint64)
    groups, _ = split_by_equality(shape)
    left, right = rows[["width", "height"]][near.left], rows[["width", "height"]][near.right]
    same = left == right
    return np.unique(np.concatenate([near.left[same], near.right[same], *(read[g] for g in groups)]))


def equal_groups(rows: r.Records) -> list[Indices]:
    """Numbers of images that are equal in bytes or pixels, group by group."""
    read = np.flatnonzero((rows["flags"] & r.READABLE) > 0)
    if not len(read):
        return []
    first = np.arange(len(rows))  # first image with these bytes
    for group in split_by_equality(rows["content"][read])[0]:
        first[read[group]] = read[group[0]]
    root = np.arange(len(rows))  # first image with these pixels
    seen = read[rows["pixels"][read].any(axis=1)]
    if len(seen):
        for group in split_by_equality(rows["pixels"][seen])[0]:
            firsts = first[seen[group]]
            root[firsts] = firsts.min()
    groups, _ = split_by_equality(root[first[read]].astype(np.uint64)[:, None])
    return [read[g] for g in groups]


def near_pairs(rows: r.Records) -> NearDuplicatePairs:
    """Pairs of similar images; of files with equal bytes only the first is included."""
    images = np.flatnonzero((rows["flags"] & r.DETAILED) > 0)
    if len(images):
        images = images[split_by_equality(rows["content"][images])[1]]
    order = np.argsort(rows["phash"][images], kind="stable")
    images = images[order]
    hashes, first, counts = np.unique(rows["phash"][images], return_index=True, return_counts=True)
    a, b, complete = close_pairs(hashes)
    left, right = _members(a, b, first, counts)
    inner = [_inside(f, n) for f, n in zip(first[counts > 1], counts[counts > 1], strict=True)]
    left = images[np.concatenate([left, *(i[0] for i in inner)])]
    right = images[np.concatenate([right, *(i[1] for i in inner)])]
    correlation = confirmed_correlation(rows, left, right)
    selected = correlation > 0
    left, right = np.minimum(left, right)[selected], np.maximum(left, right)[selected]
    order = np.lexsort((right, left))
    left, right = left[order], right[order]
    bits = distances(rows["phash"][left], rows["phash"][right])
    return NearDuplicatePairs(left, right, bits, correlation[selected][order], complete)


def unequal_pairs(pairs: NearDuplicatePairs, equal: Sequence[Indices]) -> NearDuplicatePairs:
    """`pairs` without pairs of equal images; each image is replaced by the first one equal to it."""
    n = max(int(pairs.right.max(initial=-1)), *(int(g[-1]) for g in equal), -1) + 1
    first = np.arange(n)
    for group in equal:
        first[group] = group[0]
    a, b = first[pairs.left], first[pairs.right]
    codes, selected = np.unique(np.minimum(a, b) * n + np.maximum(a, b), return_index=True)
    selected = selected[codes // n != codes % n]
    left, right = np.minimum(a, b)[selected], np.maximum(a, b)[selected]
    return NearDuplicatePairs(left, right, pairs.bits[selected], pairs.correlation[selected], pairs.complete)


def _members(a: Indices, b: Indices, first: Indices, counts: Indices) -> tuple[Indices, Indices]:
    """Pairs of hashes -> pairs of images with them; at most a few per hash."""
    most = int(_MAX_EQUAL_HASHES**0.5)
    na, nb = np.minimum(counts[a], most), np.minimum(counts[b], most)
    total = na * nb
    pair = np.repeat(np.arange(len(a)), total)
    offset = np.arange(len(pair)) - np.repeat(np.cumsum(total) - total, total)
    return first[a][pair] + offset // nb[pair], first[b][pair] + offset % nb[pair]


def _inside(first: int, count: int) -> tuple[Indices, Indices]:
    """Pairs among `count` images with the same hash."""
    if count <= _MAX_EQUAL_HASHES:
        i, j = np.triu_indices(count, 1)
    else:
        i, j = np.divmod(np.arange(_MAX_EQUAL_HASHES * count), count)
        i, j = i[i < j], j[i < j]
    return first + i, first + j


def duplicate_findings(
    equal: Sequence[Indices],
    pairs: NearDuplicatePairs,
    split: NDArray[np.int64],
    targets: Targets,
    task: TaskName,
    *,
    is_split: bool,
) -> Iterator[Finding]:
    """split: (n,) 0 for training, 1 for validation. targets: as `ImageDataset.targets`, of all splits."""
    yield from _equal_findings(equal, split, targets, task, is_split=is_split)
    yield from _near_findings(pairs, equal, split, targets, task, is_split=is_split)


def _equal_findings(
    equal: Sequence[Indices], split: Indices, targets: Targets, task: TaskName, *, is_split: bool
) -> Iterator[Finding]:
    across = [g for g in equal if len(np.unique(split[g])) > 1]
    other = [g for g in equal if _has_conflict(targets[g])]
    same = [g for g in equal if len(np.unique(split[g])) == 1 and not _has_conflict(targets[g])]
    if across:
        leaked = sum(int((split[g] == 1).sum()) for g in across)
        yield Finding(
            "leakage",
            "error",
            f"{plural(leaked, 'validation image')} also in training",
            "remove them from one split: validation would measure memorization",
            groups=across,
        )
    if other:
        images = sum(map(len, other))
        yield Finding(
            "conflicting-labels",
            "error" if get_task(task).has_classes else "warning",
            f"{plural(len(other), 'image')} under different {get_task(task).outputs} ({images:,} files)",
            "keep the correct one of each; if several are correct, use --task multi-label",
            groups=other,
        )
    if same:
        extra = sum(len(g) - 1 for g in same)
        yield Finding(
            "duplicates",
            "warning",
            f"{plural(extra, 'duplicate')} of {plural(len(same), 'image')}",
            "remove the duplicates: "
            + ("they are counted several times" if is_split else "a split may put them on both sides"),
            groups=same,
        )


def _near_findings(
    pairs: NearDuplicatePairs,
    equal: Sequence[Indices],
    split: NDArray[np.int64],
    targets: Targets,
    task: TaskName,
    *,
    is_split: bool,
) -> Iterator[Finding]:
    left, right = pairs.left.copy(), pairs.right.copy()
    if is_split:
        _prefer_cross_split(left, right, equal, split)
    crossing = split[left] != split[right]
    one_class = get_task(task).has_one_class_per_image
    unequal = _unequal(targets, left, right) & ~crossing if one_class else np.zeros(len(left), dtype=bool)
    if not pairs.complete:
        yield Finding(
            "too-many-near-duplicates",
            "warning",
            "too many similar images to find all near-duplicates",
            "if they are frames of videos, split by video, not by frame (--group-column)",
        )
    kinds: tuple[tuple[str, NDArray[np.bool_], Severity, str, str], ...] = (
        (
            "near-leakage",
            crossing,
            "error",
            "nearly the same in training and validation",
            "remove one of each pair, or put related images (frames, bursts, crops) into the same split",
        ),
        (
            "near-conflicts",
            unequal,
            "warning",
            "nearly the same in different classes",
            "check whether one of the labels is wrong",
        ),
        (
            "near-duplicates",
            ~crossing & ~unequal,
            "note" if is_split else "warning",
            "nearly the same within a class" if one_class else "nearly the same",
            "keep one of each" if is_split else "keep one of each, or put them into the same split",
        ),
    )
    for kind, chosen, severity, what, advice in kinds:
        if chosen.any():
            a, b = left[chosen], right[chosen]
            groups = _connected(a, b)
            yield Finding(
                kind,
                severity,
                f"{plural(sum(map(len, groups)), 'image')} {what}",
                advice,
                groups=groups,
                details=_describe_similarity(a, b, pairs.bits[chosen], pairs.correlation[chosen]),
            )


def _prefer_cross_split(left: Indices, right: Indices, equal: Sequence[Indices], split: NDArray[np.int64]) -> None:
    """If a pair is in one split, but a duplicate of one of its images is in the other, take the duplicate."""
    duplicate = {int(g[0]): int(h[0]) for g in equal if len(h := g[split[g] != split[g[0]]])}
    if not duplicate:
        return
    for i in np.flatnonzero(split[left] == split[right]):
        if int(left[i]) in duplicate:
            left[i] = duplicate[int(left[i])]
        elif int(right[i]) in duplicate:
            right[i] = duplicate[int(right[i])]


def _connected(a: Indices, b: Indices) -> list[Indices]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    images, indices = np.unique(np.concatenate([a, b]), return_inverse=True)
    n = len(images)
    edges = coo_array((np.ones(len(a), dtype=np.int8), (indices[: len(a)], indices[len(a) :])), shape=(n, n))
    _, labels = connected_components(edges, directed=False)
    return [images[g] for g in split_by_equality(labels.astype(np.uint64)[:, None])[0]]


def _describe_similarity(
    a: Indices, b: Indices, bits: NDArray[np.uint8], correlation: NDArray[np.float32]
) -> dict[int, str]:
    """Image number -> description of its best pair."""
    found: dict[int, str] = {}
    for i in np.argsort(-correlation, kind="stable"):
        text = f"{bits[i]} bits apart, correlation {correlation[i]:.4f}"
        found.setdefault(int(a[i]), text)
        found.setdefault(int(b[i]), text)
    return found


def _has_conflict(targets: Targets) -> bool:
    return bool((targets != targets[:1]).any())


def _unequal(targets: Targets, left: Indices, right: Indices) -> NDArray[np.bool_]:
    return np.asarray(targets[left] != targets[right])
