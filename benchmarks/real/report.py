"""Tables of the study: accuracy, regret, and how often the automatic choice is ahead."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from cells import Cell
from strategies import STRATEGIES

CHOICE = "auto"
Found = dict[Cell, dict[str, dict[str, Any]]]
Group = tuple[str, str, int, int]  # set, backbone, images, image size: the cells that differ in the seed only


def print_report(found: Found) -> None:
    """Print the tables over the cells in which every strategy that has any result has one."""
    present = [name for name in STRATEGIES if any(name in of for of in found.values())]
    if not present:
        print("no results yet: run `study.py run`")
        return
    complete = {cell: of for cell, of in found.items() if all(name in of for name in present)}
    print(f"{len(complete)} of {len(found)} cells have all of: {', '.join(present)}")
    for name in present:
        print(f"  {name}: {sum(name in of for of in found.values())} cells")
    if not complete:
        return
    top1 = {cell: {name: 100 * of[name]["top1"] for name in present} for cell, of in complete.items()}
    candidates = [name for name in present if STRATEGIES[name].candidate]
    _print_groups(top1, present, candidates)
    _print_strategies(complete, top1, present, candidates)
    if CHOICE in present:
        _print_ahead(found, [name for name in present if name != CHOICE])
        if candidates:
            _print_worst(top1, candidates)


def _print_groups(top1: dict[Cell, dict[str, float]], present: list[str], candidates: list[str]) -> None:
    print(f"\ntop-1 %, mean over seeds\n\n| set | backbone | N | seeds | {' | '.join(present)} | best |")
    print("|---|---|---|---|" + "---|" * (len(present) + 1))
    for (name, backbone, n, _), cells in _groups(top1).items():
        means = {s: float(np.mean([top1[cell][s] for cell in cells])) for s in present}
        best = max(candidates, key=means.__getitem__) if candidates else ""
        print(
            f"| {name} | {backbone} | {n} | {len(cells)} | {' | '.join(f'{means[s]:.1f}' for s in present)} | {best} |"
        )


def _print_strategies(
    complete: Found, top1: dict[Cell, dict[str, float]], present: list[str], candidates: list[str]
) -> None:
    print("\nRegret: the best candidate of a group (by its mean over seeds) less the strategy, in points.")
    print("± is one standard error over seeds.\n\n| strategy | top-1 % | regret | CPU s |\n|---|---|---|---|")
    best = {
        group: max(candidates, key=lambda s: np.mean([top1[cell][s] for cell in cells]))
        for group, cells in _groups(top1).items()
        if candidates
    }
    for name in present:
        accuracy = _over_seeds(top1, lambda cell: top1[cell][name])  # noqa: B023 - called at once
        regret = (
            _over_seeds(top1, lambda cell: top1[cell][best[_group(cell)]] - top1[cell][name])  # noqa: B023
            if best
            else ""
        )
        seconds = np.mean([of[name]["cpu_s"] for of in complete.values()])
        print(f"| {name} | {accuracy} | {regret} | {seconds:.1f} |")


def _print_ahead(found: Found, others: list[str]) -> None:
    """In the cells of each pair."""
    print(f"\n{CHOICE} against each other strategy, in all cells that have both\n")
    print("| other | cells | better % | equal % | worse % | mean difference |\n|---|---|---|---|---|---|")
    for other in others:
        differences = {
            cell: 100 * (of[CHOICE]["top1"] - of[other]["top1"])
            for cell, of in found.items()
            if CHOICE in of and other in of
        }
        if differences:
            sign = np.sign(np.round([*differences.values()], 6))
            shares = " | ".join(f"{100 * np.mean(sign == s):.0f}" for s in (1, 0, -1))
            print(f"| {other} | {len(sign)} | {shares} | {_over_seeds(differences, differences.__getitem__)} |")


def _print_worst(top1: dict[Cell, dict[str, float]], candidates: list[str]) -> None:
    rows = []
    for group, cells in _groups(top1).items():
        means = {s: float(np.mean([top1[cell][s] for cell in cells])) for s in (*candidates, CHOICE)}
        best = max(candidates, key=means.__getitem__)
        rows.append((means[best] - means[CHOICE], *group[:3], best))
    rows.sort(reverse=True)
    print(f"\nlargest regrets of {CHOICE}, mean over seeds")
    for regret, name, backbone, n, best in rows[:5]:
        print(f"  {regret:5.1f} points: {name}, {backbone}, N={n}, after {best}")


def _over_seeds(cells: Iterable[Cell], value: Callable[[Cell], float]) -> str:
    """Mean over cells with the standard error over the seeds' means."""
    by_seed: dict[int, list[float]] = defaultdict(list)
    for cell in cells:
        by_seed[cell.seed].append(value(cell))
    means = [float(np.mean(values)) for values in by_seed.values()]
    error = f" ± {np.std(means, ddof=1) / math.sqrt(len(means)):.1f}" if len(means) > 1 else ""
    return f"{np.mean([v for values in by_seed.values() for v in values]):.1f}{error}"


def _group(cell: Cell) -> Group:
    return (cell.set, cell.backbone, cell.n, cell.img_size)


def _groups(cells: Iterable[Cell]) -> dict[Group, list[Cell]]:
    groups: dict[Group, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[_group(cell)].append(cell)
    return dict(sorted(groups.items()))
