"""A linear probe on cached features: fitted with L-BFGS or ridge, compared with ten epochs of gradient steps.

    python benchmarks/linear_probe.py [--seeds 5] [--large]

The gradient steps are those of the recipe `head-only`: AdamW, learning rate 1e-2 with cosine decay, weight decay 1e-4,
batches of 32, ten epochs, on the features and on standardized features. Features: of `zoo_tiny` (built-in weights) on
scikit-learn's digits; and Gaussian features relu(Ax) around class means, with variances that fall as 1/i. noise: share
of random labels (more noise in the targets of the other tasks). Test images (360 digits, 4,000 Gaussians) are separate.
Each cell has means over the seeds: top-1 accuracy (multi-label: per label; regression: R²), log-loss (regression:
squared error), and CPU seconds of fitting with one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.data import data_config, make_loader, open_data
from zoo.models import build
from zoo.training.features.linear_probe import fit_linear_probe
from zoo.training.inference import Normalize

EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 10, 32, 1e-2, 1e-4
Loss = Callable[[Tensor, Tensor], Tensor]
Layer = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Case:
    name: str
    features: Tensor
    targets: Tensor
    test: tuple[Tensor, Tensor]
    outputs: int


def gradient_steps(case: Case, loss: Loss, seed: int, *, standardize: bool) -> Layer:
    x = case.features
    mean, std = (x.mean(0), x.std(0, correction=0).clamp_min(1e-6)) if standardize else (0.0, 1.0)
    x = (x - mean) / std
    torch.manual_seed(seed)
    layer = nn.Linear(x.shape[1], case.outputs)
    groups = [{"params": [layer.weight], "weight_decay": WEIGHT_DECAY}, {"params": [layer.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * -(-len(x) // BATCH))
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            loss(layer(x[rows]), case.targets[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    weight = layer.weight.detach() / std
    return weight, layer.bias.detach() - weight @ (torch.zeros(x.shape[1]) + mean)


def ridge(features: Tensor, targets: Tensor) -> Layer:
    from zoo.strategy.scores.ridge import ridge_head, ridge_loo
    from zoo.strategy.scores.svd import decompose
    from zoo.strategy.scores.targets import Targets

    svd, ridge_targets = decompose(features.numpy()), Targets.of(targets.numpy(), "regression")
    head = ridge_head(svd, ridge_targets, ridge_loo(svd, ridge_targets).chosen)
    weight, bias = head.weight * ridge_targets.scale[:, None], head.bias * ridge_targets.scale + ridge_targets.offset
    return torch.from_numpy(weight).float(), torch.from_numpy(bias).float()


def linear_probe(case: Case, loss: Loss, seed: int) -> Layer:
    if loss is F.mse_loss:
        return ridge(case.features, case.targets)
    probe = fit_linear_probe(case.features, case.targets, loss, outputs=case.outputs, seed=seed)
    return probe.weight, probe.bias


def evaluate(case: Case, layer: Layer, loss: Loss) -> tuple[float, float]:
    features, targets = case.test
    outputs = F.linear(features, *layer)
    if loss is F.mse_loss:
        score = 1 - float((outputs - targets).square().sum() / (targets - targets.mean(0)).square().sum())
    elif targets.is_floating_point():
        score = float(((outputs > 0) == (targets > 0.5)).float().mean())
    else:
        score = float((outputs.argmax(1) == targets).float().mean())
    return score, float(loss(outputs, targets))


def digits(per_class: int | None, seed: int) -> Case:
    data = open_data(data_config("digits", val_fraction=0.2), seed=seed)
    model = build("zoo_tiny", classes=10)
    module, normalize = model.module.eval(), Normalize(model.preprocess)
    size = model.preprocess.with_size(data.useful_size, data.useful_size)
    head_inputs: list[Tensor] = []
    module.get_submodule(model.head[0]).register_forward_pre_hook(lambda _, args: head_inputs.append(args[0]))

    def features(source: object) -> tuple[Tensor, Tensor]:
        head_inputs.clear()
        loader = make_loader(source, preprocess=size, batch_size=256, train=False, augment=None, seed=0, workers=0)
        with torch.no_grad():
            targets = torch.cat([t for images, t in loader if module(normalize(images)) is not None])
        return torch.cat(head_inputs), targets

    x, y = features(data.train)
    if per_class is not None:
        order = np.random.default_rng(seed).permutation(len(y))
        chosen = torch.from_numpy(np.concatenate([order[y[order] == k][:per_class] for k in range(10)]))
        x, y = x[chosen], y[chosen]
    name = f"`zoo_tiny` on digits, {f'{per_class} images per class' if per_class else 'all images'}"
    return Case(name, x, y, features(data.val), 10)


def gaussians(n: int, d: int, k: int, noise: float, seed: int, task: str = "single-label") -> Case:
    g = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=g) * torch.arange(1, d + 1).float() ** -0.5
    means = torch.randn(k, d, generator=g) * 0.3
    y = torch.randint(0, k, (n + 4000,), generator=g)
    x = ((torch.randn(n + 4000, d, generator=g) + means[y]) @ mixing.T / 3).relu()
    random = torch.rand(len(y), generator=g) < noise
    y = torch.where(random & (torch.arange(len(y)) < n), torch.randint(0, k, (len(y),), generator=g), y)
    targets = y
    if task != "single-label":
        numbers = (x - x.mean(0)) / x.std(0).clamp_min(1e-6) @ torch.randn(d, k, generator=g) / d**0.5
        numbers = numbers + (0.3 + 2 * noise) * torch.randn(numbers.shape, generator=g)
        targets = numbers if task == "regression" else (numbers > 0.5).float()
    name = f"{task}, {n:,} × {d:,}, {k} outputs" + (f", noise {noise:g}" if noise else "")
    return Case(name, x[:n], targets[:n], (x[n:], targets[n:]), k)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="also 20,000 images with 2,048 features in 100 classes")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1)])  # triggers the lazy imports of torch
    cases: list[Callable[[int], Case]] = [lambda s, p=p: digits(p, s) for p in (10, 30, None)]
    shapes = [(200, 512, 10), (1000, 512, 10), (4000, 512, 20), (200, 2048, 10), (2000, 2048, 10)]
    cases += [lambda s, a=a, e=e: gaussians(*a, e, s) for a in shapes for e in (0.0, 0.3)]
    for task in ("multi-label", "regression"):
        cases += [lambda s, a=a, t=task: gaussians(*a, 0.3, s, t) for a in ((200, 512, 10), (2000, 512, 10))]
    print("| features | linear probe, fitted | gradient steps | gradient steps, standardized features |")
    print("|---|---|---|---|")
    for make_case in cases:
        report(make_case, args.seeds)
    if args.large:
        report(lambda s: gaussians(20_000, 2048, 100, 0.1, s), 1)


def report(make_case: Callable[[int], Case], seeds: int) -> None:
    found: dict[str, list[tuple[float, float, float]]] = {}
    name = ""
    for seed in range(seeds):
        case = make_case(seed)
        name = case.name
        labels = case.targets.is_floating_point()
        loss = F.mse_loss if "regression" in name else F.binary_cross_entropy_with_logits if labels else F.cross_entropy
        for method, fit in (
            ("linear probe", linear_probe),
            ("steps", lambda c, f, s: gradient_steps(c, f, s, standardize=False)),
            ("standardized", lambda c, f, s: gradient_steps(c, f, s, standardize=True)),
        ):
            start = time.process_time()
            layer = fit(case, loss, seed)
            seconds = time.process_time() - start
            found.setdefault(method, []).append((*evaluate(case, layer, loss), seconds))
    cells = [np.mean(values, axis=0) for values in found.values()]
    print(f"| {name} | " + " | ".join(f"{s:.4f} {v:.3f} {t:.2f}" for s, v, t in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
