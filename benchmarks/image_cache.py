"""Loading images from the image cache (`data.image_cache: on`) compared with decoding them in every epoch.

    python benchmarks/image_cache.py [--rounds 5] [--workers 0,2] [--only 500x375,2000x1500,4000x3000]

JPEGs as in benchmarks/loader.py, 224 px, batches of 32. Training uses `light`; evaluation resizes the short side to
256 and crops the centre 224. Both loaders run alternately in every round; speeds and CPU milliseconds per image are
medians, and each ratio is the median of the rounds' ratios. The files are in the page cache in both cases. torch has
one thread, as in worker processes.

Then: disk space and time per image for filling the cache; and the loss of quality of the views. Training views, from
the cache and decoded, are compared with the same crop of the image decoded at full size and resized by Pillow.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from loader import BATCH, PREPROCESS, photographs, psnr, run, write
from PIL import Image

from zoo.augment import make_augment
from zoo.augment.reduced import Reduced
from zoo.data import data_config, make_loader, open_data
from zoo.data.cache.cached_dataset import CachedDataset, cache_view, fill, image_keys, open_image_store
from zoo.data.decode.read import read_image

SETS = {  # name → (width, height), images, grain
    "500x375": ((500, 375), 256, 0),
    "2000x1500": ((2000, 1500), 128, 0),
    "4000x3000": ((4000, 3000), 64, 0),
}
LIGHT = make_augment("light", preprocess=PREPROCESS, flips=True)


def batches(source: Any, train: bool, workers: int) -> Iterable[Any]:
    return make_loader(
        source, preprocess=PREPROCESS, batch_size=BATCH, train=train, augment=LIGHT if train else None, seed=0,
        workers=workers,
    )  # fmt: skip


def fill_cache(source: Any, name: str, train: bool) -> tuple[CachedDataset, float, float]:
    """The cached dataset, the seconds for filling the cache, and the mean bytes per image."""
    view = cache_view(PREPROCESS, LIGHT if train else None)
    keys = image_keys(source, view)
    store = open_image_store(f"{name} {train}", name)
    began = time.perf_counter()
    written = fill(store, source, view, keys, range(len(source)), max_bytes=10 << 30)
    return CachedDataset(source, view, store.find(keys)), time.perf_counter() - began, written / len(source)


def compare(title: str, decoded: Any, cached: Any, train: bool, workers: int, rounds: int) -> None:
    loaders = [batches(source, train, workers) for source in (decoded, cached)]
    runs: list[list[tuple[float, float]]] = [[], []]
    for turn in range(rounds + 1):
        for measured, loader in zip(runs, loaders, strict=True):
            result = run(loader)
            if turn:  # the first round starts workers
                measured.append(result)
    speedup = median(b / a for (a, _), (b, _) in zip(*runs, strict=True))
    cpu_speedup = median(a / b for (_, a), (_, b) in zip(*runs, strict=True))
    speeds = [median(speed for speed, _ in measured) for measured in runs]
    costs = [median(cost for _, cost in measured) for measured in runs]
    print(
        f"| {title} | {workers} | {speeds[0]:.0f} | {speeds[1]:.0f} | {speedup:.1f} | "
        f"{costs[0]:.2f} | {costs[1]:.2f} | {cpu_speedup:.1f} |",
        flush=True,
    )


def quality(title: str, files: list[Path]) -> None:
    reduction, cached, decoded = Reduced(PREPROCESS, LIGHT.pipeline.crops), [], []
    for number, path in enumerate(files):
        with Image.open(path) as image:
            whole = np.asarray(image.convert("RGB"))
        height, width = whole.shape[:2]
        small = read_image(str(path), 3, lambda h, w: reduction)
        y, x = height / small.shape[0], width / small.shape[1]
        for sample_view in range(4):
            seed = 4 * number + sample_view
            view = LIGHT.pipeline.sample_view(*small.shape[:2], np.random.default_rng(seed))
            left, top, right, bottom = view.box
            same = replace(view, box=(left * x, top * y, right * x, bottom * y))
            cached.append(psnr(view.apply(small), same.apply(whole)))
            view = LIGHT.pipeline.sample_view(height, width, np.random.default_rng(seed))
            decoded.append(psnr(read_image(str(path), 3, lambda h, w, view=view: view), view.apply(whole)))
    psnrs = " | ".join(f"{np.mean(values):.1f} | {min(values):.1f}" for values in (cached, decoded))
    print(f"| {title} | {psnrs} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", default="0,2")
    parser.add_argument("--only", default=",".join(SETS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}\n")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ZOO_CACHE"] = str(Path(folder, "cache"))
        files: dict[str, list[Path]] = {}
        sizes = []
        print("| JPEGs | workers | images/s, decoded | cached | ratio | CPU ms per image, decoded | cached | ratio |")
        print("|---|---|---|---|---|---|---|---|")
        for name in args.only.split(","):
            size, count, grain = SETS[name]
            root = Path(folder, name)
            stored = write(root, size, count, "jpg", "RGB", grain)
            files[name] = sorted(root.glob("*/*.jpg"))
            source = open_data(
                data_config(str(root), val_fraction=0.5), task="single-label"
            ).train.source  # all of the images
            for train in (True, False):
                title = f"{name}, {'training `light`' if train else 'evaluation'}"
                cached, seconds, each = fill_cache(source, name, train)
                for workers in map(int, args.workers.split(",")):
                    compare(title, source, cached, train, workers, args.rounds)
                sizes.append(f"| {title} | {stored:.0f} | {each / 1000:.0f} | {1000 * seconds / count:.1f} |")
        print("\n| JPEGs | file, kB | cached, kB | ms per image to fill the cache |\n|---|---|---|---|")
        print("\n".join(sizes))
        sharp = Path(folder, "sharp")
        sharp.mkdir()
        for number, photo in enumerate(photographs()):
            Image.fromarray(photo).save(sharp / f"{number}.jpg", quality=90)
        files["original photographs (sharp)"] = sorted(sharp.iterdir())
        print("\n| views of `light`, JPEGs | cached: mean PSNR, dB | worst | decoded: mean PSNR, dB | worst |")
        print("|---|---|---|---|---|")
        for name, paths in files.items():
            quality(name, paths[:32])


if __name__ == "__main__":
    main()
