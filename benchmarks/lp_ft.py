"""LP-FT (linear probing, then fine-tuning) compared with plain fine-tuning: whole runs of `zoo` on few digits.

    python benchmarks/lp_ft.py [--shots 10 30] [--seeds 5] [--epochs 10]

For each seed, `shots` of scikit-learn's digits per class are the training folder (PNG, 8 x 8), and at most 60 of the
others per class the validation folder. `zoo_tiny` is fine-tuned with the recipe `full`, without flips, once with
`transfer.start=plain` and once with `lp-ft`. The result is the top-1 of the last epoch, not of the best one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

import zoo

STARTS = ("plain", "lp-ft")
_HELD_OUT = 60


def write_folders(root: Path, shots: int, seed: int) -> None:
    """root/train and root/val with one folder per digit."""
    digits = load_digits()
    rng = np.random.default_rng(seed)
    for label in range(10):
        order = rng.permutation(np.flatnonzero(digits.target == label))
        for part, chosen in (("train", order[:shots]), ("val", order[shots : shots + _HELD_OUT])):
            folder = root / part / str(label)
            folder.mkdir(parents=True)
            for index in chosen:
                pixels = np.rint(digits.images[index] * 255 / 16).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")


def top1(root: Path, start: str, epochs: int, seed: int) -> float:
    """Validation top-1 after the last epoch, in percent."""
    run = zoo.finetune(
        "zoo_tiny",
        data=root,
        epochs=epochs,
        seed=seed,
        batch_size=32,
        workers=0,
        img_size=32,
        amp=False,
        settings={"transfer.start": start},
        output_dir=root / f"run-{start}",
        progress=False,
    )
    return 100 * float(run.metrics()[-1]["val_top1"])


def main() -> None:
    parser = argparse.ArgumentParser(description="LP-FT compared with plain fine-tuning on few digits.")
    parser.add_argument("--shots", type=int, nargs="+", default=[10, 30], help="training images per class")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(2)
    print("training images per class  start   mean %    std   each seed")
    for shots in options.shots:
        found: dict[str, list[float]] = {start: [] for start in STARTS}
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                write_folders(Path(folder), shots, seed)
                for start in STARTS:  # on the same images
                    found[start].append(top1(Path(folder), start, options.epochs, seed))
        for start, values in found.items():
            each = " ".join(f"{v:.1f}" for v in values)
            print(f"{shots:25d}  {start:6s} {statistics.mean(values):7.2f} {statistics.pstdev(values):6.2f}   {each}")


if __name__ == "__main__":
    main()
