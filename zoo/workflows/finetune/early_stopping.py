"""Which epoch is the best, and when a run stops because it no longer improves."""

from __future__ import annotations

from typing import Any

from zoo import metrics


def is_better(row: dict[str, Any], monitor: str, best: dict[str, Any] | None) -> bool:
    """Whether an epoch is better than the best so far; of two with the same value, the one with the lower loss.

    A small validation set has few different accuracies: the first of many equal epochs is rarely the best of them.
    """
    if best is None or row[f"val_{monitor}"] == best["value"]:
        return best is None or metrics.better("loss", row["val_loss"], best["val_loss"])
    return metrics.better(monitor, row[f"val_{monitor}"], best["value"])


def out_of_patience(epoch: int, best: dict[str, Any] | None, patience: int | None) -> bool:
    """Whether the monitored metric has not improved for `patience` epochs. epoch: number of finished epochs.

    A lower loss at the same value makes an epoch the best one, but does not count here: at 100 % it falls for ever.
    """
    return patience is not None and best is not None and epoch - int(best["reached"]) >= patience


def best_entry(row: dict[str, Any], monitor: str, previous: dict[str, Any] | None) -> dict[str, Any]:
    """The entry `best` of run.json. reached: the first epoch with this value of the monitored metric."""
    value = row[f"val_{monitor}"]
    reached = previous["reached"] if previous is not None and previous["value"] == value else row["epoch"]
    return {
        "epoch": row["epoch"],
        "monitor": monitor,
        "value": value,
        "val_loss": row["val_loss"],
        "reached": reached,
    }


def best_epoch_text(best: dict[str, Any]) -> str:
    """When the best weights were found, to follow their value in a sentence."""
    return f"in epoch {best['epoch']}" if best["epoch"] else "after linear probing, before the first epoch"
