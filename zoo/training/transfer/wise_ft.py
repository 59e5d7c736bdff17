"""WiSE-FT: between the weights before and after fine-tuning there are often better ones than either."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.errors import ModelError

__all__ = ["ALPHAS", "Interpolation", "best_interpolation", "interpolate"]

# Steps of 0.1, as Wortsman et al. 2022 plot; 0 and 1 are the models that are mixed.
ALPHAS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

State = Mapping[str, Tensor]
Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Interpolation:
    """alpha: the share of the tuned weights. state: the mixture. value: its metrics."""

    alpha: float
    state: dict[str, Tensor]
    value: Metrics


def interpolate(start: State, end: State, alpha: float) -> dict[str, Tensor]:
    """(1 − alpha) · start + alpha · end of every tensor of floating type, computed in fp32; the others are `end`'s.

    Wortsman et al. 2022 (2109.01903), section 3: `start` is the model before fine-tuning (here the pretrained backbone
    with the head of LP-FT's first phase). Batch-norm statistics are mixed like weights. Result on `end`'s device and in
    its types; exactly `end` for alpha = 1 and `start`'s floats for 0.

    Raises ModelError if names or shapes differ.
    """
    different = sorted(start.keys() ^ end.keys())
    different += [name for name in start.keys() & end.keys() if start[name].shape != end[name].shape]
    if different:
        raise ModelError(
            f"the two states differ in {', '.join(different[:5])}" + (" and others" if len(different) > 5 else ""),
            "only two states of one architecture can be mixed",
        )
    mixed: dict[str, Tensor] = {}
    for name, tensor in end.items():
        if tensor.is_floating_point():
            begin = start[name].to(tensor.device, torch.float32)
            mixed[name] = torch.lerp(begin, tensor.float(), alpha).to(tensor.dtype)
        else:
            mixed[name] = tensor
    return mixed


def best_interpolation(
    start: State,
    end: State,
    evaluate: Callable[[dict[str, Tensor]], Metrics],
    better: Callable[[Metrics, Metrics], bool],
    alphas: Sequence[float] = ALPHAS,
    *,
    end_metrics: Metrics | None = None,
) -> Interpolation | None:
    """The mixture that validates best, or None if none is strictly better than `end`; of equals the larger alpha.

    evaluate(state) gives the metrics of a state on the validation images, better(a, b) whether `a` is strictly better
    than `b`. end_metrics: the metrics of `end`, if they are known. Costs one validation for each of `alphas`. The
    choice is made on the validation images: a small gain there is partly the choice itself.
    """
    best_metrics = evaluate(dict(end)) if end_metrics is None else end_metrics
    best: Interpolation | None = None
    # Nearest to the tuned weights first: of mixtures with the same value it moves the least.
    for alpha in sorted(alphas, reverse=True):
        state = interpolate(start, end, alpha)
        value = evaluate(state)
        if better(value, best_metrics):
            best, best_metrics = Interpolation(alpha, state, value), value
    return best
