"""The cost of `zoo recommend`: python benchmarks/strategy/cost.py [--images 500] [--rounds 5] [--models resnet18 …]

Measuring a model, compared with two forward passes of the same images (torchvision's ImageFolder, a DataLoader with two
workers, timm's model in evaluation mode, float32), interleaved, in one process each; and the closed-form scores alone
for 5,000 images, 2,048 features and 100 classes. The weights are random and stored in a file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np


def folder_of(root: Path, images: int) -> Path:
    """JPEGs of 400x300 in ten classes: a grey level for each class, plus noise."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for part, number in (("train", images), ("val", 20)):
        for i in range(number):
            folder = root / part / f"class{i % 10}"
            folder.mkdir(parents=True, exist_ok=True)
            base = np.full((300, 400, 3), 25 * (i % 10), np.float64)
            noise = rng.normal(0, 40, (38, 50, 3)).repeat(8, 0).repeat(8, 1)[:300, :400]
            Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8)).save(folder / f"{i}.jpg", quality=90)
    return root


def passes(model: str, data: Path, weights: Path) -> float:
    """Seconds of two forward passes of all images."""
    import timm
    import torch
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    network = timm.create_model(model, pretrained=True, pretrained_cfg_overlay={"file": str(weights)}, num_classes=0)
    network.eval()
    preprocess = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
         transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )  # fmt: skip
    start = time.perf_counter()
    for _ in range(2):
        with torch.inference_mode():
            for images, _ in DataLoader(ImageFolder(str(data / "train"), preprocess), batch_size=32, num_workers=2):
                network(images)
    return time.perf_counter() - start


def measure(model: str, data: Path, weights: Path) -> float:
    import zoo

    with tempfile.TemporaryDirectory() as cache:
        os.environ["ZOO_CACHE"] = cache
        start = time.perf_counter()
        found = zoo.measure_models([model], data=data, weights=str(weights), progress=False)
        seconds = time.perf_counter() - start
    assert found.best.computed == 2 * len(found.sample.indices)
    return seconds


def closed_forms() -> float:
    from zoo.strategy.scores import Targets, held_out, learning_curve
    from zoo.strategy.scores import measure as measure_scores

    rng = np.random.default_rng(0)
    labels = np.arange(5000) % 100
    features = rng.normal(size=(5000, 2048)).astype(np.float32)
    features[np.arange(5000), labels] += 3
    targets = Targets.of(labels, "single-label", balanced=True)
    start = time.perf_counter()
    scores = measure_scores(features, targets)
    scores_alone = time.perf_counter() - start
    learning_curve(features, targets, scores.ridge.outcome)
    held_out(features, targets)
    print(f"  with the learning curve and the cross-validation {time.perf_counter() - start:.1f} s", file=sys.stderr)
    return scores_alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=["resnet18", "mobilenetv3_large_100"])
    parser.add_argument("--one", nargs=4, metavar=("WHAT", "MODEL", "DATA", "WEIGHTS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        what, model, data, weights = args.one
        function = {"passes": passes, "measure": measure}.get(what)
        print(json.dumps(function(model, Path(data), Path(weights)) if function else closed_forms()))
        return

    def once(*given: str) -> float:
        done = subprocess.run(
            [sys.executable, __file__, "--one", *given], stdout=subprocess.PIPE, check=True, text=True
        )
        return float(json.loads(done.stdout.splitlines()[-1]))

    with tempfile.TemporaryDirectory() as name:
        data = folder_of(Path(name) / "data", args.images)
        print("| model | two forward passes, s | zoo recommend, s | ratio, median | min–max |\n|---|---|---|---|---|")
        for model in args.models:
            weights = Path(name) / f"{model}.safetensors"
            code = (
                "import sys, timm; from safetensors.torch import save_file; "
                "save_file(timm.create_model(sys.argv[1]).state_dict(), sys.argv[2])"
            )
            subprocess.run([sys.executable, "-c", code, model, str(weights)], check=True)
            pairs = [
                (once("passes", model, str(data), str(weights)), once("measure", model, str(data), str(weights)))
                for _ in range(args.rounds)
            ]
            ratios = [ours / theirs for theirs, ours in pairs]
            print(
                f"| {model} | {median(t for t, _ in pairs):.1f} | {median(o for _, o in pairs):.1f} | "
                f"**{median(ratios):.2f}** | {min(ratios):.2f}–{max(ratios):.2f} |",
                flush=True,
            )
    seconds = [once("scores", "-", "-", "-") for _ in range(args.rounds)]
    summary = f"{median(seconds):.1f} s ({min(seconds):.1f}–{max(seconds):.1f})"
    print(f"\nclosed-form scores, N = 5,000, D = 2,048, C = 100: {summary}")


if __name__ == "__main__":
    main()
