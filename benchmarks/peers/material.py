"""The JPEGs and the weights that all tools use, written once into a cache folder.

    python benchmarks/peers/material.py FOLDER [--images 2000] [--held-out 400]

Images: 500×375, JPEG of quality 90, ten classes, written as FOLDER/images-N-M/{train,val}/CLASS/*.jpg. An image is a
rotated, scaled crop of one of eight photographs (scikit-learn's two, six of scikit-image's samples). Its hues are
rotated by an angle that depends on the class, with a standard deviation of 12 degrees; noise is added. Each photograph
occurs in two or three classes, so neither the content nor the colours alone determine the class.

Weights: timm's architectures with 1,000 outputs, like published weights, saved as safetensors. Nothing is downloaded,
and random features are of little use. So `resnet34` is pretrained for some minutes, at 64 px, on 192 other classes of
views of the same photographs (which photograph, rotated by how many quarter turns, hues rotated by how many sixths).
The other models have timm's initialization with seed 0: their accuracies only show that all tools train in the same
way.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT, CLASSES = 500, 375, 10
_STEPS, _BATCH, _SIDE = 350, 128, 64


def photographs() -> list[np.ndarray]:
    import skimage.data
    from sklearn.datasets import load_sample_images

    names = ("astronaut", "coffee", "chelsea", "rocket", "retina", "hubble_deep_field")
    return [*load_sample_images().images, *(getattr(skimage.data, name)() for name in names)]


def hue_matrix(degrees: float) -> np.ndarray:
    """Matrix (3, 3) that rotates RGB around the grey axis (Rodrigues' formula); grey does not change."""
    angle = math.radians(degrees)
    cos, sin, third = math.cos(angle), math.sin(angle), 1 / 3
    a, b, c = cos + third * (1 - cos), third * (1 - cos) - math.sqrt(third) * sin, third * (1 - cos)
    c += math.sqrt(third) * sin
    return np.array([[a, b, c], [c, a, b], [b, c, a]], np.float32)


def draw(photos: list[np.ndarray], label: int, rng: np.random.Generator) -> np.ndarray:
    """One image (HEIGHT, WIDTH, 3) uint8 of class `label`."""
    photo = Image.fromarray(photos[(label + 3 * int(rng.integers(2))) % len(photos)])
    # The largest crop that is inside the photograph after rotation, times a random zoom.
    angle = rng.uniform(-20, 20)
    tilt = math.radians(abs(angle))
    w, h = WIDTH * math.cos(tilt) + HEIGHT * math.sin(tilt), WIDTH * math.sin(tilt) + HEIGHT * math.cos(tilt)
    scale = min(photo.width / w, photo.height / h) * rng.uniform(0.4, 1)
    left, top = rng.uniform(0, photo.width - w * scale), rng.uniform(0, photo.height - h * scale)
    size = (math.ceil(w), math.ceil(h))
    part = photo.resize(size, Image.Resampling.BILINEAR, (left, top, left + w * scale, top + h * scale))
    turned = part.rotate(angle, Image.Resampling.BILINEAR)
    x, y = (turned.width - WIDTH) // 2, (turned.height - HEIGHT) // 2
    pixels = np.asarray(turned.crop((x, y, x + WIDTH, y + HEIGHT)), np.float32)
    pixels = pixels @ hue_matrix(360 / CLASSES * label + rng.normal(0, 12)).T
    return np.clip(pixels + rng.normal(0.5, 3, (HEIGHT, WIDTH, 1)), 0, 255).astype(np.uint8)


def images(cache: Path, count: int, held_out: int) -> Path:
    """The folder with train/ and val/; written on first use."""
    root = cache / f"images-{count}-{held_out}"
    if root.is_dir():
        return root
    photos, unfinished = photographs(), cache / f"unfinished-{os.getpid()}"
    for part, number in (("train", count), ("val", held_out)):
        for i in range(number):
            folder = unfinished / part / f"class{i % CLASSES}"
            folder.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([part == "val", i])
            Image.fromarray(draw(photos, i % CLASSES, rng)).save(folder / f"{i:05d}.jpg", quality=90)
    unfinished.rename(root)
    return root


def weights(cache: Path, name: str) -> Path:
    """The weights file of timm's architecture `name`; written on first use."""
    path = cache / f"{name}.safetensors"
    if path.is_file():
        return path
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=1000)
    if name == "resnet34":
        _pretrain(model)
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, unfinished)
    unfinished.rename(path)
    return path


def _pretrain(model: Any) -> None:
    """Train on views of the photographs. A batch is one `grid_sample` from a strip of all photographs."""
    import torch
    from torch.nn import functional as F

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same sums for any number of cores
    side = 384
    strip = np.concatenate([np.asarray(Image.fromarray(p).resize((side, side))) for p in photographs()], axis=1)
    atlas = torch.from_numpy(strip).permute(2, 0, 1)[None].float()
    number = strip.shape[1] // side
    hues = torch.stack([torch.from_numpy(hue_matrix(60 * k + 30)) for k in range(6)])
    mean, std = torch.tensor([0.485, 0.456, 0.406]) * 255, torch.tensor([0.229, 0.224, 0.225]) * 255
    line = torch.linspace(-1, 1, _SIDE)
    points = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).view(-1, 2)
    draws = torch.Generator().manual_seed(1)
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=_STEPS)
    began, correct = time.perf_counter(), 0
    for step in range(_STEPS):
        photo = torch.randint(number, (_BATCH,), generator=draws)
        quarter = torch.randint(4, (_BATCH,), generator=draws)
        hue = torch.randint(6, (_BATCH,), generator=draws)
        spread = torch.rand(_BATCH, 4, generator=draws)
        angle = quarter * (math.pi / 2) + (spread[:, 0] - 0.5) * 0.6
        # Half the side of the view, in pixels of the strip; its corners are 1.41 times as far from the centre.
        half = (0.1 + 0.25 * spread[:, 1]) * side
        cos, sin = torch.cos(angle) * half, torch.sin(angle) * half
        turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
        centre = 1.42 * half[:, None] + spread[:, 2:] * (side - 2.84 * half[:, None]).clamp(min=0)
        centre[:, 0] += photo * side
        grid = (points @ turn.mT + centre[:, None]) / torch.tensor([number * side / 2, side / 2]) - 1
        seen = F.grid_sample(atlas, grid.view(1, _BATCH * _SIDE, _SIDE, 2), align_corners=False)
        seen = seen[0].view(3, _BATCH, _SIDE, _SIDE).permute(1, 2, 3, 0)
        seen = torch.einsum("nhwc,ndc->nhwd", seen, hues[hue])
        seen = (seen + 6 * torch.randn((*seen.shape[:3], 1), generator=draws)).clamp(0, 255)
        batch = ((seen - mean) / std).permute(0, 3, 1, 2)  # already channels last
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch)
        target = (photo * 4 + quarter) * 6 + hue
        F.cross_entropy(logits.float(), target).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        correct += int((logits.argmax(1) == target).sum())
        if step % 50 == 49:
            seconds = time.perf_counter() - began
            print(f"step {step + 1}: accuracy {2 * correct / _BATCH:.1f} %, {seconds:.0f} s", flush=True)
            correct = 0
    torch.set_num_threads(threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--models", nargs="*", default=["resnet34", "vit_small_patch16_224"])
    args = parser.parse_args()
    print(images(args.folder, args.images, args.held_out))
    for name in args.models:
        print(weights(args.folder, name))


if __name__ == "__main__":
    main()
