"""`zoo bench`: how fast this machine trains a model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from zoo import console
from zoo.cli.completion import complete_model, complete_recipe
from zoo.cli.options import number_or_auto
from zoo.imports import gc_paused

if TYPE_CHECKING:
    from zoo.workflows.bench import BenchResult

__all__ = ["bench"]


def bench(
    model: Annotated[
        str | None,
        typer.Argument(
            help="a name from `zoo list`; may be left out if the recipe names it", autocompletion=complete_model
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="PATH|NAME", help="as for finetune (default: digits)")] = None,
    img_size: Annotated[int | None, typer.Option(help="pixels (default: the model's)")] = None,
    in_chans: Annotated[int | None, typer.Option(help="input channels")] = None,
    weights: Annotated[str | None, typer.Option(metavar="WEIGHTS", help="as for finetune; none needs no file")] = None,
    freeze: Annotated[str | None, typer.Option(metavar="PLAN", help="as for finetune")] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", "-r", metavar="NAME|FILE", help="as for finetune", autocompletion=complete_recipe),
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="any recipe field")
    ] = None,
    batch_size: Annotated[
        str | None, typer.Option("--batch-size", "-b", metavar="N|auto", help="images a step; auto: measured")
    ] = None,
    opt: Annotated[str | None, typer.Option(help="optimizer, or module:attribute")] = None,
    amp_dtype: Annotated[str | None, typer.Option(help="auto, bf16, fp16 or fp32")] = None,
    channels_last: Annotated[
        bool | None, typer.Option("--channels-last/--no-channels-last", help="memory format (default: measured)")
    ] = None,
    compile: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="torch.compile, as for finetune")
    ] = None,
    threads: Annotated[str | None, typer.Option(metavar="N|auto", help="of torch")] = None,
    workers: Annotated[int | None, typer.Option("--workers", "-j", help="loader processes (default: auto)")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps")] = None,
    steps: Annotated[int, typer.Option(help="steps to measure")] = 20,
    as_json: Annotated[
        bool, typer.Option("--json", help="all figures as JSON on stdout, in seconds and bytes")
    ] = False,
) -> None:
    """Time the parts of a training step on this machine: data, forward, backward, optimizer. Nothing is kept.

    In a pipe: name and value a line, times in milliseconds.
    """
    with gc_paused():
        from zoo.recipe import parse_assignments
        from zoo.workflows.bench import bench as run_bench
        from zoo.workflows.finetune.options import Options

    options = Options(
        data=data, img_size=img_size, in_chans=in_chans, weights=weights, freeze=freeze, recipe=recipe,
        batch_size=number_or_auto("--batch-size", batch_size, least=1),
        opt=opt, amp_dtype=amp_dtype, workers=workers, device=device,
        channels_last=channels_last, compile=compile, threads=number_or_auto("--threads", threads, least=1),
        settings=parse_assignments(assignments or []),
    )  # fmt: skip
    result = run_bench(model, steps=steps, **options)
    if as_json:
        console.print_json(result.to_dict())
    elif console.is_terminal(sys.stdout):
        title = (
            f"{result.model} on {result.data}, {result.device}, {result.precision}, {result.memory_format}, "
            f"{'' if result.compiled else 'not '}compiled, batches of {result.times.batch}, "
            f"{result.workers} workers, {result.threads} threads"
        )
        console.print_table(("", "", ""), _rows(result), title=title, right=(1,))
    else:
        console.print_tsv((name, value.split(" ")[0]) for name, value, _ in _rows(result))
    console.note(result.advice)


def _rows(result: BenchResult) -> list[tuple[str, str, str]]:
    times = result.times
    whole = times.forward + times.backward + times.optimizer

    def part(seconds: float) -> str:
        return f"{100 * seconds / whole:.0f} % of the three"

    return [
        ("data", f"{1000 * times.data:.1f} ms", "until the loader has a batch, with nothing beside it"),
        ("forward", f"{1000 * times.forward:.1f} ms", part(times.forward)),
        ("backward", f"{1000 * times.backward:.1f} ms", part(times.backward)),
        ("optimizer", f"{1000 * times.optimizer:.1f} ms", part(times.optimizer)),
        ("step", f"{1000 * times.real:.1f} ms", "with the loader running beside it"),
        ("images/s", f"{times.images_per_second:.1f}", ""),
        ("synthetic images/s", f"{times.batch / times.synthetic:.1f}", "the same steps without a loader"),
        ("share", f"{100 * times.share:.0f} %", "of the synthetic limit"),
        ("memory", f"{times.memory / 2**20:.0f} MiB", "at most"),
    ]
