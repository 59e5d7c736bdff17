"""LoRA of zoo compared with LoRA of peft: trainable parameters, step time, accuracy.

    pip install --target DIR --no-deps peft transformers tokenizers regex psutil
    PYTHONPATH=DIR python benchmarks/lora.py [--rounds 7]

The same model with the same weights is trained in three ways: full fine-tuning, LoRA of zoo, peft's LoraConfig on the
same layers (qkv and proj of each attention; rank 8, alpha 8). Step times are medians of interleaved rounds on one
thread. The accuracy is the top-1 on held-out digits of scikit-learn: `test_vit` is first trained on the digits 0-4
and then fine-tuned on 5-9, 40 images per class, with the same AdamW and three seeds. peft is not a dependency:
without it, only the other two are measured.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import timm
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.training.lora import add_lora, choose_layers

try:
    import peft
except ImportError:
    peft = None

RANK = 8
Make = Callable[[nn.Module], nn.Module]


def full(net: nn.Module) -> nn.Module:
    return net


def ours(net: nn.Module) -> nn.Module:
    names = {name for name, _ in net.named_parameters()}
    head = {name for name in names if name.startswith("head.")}
    add_lora(net, choose_layers(net, names - head, "attention"), rank=RANK, trainable=head)
    return net


def theirs(net: nn.Module) -> nn.Module:
    config = peft.LoraConfig(
        r=RANK, lora_alpha=RANK, target_modules=["attn.qkv", "attn.proj"], modules_to_save=["head"], lora_dropout=0.0
    )
    model: nn.Module = peft.get_peft_model(net, config)
    return model


METHODS: dict[str, Make] = {"full": full, "zoo": ours, **({"peft": theirs} if peft is not None else {})}


def trainable(net: nn.Module) -> list[nn.Parameter]:
    return [p for p in net.parameters() if p.requires_grad]


def step(net: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, targets: Tensor) -> None:
    F.cross_entropy(net(images), targets).backward()
    optimizer.step()
    optimizer.zero_grad()


def times(name: str, batch: int, side: int, rounds: int) -> None:
    """Milliseconds per step."""
    nets = {method: make(timm.create_model(name, num_classes=10)) for method, make in METHODS.items()}
    optimizers = {method: torch.optim.AdamW(trainable(net), 1e-3) for method, net in nets.items()}
    images, targets = torch.randn(batch, 3, side, side), torch.randint(10, (batch,))
    found: dict[str, list[float]] = {method: [] for method in METHODS}
    for number in range(rounds + 1):
        for method, net in nets.items():
            start = time.perf_counter()
            step(net, optimizers[method], images, targets)
            if number:  # the first round is a warm-up
                found[method].append(time.perf_counter() - start)
    total = sum(p.numel() for p in nets["full"].parameters())
    for method, seconds in found.items():
        count = sum(p.numel() for p in trainable(nets[method]))
        print(
            f"{name:24} {method:12} {statistics.median(seconds) * 1000:8.1f} ms per step of {batch}"
            f"   trainable {count:>10,} ({count / total:.1%})"
        )


def digits(classes: range, side: int) -> tuple[Tensor, Tensor]:
    data = load_digits()
    rows = np.isin(data.target, classes)
    images = torch.from_numpy(data.images[rows]).float().div(8).sub(1)[:, None].expand(-1, 3, -1, -1)
    return F.interpolate(images, size=(side, side), mode="bilinear"), torch.from_numpy(data.target[rows]) - classes[0]


def fit(net: nn.Module, images: Tensor, targets: Tensor, *, epochs: int, lr: float, seed: int) -> None:
    optimizer = torch.optim.AdamW(trainable(net), lr, weight_decay=0.0)
    order = torch.Generator().manual_seed(seed)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=order).split(32):
            step(net, optimizer, images[rows], targets[rows])


@torch.inference_mode()
def top1(net: nn.Module, images: Tensor, targets: Tensor) -> float:
    net.eval()
    return float((net(images).argmax(1) == targets).float().mean())


def accuracies(seeds: int) -> None:
    side = 64
    torch.manual_seed(0)
    pretrained = timm.create_model("test_vit", img_size=side, num_classes=5)
    fit(pretrained, *digits(range(5), side), epochs=12, lr=1e-3, seed=0)
    images, targets = digits(range(5, 10), side)
    for method, make in METHODS.items():
        scores = []
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(images))
            rows = np.concatenate([order[targets.numpy()[order] == k][:40] for k in range(5)])
            rest = np.setdiff1d(order, rows)
            torch.manual_seed(seed)
            net = timm.create_model("test_vit", img_size=side, num_classes=5)
            net.load_state_dict(pretrained.state_dict())
            net.reset_classifier(5)
            net = make(net)
            fit(net, images[rows], targets[rows], epochs=15, lr=1e-3 if method == "full" else 5e-3, seed=seed)
            scores.append(100 * top1(net, images[rest], targets[rest]))
        each = ", ".join(f"{score:.1f}" for score in scores)
        print(f"{'test_vit, digits 5-9':24} {method:12} {statistics.mean(scores):6.2f} % ({each})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="only the step times of the smallest model")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"peft {peft.__version__}" if peft is not None else "peft is not installed: measuring the other two")
    times("test_vit", 32, 160, options.rounds)
    if options.quick:
        return
    times("vit_tiny_patch16_224", 8, 224, options.rounds)
    times("vit_small_patch16_224", 8, 224, options.rounds)
    accuracies(options.seeds)


if __name__ == "__main__":
    main()
