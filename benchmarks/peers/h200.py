"""Images a second in full fine-tuning on an NVIDIA GPU, beside timm's train.py: python benchmarks/peers/h200.py

resnet50 and vit_base_patch16_224 from random weights, bf16, batches of 256, the JPEGs of material.py many times over;
timm's train.py (TIMM_TRAIN, see compare.py) with --amp --amp-dtype bfloat16 --channels-last, with and without
--torchcompile. Images a second are those of the last epoch, as both report them. The share of the matrix peak counts
three times the forward pass's operations (torch.utils.flop_counter; two an addition with a multiplication), as usual
for training, and 989 TFLOP/s, what NVIDIA's data sheet of the H200 (SXM) gives for dense bf16.

Where there is no CUDA device it says so, and ends well.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path
from statistics import median

import material
import timm
import torch
from commands import CROPS, Missing, own_script, sets
from measure import Failed, run
from summary import versions
from torch.utils.flop_counter import FlopCounterMode

PEAK = 989e12
MODELS = ("resnet50", "vit_base_patch16_224")
_RATE = re.compile(r"Train: (\d+) .*?\(\s*[\d.]+s,\s*([\d.]+)/s\)")


def operations(name: str) -> float:
    """Of one image's forward pass at 224 px, ten classes."""
    with torch.device("meta"):
        model, image = timm.create_model(name, num_classes=10), torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counted:
        model(image)
    return float(counted.get_total_flops())


def linked(cache: Path, times: int) -> Path:
    """2,000 JPEGs `times` over as hard links, so that an epoch is long enough to be timed."""
    source, root = material.images(cache, 2000, 400), cache / f"images-2000-times-{times}"
    for path in source.glob("*/*/*.jpg"):
        part = path.parent.parent.name
        for i in range(times if part == "train" else 1):
            link = root / part / path.parent.name / f"{path.stem}-{i}.jpg"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.hardlink_to(path)
    return root


def by_zoo(name: str, data: Path, asked: argparse.Namespace, folder: Path) -> float:
    command = [
        sys.executable, "-m", "zoo", "finetune", name, "--data", str(data), "--weights", "none", "--amp-dtype", "bf16",
        "--img-size", "224", "--batch-size", str(asked.batch_size), "--workers", str(asked.workers),
        "--epochs", str(asked.epochs), *sets(CROPS), "--output-dir", "run", "--json",
    ]  # fmt: skip
    out = run(command, folder=folder, env={"ZOO_CACHE": str(asked.cache.resolve() / "zoo-cuda")}).stdout
    return float(json.loads(out)["metrics"][-1]["images_per_second"])


def by_timm(name: str, data: Path, asked: argparse.Namespace, folder: Path, *more: str) -> float:
    command = [
        sys.executable, own_script("TIMM_TRAIN", "train.py of timm's repository"), str(data), "--val-split", "val",
        "--model", name, "--num-classes", "10", "--input-size", "3", "224", "224", "-b", str(asked.batch_size),
        "-j", str(asked.workers), "--epochs", str(asked.epochs), "--warmup-epochs", "0", "--opt", "adamw",
        "--lr", "3e-4", "--weight-decay", "0.05", "--color-jitter", "0", "--smoothing", "0",
        "--pin-mem", "--amp", "--amp-dtype", "bfloat16", "--channels-last",
        "--output", "out", *more,
    ]  # fmt: skip
    done = run(command, folder=folder)
    return timm_rate(done.stdout + done.stderr)


def timm_rate(log: str) -> float:
    """The mean of the last epoch, which stands in brackets behind the last step's own."""
    return float(_RATE.findall(log)[-1][1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, default=10, help="how often the 2,000 images are in an epoch")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/zoo-peers").expanduser())
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device: waits")
        return
    print(f"{torch.cuda.get_device_name()}, {versions()}\n")
    print("| model | who | images/s, median | each | share of the matrix peak | zoo × |\n|---|---|---|---|---|---|")
    data = linked(asked.cache.resolve(), asked.times)
    for name in asked.models.split(","):
        rates: dict[str, list[float]] = {}
        with tempfile.TemporaryDirectory() as folder:
            for number in range(asked.rounds):
                own = Path(folder, str(number))
                own.mkdir()
                for who, measured in {
                    "**zoo**": lambda own=own, name=name: by_zoo(name, data, asked, own),
                    "timm train.py": lambda own=own, name=name: by_timm(name, data, asked, own),
                    "timm train.py --torchcompile": lambda own=own, name=name: by_timm(
                        name, data, asked, own, "--torchcompile"
                    ),
                }.items():
                    try:
                        rates.setdefault(who, []).append(measured())
                    except (Failed, Missing) as e:
                        print(f"{who}: {e}", file=sys.stderr)
        for who, found in rates.items():
            if found:
                share = 3 * operations(name) * median(found) / PEAK
                ratio = f"{median(rates['**zoo**']) / median(found):.2f}" if rates["**zoo**"] else "–"
                each = " ".join(f"{r:.0f}" for r in found)
                print(f"| {name} | {who} | {median(found):.0f} | {each} | {100 * share:.1f} % | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
