"""How well the measurements of `zoo recommend` foretell what training does, and what following its rules costs.

    python benchmarks/strategy/sources.py /tmp/study/sources
    python benchmarks/strategy/study.py run /tmp/study [--sizes 64,256,1024] [--seeds 3] [--part 0/2]
    python benchmarks/strategy/study.py table /tmp/study

A cell is a source model, a target, a number of training images and a seed. In each the similarity is measured as
`zoo recommend` does, and the recipes are trained: head only, the second half of the layers and the head (partial),
everything behind a head that learned first (lp-ft), everything at once (full), everything from random weights
(scratch), and what the rules say (auto). Reported is the last epoch's accuracy on 500 fresh images, never the best.
Every row goes to a JSONL file at once, so that the study can be ended and taken up again; parts run side by side.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from pictures import FAMILIES, draw
from PIL import Image

SOURCES = ("strokes", "shapes", "textures", "digits-0-4")
# Target → family, shift of the input, permuted labels.
TARGETS: dict[str, tuple[str, str, bool]] = {
    **{name: (name, "", False) for name in FAMILIES},
    **{f"strokes, {s}": ("strokes", s, False) for s in ("noise .2", "noise .5", "blur 2", "contrast .15")},
    **{f"shapes, {s}": ("shapes", s, False) for s in ("noise .2", "blur 2", "negative red")},
    **{f"digits, {s}": ("digits", s, False) for s in ("noise .2", "contrast .15", "negative red")},
    "strokes, permuted": ("strokes", "", True),
    "shapes, permuted": ("shapes", "", True),
}
TEST = 500
# Epochs for so many images, the same for every recipe: 120 to 512 updates with 32 images.
EPOCHS = {64: 60, 256: 24, 1024: 10, 4096: 4}
PLAIN = {"augment.name": "light"}
RECIPES: dict[str, dict[str, Any]] = {
    "head": {"recipe": "head-only"},
    "partial": {"recipe": "full", "freeze": "50%"},
    "lp-ft": {"recipe": "full", "settings": {"transfer.start": "lp-ft"}},
    "full": {"recipe": "full", "settings": {"transfer.start": "plain"}},
    # At the rate that zoo_tiny was pretrained with: at the others' it stays near chance.
    "scratch": {
        "recipe": "full",
        "weights": "none",
        "settings": {"data.norm": "model", "optimizer.lr": 2e-3, "optimizer.head_lr": 2e-3},
    },
}


def folder_of(root: Path, target: str, n: int, seed: int) -> Path:
    """train/ and val/ with class folders of PNGs, made once."""
    path = root / "data" / f"{target.replace(' ', '_').replace(',', '')}-{n}-{seed}"
    if (path / "done").exists():
        return path
    family, shift, permuted = TARGETS[target]
    pixels, labels = draw(family, shift, n + TEST, seed, permuted=permuted)
    shutil.rmtree(path, ignore_errors=True)
    for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        here = path / ("train" if i < n else "val") / f"{label:02d}"
        here.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(here / f"{i}.png")
    (path / "done").touch()
    return path


def only_the_end_counts() -> None:
    """Spare what the study does not look at, two thirds of the time of such small runs: validation but for a batch
    before the last epoch, checkpoints and pictures. What is learnt stays the same, as nothing in it looks at these."""
    from zoo.training.trainer import Trainer
    from zoo.workflows import epochs, journal, saving

    whole, whole_epoch = Trainer.evaluate, epochs._epoch
    at_end = False

    def epoch(run: Any, prepared: Any, number: int, *rest: Any) -> Any:
        nonlocal at_end
        at_end = number + 1 == prepared.epochs
        return whole_epoch(run, prepared, number, *rest)

    def evaluate(self: Trainer, batches: Any) -> Any:
        return whole(self, batches if at_end else itertools.islice(batches, 1))

    Trainer.evaluate, epochs._epoch = evaluate, epoch  # type: ignore[method-assign]
    journal.draw = lambda *_, **__: None  # type: ignore[assignment]
    saving._APART = 1e9  # once, at the end


def cell(root: Path, source: str, target: str, n: int, seed: int, scratch: float | None) -> dict[str, Any]:
    """A row of the study. scratch: its accuracy if another source's cell with the same images has found it."""
    import zoo
    from zoo.workflows.measuring import measure_models

    data = folder_of(root, target, n, seed)
    weights = "default" if source == "strokes" else str(root / "sources" / f"{source}.safetensors")
    found = measure_models(["zoo_tiny"], data=data, weights=weights, seed=seed, progress=False)
    measured, decision = found.best, found.decisions[0]
    similar, shift = measured.evidence.similarity, measured.evidence.shift
    accuracy = {} if scratch is None else {"scratch": scratch}
    for name, options in {**RECIPES, "auto": {"recipe": decision.recipe}}.items():
        if name in accuracy:
            continue
        given = {"weights": weights, **options, "seed": seed, "data": data}
        changes = {k: v for k, v in decision.changes.items() if k != "train.epochs"} if name == "auto" else {}
        if name == "auto" and decision.recipe == "full" and not changes:  # whose start is a head that learned first
            accuracy[name] = accuracy["lp-ft"]
            continue
        settings = {**changes, **given.pop("settings", {})}
        settings = {**settings, "train.epochs": EPOCHS[n], "data.workers": 0}
        run = zoo.finetune(
            "zoo_tiny", output_dir=root / "runs" / f"{os.getpid()}-{name}", progress=False, settings=settings, **given
        )
        accuracy[name] = run.metrics()[-1]["val_top1"]
        shutil.rmtree(run.path)
    return {
        "source": source, "target": target, "n": n, "seed": seed, "accuracy": accuracy,
        "S": similar.value, "S_interval": [similar.interval.low, similar.interval.high], "verdict": similar.verdict,
        "a_pre": similar.pretrained, "a0": similar.baseline, "D": None if shift is None else shift.value,
        "held_out": None if measured.held is None else [
            measured.held.score, measured.held.interval.low, measured.held.interval.high
        ],
        "knn": measured.scores.knn.outcome.score, "logme": measured.scores.logme.value,
        "rule": decision.rule, "recipe": decision.recipe,
    }  # fmt: skip


def run(root: Path, sizes: list[int], seeds: int, part: tuple[int, int], sources: list[str]) -> None:
    os.environ["ZOO_CACHE"] = str(root / f"cache-{part[0]}")
    only_the_end_counts()
    rows = root / f"rows-{part[0]}.jsonl"
    done = {tuple(r[k] for k in ("source", "target", "n", "seed")) for r in read(root)}
    scratch = {(r["target"], r["n"], r["seed"]): r["accuracy"]["scratch"] for r in read(root)}
    draws = [(t, n, seed) for seed in range(seeds) for n in sizes for t in TARGETS]
    for number, ((target, n, seed), source) in enumerate(itertools.product(draws, sources)):
        most = FAMILIES[TARGETS[target][0]].most
        mine = number // len(sources) % part[1] == part[0]
        if not mine or (source, target, n, seed) in done or (most and n + TEST > most):
            continue
        row = cell(root, source, target, n, seed, scratch.get((target, n, seed)))
        scratch[target, n, seed] = row["accuracy"]["scratch"]
        with rows.open("a") as file:
            file.write(json.dumps(row) + "\n")
        shown = "  ".join(f"{k} {v:.3f}" for k, v in row["accuracy"].items())
        print(f"{source} → {target}, {n}, seed {seed}: S {row['S']:.2f}  {shown}  ({row['rule']})", flush=True)
        shutil.rmtree(Path(os.environ["ZOO_CACHE"]) / "features", ignore_errors=True)


def read(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in sorted(root.glob("rows-*.jsonl")) for line in file.read_text().splitlines()]


def table(root: Path) -> None:
    from scipy.stats import spearmanr

    rows = read(root)
    own = tuple(RECIPES)
    print("| source → target | N | S | D | " + " | ".join((*own, "auto")) + " | rule | regret |")
    print("|---|---|---|---|" + "---|" * (len(own) + 3))
    keys = sorted({(r["source"], r["target"], r["n"]) for r in rows})
    for source, target, n in keys:
        some = [r for r in rows if (r["source"], r["target"], r["n"]) == (source, target, n)]
        means = {k: float(np.mean([r["accuracy"][k] for r in some])) for k in (*own, "auto")}
        rules = ", ".join(sorted({r["rule"] for r in some}))
        shift = np.mean([r["D"] for r in some])
        print(
            f"| {source} → {target} | {n} | {np.mean([r['S'] for r in some]):.2f} | {shift:.2g} | "
            + " | ".join(f"{100 * means[k]:.1f}" for k in (*own, "auto"))
            + f" | {rules} | {100 * (max(means[k] for k in own) - means['auto']):.1f} |"
        )
    gain = [max(r["accuracy"][k] for k in ("lp-ft", "full")) - r["accuracy"]["scratch"] for r in rows]
    print(f"\n{len(rows)} cells, {len({r['target'] for r in rows})} targets")
    print("Spearman ρ with the gain of fine-tuning over scratch:")
    for name in ("S", "a_pre", "knn", "logme"):
        print(f"  {name} {spearmanr([r[name] for r in rows], gain)[0]:.2f}")
    print(f"  −D {spearmanr([-r['D'] for r in rows], gain)[0]:.2f}")
    permuted = [r["S"] for r in rows if "permuted" in r["target"]]
    if permuted:
        print(f"permuted labels: S {np.mean(permuted):.3f} on average, {max(permuted):.3f} at most")
    best = np.array([max(r["accuracy"][k] for k in own) for r in rows])
    for name in (*own, "auto"):
        print(f"regret of always {name}: {100 * np.mean(best - [r['accuracy'][name] for r in rows]):.2f} points")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("root", type=Path)
    parser.add_argument("--sizes", default="64,256,1024")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", default="0/1", help="I/K: the Ith of K processes")
    parser.add_argument("--sources", default=",".join(SOURCES))
    asked = parser.parse_args()
    if asked.what == "table":
        table(asked.root)
        return
    part, of = map(int, asked.part.split("/"))
    run(asked.root, [int(n) for n in asked.sizes.split(",")], asked.seeds, (part, of), asked.sources.split(","))


if __name__ == "__main__":
    main()
