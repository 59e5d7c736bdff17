"""Auto-RGN: the learning rate of each tensor in proportion to its relative gradient norm (Lee et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor
from torch.optim import Optimizer

from zoo.errors import TrainingError
from zoo.training.forward_pass import ForwardPass
from zoo.training.microbatch import MicroBatcher
from zoo.training.module_state import eval_mode

# As in the authors' code (cchoi1/surgical-finetuning, main.py, get_lr_weights), once per epoch.
_BATCHES = 5


def relative_gradient_norms(
    forward: ForwardPass,
    optimizer: Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    max_batches: int = _BATCHES,
) -> list[float]:
    """A factor in [0, 1] for the learning rate of each parameter group of `optimizer`.

    The mean of ‖gradient‖ / ‖weights‖ over `max_batches` batches, divided by the largest (Lee et al. 2023, 2210.11466,
    section 4). A group of several tensors counts as one vector.

    Differences from the paper: its code leaves batch norm out of the optimizer and treats other biases like weights.
    Here the largest ratio is that of a matrix or kernel, and the ratio of a bias or norm is capped at 1, because a bias
    near zero has an enormous ratio and would lower every learning rate. All-zero weights (a new bias or head) get 1. A
    tensor without gradient gets 0. The model is in evaluation mode, and its buffers, gradients and modes are restored.
    fp16 would lose small gradients: float32 is used instead.

    Raises TrainingError if there is no batch or a gradient is not finite.
    """
    if forward.amp_dtype is torch.float16:
        forward = replace(forward, amp_dtype=None)
    groups = [list(group["params"]) for group in optimizer.param_groups]
    parameters = [p for group in groups for p in group if p.requires_grad]
    sums = torch.zeros(len(groups))
    micro_batcher = MicroBatcher()
    count = 0
    with eval_mode(forward.module):
        for images, on_host in islice(batches, max_batches):
            target = on_host.to(forward.device, non_blocking=True)

            def compute_gradients(
                parts: list[slice], images: Tensor = images, target: Tensor = target
            ) -> dict[int, Tensor]:
                gradients_by_id: dict[int, Tensor] = {}
                for part in parts:
                    with forward.autocast():
                        value = loss(forward(images[part]), target[part]) * ((part.stop - part.start) / len(images))
                    for p, g in zip(parameters, torch.autograd.grad(value, parameters, allow_unused=True), strict=True):
                        if g is not None:
                            gradients_by_id[id(p)] = gradients_by_id[id(p)] + g if id(p) in gradients_by_id else g
                return gradients_by_id

            gradients = micro_batcher.run_batch(len(images), compute_gradients, lambda: None)
            sums += torch.stack([_norm([gradients[id(p)] for p in g if id(p) in gradients]) for g in groups])
            count += 1
    if not count:
        raise TrainingError("Auto-RGN: no training images", "check the data, or leave transfer.auto_rgn out")
    if not bool(torch.isfinite(sums).all()):
        raise TrainingError("Auto-RGN: a gradient is not finite", "try a lower --lr, or --no-amp")
    sizes = torch.stack([_norm([p.detach() for p in group]) for group in groups])
    ratios = torch.where(sizes > 0, sums / count / sizes, torch.inf)
    matrices = torch.tensor([any(p.ndim > 1 for p in group) for group in groups])
    comparable = ratios[matrices & ratios.isfinite()]
    if not len(comparable) or float(comparable.max()) == 0.0:  # only vectors, or a head of zeros blocks the gradients
        comparable = ratios[ratios.isfinite()]
    largest = float(comparable.max()) if len(comparable) else 0.0
    factors = (ratios / largest).clamp(max=1.0) if largest > 0 else ratios.isinf().float()
    return [float(f) for f in factors]


def _norm(tensors: list[Tensor]) -> Tensor:
    """The Euclidean norm of all `tensors` together, on the CPU."""
    if not tensors:
        return torch.zeros(())
    whole: Tensor = torch.stack(torch._foreach_norm([t.float() for t in tensors])).square().sum().sqrt()
    return whole.cpu()
