"""`zoo` compared with other tools: python benchmarks/peers/compare.py SCENARIO [--rounds 5] …

    head-only    resnet34, only the head is trained, 10 epochs, validation after each
    last-stage   resnet34, layer4 and the head are trained
    full         all layers are trained, 3 epochs; also --model vit_small_patch16_224
    memory       head-only again, with the memory of all processes measured, which takes time
    first-step   from the command to the first training step; baseline: imports and building the model
    synthetic    `zoo bench`: throughput of training, relative to that with synthetic images in memory

Whole processes, interleaved. Tools: zoo with an empty cache, then again with another learning rate; a hand-written
loop, Hugging Face's Trainer and fastai (hand.py, hf_trainer.py and fastai_run.py in this folder), each in fp32, and the
first two also with bf16 and channels_last; for full fine-tuning timm's train.py and torchvision's reference script. All
use the same files and weights (material.py), 224 px, batches of 32, 2 workers (zoo measures how many), AdamW, learning
rates and number of epochs. Images are cropped at the centre if the backbone is frozen; else random crops of 8 to 100 %
of the area and horizontal flips.

Needs `pip install . fastai transformers scikit-image` in one environment. TIMM_TRAIN is the path of train.py of
github.com/huggingface/pytorch-image-models, TORCHVISION_TRAIN that of references/classification/train.py of
github.com/pytorch/vision. Tools that are not available are skipped with a message.

Each process appends a line to --results (JSON lines). Processes in that file are not run again, so an interrupted
measurement can be continued. --only-tables prints the tables from that file without running anything.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import material
from commands import PEERS, Config, Job, Missing, job
from measure import Failed, Measured, run
from summary import show

EPOCHS = {"head-only": 10, "last-stage": 10, "full": 3, "memory": 2, "first-step": 1, "synthetic": 1}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=PEERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="resnet34")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--epochs", type=int, help="default: the scenario's")
    parser.add_argument("--peers", help="comma-separated, default: all of the scenario")
    parser.add_argument("--zoo", default="", help="further arguments of zoo finetune, in one string")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/zoo-peers").expanduser())
    parser.add_argument("--results", type=Path, help="default: results.jsonl in the cache")
    parser.add_argument("--only-tables", action="store_true")
    return parser.parse_args()


def main() -> None:
    args = options()
    epochs = args.epochs or EPOCHS[args.scenario]
    results = args.results or args.cache / "results.jsonl"
    same = {
        "scenario": args.scenario,
        "model": args.model,
        "images": args.images,
        "epochs": epochs,
        "zoo": args.zoo,
    }
    peers = args.peers.split(",") if args.peers else list(PEERS[args.scenario])
    if unknown := [peer for peer in peers if peer not in PEERS[args.scenario]]:
        sys.exit(f"no peer {', '.join(unknown)} in {args.scenario}; there are {', '.join(PEERS[args.scenario])}")
    if not args.only_tables:
        config = Config(
            scenario=args.scenario,
            model=args.model,
            data=material.images(args.cache.resolve(), args.images, args.held_out),
            weights=material.weights(args.cache.resolve(), args.model),
            epochs=epochs,
            cache=args.cache.resolve() / f"zoo-{args.scenario}-{args.model}-{args.images}",
            zoo=args.zoo,
        )
        measure(config, peers, args.rounds, same, results)
    show([row for row in read(results) if all(row[k] == v for k, v in same.items())], peers)


def read(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.is_file() else []


def measure(config: Config, peers: list[str], rounds: int, same: dict[str, Any], results: Path) -> None:
    jobs: dict[str, Job] = {}
    for peer in peers:
        try:
            jobs[peer] = job(peer, config)
        except Missing as e:
            log(f"{peer} is skipped: {e}")
    warm_up(config)
    for number in range(1, rounds + 1):
        for peer, peer_job in jobs.items():
            done = [(r["peer"], r["round"]) for r in read(results) if all(r[k] == v for k, v in same.items())]
            if (peer, number) in done:
                continue
            try:
                prepare_cache(peer, config)
                row = {**same, "peer": peer, "round": number, **run_once(peer_job, watch=config.scenario == "memory")}
            except Failed as e:
                log(f"{peer}, round {number}: {e}")
                continue
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            top1 = "" if row["top1"] is None else f", top-1 {row['top1']:.3f}"
            log(f"{peer}, round {number}: {row['seconds']:.1f} s{top1}")


def warm_up(config: Config) -> None:
    """Read all files and import all libraries once, so that they are in the page cache for every tool."""
    for path in config.data.glob("*/*/*.jpg"):
        path.read_bytes()
    subprocess.run(job("imports", config).command, check=True)


def prepare_cache(peer: str, config: Config) -> None:
    """The cache of zoo: empty for its first run; for the second, as the first run wrote it."""
    if peer == "zoo":
        shutil.rmtree(config.cache, ignore_errors=True)
    elif peer == "zoo-head":
        cache = Path(f"{config.cache}-head")
        if not cache.is_dir():
            run_once(job("zoo", replace(config, scenario="head-only", cache=cache)), watch=False)
    elif peer.startswith("zoo-") and not config.cache.is_dir():
        run_once(job("zoo", config), watch=False)


def run_once(peer_job: Job, *, watch: bool) -> dict[str, Any]:
    """Raises Failed."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.time()
        measured = run(peer_job.command, folder=folder, env=peer_job.env, watch=watch)
        top1 = peer_job.top1(measured.stdout, folder)
    return {
        "seconds": round(measured.seconds, 3),
        "processor": round(measured.processor, 2),
        "largest_mb": round(measured.largest),
        "tree_mb": None if measured.tree is None else round(measured.tree),
        "top1": top1,
        "load_before": load,
        "at": round(began),
        **steps(measured, began),
    }


def steps(measured: Measured, began: float) -> dict[str, float]:
    """From first_step.py: start and end of the first step, in seconds since the start of the process."""
    last = (measured.stdout.splitlines() or [""])[-1]
    if not last.startswith('{"begins"'):
        return {}
    return {name: round(clock - began, 3) for name, clock in json.loads(last).items()}


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
