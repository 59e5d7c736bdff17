"""Statistics that are accumulated batch by batch, and from which metrics are computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor


class Gather(Protocol):
    """Each tensor (n, …) → (Σn, …), the rows of all processes in the order of their ranks."""

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]: ...


class Statistic(ABC):
    @abstractmethod
    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch: outputs (n, K, …) float32 and its targets, both on the CPU."""

    @abstractmethod
    def merge(self, gather: Gather) -> None:
        """Combine the statistics of all processes."""


S = TypeVar("S", bound=Statistic)


@dataclass(frozen=True)
class StreamingMetric(Generic[S]):
    """A metric that is computed from a statistic, without all outputs in memory."""

    statistic: Callable[[], S]
    function: Callable[[S], float]

    def __call__(self, statistic: S) -> float:
        return self.function(statistic)


def streaming(statistic: Callable[[], S]) -> Callable[[Callable[[S], float]], StreamingMetric[S]]:
    """Decorator of a metric `(statistic) -> float`. Functions without it take (outputs, targets) of all images."""
    return lambda function: StreamingMetric(statistic, function)


class Collected(Statistic):
    """All outputs and targets, for metrics that need every score."""

    def __init__(self) -> None:
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self._outputs.append(outputs)
        self._targets.append(targets)

    def merge(self, gather: Gather) -> None:
        outputs, targets = gather(self.outputs, self.targets)
        self._outputs, self._targets = [outputs], [targets]

    @property
    def outputs(self) -> Tensor:
        """(N, K) float32."""
        return _concatenate(self._outputs, torch.empty(0, 0))

    @property
    def targets(self) -> Tensor:
        """(N,) int64 or (N, K) float32."""
        return _concatenate(self._targets, torch.empty(0, dtype=torch.int64))


def _concatenate(parts: list[Tensor], empty: Tensor) -> Tensor:
    if len(parts) > 1:
        parts[:] = [torch.cat(parts)]
    return parts[0] if parts else empty


class Counts(Statistic):
    """Counts that are added up over batches."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None

    @abstractmethod
    def count(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """int64 counts of a batch, of the same shape for every batch."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        counts = self.count(outputs, targets)
        self._sum = counts if self._sum is None else self._sum + counts

    def merge(self, gather: Gather) -> None:
        (rows,) = gather(torch.empty(0, dtype=torch.int64) if self._sum is None else self._sum[None])
        if len(rows):
            self._sum = rows.sum(0)

    @property
    def counts(self) -> Tensor:
        """int64; 0 before the first batch."""
        return torch.tensor(0) if self._sum is None else self._sum


class ImageCount(Counts):
    """The number of images, a tensor without dimensions."""

    def count(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.tensor(len(targets))


class ConfusionMatrix(Counts):
    """(K, K) images, or pixels of masks: row = true class, column = predicted class.

    Shape:
        outputs (n, K) or (n, K, H, W), targets (n,) or (n, H, W) in 0..K-1.
    """

    def count(self, outputs: Tensor, targets: Tensor) -> Tensor:
        classes = outputs.shape[1]
        pairs = targets * classes + outputs.argmax(1)
        return torch.bincount(pairs.flatten(), minlength=classes * classes).view(classes, classes)
