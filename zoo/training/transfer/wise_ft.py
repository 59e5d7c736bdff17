"""WiSE-FT: averages of the weights before and after fine-tuning, which are often better than both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.errors import ModelError

# Steps of 0.1, as plotted by Wortsman et al. 2022; 0 and 1 are the averaged models.
ALPHAS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

State = Mapping[str, Tensor]
Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Interpolation:
    """alpha: weight of the fine-tuned model. state: the average. value: its metrics."""

    alpha: float
    state: dict[str, Tensor]
    value: Metrics


def interpolate(start: State, end: State, alpha: float) -> dict[str, Tensor]:
    """(1 − alpha) · start + alpha · end for floating-point tensors, computed in float32; the others are `end`'s.

    Wortsman et al. 2022 (2109.01903), section 3; `start` is the pretrained backbone with the head of LP-FT's linear
    probing. Batch-norm statistics are averaged too. Raises ModelError if names or shapes differ.
    """
    different = sorted(start.keys() ^ end.keys())
    different += [name for name in start.keys() & end.keys() if start[name].shape != end[name].shape]
    if different:
        raise ModelError(
            f"the two states differ in {', '.join(different[:5])}" + (" and others" if len(different) > 5 else ""),
            "only models of the same architecture can be averaged",
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
    """The best average on the validation images, or None if none is better than `end`; one validation per alpha.

    evaluate(state) → metrics; better(a, b): whether `a` is strictly better than `b`; end_metrics: those of `end`, if
    known. The choice is made on the validation images: part of a small gain is the choice itself.
    """
    best_metrics = evaluate(dict(end)) if end_metrics is None else end_metrics
    best: Interpolation | None = None
    # From the fine-tuned weights: of equal averages the nearest to them is taken.
    for alpha in sorted(alphas, reverse=True):
        state = interpolate(start, end, alpha)
        value = evaluate(state)
        if better(value, best_metrics):
            best, best_metrics = Interpolation(alpha, state, value), value
    return best
