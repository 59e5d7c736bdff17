"""The device of a run, and its Accelerator."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs

from zoo import dist_env
from zoo.errors import UsageError

_PRECISIONS = {None: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}


def pick_device(name: str) -> torch.device:
    """auto (the first accelerator, else the CPU), cpu, cuda, cuda:N or mps; one GPU for each process on a host.

    Raises UsageError if it is not available.
    """
    if name == "auto":
        if torch.cuda.is_available():
            name = "cuda"
        else:
            return torch.device("mps" if torch.backends.mps.is_available() and dist_env.world_size() == 1 else "cpu")
    if name == "cuda" and dist_env.world_size() > 1:
        if dist_env.local_world_size() > torch.cuda.device_count():
            raise UsageError(
                f"{dist_env.local_world_size()} processes on a host where torch finds {torch.cuda.device_count()} "
                "CUDA devices",
                "give as many --processes as there are GPUs, or --device cpu",
            )
        return torch.device("cuda", dist_env.local_rank())
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"no device {name!r}", "known: auto, cpu, cuda, cuda:N, mps") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UsageError(
                f"device {name!r} is not available: torch finds {count} CUDA devices", "use --device cpu or auto"
            )
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device 'mps' is not available", "use --device cpu or auto")
    elif device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"no device {name!r}", "known: auto, cpu, cuda, cuda:N, mps")
    return device


def make_accelerator(
    device: torch.device, amp_dtype: torch.dtype | None, *, find_unused_parameters: bool = False
) -> Accelerator:
    """accelerate's Accelerator on `device`: autocast, loss scaling for fp16, backward, clipping, gradient exchange.

    find_unused_parameters: whether trainable parameters may get no gradient in a step (slightly slower).
    """
    # accelerate keeps precision and device of the first Accelerator in the process.
    AcceleratorState._reset_state()
    PartialState._reset_state()
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return Accelerator(
        mixed_precision=_PRECISIONS[amp_dtype],
        cpu=device.type == "cpu",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=find_unused_parameters)],
    )


def device_name(device: torch.device) -> str:
    """The device with the name of a GPU, for messages."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type
