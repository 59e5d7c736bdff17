"""The pretrained models of the studies: zoo_tiny's architecture and three others.

python benchmarks/strategy/sources.py FOLDER      # 15 minutes on one core; existing files are not trained again
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch
from pictures import FAMILIES
from safetensors.torch import save_file
from torch.nn import functional as F

from zoo.models.builtin import BUILTIN

sys.path.insert(0, str(Path(__file__).parents[1] / "zoo_tiny"))
from pretrain import build

# Source → families whose classes it is trained on together. strokes: zoo_tiny as shipped.
FAMILIES_OF = {"shapes": ("shapes", "outlines"), "textures": ("gratings", "grains"), "digits 0-4": ("digits 0-4",)}
STEPS = {"shapes": 2500, "textures": 1500, "digits 0-4": 600}
# Other architectures, with 0.3 to 0.5 million parameters, and their sources: for the ranking study.
OTHERS = dict.fromkeys(("test_resnet", "test_efficientnet", "test_byobnet"), ("shapes", "textures"))
OTHERS_STEPS = 1500
BATCH = 128


def train(name: str, path: Path, architecture: str = "zoo_tiny") -> None:
    """AdamW 2e-3 with warm-up and cosine decay; the digits are also inverted and shifted, because there are few."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    if name == "digits 0-4":
        from pictures import _digits

        makers = [(5, _digits(0, 4))]
    else:
        makers = [(FAMILIES[f].classes, FAMILIES[f].make) for f in FAMILIES_OF[name]]
    total = sum(classes for classes, _ in makers)
    is_builtin = architecture == "zoo_tiny"
    model = (build(architecture, total) if is_builtin else timm.create_model(architecture, num_classes=total)).train()
    cfg = BUILTIN[architecture].pretrained_cfg if is_builtin else model.pretrained_cfg
    mean, std = (torch.tensor(cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    steps = STEPS[name] if is_builtin else min(STEPS[name], OTHERS_STEPS)
    accuracy, start = 0.0, time.perf_counter()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
        number = int(rng.integers(len(makers)))
        classes, make = makers[number]
        labels = rng.integers(0, classes, BATCH)
        pixels = make(rng, labels)
        if name == "digits 0-4":
            pixels = np.roll(pixels, rng.integers(-3, 4, 2), axis=(1, 2))
            if rng.random() < 0.5:
                pixels = 255 - pixels
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        target = torch.from_numpy(labels) + sum(c for c, _ in makers[:number])
        logits = model((images - mean) / std)
        loss = F.cross_entropy(logits, target, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        accuracy = 0.98 * accuracy + 0.02 * float((logits.argmax(1) == target).float().mean())
        if (step + 1) % 250 == 0:
            seconds = time.perf_counter() - start
            print(f"{architecture}, {name}: step {step + 1}, accuracy {accuracy:.3f}, {seconds:.0f} s", flush=True)
    head = model.pretrained_cfg["classifier"] + "."
    state = {k: v.contiguous() for k, v in model.state_dict().items() if not (is_builtin and k.startswith(head))}
    save_file(state, path)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    for name in FAMILIES_OF:
        path = folder / f"{name.replace(' ', '-')}.safetensors"
        if not path.exists():
            train(name, path)
    for architecture, names in OTHERS.items():
        for name in names:
            path = folder / f"{architecture}-{name.replace(' ', '-')}.safetensors"
            if not path.exists():
                train(name, path, architecture)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
