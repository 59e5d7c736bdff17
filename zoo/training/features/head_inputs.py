"""The inputs of a model's classifier, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zoo.training.microbatch import MicroBatcher

_Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]


@torch.no_grad()
def head_inputs(
    layer: nn.Module,
    forward: Callable[[Tensor], Any],
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    images: int,
    memory: int,
    device: torch.device,
    amp_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor] | None:
    """Inputs (n, …) of the head `layer` for the first n images of `batches`, and their targets.

    forward(batch) → the model's output on `device`, under autocast to `amp_dtype`. n is at most `images`, and fits in
    `memory` bytes. None if the head is not called exactly once with one batched tensor, or its output is not the
    model's.
    """
    calls: _Calls = []
    buffer: Tensor | None = None
    targets: list[Tensor] = []
    filled = 0
    micro_batcher = MicroBatcher()

    def pass_through(images: Tensor, part: slice) -> tuple[Any, Tensor | None]:
        calls.clear()
        output = forward(images[part])
        return output, _single_input(calls, part.stop - part.start)

    # A hook, because models compute the head's input in different ways, but all of them call the head.
    hook = layer.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
    try:
        for batch, target in batches:
            results = micro_batcher.each(len(batch), partial(pass_through, batch))
            captured = [inputs for _, inputs in results if inputs is not None]
            if len(captured) < len(results):
                return None
            inputs = captured[0] if len(captured) == 1 else torch.cat(captured)
            if buffer is None:
                with torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
                    recomputed = layer(captured[0])
                if not _allclose(recomputed, results[0][0], 1e-5 if amp_dtype is None else 1e-2):
                    return None
                max_rows = max(memory // (inputs[0].numel() * inputs.element_size()), 1)
                # At full size: on the CPU, memory that is never written costs nothing.
                buffer = inputs.new_empty(min(max_rows, images), *inputs.shape[1:])
            part = inputs[: len(buffer) - filled]
            buffer[filled : filled + len(part)] = part
            targets.append(target[: len(part)])
            filled += len(part)
            if filled == len(buffer):
                break
    finally:
        hook.remove()
    return None if buffer is None else (buffer[:filled], torch.cat(targets))


def _single_input(calls: _Calls, images: int) -> Tensor | None:
    if len(calls) != 1:
        return None
    args, kwargs = calls[0]
    if kwargs or len(args) != 1 or not isinstance(args[0], Tensor) or len(args[0]) != images:
        return None
    return args[0]


def _allclose(recomputed: Any, output: Any, tolerance: float) -> bool:
    if not isinstance(output, Tensor) or not isinstance(recomputed, Tensor) or recomputed.shape != output.shape:
        return False
    return torch.allclose(recomputed.float(), output.float(), rtol=tolerance, atol=tolerance)
