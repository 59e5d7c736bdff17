"""The same image more than once: in both splits, under two labels, or for nothing.

Equal are files of the same bytes, and images of the same pixels after decoding (a PNG saved again, a JPEG without its
camera data); the pixels are compared only where size and perceptual hash agree already. Near-duplicates are what
`zoo.data.check.perceptual_hash` says.
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

__all__ = [
    "NearDuplicatePairs",
    "duplicate_findings",
    "equal_groups",
    "near_pairs",
    "same_pixel_candidates",
    "split_by_equality",
    "unequal_pairs",
]


# Images of one and the same perceptual hash that are all compared with each other; of more, each with the first ones.
_MAX_EQUAL_HASHES = 32


@dataclass(frozen=True)
class NearDuplicatePairs:
    """left[i] and right[i] look alike: so many bits apart, with such a correlation. complete: False if there are more
    than could be looked for."""

    left: Indices
    right: Indices
    bits: NDArray[np.uint8]
    correlation: NDArray[np.float32]
    complete: bool = True


def split_by_equality(codes: NDArray[np.uint64]) -> tuple[list[Indices], Indices]:
    """(places of rows that occur twice or more, group by group; the first place of every different row)."""
    _, first, inverse, counts = np.unique(codes, axis=0, return_index=True, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(counts)
    groups = [order[ends[g] - counts[g] : ends[g]] for g in np.flatnonzero(counts > 1)]
    return sorted(groups, key=lambda g: int(g[0])), np.sort(first)


def same_pixel_candidates(rows: r.Records, near: NearDuplicatePairs) -> Indices:
    """Images whose pixels are worth comparing: of one size, and of one perceptual hash or a near pair (a JPEG is read
    at reduced size, so that a copy of it as PNG looks a little different). Of equal bytes the first stands for all."""
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
    first = np.arange(len(rows))  # of the images with these bytes
    for group in split_by_equality(rows["content"][read])[0]:
        first[read[group]] = read[group[0]]
    root = np.arange(len(rows))  # of the files with these pixels
    seen = read[rows["pixels"][read].any(axis=1)]
    if len(seen):
        for group in split_by_equality(rows["pixels"][seen])[0]:
            firsts = first[seen[group]]
            root[firsts] = firsts.min()
    groups, _ = split_by_equality(root[first[read]].astype(np.uint64)[:, None])
    return [read[g] for g in groups]


def near_pairs(rows: r.Records) -> NearDuplicatePairs:
    """Pairs of images that look alike; of equal bytes the first stands for all."""
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
    """`pairs` without those of equal images; of equal images the first stands for all."""
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
    """Pairs of hashes → pairs of images that have them; of a crowd the first few."""
    most = int(_MAX_EQUAL_HASHES**0.5)
    na, nb = np.minimum(counts[a], most), np.minimum(counts[b], most)
    total = na * nb
    pair = np.repeat(np.arange(len(a)), total)
    place = np.arange(len(pair)) - np.repeat(np.cumsum(total) - total, total)
    return first[a][pair] + place // nb[pair], first[b][pair] + place % nb[pair]


def _inside(first: int, count: int) -> tuple[Indices, Indices]:
    """Pairs among `count` images of one hash."""
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
    across = [g for g in equal if len(np.unique(split[g])) > 1]
    inside = [g for g in equal if len(np.unique(split[g])) == 1]
    other = [g for g in equal if _has_conflict(targets[g])]
    yield from _equal_findings(across, inside, other, split, targets, task, is_split=is_split)
    yield from _near_findings(pairs, equal, split, targets, task, is_split=is_split)


def _equal_findings(
    across: Sequence[Indices],
    inside: Sequence[Indices],
    other: Sequence[Indices],
    split: NDArray[np.int64],
    targets: Targets,
    task: TaskName,
    *,
    is_split: bool,
) -> Iterator[Finding]:
    if across:
        leaked = sum(int((split[g] == 1).sum()) for g in across)
        yield Finding(
            "leakage",
            "error",
            f"{plural(leaked, 'validation image')} that training has too",
            "remove them from one of the splits: validation would reward learning by heart",
            groups=across,
        )
    if other:
        images = sum(map(len, other))
        yield Finding(
            "conflicting-labels",
            "error" if get_task(task).has_classes else "warning",
            f"{plural(len(other), 'image')} under different {get_task(task).outputs} ({images:,} copies)",
            "keep the right one of each; if several are right, the task is multi-label",
            groups=other,
        )
    if same := [g for g in inside if not _has_conflict(targets[g])]:
        extra = sum(len(g) - 1 for g in same)
        yield Finding(
            "duplicates",
            "warning",
            f"{plural(len(same), 'image')} with {plural(extra, 'copy', 'copies')} too many",
            "remove the copies: " + ("they count several times" if is_split else "a split puts them on both sides"),
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
            "the images are so much alike that not all near-duplicates could be looked for",
            "are they frames of one film? then split by film, not by frame",
        )
    kinds: tuple[tuple[str, NDArray[np.bool_], Severity, str, str], ...] = (
        (
            "near-leakage",
            crossing,
            "error",
            "in validation and training that look the same",
            "remove one of each pair, or keep what belongs together (frames, bursts, crops) in one split",
        ),
        (
            "near-conflicts",
            unequal,
            "warning",
            "that look the same under different classes",
            "look whether one of the labels is wrong",
        ),
        (
            "near-duplicates",
            ~crossing & ~unequal,
            "note" if is_split else "warning",
            "that look the same within a class" if one_class else "that look the same",
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
    """Where a pair lies in one split but a copy of one of its images in the other, take the copy."""
    copy = {int(g[0]): int(h[0]) for g in equal if len(h := g[split[g] != split[g[0]]])}
    if not copy:
        return
    for i in np.flatnonzero(split[left] == split[right]):
        if int(left[i]) in copy:
            left[i] = copy[int(left[i])]
        elif int(right[i]) in copy:
            right[i] = copy[int(right[i])]


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
    """For each image its best pair, in words."""
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
