"""Train strategies in one cell; study.py starts this program once per cell.

stdin: JSON with the cell, `train` and `test` (folders of classes), `weights` (file), `work` (an empty folder), and
`strategies` (name → runner and options). stdout: one JSON line per strategy with top1 in [0, 1], cpu_s (of all
processes started here) and wall_s, or with `error`. One strategy's caches are not there for the next.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import timm
import torch


def cpu_seconds() -> float:
    """User and system time of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def train_zoo(job: dict[str, Any], options: dict[str, Any]) -> float:
    import zoo

    cell = job["cell"]
    run = zoo.finetune(
        cell["backbone"],
        data=job["train"],
        img_size=cell["img_size"],
        seed=cell["seed"],
        workers=0,
        amp=False,
        progress=False,
        output_dir=Path(job["work"], "run"),
        **{"weights": job["weights"], **options},
    )
    return float(zoo.evaluate(run, data=job["test"], workers=0, save=False).evaluation.top1)


def train_peer(name: str) -> Callable[[dict[str, Any], dict[str, Any]], float]:
    def train(job: dict[str, Any], options: dict[str, Any]) -> float:
        import peers

        accuracy: float = getattr(peers, name)(job, **options)
        return accuracy

    return train


# What a runner imports, before its time is taken.
IMPORTS = {
    "zoo": ("zoo.workflows.evaluate", "zoo.workflows.finetune.auto", "zoo.workflows.finetune.run"),
    "logistic": ("sklearn.linear_model",),
    "fastai": ("fastai.vision.all",),
}
RUNNERS = {"zoo": train_zoo, **{name: train_peer(name) for name in ("logistic", "adamw", "fastai")}}


def warm_up(job: dict[str, Any]) -> None:
    """Import and initialise what all strategies share, so that the first one does not pay for it."""
    runners = {strategy["runner"] for strategy in job["strategies"].values()}
    modules = [module for runner in runners for module in IMPORTS.get(runner, ())]
    for module in ("peers", *modules):
        import_module(module)
    model = timm.create_model(job["cell"]["backbone"])
    model(torch.zeros(2, 3, 64, 64)).sum().backward()


def main() -> None:
    out, sys.stdout = sys.stdout, sys.stderr  # stdout is for results only
    job = json.load(sys.stdin)
    work = Path(job["work"])
    warm_up(job)
    for name, strategy in job["strategies"].items():
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        os.environ["ZOO_CACHE"] = str(work / "cache")
        start, wall = cpu_seconds(), time.perf_counter()
        found: dict[str, Any]
        try:
            found = {"top1": RUNNERS[strategy["runner"]](job, strategy["options"])}
        except Exception as e:  # noqa: BLE001 - a strategy that fails must not stop the others
            found = {"error": f"{type(e).__name__}: {e}".splitlines()[0]}
        found |= {"cpu_s": round(cpu_seconds() - start, 2), "wall_s": round(time.perf_counter() - wall, 2)}
        print(json.dumps({"strategy": name, **found}), file=out, flush=True)
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
