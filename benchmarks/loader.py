"""Images per second of the loader against torchvision's ImageFolder + DataLoader and timm's create_loader.

    python benchmarks/loader.py [--rounds 5] [--workers 0,1,2] [--only 500x375,2000x1500,…]

Same files, 224 px, batches of 32, same number of workers. Every round runs each loader once, and ratios are medians
of the rounds' ratios, because the machine is shared; the CPU time (main process and workers) is the more stable
figure. Workers are started in a warm-up round and persist.

The images are crops of scikit-learn's two photographs and six of scikit-image's samples, resized and saved by Pillow as
JPEG of quality 90 (4:2:0). Enlarged photographs are smoother than real ones of their size, so one set has camera noise
(standard deviation 2): larger files take longer to parse, which reduced-size decoding cannot avoid.

Training with equal settings: a random crop of 8 to 100 % of the area, flipped horizontally with probability 0.5.
torchvision: as in its reference scripts. timm: `create_loader` on the CPU, no colour jitter, bilinear. zoo: `light`
without colour changes. Also with default settings (50 to 100 %, with colour changes) against timm's train.py defaults
(colour jitter .4, bilinear or bicubic at random). Evaluation: short side to 256, centre crop of 224.

Finally, the loss of quality of reduced-size decoding: PSNR against decoding and resizing at full size with Pillow.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import PIL
import timm
import timm.data
import torch
import torchvision
from PIL import Image
from timm.data.readers.reader_image_folder import ReaderImageFolder
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder

from zoo.augment import make_augment
from zoo.augment.crop import RATIO, Crop, random_view
from zoo.augment.fit import EvalView
from zoo.augment.view import View
from zoo.data import data_config, make_loader, open_data
from zoo.data.decode.read import read_bytes, read_image
from zoo.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

PREPROCESS = Preprocess((3, 224, 224), IMAGENET_MEAN, IMAGENET_STD, "bilinear", 0.875)
BATCH = 32
SETS = {  # name → (width, height), images, format, mode, grain
    "500x375": ((500, 375), 192, "jpg", "RGB", 0),
    "2000x1500": ((2000, 1500), 192, "jpg", "RGB", 0),
    "2000x1500 grain": ((2000, 1500), 192, "jpg", "RGB", 2),
    "grey 500x375": ((500, 375), 192, "jpg", "L", 0),
    "64x64 png": ((64, 64), 384, "png", "RGB", 0),
    "32x32 png": ((32, 32), 384, "png", "RGB", 0),
}
NORMALIZE = [v1.PILToTensor(), v1.ConvertImageDtype(torch.float), v1.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
EQUAL_SETTINGS = {"scale": (0.08, 1.0), "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}


def photographs() -> list[np.ndarray]:
    import skimage.data
    from sklearn.datasets import load_sample_images

    names = ("astronaut", "coffee", "chelsea", "rocket", "retina", "hubble_deep_field")
    return [*load_sample_images().images, *(getattr(skimage.data, name)() for name in names)]


def write(root: Path, size: tuple[int, int], images: int, ending: str, mode: str, grain: int) -> float:
    """Write the images into class folders; returns their mean file size in kilobytes."""
    photos, rng, (width, height) = photographs(), np.random.default_rng(0), size
    for c in range(4):
        (root / f"class{c}").mkdir(parents=True)
    for i in range(images):
        photo = photos[i % len(photos)]
        scale = rng.uniform(0.6, 1) * min(photo.shape[1] / width, photo.shape[0] / height)
        w, h = width * scale, height * scale
        left, top = rng.uniform(0, photo.shape[1] - w), rng.uniform(0, photo.shape[0] - h)
        pixels = np.asarray(
            Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC, (left, top, left + w, top + h))
        )
        if grain:
            pixels = np.clip(pixels + rng.normal(0.5, grain, (height, width, 1)), 0, 255).astype(np.uint8)
        options = {"quality": 90} if ending == "jpg" else {}
        Image.fromarray(pixels).convert(mode).save(root / f"class{i % 4}" / f"{i:04d}.{ending}", **options)
    return sum(f.stat().st_size for f in root.glob("*/*")) / images / 1000


def by_torchvision(root: Path, train: bool, workers: int) -> DataLoader[Any]:
    view = [v1.RandomResizedCrop(224), v1.RandomHorizontalFlip()] if train else [v1.Resize(256), v1.CenterCrop(224)]
    files = ImageFolder(str(root), v1.Compose([*view, *NORMALIZE]))
    return DataLoader(files, BATCH, shuffle=train, num_workers=workers, persistent_workers=workers > 0)


def by_timm(root: Path, train: bool, workers: int, *, default_settings: bool = False) -> Iterable[Any]:
    """default_settings: with colour jitter and random interpolation, the defaults of timm's train.py."""
    files = timm.data.ImageDataset(str(root), reader=ReaderImageFolder(str(root)))
    jitter, interpolation = (0.4, "random") if default_settings else (None, "bilinear")
    return timm.data.create_loader(
        files, (3, 224, 224), BATCH, is_training=train, color_jitter=jitter, interpolation=interpolation,
        crop_pct=0.875, num_workers=workers, persistent_workers=workers > 0, device=torch.device("cpu"),
        pin_memory=False,
    )  # fmt: skip


class Digits(Dataset[Any]):
    """scikit-learn's digits in memory with torchvision's transforms, as a user would write it."""

    def __init__(self, train: bool) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self.images, self.targets = (digits.images * (255 / 16)).astype(np.uint8), digits.target
        view = [v1.RandomResizedCrop(224), v1.RandomHorizontalFlip()] if train else [v1.Resize(256), v1.CenterCrop(224)]
        self.transform = v1.Compose([v1.Grayscale(3), *view, *NORMALIZE])

    def __len__(self) -> int:
        return 512

    def __getitem__(self, index: int) -> Any:
        return self.transform(Image.fromarray(self.images[index])), int(self.targets[index])


def ours(source: Any, train: bool, workers: int, params: dict[str, Any] | None) -> Iterable[Any]:
    augment = make_augment("light", preprocess=PREPROCESS, flips=True, params=params) if train else None
    return make_loader(
        source, preprocess=PREPROCESS, batch_size=BATCH, train=train, augment=augment, seed=0, workers=workers
    )


def run(loader: Iterable[Any]) -> tuple[float, float]:
    """Images per second of wall time, and CPU milliseconds per image, workers included."""
    images, began, used = 0, time.perf_counter(), cpu_seconds()
    for _, targets in loader:
        images += len(targets)
    return images / (time.perf_counter() - began), 1000 * (cpu_seconds() - used) / images


def cpu_seconds() -> float:
    """CPU seconds of this process and its workers so far (/proc, Linux)."""
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def compare(title: str, loaders: dict[str, Iterable[Any]], rounds: int) -> None:
    """Print the speedup of the first of `loaders` over each of them."""
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in loaders}
    for turn in range(rounds + 1):
        for name, loader in loaders.items():
            result = run(loader)
            if turn:  # the first round starts workers and fills the page cache
                runs[name].append(result)
    ours = next(iter(runs.values()))
    for name, theirs in runs.items():
        speedup = median(a / b for (a, _), (b, _) in zip(ours, theirs, strict=True))
        cpu_speedup = median(b / a for (_, a), (_, b) in zip(ours, theirs, strict=True))
        speed, cost = median(r for r, _ in theirs), median(c for _, c in theirs)
        print(f"| {title} | {name} | {speed:.0f} | {speedup:.2f} | {cost:.2f} | {cpu_speedup:.2f} |", flush=True)


def measure(name: str, root: Path, workers: int, rounds: int) -> None:
    source = open_data(data_config(str(root), val_fraction=0.5), task="single-label").train.source  # all of the images
    for train in (True, False):
        loaders: dict[str, Iterable[Any]] = {"**zoo**": ours(source, train, workers, EQUAL_SETTINGS)}
        if train:
            loaders["zoo, `light` with default settings"] = ours(source, train, workers, None)
        loaders["torchvision"] = by_torchvision(root, train, workers)
        loaders["timm"] = by_timm(root, train, workers)
        compare(f"{name}, {workers} workers, {'training' if train else 'evaluation'}", loaders, rounds)
    defaults = {
        "**zoo, `light`**": ours(source, True, workers, None),
        "timm": by_timm(root, True, workers, default_settings=True),
    }
    compare(f"{name}, {workers} workers, training with default settings", defaults, rounds)


def measure_digits(workers: int, rounds: int) -> None:
    from zoo.data import Subset

    source = Subset(open_data(data_config("digits")).train, np.arange(512))
    for train in (True, False):
        plain = DataLoader(Digits(train), BATCH, shuffle=train, num_workers=workers, persistent_workers=workers > 0)
        loaders = {"**zoo**": ours(source, train, workers, EQUAL_SETTINGS), "torchvision": plain}
        compare(f"digits, {workers} workers, {'training' if train else 'evaluation'}", loaders, rounds)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


def quality(title: str, files: list[Path], choose: Callable[[int], Callable[[int, int], View]]) -> None:
    values = []
    for i, path in enumerate(files):
        with Image.open(path) as image:
            whole = np.asarray(image.convert("RGB"))
        view = choose(i)(*whole.shape[:2])
        values.append(psnr(read_image(str(path), 3, lambda h, w, view=view: view), view.apply(whole)))
    print(f"| {title} | {np.mean(values):.1f} | {min(values):.1f} |")


def qualities(folders: dict[str, Path]) -> None:
    def crop(i: int) -> Callable[[int, int], View]:
        rng = np.random.default_rng(i)
        return lambda h, w: random_view(h, w, rng, preprocess=PREPROCESS, scale=(0.08, 1), ratio=RATIO)

    print("\n| JPEGs | mean, dB | worst, dB |\n|---|---|---|")
    for name, root in folders.items():
        files = sorted(root.glob("*/*.jpg"))
        if files and "grey" not in name:
            quality(f"{name}, training", files, crop)
            quality(f"{name}, evaluation", files, lambda i: lambda h, w: EvalView(PREPROCESS))
    sharp_photographs()


def sharp_photographs() -> None:
    """PSNR of the original photographs, sharper than enlarged ones, at the sizes where decoding at reduced size loses
    most: a training crop that is just not enlarged, an evaluation image that is just large enough to be reduced."""
    for name, margin in (("training", 1.0), ("evaluation", 1.45)):
        values = []
        for photo in photographs():
            height, width = (side // 8 * 8 for side in photo.shape[:2])
            file = io.BytesIO()
            Image.fromarray(photo[:height, :width]).save(file, "JPEG", quality=90)
            whole = read_bytes(file.getvalue(), "photograph", 3)
            for factor in (2, 4):
                h, w = int(height / factor / margin), int(width / factor / margin)
                view: View = Crop((0, 0, width, height), (h, w), Image.Resampling.BILINEAR)
                if name == "evaluation":
                    view = EvalView(Preprocess((3, h, w), IMAGENET_MEAN, IMAGENET_STD, "bilinear", 1.0, "squash"))
                reduced = read_bytes(file.getvalue(), "photograph", 3, lambda h, w, view=view: view)
                values.append(psnr(reduced, view.apply(whole)))
        print(f"| original photographs (sharp), worst size, {name} | {np.mean(values):.1f} | {min(values):.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", default="0,1,2")
    parser.add_argument("--only", default=",".join([*SETS, "digits"]))
    args = parser.parse_args()
    names = args.only.split(",")
    print(f"{platform.machine()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()};", end=" ")
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__},", end=" ")
    print(f"Pillow {PIL.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        folders = {}
        for name in [n for n in SETS if n in names]:
            folders[name] = Path(folder, name.replace(" ", "-"))
            print(f"{name}: {SETS[name][1]} images of {write(folders[name], *SETS[name]):.0f} kB")
        print("\n| images, workers | loader | images/s | speedup, wall time | CPU ms per image | speedup, CPU time |")
        print("|---|---|---|---|---|---|")
        for workers in map(int, args.workers.split(",")):
            for name, root in folders.items():
                measure(name, root, workers, args.rounds)
            if "digits" in names:
                measure_digits(workers, args.rounds)
        qualities(folders)


if __name__ == "__main__":
    main()
