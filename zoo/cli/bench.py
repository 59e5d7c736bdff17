"""`zoo bench`: measure how fast this machine trains a model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from typing_extensions import Unpack

from zoo import console
from zoo.cli.options import Json, ModelArgument, takes
from zoo.imports import gc_paused
from zoo.options import Options

if TYPE_CHECKING:
    from zoo.workflows.bench import BenchResult


@takes(
    "data", "img_size", "in_chans", "weights", "freeze", "recipe", "settings", "batch_size", "opt",
    "device", "amp_dtype", "channels_last", "compile", "threads", "workers",
)  # fmt: skip
def bench(
    model: ModelArgument = None,
    *,
    steps: Annotated[int, typer.Option(metavar="N", help="number of training steps to measure")] = 20,
    as_json: Json = False,
    **options: Unpack[Options],
) -> None:
    """Measure the time of a training step on this machine: data loading, forward, backward, optimizer.

    Nothing is saved. With --json times are in seconds and memory in bytes. In a pipe: one line per figure, name and
    value, with times in milliseconds.
    """
    with gc_paused():
        from zoo.workflows.bench import bench as run_bench

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
        return f"{100 * seconds / whole:.0f} % of forward + backward + optimizer"

    return [
        ("data", f"{1000 * times.data:.1f} ms", "to load a batch, without training at the same time"),
        ("forward", f"{1000 * times.forward:.1f} ms", part(times.forward)),
        ("backward", f"{1000 * times.backward:.1f} ms", part(times.backward)),
        ("optimizer", f"{1000 * times.optimizer:.1f} ms", part(times.optimizer)),
        ("step", f"{1000 * times.real:.1f} ms", "with data loading at the same time"),
        ("images/s", f"{times.images_per_second:.1f}", ""),
        ("synthetic images/s", f"{times.batch / times.synthetic:.1f}", "the same steps on data in memory"),
        ("share", f"{100 * times.share:.0f} %", "of synthetic images/s"),
        ("memory", f"{times.memory / 2**20:.0f} MiB", "peak"),
    ]
