"""Auto-RGN: each tensor learns at a rate in proportion to the relative size of its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.errors import TrainingError
from zoo.training.inference import Normalize
from zoo.training.microbatch import MicroBatcher
from zoo.training.module_state import eval_mode

__all__ = ["relative_gradient_norms"]

# As in the authors' code (cchoi1/surgical-finetuning, main.py, get_lr_weights), once an epoch.
_BATCHES = 5


def relative_gradient_norms(
    module: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    normalize: Normalize,
    *,
    device: torch.device,
    amp_dtype: torch.dtype | None = None,
    prepare_target: Callable[[Tensor], Tensor] | None = None,
    max_batches: int = _BATCHES,
) -> list[float]:
    """A factor in [0, 1] for the learning rate of each group of `optimizer`, in its order; one tensor a group is meant.

    The mean of ‖gradient‖ / ‖weights‖ over `max_batches` batches (images (n, C, H, W) uint8, targets), divided by the
    largest (Lee et al. 2023, 2210.11466, section 4: Auto-RGN). A group of several tensors counts as one long vector.

    Where this leaves the paper. Its code leaves batch norm out of the optimizer by name and treats the other biases
    like weights; here the largest is looked for among matrices and kernels, and biases and norms get their own ratio,
    at most 1: a bias near zero has an enormous ratio and would bring every rate down. Weights that are all zero (a new
    bias, a head that starts at zero) have no ratio, and get 1. A tensor without gradient gets 0 and rests until the
    factors are next computed, which the paper does every epoch.

    In evaluation mode (no dropout, running statistics), where the paper keeps the mode it finds: so buffers, gradients
    and modes come out as they went in. fp16 would lose small gradients: they are then computed in fp32.

    Raises TrainingError if there is no batch or a gradient is not finite.
    """
    groups = [list(group["params"]) for group in optimizer.param_groups]
    parameters = [p for group in groups for p in group if p.requires_grad]
    dtype = None if amp_dtype is torch.float16 else amp_dtype
    sums = torch.zeros(len(groups))
    micro_batcher = MicroBatcher()
    count = 0
    with eval_mode(module):
        for on_host, labels in islice(batches, max_batches):
            target = labels.to(device, non_blocking=True)
            target = target if prepare_target is None else prepare_target(target)

            def compute_gradients(
                parts: list[slice], images: Tensor = on_host, target: Tensor = target
            ) -> dict[int, Tensor]:
                gradients_by_id: dict[int, Tensor] = {}
                for part in parts:
                    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                        output = module(normalize(images[part].to(device, non_blocking=True)))
                        value = loss(output, target[part]) * ((part.stop - part.start) / len(images))
                    for p, g in zip(parameters, torch.autograd.grad(value, parameters, allow_unused=True), strict=True):
                        if g is not None:
                            gradients_by_id[id(p)] = gradients_by_id[id(p)] + g if id(p) in gradients_by_id else g
                return gradients_by_id

            gradients = micro_batcher.run_batch(len(on_host), compute_gradients, lambda: None)
            sums += torch.stack([_norm([gradients[id(p)] for p in g if id(p) in gradients]) for g in groups])
            count += 1
    if not count:
        raise TrainingError("Auto-RGN met no images", "check the data, or leave transfer.auto_rgn out")
    if not bool(torch.isfinite(sums).all()):
        raise TrainingError("Auto-RGN met a gradient that is not finite", "try a lower --lr, or --no-amp")
    sizes = torch.stack([_norm([p.detach() for p in group]) for group in groups])
    ratios = torch.where(sizes > 0, sums / count / sizes, torch.inf)
    matrices = torch.tensor([any(p.ndim > 1 for p in group) for group in groups])
    comparable = ratios[matrices & ratios.isfinite()]
    if not len(comparable) or float(comparable.max()) == 0.0:  # nothing but vectors, or all behind a head of zeros
        comparable = ratios[ratios.isfinite()]
    largest = float(comparable.max()) if len(comparable) else 0.0
    factors = (ratios / largest).clamp(max=1.0) if largest > 0 else ratios.isinf().float()
    return [float(f) for f in factors]


def _norm(tensors: list[Tensor]) -> Tensor:
    """Of all numbers in `tensors` together, on the CPU."""
    if not tensors:
        return torch.zeros(())
    whole: Tensor = torch.stack(torch._foreach_norm([t.float() for t in tensors])).square().sum().sqrt()
    return whole.cpu()
