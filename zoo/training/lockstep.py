"""Several processes go through their batches together: each step is everyone's, and an error is everyone's, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from zoo import processes
from zoo.errors import ZooError

__all__ = ["any_of_all", "in_step"]

_STAND_IN = 2  # images; batch normalisation cannot train on one


def in_step(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor, int, float]]:
    """(images, targets, how many of them count, factor on their mean loss) for each batch.

    The processes' gradients are averaged. The factor, own images over the mean number of images in a process, makes
    that the mean over all images of the step, however many each process has. One whose batch came empty takes part
    with images that do not count. All must have the same number of batches.

    Raises the ZooError of the batches in every process, whichever it came about in.
    """
    if processes.count() == 1:
        for images, targets in batches:
            yield images, targets, len(images), 1.0
        return
    source = iter(batches)
    while True:
        batch: tuple[Tensor, Tensor] | None = None
        error: ZooError | None = None
        try:
            batch = next(source, None)
        except ZooError as e:
            error = e
        # On the CPU, over gloo: the device is not waited for.
        counts = torch.tensor([0 if batch is None else len(batch[0]), int(error is not None), int(batch is None)])
        dist.all_reduce(counts)
        images_in_all, failed, ended = counts.tolist()
        if failed:
            raise _first_error(error)
        if ended:
            return
        assert batch is not None
        images, targets = batch
        own = len(images)
        if not own:
            images = images.new_zeros(_STAND_IN, *images.shape[1:])
            targets = targets.new_zeros(_STAND_IN, *targets.shape[1:])
        yield images, targets, own, own * processes.count() / max(images_in_all, 1)


def any_of_all(here: bool) -> bool:
    """Whether it is so in any process."""
    if processes.count() == 1:
        return here
    flag = torch.tensor([int(here)])
    dist.all_reduce(flag)
    return bool(flag)


def _first_error(own: ZooError | None) -> ZooError:
    """The own error, or that of the first process that has one."""
    errors: list[ZooError | None] = [None] * processes.count()
    dist.all_gather_object(errors, own)
    return own or next(error for error in errors if error is not None)
