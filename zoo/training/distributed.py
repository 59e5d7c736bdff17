"""Communication between the processes of one training; without effect in a single process.

All processes must call these functions in the same order: one that leaves out a call blocks the others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from zoo import dist_env
from zoo.errors import TrainingError, ZooError

_DUMMY_IMAGES = 2  # images; batch norm cannot train on one


def synchronize_batches(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor, int, float]]:
    """(images, targets, number of images that count, factor on their mean loss) for each batch.

    The factor, own images over the mean number per process, makes the averaged gradient the mean over all images of the
    step. A process with an empty batch takes part with dummy images. All need the same number of batches. A ZooError of
    one process is raised in all.
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
        # On the CPU, over gloo: no wait for the device.
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
    """Whether `value` is true in any process."""
    if dist_env.world_size() == 1:
        return value
    flag = torch.tensor([int(value)])
    dist.all_reduce(flag)
    return bool(flag)


def _first_error(own: ZooError | None) -> ZooError:
    """This process's error, or that of the first process that has one."""
    errors: list[ZooError | None] = [None] * dist_env.world_size()
    dist.all_gather_object(errors, own)
    return own or next(error for error in errors if error is not None)


T = TypeVar("T")


def join(device: torch.device) -> None:
    """Connect to the other processes. Objects use gloo, gradients the device's own backend.

    Raises TrainingError if rank 0 cannot be reached.
    """
    if dist_env.world_size() == 1 or dist.is_initialized():
        return
    try:
        with _stdout_to_stderr():
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as e:
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise TrainingError(
            f"rank {dist_env.rank()} of {dist_env.world_size()} cannot connect to the others: {reason}",
            "start with --processes N, torchrun or accelerate launch, which set the address of rank 0",
        ) from e


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """The gloo of some releases of torch (2.9 for example) prints its number of peers to stdout."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def broadcast_object(value: T) -> T:
    """The value of rank 0, which must be picklable."""
    if not _is_distributed():
        return value
    objects = [value]
    dist.broadcast_object_list(objects, src=0, device=torch.device("cpu"))
    return objects[0]


def gather_object(values: Sequence[T]) -> list[T]:
    """The values of all processes in order of rank. They must be picklable."""
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
    """Each tensor (n, …) on the CPU → (Σn, …): the rows of all processes in order of rank.

    A process without rows may give (0,) or (0, 0).
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
        # gloo needs equal shapes: padding is added and removed.
        own = tensor.new_zeros(longest, *row)
        if len(tensor):
            own[: len(tensor)] = tensor
        parts = [torch.empty_like(own) for _ in sizes]
        dist.all_gather(parts, own)
        gathered.append(torch.cat([part[: size[0]] for part, size in zip(parts, sizes, strict=True)]))
    return tuple(gathered)


@torch.no_grad()
def sync_module_states(module: nn.Module) -> None:
    """Copy the parameters and buffers of rank 0 to every process."""
    if _is_distributed():
        for tensor in [*module.parameters(), *module.buffers()]:
            dist.broadcast(tensor, src=0)


def broadcast_tensors(load: Callable[[], dict[str, Tensor]], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The result of `load`, called in rank 0 only. `like`: names, shapes and dtypes."""
    if not _is_distributed():
        return load()
    gathered = load() if dist_env.is_main_process() else like
    out = {}
    for name in sorted(like):
        out[name] = gathered[name].detach().cpu().clone().contiguous()
        dist.broadcast(out[name], src=0)
    return out


def lost_process_error(error: BaseException) -> TrainingError | None:
    """The error to report if another process has ended; None for any other `error`."""
    lost = False
    with suppress(AttributeError):
        lost = isinstance(error, dist.DistBackendError | dist.DistNetworkError)
    lost = lost or (_is_distributed() and any(word in str(error) for word in ("gloo", "NCCL", "Connection closed")))
    if not lost:
        return None
    return TrainingError(
        f"rank {dist_env.rank()} lost contact with the other processes",
        "see the message of the process that ended; continue the run with --resume",
    )
