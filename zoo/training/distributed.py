"""What several processes that train one model tell each other; for a process alone each of these costs nothing.

All processes call them in the same order: a process that leaves one out holds up the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from zoo import dist_env
from zoo.errors import TrainingError, ZooError

__all__ = [
    "agree",
    "any_of_all",
    "gather_lists",
    "gather_rows",
    "in_step",
    "join",
    "make_same",
    "tensors_of_first",
    "total",
    "translated",
]

_STAND_IN = 2  # images; batch normalisation cannot train on one


def in_step(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor, int, float]]:
    """(images, targets, how many of them count, factor on their mean loss) for each batch.

    The processes' gradients are averaged. The factor, own images over the mean number of images in a process, makes
    that the mean over all images of the step, however many each process has. One whose batch came empty takes part
    with images that do not count. All must have the same number of batches.

    Raises the ZooError of the batches in every process, whichever it came about in.
    """
    if dist_env.count() == 1:
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
        yield images, targets, own, own * dist_env.count() / max(images_in_all, 1)


def any_of_all(here: bool) -> bool:
    """Whether it is so in any process."""
    if dist_env.count() == 1:
        return here
    flag = torch.tensor([int(here)])
    dist.all_reduce(flag)
    return bool(flag)


def _first_error(own: ZooError | None) -> ZooError:
    """The own error, or that of the first process that has one."""
    errors: list[ZooError | None] = [None] * dist_env.count()
    dist.all_gather_object(errors, own)
    return own or next(error for error in errors if error is not None)


T = TypeVar("T")


def join(device: torch.device) -> None:
    """Meet the other processes, if the launcher started several. Words go over gloo, gradients over the device's own.

    Raises TrainingError if the first process cannot be reached.
    """
    if dist_env.count() == 1 or dist.is_initialized():
        return
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as e:
        raise TrainingError(
            f"process {dist_env.rank()} of {dist_env.count()} cannot meet the others: {_line(e)}",
            "start it with --processes N, torchrun or accelerate launch, which say where to meet",
        ) from e


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def agree(value: T) -> T:
    """The first process's value, for what each may have measured differently. It must be picklable."""
    if not _together():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def gather_lists(values: Sequence[T]) -> list[T]:
    """The values of all processes, those of the first one first. They must be picklable."""
    if not _together():
        return list(values)
    lists: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(lists, list(values))
    return [value for each in lists for value in each]


def total(tensor: Tensor) -> Tensor:
    """The sum over the processes, in place."""
    if _together():
        dist.all_reduce(tensor)
    return tensor


def gather_rows(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Each tensor (n, …) on the CPU → (Σn, …): the rows of all processes, those of the first one first.

    A process without rows may not know the other dimensions: its tensor is (0,) or (0, 0).
    """
    if not _together():
        return tensors
    shapes: list[list[torch.Size]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(shapes, [t.shape for t in tensors])
    found = []
    for number, tensor in enumerate(tensors):
        sizes = [shape[number] for shape in shapes]
        row = max((size[1:] for size in sizes if size[0]), default=tensor.shape[1:])
        longest = max(size[0] for size in sizes)
        # gloo wants equal shapes: the rest is padding, and cut off again.
        own = tensor.new_zeros(longest, *row)
        if len(tensor):
            own[: len(tensor)] = tensor
        parts = [torch.empty_like(own) for _ in sizes]
        dist.all_gather(parts, own)
        found.append(torch.cat([part[: size[0]] for part, size in zip(parts, sizes, strict=True)]))
    return tuple(found)


@torch.no_grad()
def make_same(module: nn.Module) -> None:
    """Give every process the first one's parameters and buffers, to the last bit."""
    if _together():
        for tensor in [*module.parameters(), *module.buffers()]:
            dist.broadcast(tensor, src=0)


def tensors_of_first(load: Callable[[], dict[str, Tensor]], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `load` gives in the first process, which alone calls it. `like`: names, shapes and types, in each."""
    if not _together():
        return load()
    found = load() if dist_env.is_first() else like
    out = {}
    for name in sorted(like):
        out[name] = found[name].detach().cpu().clone().contiguous()
        dist.broadcast(out[name], src=0)
    return out


def translated(error: BaseException) -> TrainingError | None:
    """What to say if `error` is that another process has gone; None if it is something else."""
    lost = False
    with suppress(AttributeError):
        lost = isinstance(error, dist.DistBackendError | dist.DistNetworkError)
    lost = lost or (_together() and any(word in str(error) for word in ("gloo", "NCCL", "Connection closed")))
    if not lost:
        return None
    return TrainingError(
        f"process {dist_env.rank()} has lost the others",
        "another process has ended: its message says why; the run can be continued with --resume",
    )


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
