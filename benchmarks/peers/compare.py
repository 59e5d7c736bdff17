"""`zoo` beside its peers, whole processes, interleaved: python benchmarks/peers/compare.py SCENARIO [--rounds 5] …

    head-only    resnet34, only the head learns, 10 epochs, validation after each
    last-stage   resnet34, layer4 and the head learn
    full         everything learns, 3 epochs; also --model vit_small_patch16_224
    memory       head-only once more with the memory of all processes watched, which costs time: by itself
    first-step   from the command to the first step of training, beside bare imports and building the model
    synthetic    `zoo bench`: the share of what the same step reaches on images that lie in memory

Peers: zoo first with nothing cached, then again at another rate; a hand-written loop, Hugging Face's Trainer and fastai
(hand.py, hf_trainer.py, fastai_run.py beside this file), each at fp32 as it comes, and the first two with bf16 and
channels_last; timm's train.py and torchvision's reference for full fine-tuning. What all share: files, weights
(material.py), 224 px, batches of 32, 2 workers (zoo measures how many), AdamW, rates, number of epochs; centre views
where the backbone is frozen, else random crops of 8 to 100 % and mirroring.

Needs `pip install . fastai transformers scikit-image` in one environment; TIMM_TRAIN is to name train.py of
github.com/huggingface/pytorch-image-models, TORCHVISION_TRAIN references/classification/train.py of
github.com/pytorch/vision. A peer that is not there is left out, and that is said.

Each process is a line in --results (JSON lines); what is there already is not run again, so that a broken-off
measurement goes on where it was. The tables are drawn from that file: --only-tables draws them without running.
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
from commands import PEERS, Asked, Job, Missing, job
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
    asked = options()
    epochs = asked.epochs or EPOCHS[asked.scenario]
    results = asked.results or asked.cache / "results.jsonl"
    same = {
        "scenario": asked.scenario,
        "model": asked.model,
        "images": asked.images,
        "epochs": epochs,
        "zoo": asked.zoo,
    }
    peers = asked.peers.split(",") if asked.peers else list(PEERS[asked.scenario])
    if unknown := [peer for peer in peers if peer not in PEERS[asked.scenario]]:
        sys.exit(f"no peer {', '.join(unknown)} in {asked.scenario}; there are {', '.join(PEERS[asked.scenario])}")
    if not asked.only_tables:
        prepared = Asked(
            scenario=asked.scenario,
            model=asked.model,
            data=material.images(asked.cache.resolve(), asked.images, asked.held_out),
            weights=material.weights(asked.cache.resolve(), asked.model),
            epochs=epochs,
            kept=asked.cache.resolve() / f"zoo-{asked.scenario}-{asked.model}-{asked.images}",
            zoo=asked.zoo,
        )
        measure(prepared, peers, asked.rounds, same, results)
    show([row for row in read(results) if all(row[k] == v for k, v in same.items())], peers)


def read(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.is_file() else []


def measure(asked: Asked, peers: list[str], rounds: int, same: dict[str, Any], results: Path) -> None:
    jobs: dict[str, Job] = {}
    for peer in peers:
        try:
            jobs[peer] = job(peer, asked)
        except Missing as e:
            say(f"{peer} is left out: {e}")
    warm(asked)
    for number in range(1, rounds + 1):
        for peer, own in jobs.items():
            done = [(r["peer"], r["round"]) for r in read(results) if all(r[k] == v for k, v in same.items())]
            if (peer, number) in done:
                continue
            try:
                ready(peer, asked)
                row = {**same, "peer": peer, "round": number, **once(own, watch=asked.scenario == "memory")}
            except Failed as e:
                say(f"{peer}, round {number}: {e}")
                continue
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            said = "" if row["top1"] is None else f", {row['top1']:.3f}"
            say(f"{peer}, round {number}: {row['seconds']:.1f} s{said}")


def warm(asked: Asked) -> None:
    """All files and libraries are in the system's memory for everybody."""
    for path in asked.data.glob("*/*/*.jpg"):
        path.read_bytes()
    subprocess.run(job("imports", asked).command, check=True)


def ready(peer: str, asked: Asked) -> None:
    """What zoo finds: nothing in its first run; in its second, what the first left behind."""
    if peer == "zoo":
        shutil.rmtree(asked.kept, ignore_errors=True)
    elif peer == "zoo-head":
        kept = Path(f"{asked.kept}-head")
        if not kept.is_dir():
            once(job("zoo", replace(asked, scenario="head-only", kept=kept)), watch=False)
    elif peer.startswith("zoo-") and not asked.kept.is_dir():
        once(job("zoo", asked), watch=False)


def once(own: Job, *, watch: bool) -> dict[str, Any]:
    """Raises Failed."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.time()
        measured = run(own.command, folder=folder, env=own.env, watch=watch)
        top1 = own.top1(measured.stdout, folder)
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
    """Of first_step.py: when the first step began and ended, in seconds since the process was started."""
    last = (measured.stdout.splitlines() or [""])[-1]
    if not last.startswith('{"begins"'):
        return {}
    return {name: round(clock - began, 3) for name, clock in json.loads(last).items()}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
