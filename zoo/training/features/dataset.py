"""Batches of cached features in place of images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from zoo.training.autotune.timings import synchronize
from zoo.training.feature_extractor import FeatureExtractor
from zoo.training.features.store import CachedFeatures, FeatureStore
from zoo.training.inference import Normalize
from zoo.training.microbatch import MicroBatcher


@dataclass(frozen=True)
class FeatureCachePolicy:
    """A run that trains on cached features. views: per training image. row_bytes: of the features of one image."""

    feature_extractor: FeatureExtractor
    views: int
    dtype: torch.dtype
    channels_last: bool
    row_bytes: int

    @property
    def rows_per_image(self) -> int:
        """Rows per training image: with several random views, a linear probe adds the unaugmented image."""
        return self.views + (self.views > 1)


class BatchOrder(Protocol):
    """A loader that knows the images of each batch of an epoch."""

    def __len__(self) -> int: ...
    def set_epoch(self, epoch: int) -> None: ...
    def indices(self) -> Iterator[list[int]]: ...


class FeatureBatches:
    """(features (n, …), targets) in the order of `order`, a loader of the images.

    views: cached rows of all images in the order of the source; epoch e uses view e modulo their number. channels_last:
    memory format of the features.
    """

    problems = ()

    def __init__(
        self, order: BatchOrder, views: Sequence[CachedFeatures], targets: Tensor, *, channels_last: bool
    ) -> None:
        self._order, self._views, self._targets = order, views, targets
        self._channels_last = channels_last
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._order)

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        self._order.set_epoch(epoch)

    def all(self) -> tuple[list[Tensor], Tensor]:
        """(features (N, …) of each view, targets), in the order of the source."""
        return [view[range(len(view))] for view in self._views], self._targets

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        view = self._views[self._epoch % len(self._views)]
        for indices in self._order.indices():
            features = view[indices]
            if self._channels_last:
                features = features.contiguous(memory_format=torch.channels_last)
            yield features, self._targets[torch.tensor(indices)]


def compute(
    feature_extractor: FeatureExtractor,
    store: FeatureStore,
    batches: Iterable[tuple[Tensor, Tensor]],
    keys: Sequence[bytes],
    normalize: Normalize,
    *,
    device: torch.device,
    amp_dtype: torch.dtype | None,
    on_batch: Callable[[int], None] | None = None,
) -> None:
    """Store the features of all `batches` under `keys`, in their order.

    on_batch(number of images so far) is called after each batch. Raises OSError if writing fails, ValueError if the
    numbers of images and keys differ.
    """
    micro_batcher = MicroBatcher()
    done = 0
    for images, _ in batches:

        def pass_through(part: slice, images: Tensor = images) -> Tensor:
            with torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
                return feature_extractor.features(normalize(images[part].to(device, non_blocking=True)))

        for features in micro_batcher.each(len(images), pass_through):
            store.add(keys[done : done + len(features)], features)
            done += len(features)
        if on_batch is not None:
            on_batch(done)
    if done != len(keys):
        raise ValueError(f"{done} images for {len(keys)} keys")
    store.flush()


def seconds_per_image(
    feature_extractor: FeatureExtractor, images: Tensor, amp_dtype: torch.dtype | None
) -> tuple[float, Tensor]:
    """Seconds per image of the feature extractor, the best of three passes over normalized `images`; its features."""
    best = float("inf")
    features = torch.empty(0)
    for _ in range(3):
        start = time.perf_counter()
        with torch.autocast(images.device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
            features = feature_extractor.features(images)
        synchronize(images.device)
        best = min(best, (time.perf_counter() - start) / len(images))
    return best, features
