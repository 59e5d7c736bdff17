"""Images per second of full fine-tuning on an NVIDIA GPU, compared with timm's train.py.

    python benchmarks/peers/h200.py [--rounds 3]

resnet50 and vit_base_patch16_224 from random weights, bf16, batches of 256, the JPEGs of material.py repeated as hard
links; timm's train.py (TIMM_TRAIN, see compare.py) with --amp --amp-dtype bfloat16 --channels-last, with and without
--torchcompile. Images per second are those of the last epoch, as both tools report them. FLOPs of training are three
times those of the forward pass, as usual (torch.utils.flop_counter; a multiplication with an addition counts two). The
peak is 989 TFLOP/s, from NVIDIA's data sheet of the H200 (SXM) for dense bf16.

Without a CUDA device it prints a message and exits with 0.
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
_IMAGES_PER_SECOND = re.compile(r"Train: (\d+) .*?\(\s*[\d.]+s,\s*([\d.]+)/s\)")


def forward_flops(name: str) -> float:
    """FLOPs of the forward pass of one image at 224 px, ten classes."""
    with torch.device("meta"):
        model, image = timm.create_model(name, num_classes=10), torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counted:
        model(image)
    return float(counted.get_total_flops())


def linked(cache: Path, times: int) -> Path:
    """A folder with 2,000 JPEGs, each `times` times as hard links, so that an epoch is long enough to time."""
    source, root = material.images(cache, 2000, 400), cache / f"images-2000-times-{times}"
    for path in source.glob("*/*/*.jpg"):
        part = path.parent.parent.name
        for i in range(times if part == "train" else 1):
            link = root / part / path.parent.name / f"{path.stem}-{i}.jpg"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.hardlink_to(path)
    return root


def by_zoo(name: str, data: Path, args: argparse.Namespace, folder: Path) -> float:
    command = [
        sys.executable, "-m", "zoo", "finetune", name, "--data", str(data), "--weights", "none", "--amp-dtype", "bf16",
        "--img-size", "224", "--batch-size", str(args.batch_size), "--workers", str(args.workers),
        "--epochs", str(args.epochs), *sets(CROPS), "--output-dir", "run", "--json",
    ]  # fmt: skip
    out = run(command, folder=folder, env={"ZOO_CACHE": str(args.cache.resolve() / "zoo-cuda")}).stdout
    return float(json.loads(out)["metrics"][-1]["images_per_second"])


def by_timm(name: str, data: Path, args: argparse.Namespace, folder: Path, *more: str) -> float:
    command = [
        sys.executable, own_script("TIMM_TRAIN", "train.py of timm's repository"), str(data), "--val-split", "val",
        "--model", name, "--num-classes", "10", "--input-size", "3", "224", "224", "-b", str(args.batch_size),
        "-j", str(args.workers), "--epochs", str(args.epochs), "--warmup-epochs", "0", "--opt", "adamw",
        "--lr", "3e-4", "--weight-decay", "0.05", "--color-jitter", "0", "--smoothing", "0",
        "--pin-mem", "--amp", "--amp-dtype", "bfloat16", "--channels-last",
        "--output", "out", *more,
    ]  # fmt: skip
    done = run(command, folder=folder)
    return timm_speed(done.stdout + done.stderr)


def timm_speed(log: str) -> float:
    """The mean of the last epoch: in the log in brackets, after the value of the last step."""
    return float(_IMAGES_PER_SECOND.findall(log)[-1][1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, default=10, help="copies of the 2,000 images in an epoch")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/zoo-peers").expanduser())
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device: nothing measured")
        return
    print(f"{torch.cuda.get_device_name()}, {versions()}\n")
    print("| model | tool | images/s, median | each round | share of the peak | speedup of zoo |")
    print("|---|---|---|---|---|---|")
    data = linked(args.cache.resolve(), args.times)
    for name in args.models.split(","):
        speeds: dict[str, list[float]] = {}
        with tempfile.TemporaryDirectory() as folder:
            for number in range(args.rounds):
                own = Path(folder, str(number))
                own.mkdir()
                for tool, measured in {
                    "**zoo**": lambda own=own, name=name: by_zoo(name, data, args, own),
                    "timm train.py": lambda own=own, name=name: by_timm(name, data, args, own),
                    "timm train.py --torchcompile": lambda own=own, name=name: by_timm(
                        name, data, args, own, "--torchcompile"
                    ),
                }.items():
                    try:
                        speeds.setdefault(tool, []).append(measured())
                    except (Failed, Missing) as e:
                        print(f"{tool}: {e}", file=sys.stderr)
        for tool, found in speeds.items():
            if found:
                share = 3 * forward_flops(name) * median(found) / PEAK
                ratio = f"{median(speeds['**zoo**']) / median(found):.2f}" if speeds["**zoo**"] else "–"
                each = " ".join(f"{r:.0f}" for r in found)
                print(f"| {name} | {tool} | {median(found):.0f} | {each} | {100 * share:.1f} % | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
