"""Batches of labelled images, the same for any number of worker processes and different in every epoch.

The order of an epoch comes from a generator seeded by (seed, epoch), each image's augmentation from one seeded by
(seed, epoch, index) and, from its second time in an epoch on, by how often it came before: the batch sampler hands out
(epoch, index, times before), so that worker processes need no state.
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
from zoo.data.decode.read import UnreadableImage
from zoo.data.sampler import Balance, cumulative_count, epoch_order
from zoo.dist_env import cores
from zoo.errors import DataError, ZooError
from zoo.preprocess import Preprocess

__all__ = ["Loader", "auto_workers", "make_loader"]

AugmentFn = Callable[[Pixels, np.random.Generator], Pixels]
Item = tuple[int, int, int]  # epoch, index, how often the image came before in this epoch

# Bytes that the fitted images of an in-memory source may take: all digits at 224 px in RGB are 270 MB, at 32 px 5.5 MB.
_CACHE_LIMIT = 300 << 20
# Below this many images a worker process takes longer to start than the main process takes to read them.
_MIN_WORKER_IMAGES = 256
# More workers than this outrun any one accelerator, and each costs memory (PyTorch's own advice stops here too).
_MAX_WORKERS = 8


def auto_workers(source: ImageDataset) -> int:
    """Worker processes for `source`: 0 if it is in memory or small (< 256 images), else one a core, at most 8."""
    if source.in_memory or len(source) < _MIN_WORKER_IMAGES:
        return 0
    return min(cores(), _MAX_WORKERS)


def make_loader(
    source: ImageDataset,
    *,
    preprocess: Preprocess,
    batch_size: int,
    train: bool,
    augment: AugmentFn | None,
    seed: int,
    workers: int,
    drop_last: bool = False,
    pin_memory: bool = False,
    balance: Balance = "none",
    only: Indices | None = None,
    share: tuple[int, int] = (0, 1),
) -> Loader:
    """Batches of `source`: shuffled if `train`, else in order. `augment` None: the evaluation view.

    only: the images at these places, in this order, with the views that they have in a loader of all; not for `train`.

    balance: which classes an epoch of `train` shows how often, see `zoo.data.sampler`.

    share: (which, of how many) processes this loader is for. Of `train` they go through the same batches together, each
    of as many times `batch_size` images, and each loader gives its part of them: as many batches as the others', some
    of which may be empty where files are left out. Otherwise each has a stretch of the images, in order.

    If a training epoch would end in a batch of one image, that image joins the batch before: batch normalisation
    cannot train on one value a channel. `pin_memory` puts batches in page-locked memory, for faster copies to a GPU.
    """
    order = partial(epoch_order, targets=source.targets, balance=balance, shards=source.shards) if train else None
    if not train and share[1] > 1:
        indices = np.arange(len(source)) if only is None else only
        only = np.array_split(indices, share[1])[share[0]]
    if only is not None:
        order = partial(_fixed_order, only)
    n = len(source) if only is None else len(only)
    parts = share if train else (0, 1)
    sampler = _BatchSampler(n, batch_size, order=order, drop_last=drop_last, seed=seed, share=parts)
    return Loader(_BatchDataset(source, preprocess, augment, seed), sampler, workers, pin_memory)


class Loader:
    """Iterating yields (images, targets): (N, C, H, W) uint8, NHWC in memory (torch.channels_last), and (N,) int64 for
    one class an image, (N, K) float32 for several labels or numbers.

    Raises the DataError of a file that cannot be read; if the source skips those, the batch comes without the image,
    `problems` names it, and a batch left empty is left out.
    """

    def __init__(self, dataset: _BatchDataset, sampler: _BatchSampler, workers: int, pin_memory: bool) -> None:
        self.source = dataset.source
        self._components = dataset, sampler, workers, pin_memory
        # Whether an image may look different in another epoch.
        self.is_random = not dataset.is_deterministic
        self._sampler = sampler
        # Others wait for this loader's batch, be it empty.
        self._keep_empty = sampler.share[1] > 1
        self._problems: dict[str, BadFile] = {}
        self._open: Callable[[], DataLoader[Any]] = partial(
            DataLoader,
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=_identity,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            # An own generator: the default would draw from, and so move, the one that initialises and drops out.
            generator=torch.Generator().manual_seed(sampler.seed),
        )
        self._loader = self._open()

    @property
    def problems(self) -> tuple[BadFile, ...]:
        """Files skipped so far because they proved unreadable."""
        return tuple(self._problems.values())

    @property
    def images(self) -> int:
        """Images in an epoch, skipped ones included."""
        return self._sampler.images

    def of(self, source: ImageDataset) -> Loader:
        """The same batches of `source`, which has the same images."""
        dataset, sampler, workers, pin_memory = self._components
        return Loader(replace(dataset, source=source), sampler, workers, pin_memory)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the augmentation of the next iteration. Evaluation loaders do not depend on it."""
        self._sampler.epoch = epoch

    def indices(self) -> Iterator[list[int]]:
        """The images of each batch of the epoch, by their place in the source."""
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
            # End the workers here and now: when the garbage collector does it, they miss the message and wait five
            # seconds each.
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
    """Lists of items, one a batch. order(n, rng=…): the images of a training epoch; None: all of them as they are.

    share: (which, of how many): of batches so many times as large, this part.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        order: Callable[..., Indices] | None,
        drop_last: bool,
        seed: int,
        share: tuple[int, int],
    ) -> None:
        self.n, self.batch_size, self.seed, self.epoch, self.share = n, batch_size, seed, 0, share
        self._order = order
        global_batch = batch_size * share[1]
        full, rest = divmod(n, global_batch)
        self._sizes = [global_batch] * full
        if rest < 2 * share[1] and order is not None and full and not drop_last:
            self._sizes[-1] += rest
        elif rest and not drop_last:
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
            which, of = self.share
            part = slice(start + size * which // of, start + size * (which + 1) // of)
            yield [(epoch, i, k) for i, k in zip(order[part].tolist(), before[part].tolist(), strict=True)]
            start += size


@dataclass
class _BatchDataset(Dataset[Any]):
    """Items → a batch. Fitted images of an in-memory source without augmentation stay in memory."""

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
        # An error of ours travels as a value: PyTorch would turn one that is raised in a worker into a text.
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
        # In a worker this writes into the memory that it shares with the main process, which spares a copy.
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
