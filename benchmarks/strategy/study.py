"""How well the measurements of `zoo recommend` foretell what training does, and what following its rules costs.

    python benchmarks/strategy/sources.py /tmp/study/sources
    python benchmarks/strategy/study.py run /tmp/study [--sizes 64,256,1024] [--seeds 0] [--part 0/2]
    python benchmarks/strategy/study.py run /tmp/study --seeds 100 --targets "dots;grains" --ways "lp-ft;lp-ft-2e-3"
    python benchmarks/strategy/study.py table /tmp/study [--seeds 0] [--ways …]

A cell is a source model, a target, a number of training images and a seed. In each the similarity is measured as
`zoo recommend` does, and trainings are made: head only, the second half of the layers and the head (partial),
everything behind a head that learned first (lp-ft), everything at once (full), everything from random weights
(scratch), and what the rules say (auto). Reported is the last epoch's accuracy on fresh images, never the best.
Every result goes to a JSONL file at once, under what was trained and not why: the study can be ended and taken up
again, parts run side by side, and after a change of the rules only what they now choose is trained.
Cuts and rules are calibrated on seeds from 100 on, with --ways of EXPLORED beside the others, and judged on seeds
from 0 on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from pictures import FAMILIES, draw
from PIL import Image

SOURCES = ("strokes", "shapes", "textures", "digits-0-4")
# Target → family, shift of the input, permuted labels.
TARGETS: dict[str, tuple[str, str, bool]] = {
    **{name: (name, "", False) for name in FAMILIES},
    **{f"strokes {s}": ("strokes", s, False) for s in ("noise .2", "noise .5", "blur 2", "contrast .15")},
    **{f"shapes {s}": ("shapes", s, False) for s in ("noise .2", "blur 2", "negative red")},
    **{f"digits {s}": ("digits", s, False) for s in ("noise .2", "contrast .15", "negative red")},
    "strokes permuted": ("strokes", "", True),
    "shapes permuted": ("shapes", "", True),
}
# Fresh images to judge by; of real ones, of which there are not so many, half of it.
TEST = 1000
# Epochs for so many images, the same for every way: 120 to 512 updates with 32 images.
EPOCHS = {64: 60, 256: 24, 1024: 10, 4096: 4}
Way = dict[str, Any]  # arguments of zoo.finetune


def _rates(lr: float, head_lr: float) -> Way:
    return {"optimizer.lr": lr, "optimizer.head_lr": head_lr}


WAYS: dict[str, Way] = {
    "head": {"recipe": "head-only"},
    "partial": {"recipe": "full", "freeze": "50%"},
    "lp-ft": {"recipe": "full", "settings": {"transfer.start": "lp-ft"}},
    "full": {"recipe": "full", "settings": {"transfer.start": "plain"}},
    # At the rate that zoo_tiny was pretrained with: at the others' it stays near chance.
    "scratch": {"recipe": "full", "weights": "none", "settings": {"data.norm": "model", **_rates(2e-3, 2e-3)}},
}
# Looked at for the rules' sake.
EXPLORED: dict[str, Way] = {
    "lp-ft-1e-3": {"recipe": "full", "settings": {"transfer.start": "lp-ft", **_rates(1e-3, 3e-3)}},
    "lp-ft-2e-3": {"recipe": "full", "settings": {"transfer.start": "lp-ft", **_rates(2e-3, 2e-3)}},
    "no-flips-1e-3": {
        "recipe": "full", "settings": {"transfer.start": "lp-ft", "augment.flips": "off", **_rates(1e-3, 3e-3)}
    },
    "views": {"recipe": "small-similar"},
    "stem-frozen": {"recipe": "small-different", "settings": {"transfer.bn_reestimate": True}},
    "stem-frozen-2e-3": {
        "recipe": "small-different",
        "settings": {"transfer.bn_reestimate": True, "augment.name": "light", "optimizer.lr": 2e-3},
    },
    "rgn-2e-3": {
        "recipe": "full",
        "settings": {"transfer.auto_rgn": True, "transfer.bn_reestimate": True, **_rates(2e-3, 2e-3)},
    },
}  # fmt: skip
# Recipes whose head is solved: epochs, which are for steps, would have it trained.
SOLVED = ("head-only", "small-similar")
Cell = tuple[str, str, int, int]  # source, target, images, seed


def folder_of(root: Path, target: str, n: int, seed: int) -> Path:
    """train/ and val/ with class folders of PNGs, made once."""
    path = root / "data" / f"{target.replace(' ', '_').replace(',', '')}-{n}-{seed}"
    if (path / "done").exists():
        return path
    family, shift, permuted = TARGETS[target]
    shutil.rmtree(path, ignore_errors=True)
    parts = draw(family, shift, (n, tests_of(target)), seed, permuted=permuted)
    for part, (pixels, labels) in zip(("train", "val"), parts, strict=True):
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            here = path / part / f"{label:02d}"
            here.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(here / f"{i}.png")
    (path / "done").touch()
    return path


def tests_of(target: str) -> int:
    return TEST // 2 if FAMILIES[TARGETS[target][0]].most else TEST


def exists(target: str, n: int) -> bool:
    most = FAMILIES[TARGETS[target][0]].most
    return most is None or n + tests_of(target) <= most


def only_the_end_counts() -> None:
    """Spare what the study does not look at, two thirds of the time of such small runs: validation but for a batch
    before the last epoch, checkpoints and pictures. What is learnt stays the same, as nothing in it looks at these."""
    from zoo.training.trainer import Trainer
    from zoo.workflows.finetune import checkpoint, loop, record

    whole, whole_epoch = Trainer.evaluate, loop._run_epoch
    at_end = False

    def epoch(run: Any, prepared: Any, number: int, *rest: Any) -> Any:
        nonlocal at_end
        at_end = number + 1 == prepared.epochs
        return whole_epoch(run, prepared, number, *rest)

    def evaluate(self: Trainer, batches: Any) -> Any:
        return whole(self, batches if at_end else itertools.islice(batches, 1))

    Trainer.evaluate, loop._run_epoch = evaluate, epoch  # type: ignore[method-assign]
    record.draw = lambda *_, **__: None  # type: ignore[assignment]
    checkpoint._TRAIN_TO_WRITE_RATIO = 1e9  # once, at the end


# --- what is found, a line each ---


class Found:
    """The lines that all parts have written; each part appends to its own file."""

    def __init__(self, root: Path, part: int) -> None:
        self.file = root / f"found-{part}.jsonl"
        self.lines: dict[str, Any] = {}
        for file in sorted(root.glob("found-*.jsonl")):
            for line in file.read_text().splitlines():
                self.lines.update([json.loads(line)])

    def __setitem__(self, key: str, value: Any) -> None:
        self.lines[key] = value
        with self.file.open("a") as file:
            file.write(json.dumps([key, value]) + "\n")


def training_key(cell: Cell, way: Way) -> str:
    source, *images = cell
    if way.get("weights") == "none":
        source = ""  # the same whatever the source
    return json.dumps([source, *images, way], sort_keys=True)


def measured_key(cell: Cell) -> str:
    return json.dumps([*cell, "measured"])


def weights_of(root: Path, source: str) -> str:
    return "default" if source == "strokes" else str(root / "sources" / f"{source}.safetensors")


def train(root: Path, cell: Cell, way: Way) -> float:
    import zoo

    source, target, n, seed = cell
    settings = {**way.get("settings", {}), "data.workers": 0}
    if way["recipe"] not in SOLVED:
        settings["train.epochs"] = EPOCHS[n]
    given = {"weights": weights_of(root, source), **way, "settings": settings}
    folder = root / "runs" / str(os.getpid())
    shutil.rmtree(folder, ignore_errors=True)
    run = zoo.finetune(
        "zoo_tiny", data=folder_of(root, target, n, seed), seed=seed, output_dir=folder, progress=False, **given
    )
    accuracy = float(run.metrics()[-1]["val_top1"])
    shutil.rmtree(folder)
    return accuracy


# --- what is measured ---


def measure(root: Path, cell: Cell) -> dict[str, Any]:
    """The evidence that the rules look at, the scores, and what fresh images say of the same."""
    from zoo.workflows.recommend.measure import measure_models

    source, target, n, seed = cell
    data = folder_of(root, target, n, seed)
    given: dict[str, Any] = {"data": data, "weights": weights_of(root, source), "seed": seed, "workers": 0}
    best = measure_models(["zoo_tiny"], progress=False, **given).best
    fresh = _on_fresh_images(given)
    a0 = max(fresh[1], 1 / FAMILIES[TARGETS[target][0]].classes)
    return {
        "evidence": asdict(best.evidence),
        "held_out": None if best.holdout is None else asdict(best.holdout.interval),
        "knn": best.scores.knn.outcome.score, "logme": best.scores.logme.value,
        "fresh": fresh, "S": float(np.clip((fresh[0] - a0) / (1 - a0), 0, 1)),
    }  # fmt: skip


def _on_fresh_images(given: dict[str, Any]) -> list[float]:
    """Accuracy on val/ of the ridge heads of train/, on the pretrained features and on those of a random network."""
    import torch

    from zoo.strategy.scores import Targets, decompose, ridge_head, ridge_loo
    from zoo.workflows.finetune.inputs import create_model, open_dataset
    from zoo.workflows.finetune.options import make_recipe
    from zoo.workflows.recommend.features import extract_features
    from zoo.workflows.recommend.measure import load_candidate

    recipe = make_recipe("zoo_tiny", **given)
    opened = open_dataset(recipe)
    model, train, settings = load_candidate(recipe, opened)
    torch.manual_seed(given["seed"])
    random_model = create_model(recipe, opened, with_weights=False)
    ridge_targets = Targets.of(train.targets, "single-label", outputs=len(opened.classes), balanced=True)
    found = []
    for network, random in ((model, False), (random_model, True)):
        known = extract_features(
            network, train, np.arange(len(train)), settings, random=random, measure_shift=False
        ).features
        fresh = extract_features(
            network, opened.val, np.arange(len(opened.val)), settings, measure_shift=False
        ).features
        svd = decompose(known, ridge_targets.weights)
        head = ridge_head(svd, ridge_targets, ridge_loo(svd, ridge_targets).chosen)
        found.append(float((head.predict(fresh).argmax(1) == opened.val.targets).mean()))
    return found


def rules_way(found: dict[str, Any]) -> tuple[str, Way]:
    """The rule that today's table takes for what was measured, and what it trains, as the ways above spell it."""
    from zoo.strategy.decision_table import Measurements, decide
    from zoo.strategy.scores import FlipInvariance, Interval, NormShift, Similarity
    from zoo.strategy.scores.similarity import verdict
    from zoo.strategy.scores.size import DataSize

    of = found["evidence"]
    interval = Interval(**of["similarity"]["interval"])
    similar = Similarity(**{**of["similarity"], "interval": interval, "verdict": verdict(interval)})
    shift = NormShift(**{**of["shift"], "layers": (), "interval": None})
    flips = of["flip_invariance"] and FlipInvariance(
        **{**of["flip_invariance"], "interval": Interval(**of["flip_invariance"]["interval"])}
    )
    decision = decide(Measurements(DataSize(**of["size"]), similar, shift, of["architecture"], flips))
    settings = {k: v for k, v in decision.changes.items() if k != "train.epochs"}
    if decision.recipe == "full" and "transfer.lora" not in settings:
        settings.setdefault("transfer.start", "lp-ft")  # what a run does by itself
    way: Way = {"recipe": decision.recipe, **({"settings": settings} if settings else {})}
    return decision.rule, way


# --- running ---


def run(root: Path, cells: Iterator[Cell], ways: list[str], number: int) -> None:
    os.environ["ZOO_CACHE"] = str(root / f"cache-{number}")
    only_the_end_counts()
    found = Found(root, number)
    known = {**WAYS, **EXPLORED}
    for cell in cells:
        new = []
        if measured_key(cell) not in found.lines:
            found[measured_key(cell)] = measure(root, cell)
        for name in ways:
            way = rules_way(found.lines[measured_key(cell)])[1] if name == "auto" else known[name]
            key = training_key(cell, way)
            if key not in found.lines:
                found[key] = train(root, cell, way)
                new.append(f"{name} {found.lines[key]:.3f}")
        if new:
            s = found.lines[measured_key(cell)]["evidence"]["similarity"]["value"]
            print(*cell, f"S {s:.2f}", *new, sep="  ", flush=True)
        shutil.rmtree(Path(os.environ["ZOO_CACHE"]) / "features", ignore_errors=True)


def cells_of(asked: argparse.Namespace, part: tuple[int, int]) -> Iterator[Cell]:
    images = [(t, n, seed) for seed in asked.seeds for n in asked.sizes for t in asked.targets if exists(t, n)]
    for number, (target, n, seed) in enumerate(images):
        if number % part[1] == part[0]:
            yield from ((source, target, n, seed) for source in asked.sources)


# --- telling ---


def table(root: Path, cells: list[Cell], ways: list[str]) -> None:
    from scipy.stats import spearmanr

    lines = Found(root, -1).lines
    known = {**WAYS, **EXPLORED}
    rows: list[dict[str, Any]] = []
    for cell in cells:
        found = lines.get(measured_key(cell))
        if found is None:
            continue
        rule, chosen = rules_way(found)
        accuracy = {w: lines.get(training_key(cell, chosen if w == "auto" else known[w])) for w in ways}
        if None not in accuracy.values():
            rows.append({"cell": cell, "rule": rule, **found, "accuracy": accuracy})
    own = [w for w in ways if w in WAYS]
    print("| source → target | N | S | D | " + " | ".join(ways) + " | rule | regret |")
    print("|---|---|---|---|" + "---|" * (len(ways) + 2))
    by_kind: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in rows:
        by_kind.setdefault(row["cell"][:3], []).append(row)
    for (source, target, n), some in sorted(by_kind.items(), key=lambda item: (item[0][2], *item[0])):
        s = np.mean([r["evidence"]["similarity"]["value"] for r in some])
        shift = np.mean([r["evidence"]["shift"]["value"] for r in some])
        means = {w: float(np.mean([r["accuracy"][w] for r in some])) for w in ways}
        lost = max(means[w] for w in own) - means.get("auto", np.nan)
        shown = " | ".join(f"{100 * means[w]:.1f}" for w in ways)
        rules = ", ".join(sorted({r["rule"] for r in some}))
        print(f"| {source} → {target} | {n} | {s:.2f} | {shift:.2g} | {shown} | {rules} | {100 * lost:.1f} |")
    print(f"\n{len(rows)} cells, {len({r['cell'][1] for r in rows})} targets")
    _tell_similarity(rows, lambda a, b: float(spearmanr(a, b)[0]))
    _tell_regret(rows, own, ways)


def _tell_similarity(rows: list[dict[str, Any]], rank_correlation: Any) -> None:
    for n in (*sorted({r["cell"][2] for r in rows}), None):
        some = [r for r in rows if n in (r["cell"][2], None)]
        scratch = np.array([r["accuracy"]["scratch"] for r in some])
        gain = np.array([max(r["accuracy"][k] for k in ("lp-ft", "full")) for r in some]) - scratch
        similar = [r["evidence"]["similarity"] for r in some]
        by = {
            "S": [s["value"] for s in similar], "a_pre": [s["pretrained"] for s in similar],
            "neighbours": [r["knn"] for r in some], "LogME": [r["logme"] for r in some],
            "−D": [-r["evidence"]["shift"]["value"] for r in some],
        }  # fmt: skip
        shown = ", ".join(f"{name} {rank_correlation(values, gain):.2f}" for name, values in by.items())
        print(f"Spearman ρ with the gain of fine-tuning over scratch, {n or 'all'} images, {len(some)} cells: {shown}")
        relative = rank_correlation(by["S"], gain / (1 + 1e-3 - scratch))
        print(f"  of S with the gain as a share of what scratch gets wrong: {relative:.2f}")
    permuted = [r["evidence"]["similarity"]["value"] for r in rows if "permuted" in r["cell"][1]]
    if permuted:
        print(f"permuted labels: S {np.mean(permuted):.3f} on average, {max(permuted):.3f} at most")
    for name, judged in (
        ("S", [_judged_similarity(r) for r in rows]),
        ("held-out accuracy", [*_judged_accuracy(rows)]),
    ):
        alone = np.mean([abs(t - v) <= half for v, half, t, _ in judged])
        both = np.mean([abs(t - v) <= np.hypot(half, 1.645 * error) for v, half, t, error in judged])
        print(
            f"90 % interval of {name} holds what fresh images say: {100 * alone:.0f} % of {len(judged)}; "
            f"these not being certain themselves, {100 * both:.0f} %"
        )


# Each: the middle of an interval and half its width, what fresh images say, and the standard error of that.
Judged = tuple[float, float, float, float]


def _judged_similarity(row: dict[str, Any]) -> Judged:
    similar, tests = row["evidence"]["similarity"], tests_of(row["cell"][1])
    a, random = row["fresh"]
    a0 = max(random, 1e-9) if similar["baseline_kind"] == "random" else similar["baseline"]
    of_a0 = (
        np.sqrt(a0 * (1 - a0) / tests) * (1 - a) / max(1 - a0, 1e-9) if similar["baseline_kind"] == "random" else 0.0
    )
    error = np.hypot(np.sqrt(a * (1 - a) / tests), of_a0) / max(1 - a0, 1e-9)
    return (*_middle(similar["interval"]), row["S"], float(error))


def _judged_accuracy(rows: list[dict[str, Any]]) -> Iterator[Judged]:
    for row in rows:
        if row["held_out"] is not None:
            a = row["fresh"][0]
            yield (*_middle(row["held_out"]), a, float(np.sqrt(a * (1 - a) / tests_of(row["cell"][1]))))


def _middle(interval: dict[str, float]) -> tuple[float, float]:
    return (interval["low"] + interval["high"]) / 2, (interval["high"] - interval["low"]) / 2


def _tell_regret(rows: list[dict[str, Any]], own: list[str], ways: list[str]) -> None:
    accuracy: NDArray[np.float64] = np.array([[r["accuracy"][w] for w in ways] for r in rows])
    best = accuracy[:, [ways.index(w) for w in own]].max(1)
    for column, way in enumerate(ways):
        lost = best - accuracy[:, column]
        error = lost.std() / np.sqrt(len(lost))
        print(f"regret of always {way}: {100 * lost.mean():.2f} points (standard error {100 * error:.2f})")
    for rule in sorted({r["rule"] for r in rows}):
        holdout = np.array([r["rule"] == rule for r in rows])
        shown = ", ".join(f"{way} {100 * (best - accuracy[:, k])[holdout].mean():.1f}" for k, way in enumerate(ways))
        print(f"  where it is {rule!r} ({holdout.sum()}): {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("root", type=Path)

    def names(text: str) -> list[str]:
        return text.split(";")

    def numbers(text: str) -> list[int]:
        return [int(n) for n in text.split(",")]

    parser.add_argument("--sizes", type=numbers, default=[64, 256, 1024, 4096])
    parser.add_argument("--seeds", type=numbers, default=[0])
    parser.add_argument("--targets", type=names, default=list(TARGETS), help="with ; between them")
    parser.add_argument("--sources", type=names, default=list(SOURCES), help="with ; between them")
    parser.add_argument("--ways", type=names, default=[*WAYS, "auto"], help="with ; between them")
    parser.add_argument("--part", default="0/1", help="I/K: the Ith of K processes")
    asked = parser.parse_args()
    number, of = map(int, asked.part.split("/"))
    cells = cells_of(asked, (number, of))
    if asked.what == "table":
        table(asked.root, list(cells), asked.ways)
        return
    run(asked.root, cells, asked.ways, number)


if __name__ == "__main__":
    main()
