"""Training steps and feature extraction in each setting that `zoo finetune` chooses from, and its choice here.

    python benchmarks/execution.py [--models resnet34,vit_small_patch16_224] [--rounds 5] [--no-compile]

Batches of 32 images of the model's input size, random weights; the step of AdamW is included. Every round runs each
setting once, and the figures are medians over the rounds (the machine is shared). `features` is a forward pass without
gradients in evaluation mode. The baseline is fp32 with contiguous images and weights, the defaults of PyTorch.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.dist_env import cores
from zoo.models import build
from zoo.training.autotune.precision import choose_precision, set_memory_format
from zoo.training.compile import CompiledForward
from zoo.training.inference import Normalize
from zoo.training.module_state import preserve_module_state

BATCH = 32
CPU = torch.device("cpu")
SETTINGS = [(f, d) for d in ("fp32", "bf16") for f in ("contiguous", "channels_last")]


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(name: str, rounds: int, compiles: bool) -> None:
    torch.manual_seed(0)
    model = build(name, classes=10, weights="none")
    module, normalize = model.module.train(), Normalize(model.preprocess)
    shape = (BATCH, model.preprocess.height, model.preprocess.width, 3)
    images = torch.randint(0, 256, shape, dtype=torch.uint8).permute(0, 3, 1, 2)
    targets = torch.randint(0, 10, (BATCH,))
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, foreach=True)

    def loss(some: Tensor, forward: Callable[[Tensor], Any] = module) -> Tensor:
        return F.cross_entropy(forward(normalize(some)).float(), targets[: len(some)])

    def step(dtype: str, forward: Callable[[Tensor], Any] = module) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
            value = loss(images, forward)
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def features(dtype: str) -> None:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
            module(normalize(images))

    start = time.perf_counter()
    with preserve_module_state(module):
        chosen = choose_precision("auto", "auto", CPU, loss, module, normalize, images[:8], batch=BATCH)
    print(f"\n{name}: chosen in {time.perf_counter() - start:.1f} s: {chosen.reason}", flush=True)

    seconds: dict[tuple[str, ...], list[float]] = {}
    compiled = CompiledForward(module) if compiles else None
    if compiled is not None:
        set_memory_format(module, normalize, chosen.memory_format)
        step(chosen.precision, compiled)
        print(f"{name}: compiled in {timed(partial(step, chosen.precision, compiled)):.0f} s", flush=True)
    for number in range(rounds + 1):  # the first round is a warm-up
        for form, dtype in SETTINGS:
            set_memory_format(module, normalize, form)
            took = {"train": timed(partial(step, dtype))}
            module.eval()
            took["features"] = timed(partial(features, dtype))
            module.train()
            for what, value in took.items() if number else ():
                seconds.setdefault((form, dtype, what), []).append(value)
        if compiled is not None:
            set_memory_format(module, normalize, chosen.memory_format)
            value = timed(partial(step, chosen.precision, compiled))
            if number:
                seconds.setdefault(("compiled", "", "train"), []).append(value)
    plain = {what: median(seconds["contiguous", "fp32", what]) for what in ("train", "features")}
    print(f"{name}, batches of {BATCH}: images/s, medians of {rounds} [range]")
    for key, values in seconds.items():
        form, dtype, what = key
        mark = " <- chosen" if (form, dtype) == (chosen.memory_format, chosen.precision) else ""
        dtype = dtype or f"{chosen.precision}, {chosen.memory_format}"
        print(
            f"  {what:8}  {form:13}  {dtype:19}  {BATCH / median(values):7.1f}  [{BATCH / max(values):.1f}, "
            f"{BATCH / min(values):.1f}]  {plain[what] / median(values):.2f}x as fast as fp32 contiguous{mark}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet34,vit_small_patch16_224")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    print(f"{platform.machine()}, {cores()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in args.models.split(","):
        measure(name, args.rounds, args.compile)


if __name__ == "__main__":
    main()
