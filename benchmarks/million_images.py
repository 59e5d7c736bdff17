"""A data set of a million images: time and peak memory from the path to the first batch, compared with torchvision.

    python benchmarks/million_images.py [--entries 1000000] [--folder DIR]

Class folders of hard links to a few JPEGs of 500x375 pixels, a CSV table of the same paths, and a tar of all of them.
Each row is a new process without workers: index, split, first batch of 64 at 224 pixels, augmented by a random crop
and flip. The page cache is warm. "memory" is the peak resident set size in addition to that after the imports. "CPU" is
the CPU time of the process, more stable on a shared machine. "checks" is the part of zoo's time for checking files,
which torchvision's ImageFolder does not do.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

CLASSES, PHOTOS, BATCH = 1000, 25, 64  # ext4 allows 65,000 links of a file


def make(folder: Path, entries: int) -> None:
    """Write FOLDER/images/<class>/<n>.jpg, FOLDER/table.csv and FOLDER/images.tar, unless they exist."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    folder.mkdir(parents=True, exist_ok=True)
    photos = [Image.fromarray(p).resize((500, 375)) for p in load_sample_images().images]
    sources = []
    for i in range(PHOTOS):
        sources.append(folder / f"photo{i}.jpg")
        photos[i % 2].rotate(i).save(sources[-1], quality=85)
    done = folder / f"made-{entries}"
    if done.exists():
        return
    shutil.rmtree(folder / "images", ignore_errors=True)
    per_class = entries // CLASSES
    with (folder / "table.csv").open("w") as table:
        table.write("path,label\n")
        for c in range(CLASSES):
            (folder / "images" / f"c{c:04d}").mkdir(parents=True)
            for i in range(per_class):
                name = f"images/c{c:04d}/{i:06d}.jpg"
                os.link(sources[(c * per_class + i) % PHOTOS], folder / name)
                table.write(f"{name},c{c:04d}\n")
    # A million photographs of 25 KB would be 25 GB: the tar has a photograph of 2 KB.
    buffer = io.BytesIO()
    photos[0].resize((96, 72)).save(buffer, "JPEG", quality=60)
    data = buffer.getvalue()
    padding = bytes(-len(data) % 512)
    with (folder / "images.tar").open("wb") as f:
        for c in range(CLASSES):
            for i in range(per_class):
                info = tarfile.TarInfo(f"images/c{c:04d}/{i:06d}.jpg")
                info.size = len(data)
                f.write(info.tobuf(tarfile.GNU_FORMAT) + data + padding)
        f.write(bytes(1024))
    done.touch()


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def torchvision_first_batch(path: str) -> dict[str, float]:
    import torch
    from torch.utils.data import DataLoader, random_split
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    before, began, processor = peak(), time.perf_counter(), time.process_time()
    data = ImageFolder(
        path,
        transforms.Compose(
            [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
        ),
    )
    train, _ = random_split(data, [0.8, 0.2], generator=torch.Generator().manual_seed(0))
    opened = time.perf_counter()
    images, _ = next(iter(DataLoader(train, batch_size=BATCH, shuffle=True)))
    assert images.shape == (BATCH, 3, 224, 224)
    total, processor = time.perf_counter() - began, time.process_time() - processor
    return {"open": opened - began, "total": total, "processor": processor, "memory": peak() - before}


def zoo_first_batch(path: str) -> dict[str, float]:
    import torchvision.io  # noqa: F401  (otherwise imported with the first image)

    from zoo.augment import make_augment
    from zoo.data import data_config, make_loader, open_data
    from zoo.data.schema import rows
    from zoo.data.sources import folder
    from zoo.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

    checks = 0.0
    verify = folder.verify_files

    def timed(*args: object, **named: object) -> object:
        nonlocal checks
        start = time.perf_counter()
        try:
            return verify(*args, **named)  # type: ignore[arg-type]
        finally:
            checks += time.perf_counter() - start

    folder.verify_files = rows.verify_files = timed  # type: ignore[assignment]
    before, began, processor = peak(), time.perf_counter(), time.process_time()
    data = open_data(data_config(path))
    opened = time.perf_counter()
    preprocess = Preprocess((3, 224, 224), IMAGENET_MEAN, IMAGENET_STD, "bilinear", 0.875)
    augment = make_augment("light", preprocess=preprocess, flips=True, params={})
    loader = make_loader(
        data.train, preprocess=preprocess, batch_size=BATCH, train=True, augment=augment, seed=0, workers=0
    )
    images, _ = next(iter(loader))
    assert images.shape == (BATCH, 3, 224, 224)
    total, processor = time.perf_counter() - began, time.process_time() - processor
    found = {"open": opened - began, "checks": checks, "total": total}
    return {**found, "processor": processor, "memory": peak() - before}


def measure(kind: str, path: Path, cache: str) -> dict[str, float]:
    """Measure in a new process."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", kind, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "ZOO_CACHE": cache},
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        kind, path = args.measure
        print(json.dumps((torchvision_first_batch if kind == "torchvision" else zoo_first_batch)(path)))
        return
    folder = args.folder or Path(tempfile.mkdtemp(prefix="million-"))
    try:
        if os.statvfs(folder if folder.exists() else folder.parent).f_favail < 2 * CLASSES:
            sys.exit(f"too few inodes free below {folder}")
        make(folder, args.entries)
        for _ in os.walk(folder):  # warms the file cache
            pass
        with tempfile.TemporaryDirectory() as cache:
            print(f"{args.entries:,} entries".ljust(34) + "open    checks  total   CPU     memory")
            for label, kind, name in (
                ("torchvision, folders", "torchvision", "images"),
                ("zoo, folders", "zoo", "images"),
                ("zoo, CSV table", "zoo", "table.csv"),
                ("zoo, tar, first run", "zoo", "images.tar"),
                ("zoo, tar, cached list of files", "zoo", "images.tar"),
            ):
                found = measure(kind, folder / name, cache)
                checks = f"{found['checks']:5.1f} s" if "checks" in found else "      -"
                times = f"{found['open']:5.1f} s {checks} {found['total']:5.1f} s {found['processor']:5.1f} s"
                print(f"{label:<32}{times} {found['memory'] / 1e6:5.0f} MB", flush=True)
    finally:
        if args.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
