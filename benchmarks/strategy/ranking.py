"""How well the ranking of `zoo recommend` predicts which pretrained model is best after fine-tuning.

    python benchmarks/strategy/sources.py /tmp/study/sources
    python benchmarks/strategy/ranking.py run /tmp/study [--images 256] [--seeds 1] [--part 0/2]
    python benchmarks/strategy/ranking.py table /tmp/study

Ten pairs of pretraining data and architecture. On each target every pair is measured as in `zoo recommend` and
fine-tuned (recipe full, LP-FT, with the learning rates for related data). The ranking by the score of zoo is compared
with the ranking by accuracy, and so are those by linear probe, k-NN, LogME and a prior alone: weighted Kendall tau, 1
for equal rankings, 0 for unrelated ones. The pairs have no published accuracy; the prior is the mean accuracy of a pair
after fine-tuning on the other targets.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from study import EPOCHS, folder_of, skip_intermediate_work

PAIRS = [
    *(("zoo_tiny", source) for source in ("strokes", "shapes", "textures", "digits-0-4")),
    *((own, s) for own in ("test_resnet", "test_efficientnet", "test_byobnet") for s in ("shapes", "textures")),
]
TARGETS = (
    "strokes", "shapes, others", "outlines", "gratings", "grains", "dots", "hues", "digits", "strokes noise .2",
    "shapes blur 2",
)  # fmt: skip
# Targets on which a flip changes the class.
NO_FLIPS = ("gratings", "digits")


def cell(root: Path, architecture: str, source: str, target: str, n: int, seed: int) -> dict[str, Any]:
    import zoo
    from zoo.workflows.recommend.measure import measure_models

    data = folder_of(root, target, n, seed)
    file = root / "sources" / f"{'' if architecture == 'zoo_tiny' else architecture + '-'}{source}.safetensors"
    given: dict[str, Any] = {
        "data": data, "weights": "default" if source == "strokes" else str(file), "seed": seed, "img_size": 32,
        "workers": 0,
    }  # fmt: skip
    found = measure_models([architecture], progress=False, **given)
    settings: dict[str, Any] = {"train.epochs": EPOCHS[n], "optimizer.lr": 1e-3, "optimizer.head_lr": 3e-3}
    if target in NO_FLIPS:
        settings["augment.flips"] = "off"
    folder = root / "runs" / f"{os.getpid()}-ranking"
    run = zoo.finetune(architecture, output_dir=folder, progress=False, recipe="full", settings=settings, **given)
    accuracy = run.metrics()[-1]["val_top1"]
    shutil.rmtree(folder)
    scores = found.best.scores
    return {
        "architecture": architecture, "source": source, "target": target, "n": n, "seed": seed, "accuracy": accuracy,
        "probe": scores.ridge.outcome.values.tolist(), "knn": scores.knn.outcome.values.tolist(),
        "logme": scores.logme.value,
    }  # fmt: skip


def run(root: Path, n: int, seeds: int, part: tuple[int, int]) -> None:
    os.environ["ZOO_CACHE"] = str(root / f"cache-ranking-{part[0]}")
    skip_intermediate_work()
    rows = root / f"ranking-{part[0]}.jsonl"
    done = {tuple(r[k] for k in ("architecture", "source", "target", "n", "seed")) for r in read(root)}
    cells = [(a, s, t, n, seed) for seed in range(seeds) for t in TARGETS for a, s in PAIRS]
    for number, key in enumerate(cells):
        if number % part[1] != part[0] or key in done:
            continue
        row = cell(root, *key)
        with rows.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(*key, f"{row['accuracy']:.3f}", f"probe {np.mean(row['probe']):.3f}", flush=True)


def read(root: Path) -> list[dict[str, Any]]:
    found = sorted(root.glob("ranking-*.jsonl"))
    return [json.loads(line) for file in found for line in file.read_text().splitlines()]


def table(root: Path) -> None:
    from scipy.stats import weightedtau

    rows = read(root)
    names = ("zoo", "zoo with prior", "linear probe", "k-NN", "LogME", "prior")
    print("| target | N | best, worst after fine-tuning | " + " | ".join(names) + " |")
    print("|---|---|---|" + "---|" * len(names))
    taus: list[list[float]] = []
    regrets: list[list[float]] = []
    drawn = sorted({(r["target"], r["n"], r["seed"]) for r in rows})
    found = {key: [r for r in rows if (r["target"], r["n"], r["seed"]) == key] for key in drawn}
    found = {key: sorted(some, key=_pair) for key, some in found.items() if len(some) == len(PAIRS)}
    for (target, n, _), some in found.items():
        accuracy = np.array([r["accuracy"] for r in some])
        others = [[r["accuracy"] for r in them] for (other, _, _), them in found.items() if other != target]
        prior = np.mean(others, 0) if others else np.full(len(some), np.nan)
        probe, knn = ([np.array(r[key]) for r in some] for key in ("probe", "knn"))
        scores = [
            _zoo_score(probe, knn, [None] * len(some)), _zoo_score(probe, knn, prior.tolist()),
            np.array([p.mean() for p in probe]), np.array([k.mean() for k in knn]),
            np.array([r["logme"] for r in some]), prior,
        ]  # fmt: skip
        taus.append([float(weightedtau(accuracy, s).statistic) for s in scores])
        regrets.append([100 * (accuracy.max() - accuracy[int(s.argmax())]) for s in scores])
        shown = " | ".join(f"{tau:.2f}" for tau in taus[-1])
        print(f"| {target} | {n} | {100 * accuracy.max():.1f}, {100 * accuracy.min():.1f} | {shown} |")
    print("| **mean τ** | | | " + " | ".join(f"**{t:.2f}**" for t in np.mean(taus, 0)) + " |")
    print(
        "| regret of the top-ranked model, points | | | " + " | ".join(f"{r:.1f}" for r in np.mean(regrets, 0)) + " |"
    )


def _pair(row: dict[str, Any]) -> tuple[str, str]:
    return row["architecture"], row["source"]


def _zoo_score(probe: list[Any], knn: list[Any], priors: list[float | None]) -> Any:
    from zoo.strategy.ranking import Candidate, rank_models

    candidates = [Candidate(p, k, prior) for p, k, prior in zip(probe, knn, priors, strict=True)]
    found = np.empty(len(candidates))
    for ranked in rank_models(candidates, np.ones(len(probe[0]))):
        found[ranked.index] = ranked.score
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("root", type=Path)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--part", default="0/1", help="I/K: part I of K parallel processes")
    args = parser.parse_args()
    if args.what == "table":
        table(args.root)
        return
    part, of = map(int, args.part.split("/"))
    run(args.root, args.images, args.seeds, (part, of))


if __name__ == "__main__":
    main()
