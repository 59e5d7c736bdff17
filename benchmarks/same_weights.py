"""Do two checkouts train the same weights, bit for bit? Small runs, each trained once with each checkout.

    python benchmarks/same_weights.py BEFORE AFTER [--only full-cnn,lp-ft]
    python benchmarks/same_weights.py BEFORE --record before.json      # then: same_weights.py before.json AFTER

BEFORE and AFTER are folders that contain the package `zoo`, or files of --record from the same machine. Every run is a
separate process, `python -m zoo finetune`, with one thread, an empty cache and no network. Precision, memory format and
caches are set, so nothing depends on timings. The images are generated with a fixed seed. Compared are the tensors of
model.safetensors (names, types, shapes, bytes) and the losses, metrics and learning rates of metrics.jsonl.

RUNS uses the current option names. A checkout whose recipe does not know one gets the name in OLD_NAMES instead.
Exits with 1 if a run differs or fails. A checkout takes about three minutes of one core.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

Settings = dict[str, Any]

# Recipe key → its old name, and its values that had other names.
OLD_NAMES: dict[str, tuple[str, dict[str, str]]] = {
    "train.feature_cache": ("train.features", {"on": "keep", "off": "recompute"}),
    "train.linear_probe": ("train.solver", {"on": "direct", "off": "steps"}),
    "data.image_cache": ("data.image_cache", {"on": "keep"}),
    "data.intensity_range": ("data.levels", {}),
    "transfer.probe_epochs": ("transfer.head_epochs", {}),
    "transfer.probe_lr": ("transfer.head_lr", {}),
    "optimizer.lr_base_size": ("optimizer.lr_batch", {}),
}

# Settings that zoo would choose by timing, or that depend on the machine.
FIXED: Settings = {
    "data.batch_size": 16,
    "data.workers": 0,
    "data.image_cache": "off",
    "train.amp": False,
    "train.device": "cpu",
    "train.feature_cache": "off",
    "train.linear_probe": "off",
    "train.epochs": 2,
    "transfer.start": "plain",
    "execution.memory_format": "contiguous",
    "execution.compile": "off",
    "execution.threads": 1,
}


@dataclass(frozen=True)
class Run:
    """One run. interrupted: stopped after its first epoch, then resumed. processes: number of training processes."""

    model: Settings
    recipe: str
    settings: Settings = field(default_factory=dict)
    data: str = "photos"
    interrupted: bool = False
    processes: int = 1

    def all_settings(self, images: Path) -> Settings:
        source = self.data if self.data == "digits" else str(images / self.data)
        return FIXED | self.model | {"data.source": source} | self.settings


CNN: Settings = {"model.name": "test_resnet", "model.weights": "none", "model.img_size": 64}
VIT: Settings = {"model.name": "test_vit", "model.weights": "none", "model.img_size": 64}
PRETRAINED: Settings = {"model.name": "zoo_tiny"}  # a CNN of 32 px, whose weights are part of the package
PROBE: Settings = {"train.feature_cache": "on", "train.linear_probe": "on"}

RUNS: dict[str, Run] = {
    # recipes × architectures
    "full-cnn": Run(CNN, "full"),
    "full-vit": Run(VIT, "full"),
    "head-only-cnn": Run(PRETRAINED, "head-only"),
    "head-only-vit": Run(VIT, "head-only"),
    "small-different-cnn": Run(CNN, "small-different"),
    "small-different-vit": Run(VIT, "small-different"),
    "large-similar-cnn": Run(CNN, "large-similar", {"data.batch_size": 8}),
    "large-different-vit": Run(VIT, "large-different", {"schedule.warmup_epochs": 1}),
    # resuming, early stopping, micro-batches, processes
    "resume-cnn": Run(CNN, "full", {"train.epochs": 3, "model.drop": 0.2, "train.model_ema": True}, interrupted=True),
    "resume-vit": Run(VIT, "full", {"train.epochs": 3, "model.drop_path": 0.2}, interrupted=True),
    "early-stopping": Run(
        PRETRAINED, "full", {"train.epochs": 6, "train.patience": 1, "train.monitor": "top1", "optimizer.lr": 3e-2}
    ),
    "micro-batches": Run(VIT, "full", {"loss.name": "same_weights:scarce_memory"}),
    "two-processes": Run(CNN, "full", {"data.batch_size": 8}, processes=2),
    # transfer learning
    "lp-ft": Run(
        PRETRAINED, "full", {"transfer.start": "lp-ft", "transfer.probe_epochs": 5, "transfer.probe_lr": 5e-3}
    ),
    "unfreezing-l2-sp": Run(PRETRAINED, "full", {"transfer.unfreeze_every": 1, "transfer.l2_sp": 0.01}),
    "lp-ft-wise-ft": Run(PRETRAINED, "full", {"transfer.start": "lp-ft", "transfer.wise_ft": True}),
    "batch-norm-rgn": Run(PRETRAINED, "full", {"transfer.bn_reestimate": True, "transfer.auto_rgn": True}),
    "lora": Run(VIT, "full", {"transfer.lora": {"rank": 4, "alpha": 8}}),
    # caches and linear probes
    "feature-cache": Run(PRETRAINED, "head-only", {"train.feature_cache": "on"}),
    "feature-cache-inside": Run(VIT, "small-different", {"train.feature_cache": "on", "augment.name": "none"}),
    "feature-cache-views": Run(PRETRAINED, "small-similar", {"train.feature_cache": "on", "train.views": 2}),
    "linear-probe": Run(PRETRAINED, "head-only", PROBE, data="digits"),
    "linear-probe-views": Run(PRETRAINED, "small-similar", PROBE | {"train.views": 3}),
    "image-cache": Run(PRETRAINED, "full", {"data.image_cache": "on"}),
    # tasks
    "regression-cnn": Run(CNN, "full", {"data.label_column": ["x", "size"]}, data="numbers.csv"),
    "regression-vit": Run(VIT, "full", {"data.label_column": ["x"], "loss.name": "huber"}, data="numbers.csv"),
    "regression-probe": Run(PRETRAINED, "head-only", PROBE | {"data.label_column": ["x", "size"]}, data="numbers.csv"),
    "multi-label-cnn": Run(PRETRAINED, "full", {"data.label_separator": ","}, data="labels.csv"),
    "multi-label-vit": Run(VIT, "full", {"data.label_separator": ",", "loss.name": "asymmetric"}, data="labels.csv"),
    "multi-label-probe": Run(PRETRAINED, "head-only", PROBE | {"data.label_separator": ","}, data="labels.csv"),
    # losses, optimizers, augmentation
    "accumulation-ema-mixing": Run(
        CNN,
        "full",
        {
            "train.grad_accum_steps": 2,
            "train.model_ema": True,
            "augment.mixup": 0.2,
            "augment.cutmix": 1.0,
            "augment.mix_prob": 0.7,
            "augment.erase": 0.3,
        },
    ),
    "sgd-plateau-groups": Run(
        PRETRAINED,
        "full",
        {
            "optimizer.name": "sgd",
            "optimizer.lr": 1e-2,
            "optimizer.layer_decay": 0.8,
            "optimizer.groups": [{"match": "*.bias", "lr_scale": 2.0}],
            "schedule.name": "ReduceLROnPlateau",
            "schedule.warmup_epochs": 0,
            "loss.name": "focal",
            "loss.class_weights": "effective",
            "data.label_column": ["kind"],
        },
        data="groups.csv",
    ),
    # data
    "groups-folds-balance": Run(
        PRETRAINED,
        "full",
        {
            "data.label_column": ["kind"],
            "data.group_column": "group",
            "data.folds": 3,
            "data.fold": 2,
            "data.balance": "sqrt",
            "train.seed": 5,
        },
        data="groups.csv",
    ),
    "sixteen-bit": Run(
        CNN,
        "full",
        {"data.intensity_range": 4095, "data.norm": "data", "data.fit": "pad", "model.in_chans": 1},
        data="deep",
    ),
    # with so few images, auto is a batch size of 8, without timing
    "batch-size-auto": Run(VIT, "full", {"data.batch_size": "auto", "optimizer.lr_base_size": 16}),
}


def scarce_memory(output: Tensor, target: Tensor) -> Tensor:
    """Cross entropy that raises an out-of-memory error for more than 6 images in training."""
    if output.requires_grad and len(output) > 6:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return F.cross_entropy(output, target)


# --- images ---


def write_images(folder: Path) -> None:
    """Images in class folders, three tables with their paths, and a folder of 16-bit images."""
    rng = np.random.default_rng(14)
    rows = []
    for kind in range(4):
        for number in range(24):
            path = folder / "photos" / f"kind{kind}" / f"{number:02}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            x, size = rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.3)
            Image.fromarray(picture(rng, kind, x, size)).save(path, quality=90)
            labels = [f"kind{kind}"] + ["left"] * (x < 0.5) + ["large"] * (size > 0.2)
            rows.append((str(path.relative_to(folder)), f"{x:.4f}", f"{size:.4f}", ",".join(labels), kind, number // 3))
    order = rng.permutation(len(rows))
    unequal = [i for i in order if rows[i][4] != 3 or rows[i][5] < 4]
    write_table(folder / "numbers.csv", ("image", "x", "size"), [rows[i][:3] for i in order])
    write_table(folder / "labels.csv", ("image", "label"), [(rows[i][0], rows[i][3]) for i in order])
    kinds = [(rows[i][0], f"kind{rows[i][4]}", f"g{rows[i][4]}-{rows[i][5]}") for i in unequal]
    write_table(folder / "groups.csv", ("image", "kind", "group"), kinds)
    for kind in range(3):
        (folder / "deep" / f"kind{kind}").mkdir(parents=True)
        for number in range(16):
            grey = picture(rng, kind, rng.uniform(0.2, 0.8), 0.2)[..., kind % 3].astype(np.uint16) * 16
            Image.fromarray(grey).save(folder / "deep" / f"kind{kind}" / f"{number}.png")


def picture(rng: np.random.Generator, kind: int, x: float, size: float) -> NDArray[np.uint8]:
    """A noisy disc at column x (as a share of the width) on stripes whose direction depends on the class."""
    height, width = (int(n) for n in rng.integers(56, 100, 2))
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    stripes = np.sin((rows * np.cos(kind * np.pi / 4) + columns * np.sin(kind * np.pi / 4)) * 0.6)
    disc = (rows / height - 0.5) ** 2 + (columns / width - x) ** 2 < size**2
    image = 110 + 50 * stripes[..., None] + 70 * disc[..., None] * np.array([1.0, -0.5, 0.3])
    return np.clip(image + rng.normal(0, 20, (height, width, 3)), 0, 255).astype(np.uint8)


def write_table(path: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([header, *rows])


# --- a checkout ---

FIELDS = """
import json, zoo
sections = {name: field.annotation for name, field in zoo.Recipe.model_fields.items()}
inner = {name: getattr(kind, "model_fields", {}) for name, kind in sections.items()}
fields = {f"{name}.{key}": str(field.annotation) for name, keys in inner.items() for key, field in keys.items()}
print(json.dumps({"file": zoo.__file__, "fields": fields}))
"""

INTERRUPTED = """
import json, sys, zoo
def stop(row):
    raise KeyboardInterrupt
try:
    zoo.finetune(**json.loads(sys.argv[1]), progress=False, on_epoch=stop)
except zoo.Interrupted:
    sys.exit(0)
sys.exit("the run was not interrupted")
"""


class Failed(Exception):
    """A process ended with an error; the message has the end of its stderr."""


def trained_by(checkout: Path, names: list[str], images: Path, scratch: Path) -> dict[str, dict[str, Any]]:
    """For each run: {"weights", "metrics", "seconds"} or {"failed"}; a line on stderr after each run."""
    fields = recipe_fields(checkout)
    results = {}
    for name in names:
        started = time.perf_counter()
        try:
            folder = train(checkout, RUNS[name], fields, images, scratch / name)
            result: dict[str, Any] = {
                "weights": weights_digest(folder / "model.safetensors"),
                "metrics": recorded_metrics(folder / "metrics.jsonl"),
            }
        except Failed as e:
            result = {"failed": str(e)}
        results[name] = result | {"seconds": round(time.perf_counter() - started, 1)}
        shown = result.get("failed") or result["weights"][:16]
        print(f"  {name:24} {results[name]['seconds']:6.1f} s  {shown}", file=sys.stderr, flush=True)
    return results


def recipe_fields(checkout: Path) -> dict[str, str]:
    """Each key of the checkout's recipe, with its type as text."""
    answer = json.loads(run_python(checkout, Path(tempfile.gettempdir()), ["-c", FIELDS]))
    if not Path(answer["file"]).resolve().is_relative_to(checkout):
        raise SystemExit(f"{checkout} does not contain the package zoo: {answer['file']} was imported")
    return dict(answer["fields"])


def named_for(settings: Settings, fields: Mapping[str, str]) -> Settings:
    """The settings with the names that a recipe with these fields has for them."""
    named: Settings = {}
    for key, value in settings.items():
        old, values = OLD_NAMES.get(key, (key, {}))
        is_new = key in fields and (not values or f"'{value}'" in fields[key])
        named[key if is_new else old] = value if is_new else values.get(value, value)
    return named


def train(checkout: Path, run: Run, fields: Mapping[str, str], images: Path, scratch: Path) -> Path:
    """Train `run` in an empty folder; returns the run directory."""
    scratch.mkdir(parents=True)
    output = scratch / "run"
    settings = named_for(run.all_settings(images), fields)
    if run.interrupted:
        options = {"recipe": run.recipe, "output_dir": str(output), "settings": settings}
        run_python(checkout, scratch, ["-c", INTERRUPTED, json.dumps(options)])
        run_python(checkout, scratch, ["-m", "zoo", "finetune", "--resume", str(output)])
        return output
    command = ["-m", "zoo", "finetune", "--recipe", run.recipe, "--output-dir", str(output)]
    for key, value in settings.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    if run.processes > 1:
        command += ["--processes", str(run.processes)]
    run_python(checkout, scratch, command)
    return output


def run_python(checkout: Path, folder: Path, arguments: list[str]) -> str:
    """Standard output of Python in `folder`, with the checkout's package and the folder of this script on the path."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(checkout), str(Path(__file__).resolve().parent))),
        "ZOO_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "MPLBACKEND": "Agg",
    }
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failed(f"exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def weights_digest(path: Path) -> str:
    """SHA-256 over the tensors' names, types, shapes and bytes, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def recorded_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without times and speeds."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in row.items() if k in ("epoch", "lr") or k.startswith(("train_", "val_"))} for row in rows]


# --- both ---


def results_of(source: str, names: list[str], images: Path, scratch: Path) -> dict[str, dict[str, Any]]:
    """The results of a checkout, trained now, or from a file of --record."""
    path = Path(source).resolve()
    if path.is_file():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    print(f"{path}", file=sys.stderr)
    results = trained_by(path, names, images, scratch)
    print(f"  {sum(r['seconds'] for r in results.values()):.0f} s in total", file=sys.stderr)
    return results


def compare(names: list[str], before: Mapping[str, Any], after: Mapping[str, Any]) -> int:
    """Print the table; returns the number of runs that differ or failed."""
    different = 0
    print(f"{'run':24}  {'weights before':16}  {'weights after':16}  weights    metrics")
    for name in names:
        one, two = before.get(name, {"failed": "not recorded"}), after[name]
        answers = []
        for what in ("weights", "metrics"):
            same = one.get(what) == two.get(what)
            answers.append("failed" if what not in one or what not in two else "equal" if same else "DIFFERENT")
        different += answers != ["equal", "equal"]
        shown = [r.get("weights", "failed")[:16] for r in (one, two)]
        print(f"{name:24}  {shown[0]:16}  {shown[1]:16}  {answers[0]:9}  {answers[1]}")
    print(f"{len(names) - different} of {len(names)} runs are equal, bit for bit")
    return different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="a checkout, or a file of --record")
    parser.add_argument("after", nargs="?", help="the other checkout; with --record it may be left out")
    parser.add_argument("--only", help="names of runs, separated by commas (default: all)")
    parser.add_argument("--record", type=Path, help="write the results of BEFORE to this file, for a later comparison")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(RUNS)
    if unknown := sorted(set(names) - set(RUNS)):
        parser.error(f"no run {', '.join(unknown)}; there are {', '.join(RUNS)}")
    if options.after is None and options.record is None:
        parser.error("give two checkouts, or one and --record FILE")
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        write_images(images)
        before = results_of(options.before, names, images, Path(folder, "before"))
        if options.record is not None:
            options.record.write_text(json.dumps(before, indent=1), encoding="utf-8")
        if options.after is None:
            return int(any("failed" in result for result in before.values()))
        after = results_of(options.after, names, images, Path(folder, "after"))
    return int(compare(names, before, after) > 0)


if __name__ == "__main__":
    raise SystemExit(main())
