"""What a training epoch reads: the interface of a loader."""

from __future__ import annotations

from typing import Any, Protocol


class Batches(Protocol):
    """(images (n, C, H, W) uint8, targets (n,) int64 or (n, K) float32), in a new order for each epoch."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Any: ...
    def set_epoch(self, epoch: int) -> None: ...
