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
    "any_rank",
    "broadcast_object",
    "broadcast_tensors",
    "gather_object",
    "gather_tensors",
    "join",
    "lost_process_error",
    "sync_module_states",
    "synchronize_batches",
    "total",
]

_DUMMY_IMAGES = 2  # images; batch normalisation cannot train on one


def synchronize_batches(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor, int, float]]:
    """(images, targets, how many of them count, factor on their mean loss) for each batch.

    The processes' gradients are averaged. The factor, own images over the mean number of images in a process, makes
    that the mean over all images of the step, however many each process has. One whose batch came empty takes part
    with images that do not count. All must have the same number of batches.

    Raises the ZooError of the batches in every process, whichever it came about in.
    """
    if dist_env.world_size() == 1:
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
            images = images.new_zeros(_DUMMY_IMAGES, *images.shape[1:])
            targets = targets.new_zeros(_DUMMY_IMAGES, *targets.shape[1:])
        yield images, targets, own, own * dist_env.world_size() / max(images_in_all, 1)


def any_rank(value: bool) -> bool:
    """Whether it is so in any process."""
    if dist_env.world_size() == 1:
        return value
    flag = torch.tensor([int(value)])
    dist.all_reduce(flag)
    return bool(flag)


def _first_error(own: ZooError | None) -> ZooError:
    """The own error, or that of the first process that has one."""
    errors: list[ZooError | None] = [None] * dist_env.world_size()
    dist.all_gather_object(errors, own)
    return own or next(error for error in errors if error is not None)


T = TypeVar("T")


def join(device: torch.device) -> None:
    """Meet the other processes, if the launcher started several. Words go over gloo, gradients over the device's own.

    Raises TrainingError if the first process cannot be reached.
    """
    if dist_env.world_size() == 1 or dist.is_initialized():
        return
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as e:
        raise TrainingError(
            f"process {dist_env.rank()} of {dist_env.world_size()} cannot meet the others: {_first_line(e)}",
            "start it with --processes N, torchrun or accelerate launch, which say where to meet",
        ) from e


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def broadcast_object(value: T) -> T:
    """The first process's value, for what each may have measured differently. It must be picklable."""
    if not _is_distributed():
        return value
    objects = [value]
    dist.broadcast_object_list(objects, src=0, device=torch.device("cpu"))
    return objects[0]


def gather_object(values: Sequence[T]) -> list[T]:
    """The values of all processes, those of the first one first. They must be picklable."""
    if not _is_distributed():
        return list(values)
    lists: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(lists, list(values))
    return [value for each in lists for value in each]


def total(tensor: Tensor) -> Tensor:
    """The sum over the processes, in place."""
    if _is_distributed():
        dist.all_reduce(tensor)
    return tensor


def gather_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Each tensor (n, …) on the CPU → (Σn, …): the rows of all processes, those of the first one first.

    A process without rows may not know the other dimensions: its tensor is (0,) or (0, 0).
    """
    if not _is_distributed():
        return tensors
    shapes: list[list[torch.Size]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(shapes, [t.shape for t in tensors])
    gathered = []
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
        gathered.append(torch.cat([part[: size[0]] for part, size in zip(parts, sizes, strict=True)]))
    return tuple(gathered)


@torch.no_grad()
def sync_module_states(module: nn.Module) -> None:
    """Give every process the first one's parameters and buffers, to the last bit."""
    if _is_distributed():
        for tensor in [*module.parameters(), *module.buffers()]:
            dist.broadcast(tensor, src=0)


def broadcast_tensors(load: Callable[[], dict[str, Tensor]], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `load` gives in the first process, which alone calls it. `like`: names, shapes and types, in each."""
    if not _is_distributed():
        return load()
    gathered = load() if dist_env.is_main_process() else like
    out = {}
    for name in sorted(like):
        out[name] = gathered[name].detach().cpu().clone().contiguous()
        dist.broadcast(out[name], src=0)
    return out


def lost_process_error(error: BaseException) -> TrainingError | None:
    """What to say if `error` is that another process has gone; None if it is something else."""
    lost = False
    with suppress(AttributeError):
        lost = isinstance(error, dist.DistBackendError | dist.DistNetworkError)
    lost = lost or (_is_distributed() and any(word in str(error) for word in ("gloo", "NCCL", "Connection closed")))
    if not lost:
        return None
    return TrainingError(
        f"process {dist_env.rank()} has lost the others",
        "another process has ended: its message says why; the run can be continued with --resume",
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
