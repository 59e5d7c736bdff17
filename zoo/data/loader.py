"""Batches of labelled images, the same for any number of worker processes and different in every epoch.

The order of an epoch is seeded by (seed, epoch), the augmentation of an image by (seed, epoch, index) and, if the image
comes again in the same epoch, by the number of times it came before. The batch sampler yields (epoch, index, times
before), so worker processes need no state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from zoo.arrays import Indices, Pixels
from zoo.augment.build import Augment
from zoo.augment.fit import EvalView
from zoo.augment.view import View
from zoo.data.dataset import BadFile, ImageDataset
from zoo.data.decode.errors import UnreadableImage
from zoo.data.sampler import Balance, cumulative_count, epoch_order
from zoo.dist_env import cores
from zoo.errors import DataError, ZooError
from zoo.preprocess import Preprocess

AugmentFn = Callable[[Pixels, np.random.Generator], Pixels]
Item = tuple[int, int, int]  # epoch, index, how often the image came before in this epoch

# Largest cache of the resized images of an in-memory source: all digits at 224 px in RGB are 270 MB, at 32 px 5.5 MB.
_CACHE_LIMIT = 300 << 20
# Below this many images a worker process takes longer to start than the main process takes to read them.
_MIN_WORKER_IMAGES = 256
# More workers than this are faster than any single accelerator, and each costs memory.
_MAX_WORKERS = 8


def auto_workers(source: ImageDataset) -> int:
    """Worker processes for `source`: 0 if it is in memory or small (< 256 images), else one per core, at most 8."""
    if source.in_memory or len(source) < _MIN_WORKER_IMAGES:
        return 0
    return min(cores(), _MAX_WORKERS)


@dataclass(frozen=True)
class LoaderOptions:
    """Options of a loader that most callers leave at their defaults.

    balance: how often a training epoch shows each class, see `zoo.data.sampler`.
    indices: read only these images, in this order, with the augmentation that they get in a loader of all images;
    evaluation loaders only.
    part: (rank, world size): which part of the batches this process reads. In training all processes go through the
    same batches together, each of world size times `batch_size` images, and each loader gives its part; a part can be
    empty where files were skipped. In evaluation each process reads a contiguous range of the images.
    pin_memory: put batches in page-locked memory, for faster copies to a GPU.
    """

    balance: Balance = "none"
    indices: Indices | None = None
    part: tuple[int, int] = (0, 1)
    pin_memory: bool = False


def make_loader(
    source: ImageDataset,
    *,
    preprocess: Preprocess,
    batch_size: int,
    train: bool,
    augment: AugmentFn | None,
    seed: int,
    workers: int,
    options: LoaderOptions = LoaderOptions(),
) -> Loader:
    """Batches of `source`, shuffled if `train`. Without `augment` each image is seen as in evaluation.

    If a training epoch would end in a batch of one image, that image joins the batch before: batch normalization
    cannot be trained on one value per channel.
    """
    order: Callable[..., Indices] | None = None
    part, indices = options.part, options.indices
    if train:
        order = partial(epoch_order, targets=source.targets, balance=options.balance, shards=source.shards)
    elif part[1] > 1:
        indices = np.array_split(np.arange(len(source)) if indices is None else indices, part[1])[part[0]]
        part = (0, 1)
    if indices is not None:
        order = partial(_fixed_order, indices)
    n = len(source) if indices is None else len(indices)
    sampler = _BatchSampler(n, batch_size, order=order, seed=seed, part=part)
    return Loader(_BatchDataset(source, preprocess, augment, seed), sampler, workers, options.pin_memory)


class Loader:
    """Iterating yields (images, targets): images (N, C, H, W) uint8, in memory NHWC (torch.channels_last); targets
    (N,) int64 for single-label tasks, else (N, K) float32.

    Raises DataError for a file that cannot be decoded. If the source skips such files, the batch lacks the image,
    `problems` names it, and an empty batch is not yielded.
    """

    def __init__(self, dataset: _BatchDataset, sampler: _BatchSampler, workers: int, pin_memory: bool) -> None:
        self.source = dataset.source
        self._components = dataset, sampler, workers, pin_memory
        # Whether an image can look different in another epoch.
        self.is_random = not dataset.is_deterministic
        self._sampler = sampler
        # The other processes wait for this loader's batch, even if it is empty.
        self._keep_empty = sampler.part[1] > 1
        self._problems: dict[str, BadFile] = {}
        self._open: Callable[[], DataLoader[Any]] = partial(
            DataLoader,
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=_identity,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            # Its own generator: the default would draw from the global one, which initialises weights and dropout.
            generator=torch.Generator().manual_seed(sampler.seed),
        )
        self._loader = self._open()

    @property
    def problems(self) -> tuple[BadFile, ...]:
        """Files that were skipped so far because they cannot be decoded."""
        return tuple(self._problems.values())

    @property
    def images(self) -> int:
        """Images in an epoch, skipped ones included."""
        return self._sampler.images

    def of(self, source: ImageDataset) -> Loader:
        """The same batches, read from `source`, which has the same images."""
        dataset, sampler, workers, pin_memory = self._components
        return Loader(replace(dataset, source=source), sampler, workers, pin_memory)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which seeds the order and the augmentation of the next iteration."""
        self._sampler.epoch = epoch

    def indices(self) -> Iterator[list[int]]:
        """The indices of the images in each batch of the epoch."""
        return ([index for _, index, _ in items] for items in self._sampler)

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        try:
            for batch in self._loader:
                if isinstance(batch, ZooError):
                    try:
                        raise batch
                    finally:
                        del batch  # an error whose traceback's frame holds the error would keep every caller's loaders
                images, targets, bad = batch
                self._problems.update((b.path, b) for b in bad)
                if len(targets) or self._keep_empty:
                    yield images, targets
        except ZooError:
            # End the workers now: when the garbage collector does it, they miss the message and wait five seconds each.
            self._loader = self._open()
            raise
        except RuntimeError as e:
            if "DataLoader worker" not in str(e):
                raise
            raise DataError(
                f"a loader worker process died ({str(e).splitlines()[0]})",
                "it may have run out of memory or shared memory: try fewer --workers, 0 for none, or a smaller batch",
            ) from e


def _fixed_order(indices: Indices, n: int, *, rng: np.random.Generator) -> Indices:
    return indices


def _identity(batch: Any) -> Any:
    return batch


class _BatchSampler(Sampler[list[Item]]):
    """Lists of items, one per batch. order(n, rng=…): the images of an epoch; None: all of them in order."""

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        order: Callable[..., Indices] | None,
        seed: int,
        part: tuple[int, int],
    ) -> None:
        self.n, self.batch_size, self.seed, self.epoch, self.part = n, batch_size, seed, 0, part
        self._order = order
        global_batch = batch_size * part[1]
        full, rest = divmod(n, global_batch)
        self._sizes = [global_batch] * full
        if rest < 2 * part[1] and order is not None and full:
            self._sizes[-1] += rest
        elif rest:
            self._sizes.append(rest)

    @property
    def images(self) -> int:
        return sum(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[list[Item]]:
        epoch = self.epoch
        order = np.arange(self.n)
        if self._order is not None:
            order = self._order(
                self.n, rng=np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(0, epoch)))
            )
        before = cumulative_count(order)
        start = 0
        for size in self._sizes:
            rank, world_size = self.part
            mine = slice(start + size * rank // world_size, start + size * (rank + 1) // world_size)
            yield [(epoch, i, k) for i, k in zip(order[mine].tolist(), before[mine].tolist(), strict=True)]
            start += size


@dataclass
class _BatchDataset(Dataset[Any]):
    """Items → a batch. Images of an in-memory source without random augmentation are cached at the input size."""

    source: ImageDataset
    preprocess: Preprocess
    augment: AugmentFn | None
    seed: int

    def __post_init__(self) -> None:
        self._targets = self.source.targets
        self._view = EvalView(self.preprocess)
        self._cache: Pixels | None = None
        shape = (self.preprocess.height, self.preprocess.width, self.source.channels)
        self.is_deterministic = self.augment is None or (
            isinstance(self.augment, Augment) and not self.augment.is_random
        )
        self._use_cache = (
            self.source.in_memory and self.is_deterministic and len(self.source) * int(np.prod(shape)) <= _CACHE_LIMIT
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}

    def __getitems__(self, items: Sequence[Item]) -> tuple[torch.Tensor, torch.Tensor, list[BadFile]] | ZooError:
        # Our errors are returned, not raised: PyTorch would turn an error that is raised in a worker into a text.
        try:
            pixels, read_indices, bad = self._batch(items)
        except ZooError as e:
            return e
        targets = torch.from_numpy(self._targets[np.array(read_indices, dtype=np.int64)])
        return pixels.permute(0, 3, 1, 2), targets, bad

    def _batch(self, items: Sequence[Item]) -> tuple[torch.Tensor, list[int], list[BadFile]]:
        indices = [index for _, index, _ in items]
        if self._use_cache:
            if self._cache is None:
                self._cache = np.stack([self._item(0, i, 0) for i in range(len(self.source))])
            return torch.from_numpy(self._cache[indices]), indices, []
        views: list[torch.Tensor] = []
        read_indices: list[int] = []
        bad: list[BadFile] = []
        for epoch, index, before in items:
            try:
                view = np.require(self._item(epoch, index, before), requirements=["C", "W"])
            except UnreadableImage as e:
                if not self.source.skip_unreadable:
                    raise
                bad.append(BadFile(e.path, e.reason))
            else:
                views.append(torch.from_numpy(view))
                read_indices.append(index)
        if not views:
            shape = (0, self.preprocess.height, self.preprocess.width, self.source.channels)
            return torch.empty(shape, dtype=torch.uint8), read_indices, bad
        # In a worker this writes into memory shared with the main process, which saves a copy.
        images: torch.Tensor = default_collate(views)
        return images, read_indices, bad

    def _fit(self, height: int, width: int) -> View:
        return self._view

    def _item(self, epoch: int, index: int, before: int) -> Pixels:
        if self.augment is None:
            return self.source.read(index, self._fit)
        again = (before,) if before else ()
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(1, epoch, index, *again)))
        if isinstance(self.augment, Augment):
            return self.augment.read_augmented(partial(self.source.read, index), rng)
        return self.augment(self.source.read(index), rng)
