"""How well the measurements of `zoo recommend` predict the result of training, and the regret of its rules.

    python benchmarks/strategy/sources.py /tmp/study/sources
    python benchmarks/strategy/study.py run /tmp/study [--sizes 64,256,1024] [--seeds 0] [--part 0/2]
    python benchmarks/strategy/study.py run /tmp/study --seeds 100 --targets "dots;grains" --strategies "lp-ft;views"
    python benchmarks/strategy/study.py table /tmp/study [--seeds 0] [--strategies …]

A cell is a source model, a target, a number of training images and a seed. In each cell the similarity is measured as
in `zoo recommend`, and these strategies are trained: head only, the second half of the layers and the head (partial),
all layers after the head (lp-ft), all layers from the start (full), all layers from random weights (scratch), and the
choice of the rules (auto). The result is the accuracy of the last epoch on fresh images, never that of the best epoch.
Every result is appended to a JSONL file, with the settings of the training as its key: the study can be interrupted and
resumed, parts can run in parallel, and after a change of the rules only their new choices are trained. Thresholds and
rules are calibrated on seeds from 100 with --strategies of EXPLORED, and evaluated on seeds from 0.
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
# Number of fresh test images; half as many for real images, because there are fewer.
TEST = 1000
# Training images → epochs, the same for every strategy: 120 to 512 steps of 32 images.
EPOCHS = {64: 60, 256: 24, 1024: 10, 4096: 4}
Strategy = dict[str, Any]  # arguments of zoo.finetune


def _learning_rates(lr: float, head_lr: float) -> Strategy:
    return {"optimizer.lr": lr, "optimizer.head_lr": head_lr}


STRATEGIES: dict[str, Strategy] = {
    "head": {"recipe": "head-only"},
    "partial": {"recipe": "full", "freeze": "50%"},
    "lp-ft": {"recipe": "full", "settings": {"transfer.start": "lp-ft"}},
    "full": {"recipe": "full", "settings": {"transfer.start": "plain"}},
    # The learning rate of the pretraining: at lower ones the accuracy stays near chance.
    "scratch": {"recipe": "full", "weights": "none", "settings": {"data.norm": "model", **_learning_rates(2e-3, 2e-3)}},
}
# Strategies for the calibration of the rules.
EXPLORED: dict[str, Strategy] = {
    "lp-ft-1e-3": {"recipe": "full", "settings": {"transfer.start": "lp-ft", **_learning_rates(1e-3, 3e-3)}},
    "lp-ft-2e-3": {"recipe": "full", "settings": {"transfer.start": "lp-ft", **_learning_rates(2e-3, 2e-3)}},
    "no-flips-1e-3": {
        "recipe": "full", "settings": {"transfer.start": "lp-ft", "augment.flips": "off", **_learning_rates(1e-3, 3e-3)}
    },
    "views": {"recipe": "small-similar"},
    "stem-frozen": {"recipe": "small-different", "settings": {"transfer.bn_reestimate": True}},
    "stem-frozen-2e-3": {
        "recipe": "small-different",
        "settings": {"transfer.bn_reestimate": True, "augment.name": "light", "optimizer.lr": 2e-3},
    },
    "rgn-2e-3": {
        "recipe": "full",
        "settings": {"transfer.auto_rgn": True, "transfer.bn_reestimate": True, **_learning_rates(2e-3, 2e-3)},
    },
}  # fmt: skip
# Recipes that fit a linear probe: with a number of epochs they would use gradient steps.
CLOSED_FORM = ("head-only", "small-similar")
Cell = tuple[str, str, int, int]  # source, target, images, seed


def folder_of(root: Path, target: str, n: int, seed: int) -> Path:
    """train/ and val/ with class folders of PNGs, written once."""
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


def skip_intermediate_work() -> None:
    """Skip what does not change the trained weights, two thirds of the time of such small runs: validation before the
    last epoch (except one batch), checkpoints and pictures."""
    from zoo.training.trainer import Trainer
    from zoo.workflows.finetune import checkpoint, loop, record

    original_evaluate, original_run_epoch = Trainer.evaluate, loop._run_epoch
    at_end = False

    def run_epoch(run: Any, session: Any, epoch: int, *rest: Any) -> Any:
        nonlocal at_end
        at_end = epoch + 1 == session.epochs
        return original_run_epoch(run, session, epoch, *rest)

    def evaluate(self: Trainer, batches: Any, *rest: Any) -> Any:
        return original_evaluate(self, batches if at_end else itertools.islice(batches, 1), *rest)

    Trainer.evaluate, loop._run_epoch = evaluate, run_epoch  # type: ignore[method-assign]
    record.draw = lambda *_, **__: None  # type: ignore[assignment]
    checkpoint._TRAIN_TO_WRITE_RATIO = 1e9  # only at the end


# --- results, one line each ---


class Results:
    """The results of all parts; each part appends to its own file."""

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


def training_key(cell: Cell, strategy: Strategy) -> str:
    source, *images = cell
    if strategy.get("weights") == "none":
        source = ""  # the same for every source
    return json.dumps([source, *images, strategy], sort_keys=True)


def measured_key(cell: Cell) -> str:
    return json.dumps([*cell, "measured"])


def weights_of(root: Path, source: str) -> str:
    return "default" if source == "strokes" else str(root / "sources" / f"{source}.safetensors")


def train(root: Path, cell: Cell, strategy: Strategy) -> float:
    import zoo

    source, target, n, seed = cell
    settings = {**strategy.get("settings", {}), "data.workers": 0}
    if strategy["recipe"] not in CLOSED_FORM:
        settings["train.epochs"] = EPOCHS[n]
    given = {"weights": weights_of(root, source), **strategy, "settings": settings}
    folder = root / "runs" / str(os.getpid())
    shutil.rmtree(folder, ignore_errors=True)
    run = zoo.finetune(
        "zoo_tiny", data=folder_of(root, target, n, seed), seed=seed, output_dir=folder, progress=False, **given
    )
    accuracy = float(run.metrics()[-1]["val_top1"])
    shutil.rmtree(folder)
    return accuracy


# --- measurements ---


def measure(root: Path, cell: Cell) -> dict[str, Any]:
    """The inputs of the rules, the scores, and the accuracy and similarity on fresh images."""
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
    """Accuracy on val/ of ridge heads fitted on train/, with pretrained features and with those of a random network."""
    import torch

    from zoo.strategy.scores import Targets, decompose, ridge_head, ridge_loo
    from zoo.workflows.finetune.inputs import create_model, open_dataset
    from zoo.workflows.finetune.options import make_recipe
    from zoo.workflows.recommend.features import extract_features
    from zoo.workflows.recommend.open_candidate import load_candidate

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


def chosen_strategy(found: dict[str, Any]) -> tuple[str, Strategy]:
    """The rule of the decision table for these measurements, and its strategy in the format of STRATEGIES."""
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
    decision = decide(
        Measurements(DataSize(**of["size"]), similar, shift, of["architecture"], flips, parameters=1_000_000)
    )
    settings = {k: v for k, v in decision.changes.items() if k != "train.epochs"}
    if decision.recipe == "full" and "transfer.lora" not in settings:
        settings.setdefault("transfer.start", "lp-ft")  # the default of a run
    strategy: Strategy = {"recipe": decision.recipe, **({"settings": settings} if settings else {})}
    return decision.rule, strategy


# --- running ---


def run(root: Path, cells: Iterator[Cell], strategies: list[str], number: int) -> None:
    os.environ["ZOO_CACHE"] = str(root / f"cache-{number}")
    skip_intermediate_work()
    found = Results(root, number)
    known = {**STRATEGIES, **EXPLORED}
    for cell in cells:
        new = []
        if measured_key(cell) not in found.lines:
            found[measured_key(cell)] = measure(root, cell)
        for name in strategies:
            strategy = chosen_strategy(found.lines[measured_key(cell)])[1] if name == "auto" else known[name]
            key = training_key(cell, strategy)
            if key not in found.lines:
                found[key] = train(root, cell, strategy)
                new.append(f"{name} {found.lines[key]:.3f}")
        if new:
            s = found.lines[measured_key(cell)]["evidence"]["similarity"]["value"]
            print(*cell, f"S {s:.2f}", *new, sep="  ", flush=True)
        shutil.rmtree(Path(os.environ["ZOO_CACHE"]) / "features", ignore_errors=True)


def cells_of(args: argparse.Namespace, part: tuple[int, int]) -> Iterator[Cell]:
    images = [(t, n, seed) for seed in args.seeds for n in args.sizes for t in args.targets if exists(t, n)]
    for number, (target, n, seed) in enumerate(images):
        if number % part[1] == part[0]:
            yield from ((source, target, n, seed) for source in args.sources)


# --- report ---


def table(root: Path, cells: list[Cell], strategies: list[str]) -> None:
    from scipy.stats import spearmanr

    lines = Results(root, -1).lines
    known = {**STRATEGIES, **EXPLORED}
    rows: list[dict[str, Any]] = []
    for cell in cells:
        found = lines.get(measured_key(cell))
        if found is None:
            continue
        rule, chosen = chosen_strategy(found)
        accuracy = {w: lines.get(training_key(cell, chosen if w == "auto" else known[w])) for w in strategies}
        if None not in accuracy.values():
            rows.append({"cell": cell, "rule": rule, **found, "accuracy": accuracy})
    own = [w for w in strategies if w in STRATEGIES]
    print("| source → target | N | S | D | " + " | ".join(strategies) + " | rule | regret |")
    print("|---|---|---|---|" + "---|" * (len(strategies) + 2))
    by_kind: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in rows:
        by_kind.setdefault(row["cell"][:3], []).append(row)
    for (source, target, n), some in sorted(by_kind.items(), key=lambda item: (item[0][2], *item[0])):
        s = np.mean([r["evidence"]["similarity"]["value"] for r in some])
        shift = np.mean([r["evidence"]["shift"]["value"] for r in some])
        means = {w: float(np.mean([r["accuracy"][w] for r in some])) for w in strategies}
        lost = max(means[w] for w in own) - means.get("auto", np.nan)
        shown = " | ".join(f"{100 * means[w]:.1f}" for w in strategies)
        rules = ", ".join(sorted({r["rule"] for r in some}))
        print(f"| {source} → {target} | {n} | {s:.2f} | {shift:.2g} | {shown} | {rules} | {100 * lost:.1f} |")
    print(f"\n{len(rows)} cells, {len({r['cell'][1] for r in rows})} targets")
    _print_similarity(rows, lambda a, b: float(spearmanr(a, b)[0]))
    _print_regret(rows, own, strategies)


def _print_similarity(rows: list[dict[str, Any]], rank_correlation: Any) -> None:
    for n in (*sorted({r["cell"][2] for r in rows}), None):
        some = [r for r in rows if n in (r["cell"][2], None)]
        scratch = np.array([r["accuracy"]["scratch"] for r in some])
        gain = np.array([max(r["accuracy"][k] for k in ("lp-ft", "full")) for r in some]) - scratch
        similar = [r["evidence"]["similarity"] for r in some]
        by = {
            "S": [s["value"] for s in similar], "a_pre": [s["pretrained"] for s in similar],
            "k-NN": [r["knn"] for r in some], "LogME": [r["logme"] for r in some],
            "−D": [-r["evidence"]["shift"]["value"] for r in some],
        }  # fmt: skip
        shown = ", ".join(f"{name} {rank_correlation(values, gain):.2f}" for name, values in by.items())
        print(f"Spearman ρ with the gain of fine-tuning over scratch, {n or 'all'} images, {len(some)} cells: {shown}")
        relative = rank_correlation(by["S"], gain / (1 + 1e-3 - scratch))
        print(f"  of S with the gain relative to the error of scratch: {relative:.2f}")
    permuted = [r["evidence"]["similarity"]["value"] for r in rows if "permuted" in r["cell"][1]]
    if permuted:
        print(f"permuted labels: mean of S {np.mean(permuted):.3f}, maximum {max(permuted):.3f}")
    for name, evaluated in (
        ("S", [_evaluated_similarity(r) for r in rows]),
        ("the held-out accuracy", [*_evaluated_accuracy(rows)]),
    ):
        alone = np.mean([abs(t - v) <= half for v, half, t, _ in evaluated])
        both = np.mean([abs(t - v) <= np.hypot(half, 1.645 * error) for v, half, t, error in evaluated])
        print(
            f"coverage of the 90 % interval of {name}: {100 * alone:.0f} % of {len(evaluated)} cells; "
            f"with the uncertainty of the fresh images, {100 * both:.0f} %"
        )


# Middle and half width of an interval, the value on fresh images, and its standard error.
Evaluated = tuple[float, float, float, float]


def _evaluated_similarity(row: dict[str, Any]) -> Evaluated:
    similar, tests = row["evidence"]["similarity"], tests_of(row["cell"][1])
    a, random = row["fresh"]
    a0 = max(random, 1e-9) if similar["baseline_kind"] == "random" else similar["baseline"]
    of_a0 = (
        np.sqrt(a0 * (1 - a0) / tests) * (1 - a) / max(1 - a0, 1e-9) if similar["baseline_kind"] == "random" else 0.0
    )
    error = np.hypot(np.sqrt(a * (1 - a) / tests), of_a0) / max(1 - a0, 1e-9)
    return (*_middle(similar["interval"]), row["S"], float(error))


def _evaluated_accuracy(rows: list[dict[str, Any]]) -> Iterator[Evaluated]:
    for row in rows:
        if row["held_out"] is not None:
            a = row["fresh"][0]
            yield (*_middle(row["held_out"]), a, float(np.sqrt(a * (1 - a) / tests_of(row["cell"][1]))))


def _middle(interval: dict[str, float]) -> tuple[float, float]:
    return (interval["low"] + interval["high"]) / 2, (interval["high"] - interval["low"]) / 2


def _print_regret(rows: list[dict[str, Any]], own: list[str], strategies: list[str]) -> None:
    accuracy: NDArray[np.float64] = np.array([[r["accuracy"][w] for w in strategies] for r in rows])
    best = accuracy[:, [strategies.index(w) for w in own]].max(1)
    for column, strategy in enumerate(strategies):
        lost = best - accuracy[:, column]
        error = lost.std() / np.sqrt(len(lost))
        print(f"regret of always {strategy}: {100 * lost.mean():.2f} points (standard error {100 * error:.2f})")
    print("mean regret in points by rule (number of cells):")
    for rule in sorted({r["rule"] for r in rows}):
        with_rule = np.array([r["rule"] == rule for r in rows])
        shown = ", ".join(
            f"{strategy} {100 * (best - accuracy[:, k])[with_rule].mean():.1f}" for k, strategy in enumerate(strategies)
        )
        print(f"- {rule!r} ({with_rule.sum()}): {shown}")


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
    parser.add_argument("--targets", type=names, default=list(TARGETS), help="separated by ;")
    parser.add_argument("--sources", type=names, default=list(SOURCES), help="separated by ;")
    parser.add_argument("--strategies", type=names, default=[*STRATEGIES, "auto"], help="separated by ;")
    parser.add_argument("--part", default="0/1", help="I/K: part I of K parallel processes")
    args = parser.parse_args()
    number, of = map(int, args.part.split("/"))
    cells = cells_of(args, (number, of))
    if args.what == "table":
        table(args.root, list(cells), args.strategies)
        return
    run(args.root, cells, args.strategies, number)


if __name__ == "__main__":
    main()
