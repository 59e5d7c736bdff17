"""Started twice by test_distributed.py: `python -m torch.distributed.run --nproc-per-node 2 two_processes.py DATA OUT`.

Trains each of RECIPES and asks the rooms below what they make of two processes; each process writes OUT/RANK.json.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Plain gradients: Adam divides by their size, and so makes whole steps of the last bits of those that are nearly zero.
SGD = {"amp": False, "opt": "sgd", "lr": 0.02}
VIT = {"model": "test_vit", "weights": "none", "img_size": 32, "epochs": 2, "clip_grad": 1.0, **SGD}
PLAIN = {"augment.name": "none", "transfer.start": "plain"}

# Name → options of two processes; one process with twice the batch gives the same.
RECIPES: dict[str, dict[str, Any]] = {
    "ddp": {**VIT, "batch_size": 7, "settings": PLAIN},
    "accumulated": {**VIT, "batch_size": 5, "grad_accum_steps": 2, "model_ema": True, "settings": PLAIN},
    "fsdp": {**VIT, "opt": "adamw", "lr": 1e-4, "batch_size": 7, "settings": {**PLAIN, "execution.parallel": "fsdp"}},
    "unfrozen": {**VIT, "batch_size": 7, "settings": {**PLAIN, "transfer.unfreeze_every": 1}},
    "cached features": {
        "model": "zoo_tiny", "freeze": "backbone", "linear_probe": "off", "epochs": 2, "batch_size": 7, **SGD,
    },
    "lp-ft": {
        "model": "zoo_tiny", "freeze": "backbone,!layer[34].*conv*", "epochs": 1, "batch_size": 8, **SGD,
        # A loss with which the head takes gradient steps: fitting it chooses a penalty, which last bits can change.
        "settings": {
            "augment.name": "none", "loss.name": "focal", "transfer.probe_epochs": 3, "transfer.wise_ft": True,
        },
    },
}  # fmt: skip


def _errors_are_everyones() -> str:
    from zoo import dist_env
    from zoo.errors import DataError, ZooError
    from zoo.training.distributed import synchronize_batches

    def batches() -> Iterator[tuple[Any, Any]]:
        import torch

        yield torch.zeros(3, 1), torch.zeros(3)
        if dist_env.rank() == 1:
            raise DataError("broken.jpg cannot be read", "fix it")
        yield torch.zeros(3, 1), torch.zeros(3)

    try:
        list(synchronize_batches(batches()))
    except ZooError as e:
        return f"{type(e).__name__}: {e.message}"
    return "none"


def _factors() -> list[tuple[int, int, float]]:
    import torch

    from zoo import dist_env
    from zoo.training.distributed import synchronize_batches

    sizes = ([3, 0], [1, 2])[dist_env.rank()]
    batches = [(torch.zeros(n, 1), torch.zeros(n)) for n in sizes]
    return [(len(images), count, factor) for images, _, count, factor in synchronize_batches(batches)]


def _gathered() -> list[Any]:
    import torch

    from zoo import dist_env
    from zoo.training.distributed import broadcast_object, broadcast_tensors, gather_object, gather_tensors, total

    rank = dist_env.rank()
    rows = gather_tensors(torch.full((2, 3), float(rank)) if rank else torch.empty(0, 0), torch.arange(2 * rank))
    first = broadcast_tensors(lambda: {"a": torch.ones(2)}, {"a": torch.zeros(2)})
    return [
        rows[0].tolist(), rows[1].tolist(), broadcast_object(f"of {rank}"), gather_object([rank] * (rank + 1)),
        total(torch.tensor([rank + 1])).tolist(), first["a"].tolist(),
    ]  # fmt: skip


def main(data: str, out: str) -> None:
    import zoo
    from zoo import dist_env

    folder = Path(out)
    found: dict[str, Any] = {}
    for name, options in RECIPES.items():
        run = zoo.finetune(data=data, output_dir=folder / name.replace(" ", "-"), **options)
        found[name] = type(run).__name__
    found |= {"errors": _errors_are_everyones(), "factors": _factors(), "gathered": _gathered()}
    (folder / f"{dist_env.rank()}.json").write_text(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
