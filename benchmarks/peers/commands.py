"""What each peer is asked to run in each scenario, and where it says how well it did."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BATCH, WORKERS = 32, 2
# Of head only: zoo's recipe `head-only`. Of more: zoo's recipe `full`, whose head learns at 1e-3 then.
_RATES = {"head-only": ("1e-2", "1e-4"), "last-stage": ("3e-4", "0.05"), "full": ("3e-4", "0.05")}
# Crops of 8 to 100 % of the area and mirroring, as the others do by default.
_COLOURS = ("brightness", "contrast", "saturation")
CROPS = ["augment.params.scale=[0.08,1.0]", *(f"augment.params.{colour}=0" for colour in _COLOURS)]
ON_STEPS = ("hand", "hand-best", "hf", "hf-best", "fastai")
PEERS = {
    "head-only": ("zoo", "zoo-again", *ON_STEPS),
    "last-stage": ("zoo", "zoo-again", *ON_STEPS),
    "full": ("zoo", "timm", "timm-best", "torchvision", *ON_STEPS),
    "memory": ("zoo", "zoo-again", *ON_STEPS),
    "first-step": ("imports", "zoo", "zoo-warm", "zoo-head"),
    "synthetic": ("zoo",),
}
TITLES = {
    "zoo": "zoo",
    "zoo-again": "zoo, second run at another rate",
    "zoo-warm": "zoo, execution measured by an earlier run",
    "zoo-head": "zoo, head only, features computed before",
    "hand": "hand-written loop, fp32",
    "hand-best": "hand-written loop, bf16, channels_last",
    "hf": "Hugging Face Trainer, fp32",
    "hf-best": "Hugging Face Trainer, bf16, channels_last",
    "fastai": "fastai",
    "timm": "timm train.py, fp32",
    "timm-best": "timm train.py, bf16, channels_last",
    "torchvision": "torchvision's reference, its own resnet34 from random weights",
    "imports": "import torch, torchvision, timm; build the model",
}


class Missing(Exception):
    """A peer's own script is not here."""


@dataclass(frozen=True)
class Job:
    """command, and a function of (its stdout, the folder it ran in) that gives the top-1 of its last epoch."""

    command: list[str]
    top1: Callable[[str, Path], float | None]
    env: dict[str, str]


@dataclass(frozen=True)
class Asked:
    """scenario: one of PEERS. kept: ZOO_CACHE of this scenario. zoo: further arguments of `zoo finetune`."""

    scenario: str
    model: str
    data: Path
    weights: Path
    epochs: int
    kept: Path
    zoo: str = ""


def job(peer: str, asked: Asked) -> Job:
    """Raises Missing."""
    if peer == "imports":
        build = f"import torch, torchvision, timm; timm.create_model({asked.model!r}, num_classes=10)"
        return Job([sys.executable, "-c", build], lambda out, folder: None, {})
    if peer.startswith("zoo"):
        return _zoo(peer, asked)
    if peer.startswith("timm"):
        return _timm(peer, asked)
    if peer == "torchvision":
        return _torchvision(asked)
    script = {"hand": "hand.py", "hf": "hf_trainer.py", "fastai": "fastai_run.py"}[peer.removesuffix("-best")]
    kind = "head-only" if asked.scenario == "memory" else asked.scenario
    rate, decay = _RATES[kind]
    command = [
        sys.executable, str(HERE / script), str(asked.data), "--model", asked.model, "--weights", str(asked.weights),
        "--epochs", str(asked.epochs), "--lr", rate, "--weight-decay", decay, "--batch-size", str(BATCH),
        "--workers", str(WORKERS), "--freeze", {"head-only": "backbone", "full": "none"}.get(kind, kind),
    ]  # fmt: skip
    if peer.endswith("-best"):
        command += ["--bf16", "--channels-last"]
    return Job(command, lambda out, folder: float(json.loads(out.splitlines()[-1])["top1"]), {})


def _zoo(peer: str, asked: Asked) -> Job:
    """As its user would: the recipe's own defaults, everything that it measures for itself left to it."""
    env = {"ZOO_CACHE": f"{asked.kept}-head" if peer == "zoo-head" else str(asked.kept)}
    given = [asked.model, "--data", str(asked.data), "--weights", str(asked.weights), "--batch-size", str(BATCH)]
    if asked.scenario == "synthetic":
        return Job([sys.executable, "-m", "zoo", "bench", *given, *sets(CROPS), "--json"], _share, env)
    kind = {"memory": "head-only", "first-step": "full"}.get(asked.scenario, asked.scenario)
    kind = "head-only" if peer == "zoo-head" else kind
    if kind == "head-only":
        given += ["--freeze", "backbone"]
    elif kind == "last-stage":
        given += ["--freeze", "layer3", *sets(["augment.name=none"])]
    else:
        given += sets(CROPS)
    if peer == "zoo-again":
        given += ["--head-lr" if kind == "last-stage" else "--lr", "0.003"]
    given += ["--epochs", str(asked.epochs), "--output-dir", "run", *shlex.split(asked.zoo)]
    if asked.scenario == "first-step":
        return Job([sys.executable, str(HERE / "first_step.py"), "finetune", *given], lambda out, folder: None, env)
    return Job([sys.executable, "-m", "zoo", "finetune", *given, "--json"], _last_row, env)


def sets(assignments: list[str]) -> list[str]:
    return [part for text in assignments for part in ("--set", text)]


def _last_row(out: str, folder: Path) -> float:
    told = json.loads(out)
    return float(told["metrics"][-1]["val_top1"] if told["metrics"] else told["best"]["value"])


def _share(out: str, folder: Path) -> float:
    return float(json.loads(out)["share_of_synthetic"])


def _timm(peer: str, asked: Asked) -> Job:
    """Its defaults, but for what all share: batch, workers, optimizer, rate, augmentation, a schedule of all epochs."""
    rate, decay = _RATES["full"]
    command = [
        sys.executable, own_script("TIMM_TRAIN", "train.py of timm's repository"), str(asked.data),
        "--train-split", "train", "--val-split", "val", "--model", asked.model, "--num-classes", "10",
        "--pretrained", "--pretrained-path", str(asked.weights), "-b", str(BATCH), "-j", str(WORKERS),
        "--epochs", str(asked.epochs), "--warmup-epochs", "0", "--opt", "adamw", "--lr", rate, "--weight-decay", decay,
        "--color-jitter", "0", "--smoothing", "0", "--device", "cpu", "--output", "out", "--experiment", "timm",
    ]  # fmt: skip
    if peer == "timm-best":
        command += ["--amp", "--amp-dtype", "bfloat16", "--channels-last"]

    def top1(out: str, folder: Path) -> float:
        with (folder / "out" / "timm" / "summary.csv").open() as file:
            return float(list(csv.DictReader(file))[-1]["eval_top1"]) / 100

    return Job(command, top1, {})


def _torchvision(asked: Asked) -> Job:
    """Only its own models, and no weights for other classes: its time is like for like, its top-1 is not."""
    if asked.model != "resnet34":
        raise Missing(f"torchvision has no {asked.model}")
    rate, decay = _RATES["full"]
    script = own_script("TORCHVISION_TRAIN", "references/classification/train.py of torchvision's repository")
    command = [
        sys.executable, script, "--data-path", str(asked.data), "--model", asked.model, "--device", "cpu",
        "-b", str(BATCH), "-j", str(WORKERS), "--epochs", str(asked.epochs), "--opt", "adamw", "--lr", rate,
        "--wd", decay, "--lr-scheduler", "cosineannealinglr", "--output-dir", "out",
    ]  # fmt: skip
    found = re.compile(r"Acc@1 ([\d.]+)")
    return Job(command, lambda out, folder: float(found.findall(out)[-1]) / 100, {})


def own_script(variable: str, what: str) -> str:
    path = os.environ.get(variable, "")
    if not Path(path).is_file():
        raise Missing(f"{variable} does not name {what}")
    return path
