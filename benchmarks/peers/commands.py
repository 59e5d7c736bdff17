"""The command of each tool in each scenario, and where its accuracy is read."""

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
# Learning rate and weight decay: of the recipe `head-only`, else of the recipe `full`, in which the head has 1e-3.
_LR_AND_DECAY = {"head-only": ("1e-2", "1e-4"), "last-stage": ("3e-4", "0.05"), "full": ("3e-4", "0.05")}
# Crops of 8 to 100 % of the area and horizontal flips, the defaults of the other tools.
_COLOURS = ("brightness", "contrast", "saturation")
CROPS = ["augment.params.scale=[0.08,1.0]", *(f"augment.params.{colour}=0" for colour in _COLOURS)]
GRADIENT_STEPS = ("hand", "hand-best", "hf", "hf-best", "fastai")
PEERS = {
    "head-only": ("zoo", "zoo-again", *GRADIENT_STEPS),
    "last-stage": ("zoo", "zoo-again", *GRADIENT_STEPS),
    "full": ("zoo", "timm", "timm-best", "torchvision", *GRADIENT_STEPS),
    "memory": ("zoo", "zoo-again", *GRADIENT_STEPS),
    "first-step": ("imports", "zoo", "zoo-warm", "zoo-head"),
    "synthetic": ("zoo",),
}
TITLES = {
    "zoo": "zoo",
    "zoo-again": "zoo, second run, other learning rate",
    "zoo-warm": "zoo, a later run",
    "zoo-head": "zoo, head only, cached features",
    "hand": "hand-written loop, fp32",
    "hand-best": "hand-written loop, bf16, channels_last",
    "hf": "Hugging Face Trainer, fp32",
    "hf-best": "Hugging Face Trainer, bf16, channels_last",
    "fastai": "fastai",
    "timm": "timm train.py, fp32",
    "timm-best": "timm train.py, bf16, channels_last",
    "torchvision": "torchvision's reference script, its own resnet34 from random weights",
    "imports": "baseline: import torch, torchvision, timm; build the model",
}


class Missing(Exception):
    """The script of a tool is not available."""


@dataclass(frozen=True)
class Job:
    """A command, and a function that returns the top-1 accuracy of its last epoch from (stdout, its working folder)."""

    command: list[str]
    top1: Callable[[str, Path], float | None]
    env: dict[str, str]


@dataclass(frozen=True)
class Config:
    """scenario: a key of PEERS. cache: ZOO_CACHE of this scenario. zoo: further arguments of `zoo finetune`."""

    scenario: str
    model: str
    data: Path
    weights: Path
    epochs: int
    cache: Path
    zoo: str = ""


def job(peer: str, config: Config) -> Job:
    """Raises Missing."""
    if peer == "imports":
        build = f"import torch, torchvision, timm; timm.create_model({config.model!r}, num_classes=10)"
        return Job([sys.executable, "-c", build], lambda out, folder: None, {})
    if peer.startswith("zoo"):
        return _zoo(peer, config)
    if peer.startswith("timm"):
        return _timm(peer, config)
    if peer == "torchvision":
        return _torchvision(config)
    script = {"hand": "hand.py", "hf": "hf_trainer.py", "fastai": "fastai_run.py"}[peer.removesuffix("-best")]
    kind = "head-only" if config.scenario == "memory" else config.scenario
    lr, decay = _LR_AND_DECAY[kind]
    command = [
        sys.executable, str(HERE / script), str(config.data), "--model", config.model, "--weights", str(config.weights),
        "--epochs", str(config.epochs), "--lr", lr, "--weight-decay", decay, "--batch-size", str(BATCH),
        "--workers", str(WORKERS), "--freeze", {"head-only": "backbone", "full": "none"}.get(kind, kind),
    ]  # fmt: skip
    if peer.endswith("-best"):
        command += ["--bf16", "--channels-last"]
    return Job(command, lambda out, folder: float(json.loads(out.splitlines()[-1])["top1"]), {})


def _zoo(peer: str, config: Config) -> Job:
    """With the defaults of the recipe; what zoo measures itself is not set."""
    env = {"ZOO_CACHE": f"{config.cache}-head" if peer == "zoo-head" else str(config.cache)}
    arguments = [config.model, "--data", str(config.data), "--weights", str(config.weights), "--batch-size", str(BATCH)]
    if config.scenario == "synthetic":
        return Job([sys.executable, "-m", "zoo", "bench", *arguments, *sets(CROPS), "--json"], _share, env)
    kind = {"memory": "head-only", "first-step": "full"}.get(config.scenario, config.scenario)
    kind = "head-only" if peer == "zoo-head" else kind
    if kind == "head-only":
        arguments += ["--freeze", "backbone"]
    elif kind == "last-stage":
        arguments += ["--freeze", "layer3", *sets(["augment.name=none"])]
    else:
        arguments += sets(CROPS)
    if peer == "zoo-again":
        arguments += ["--head-lr" if kind == "last-stage" else "--lr", "0.003"]
    arguments += ["--epochs", str(config.epochs), "--output-dir", "run", *shlex.split(config.zoo)]
    if config.scenario == "first-step":
        return Job([sys.executable, str(HERE / "first_step.py"), "finetune", *arguments], lambda out, folder: None, env)
    return Job([sys.executable, "-m", "zoo", "finetune", *arguments, "--json"], _last_row, env)


def sets(assignments: list[str]) -> list[str]:
    return [part for text in assignments for part in ("--set", text)]


def _last_row(out: str, folder: Path) -> float:
    run = json.loads(out)
    return float(run["metrics"][-1]["val_top1"] if run["metrics"] else run["best"]["value"])


def _share(out: str, folder: Path) -> float:
    return float(json.loads(out)["share_of_synthetic"])


def _timm(peer: str, config: Config) -> Job:
    """Default settings, except those that all tools share: batch size, workers, optimizer, learning rate, augmentation,
    number of epochs."""
    lr, decay = _LR_AND_DECAY["full"]
    command = [
        sys.executable, own_script("TIMM_TRAIN", "train.py of timm's repository"), str(config.data),
        "--train-split", "train", "--val-split", "val", "--model", config.model, "--num-classes", "10",
        "--pretrained", "--pretrained-path", str(config.weights), "-b", str(BATCH), "-j", str(WORKERS),
        "--epochs", str(config.epochs), "--warmup-epochs", "0", "--opt", "adamw", "--lr", lr, "--weight-decay", decay,
        "--color-jitter", "0", "--smoothing", "0", "--device", "cpu", "--output", "out", "--experiment", "timm",
    ]  # fmt: skip
    if peer == "timm-best":
        command += ["--amp", "--amp-dtype", "bfloat16", "--channels-last"]

    def top1(out: str, folder: Path) -> float:
        with (folder / "out" / "timm" / "summary.csv").open() as file:
            return float(list(csv.DictReader(file))[-1]["eval_top1"]) / 100

    return Job(command, top1, {})


def _torchvision(config: Config) -> Job:
    """It trains only its own models, from random weights: its time can be compared, its top-1 cannot."""
    if config.model != "resnet34":
        raise Missing(f"torchvision has no {config.model}")
    lr, decay = _LR_AND_DECAY["full"]
    script = own_script("TORCHVISION_TRAIN", "references/classification/train.py of torchvision's repository")
    command = [
        sys.executable, script, "--data-path", str(config.data), "--model", config.model, "--device", "cpu",
        "-b", str(BATCH), "-j", str(WORKERS), "--epochs", str(config.epochs), "--opt", "adamw", "--lr", lr,
        "--wd", decay, "--lr-scheduler", "cosineannealinglr", "--output-dir", "out",
    ]  # fmt: skip
    found = re.compile(r"Acc@1 ([\d.]+)")
    return Job(command, lambda out, folder: float(found.findall(out)[-1]) / 100, {})


def own_script(variable: str, what: str) -> str:
    path = os.environ.get(variable, "")
    if not Path(path).is_file():
        raise Missing(f"{variable} does not name {what}")
    return path
