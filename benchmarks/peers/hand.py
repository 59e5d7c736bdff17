"""A hand-written training loop: torchvision's ImageFolder and transforms, a DataLoader, timm's model, AdamW.

The last line on stdout is JSON with the top-1 accuracy of the last epoch.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--freeze", choices=("none", "backbone", "last-stage"), default="none")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    return parser.parse_args()


def folders(data: Path, *, augmented: bool) -> tuple[ImageFolder, ImageFolder]:
    """Training and validation set; augmented: with random crops and horizontal flips."""
    end = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    centre = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), *end])
    random = transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *end])
    return ImageFolder(str(data / "train"), random if augmented else centre), ImageFolder(str(data / "val"), centre)


def build(args: argparse.Namespace, classes: int) -> nn.Module:
    weights = {"file": str(args.weights)}
    return timm.create_model(args.model, pretrained=True, num_classes=classes, pretrained_cfg_overlay=weights)


def freeze(model: nn.Module, what: str) -> list[nn.Module]:
    """Freeze all other layers; returns the modules that have to stay in evaluation mode, for their batch norms."""
    if what == "none":
        return []
    trainable = [model.get_classifier()] + ([model.layer4] if what == "last-stage" else [])
    for p in model.parameters():
        p.requires_grad = False
    for module in trainable:
        for p in module.parameters():
            p.requires_grad = True
    return [m for m in model.children() if not any(m is t for t in trainable)]


def main() -> None:
    args = options()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    train, val = folders(args.data, augmented=args.freeze == "none")
    shared: dict[str, Any] = {"batch_size": args.batch_size, "num_workers": args.workers}
    batches = DataLoader(train, shuffle=True, persistent_workers=args.workers > 0, **shared)
    val_batches = DataLoader(val, persistent_workers=args.workers > 0, **shared)
    model = build(args, len(train.classes)).to(device)
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    model = model.to(memory_format=layout)
    frozen = freeze(model, args.freeze)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=args.lr, weight_decay=args.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(batches))
    loss_of = nn.CrossEntropyLoss()
    precision = torch.autocast(device.type, torch.bfloat16) if args.bf16 else nullcontext()
    top1 = 0.0
    for epoch in range(args.epochs):
        model.train()
        for module in frozen:
            module.eval()
        for images, targets in batches:
            inputs = images.to(device, memory_format=layout, non_blocking=True)
            with precision:
                loss = loss_of(model(inputs), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        correct = 0
        with torch.no_grad(), precision:
            for images, targets in val_batches:
                output = model(images.to(device, memory_format=layout, non_blocking=True))
                correct += int((output.argmax(1).cpu() == targets).sum())
        top1 = correct / len(val)
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}, top-1 {top1:.4f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(model.state_dict(), Path(folder, "model.pt"))
    print(json.dumps({"top1": top1}))


if __name__ == "__main__":
    main()
