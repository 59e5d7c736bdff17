"""`zoo tune`: hyperparameter search over recipe fields."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo import console
from zoo.cli.options import RECIPE_ARGUMENT, Json, ModelOption, output_dir_option, takes
from zoo.imports import gc_paused

if TYPE_CHECKING:
    from zoo.workflows.tune.run import Search

_ROWS = 10


@takes("settings", "seed", "device", data="the recipe's")
def tune(
    recipe: Annotated[str, RECIPE_ARGUMENT],
    *,
    search: Annotated[
        Path,
        typer.Option(metavar="FILE", help="YAML file of recipe keys and their candidate values (see docs/tuning.md)"),
    ],
    trials: Annotated[
        int, typer.Option("--trials", "-n", metavar="N", help="total number of trials, earlier ones included")
    ],
    model: ModelOption = None,
    output_dir: Annotated[
        Path | None, output_dir_option("directory for the trials and study.db (default: runs/tune-RECIPE)")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0, help="start no further trial after this many seconds")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune/--no-prune", help="stop trials that are worse than the median of the others")
    ] = True,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Search for the best recipe values with Optuna.

    The same command again continues an interrupted search. Every trial is a run DIR/trial-NNNN; DIR/best.yaml is the
    recipe of the best trial.

    In a pipe: one line per trial, with number, state, value, run, and the searched values in the order of FILE.
    """
    with gc_paused():
        from zoo.workflows.tune.run import tune as run_tune

    result = run_tune(
        recipe, search, trials=trials, model=model, output_dir=output_dir, timeout=timeout, prune=prune, **options
    )
    if as_json:
        console.print_json(result.to_dict())
    elif console.is_terminal(sys.stdout):
        _show(result)
    else:
        console.print_tsv(
            (
                t.number,
                t.state,
                None if t.value is None else f"{t.value:.6g}",
                result.run_path(t),
                *(_cell(t.values.get(key)) for key in result.best.values),
            )
            for t in result.trials
        )
    for text in result.notes:
        console.note(text)
    pictures = ["history.png", *(["importance.png"] if result.importance else [])]
    console.note(f"wrote best.yaml, {' and '.join(pictures)} to {result.folder}")
    console.note(f"next: zoo finetune --recipe {shlex.quote(str(result.best_recipe))}")


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list | bool) else value


def _show(result: Search) -> None:
    from zoo.workflows.tune.trials import format_value

    ranked = result.ranked()
    keys = list(result.best.values)
    rows = [(t.number, f"{t.value:.4g}", *(format_value(v) for v in t.values.values())) for t in ranked[:_ROWS]]
    console.print_table(("trial", result.monitor, *keys), rows, right=(0, 1))
    counts = {state: sum(t.state == state for t in result.trials) for state in ("pruned", "failed", "interrupted")}
    counts_text = [f"{len(ranked)} finished", *(f"{n} {state}" for state, n in counts.items() if n)]
    print(f"{len(result.trials)} trials: {', '.join(counts_text)}")
    if result.importance:
        print("importance: " + "   ".join(f"{key} {share:.0%}" for key, share in result.importance.items()))
