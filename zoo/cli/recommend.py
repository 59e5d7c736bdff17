"""`zoo recommend` and `zoo quadrant`: choose a model and a recipe by measuring the data."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo import console
from zoo.cli.completion import complete_model, complete_model_or_file
from zoo.cli.options import DataArgument, Json, output_dir_option, takes
from zoo.errors import UsageError
from zoo.imports import gc_paused
from zoo.options import Options, to_flags

if TYPE_CHECKING:
    from zoo.strategy.decision_table import Decision
    from zoo.workflows.recommend.candidates import CandidateModel
    from zoo.workflows.recommend.result import Recommendation

_DATA_OPTIONS = ("val", "task", "in_chans", "img_size", "weights", "seed", "device")


@takes(*_DATA_OPTIONS)
def recommend(
    data: DataArgument,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="candidates: model names from `zoo list`, MODEL=FILE for other weights, runs or exports (default: ten "
            "common models)",
            autocompletion=complete_model_or_file,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="time limit, such as 90s, 10m or 2h (default: no short trainings)"),
    ] = None,
    max_params: Annotated[
        str | None, typer.Option(metavar="N", help="maximum number of parameters, such as 30M")
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", help="number of models to show")] = 10,
    output_dir: Annotated[
        Path | None, output_dir_option("directory for recommend.json and recommend.png (default: runs/recommend-DATA)")
    ] = None,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Recommend a pretrained model for DATA and a recipe, from measurements on frozen features.

    With --budget the remaining time is used for short trainings of the two best candidates, which then decide.

    In a pipe: one line per model, best first, with rank, scores, similarity and cost.
    """
    with gc_paused():
        from zoo.catalog.search import parse_count
        from zoo.workflows.recommend.run import recommend as run

    if top < 1:
        raise UsageError(f"--top {top}", "give 1 or more")
    options: Any = {"data": data, **given}
    result = run(
        models or (),
        budget=None if budget is None else _parse_duration(budget),
        max_params=None if max_params is None else parse_count(max_params, "--max-params"),
        output_dir=output_dir,
        **options,
    )
    if as_json:
        console.print_json(result.to_dict())
    else:
        _show_models(result, top)
    _print_notes(result, options)
    assert result.folder is not None
    console.note(f"wrote {result.folder / 'recommend.json'} and {result.folder / 'recommend.png'}")


@takes(*_DATA_OPTIONS)
def quadrant(
    data: DataArgument,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="model name from `zoo list`", autocompletion=complete_model)
    ],
    *,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Measure the size of DATA and its similarity to the pretraining data of MODEL, and show the recipe to use.

    In a pipe: one line per measurement, name and value.
    """
    with gc_paused():
        from zoo.workflows.recommend.measure import measure_models

    options: Any = {"data": data, **given}
    result = measure_models([model], **options)
    decision, evidence = result.decisions[0], result.best.evidence
    if as_json:
        console.print_json(result.to_dict())
    else:
        shift = evidence.shift
        console.print_tsv(
            [
                ("size", evidence.size.name),
                ("similarity", f"{evidence.similarity.value:.3f}"),
                ("verdict", evidence.similarity.verdict),
                ("batch_norm_shift", "" if shift is None else f"{shift.value:.3g}"),
                ("rule", decision.rule),
                ("recipe", decision.recipe),
                *((key, str(value)) for key, value in decision.changes.items()),
            ]
        )
    _print_notes(result, options)


def _parse_duration(text: str) -> float:
    result = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h)?", text.strip())
    if not result or float(result[1]) <= 0:
        raise UsageError(f"--budget {text!r} is not a time", "give a time such as 90s, 10m or 2h")
    return float(result[1]) * {"s": 1, None: 1, "m": 60, "h": 3600}[result[2]]


def _show_models(result: Recommendation, top: int) -> None:
    head = ("rank", "model", "linear probe", "k-NN", "ImageNet", "similarity", "BN shift", "params", "GMACs", "ms")
    rows: list[tuple[Any, ...]] = []
    for ranked, m in list(zip(result.ranked, result.results, strict=True))[:top]:
        shift, similar = m.evidence.shift, m.evidence.similarity
        rows.append(
            (
                f"{ranked.rank}{' =' if ranked.tied else ''}",
                m.name,
                f"{m.scores.ridge.outcome.score:.3f}",
                f"{m.scores.knn.outcome.score:.3f}",
                "" if m.prior is None else f"{m.prior:.3f}",
                f"{similar.value:.2f} {similar.verdict}",
                "" if shift is None else f"{shift.value:.2g} {shift.verdict}",
                f"{m.params / 1e6:.1f} M",
                "" if m.gmacs is None else f"{m.gmacs:.2f}",
                f"{1000 * m.seconds:.1f}",
            )
        )
    if console.is_terminal(sys.stdout):
        console.print_table(head, rows, right=(2, 3, 4, 7, 8, 9))
    else:
        console.print_tsv([head, *rows])


def _print_notes(result: Recommendation, options: Options) -> None:
    for skipped in result.skipped_models:
        console.note(f"skipped {skipped.name}: {skipped.reason}")
    for text in result.summary():
        console.note(text)
    decision = result.decisions[0]
    close = "" if decision.runner_up is None else f" (close to: {decision.runner_up[0]}, if {decision.runner_up[1]})"
    console.note(f"rule: {decision.rule}{close}")
    if result.pilots is not None:
        console.note(result.pilots.reason)
    for text in result.warnings:
        console.warn(text)
    name, decision = result.choice
    console.note(f"next: {_finetune_command(result.candidate(name), decision, options)}")


def _finetune_command(candidate: CandidateModel, decision: Decision, options: Options) -> str:
    chosen: Options = {**options, "recipe": decision.recipe, "settings": decision.changes}
    if candidate.weights is not None:
        chosen["weights"] = candidate.weights
    return shlex.join(["zoo", "finetune", candidate.model, *to_flags(chosen)])
