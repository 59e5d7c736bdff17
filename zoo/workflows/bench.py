"""`zoo bench`: how fast this machine trains a model, and what holds it up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from typing_extensions import Unpack

from zoo.progress import TrainingProgress
from zoo.recipe import Recipe
from zoo.training.autotune.step_profile import StepTimes, step_times
from zoo.training.autotune.workers import same_threads
from zoo.workflows.finetune import oom
from zoo.workflows.finetune.build import prepare
from zoo.workflows.finetune.options import Options, make_recipe

__all__ = ["Bench", "bench"]


@dataclass(frozen=True)
class Bench:
    """The times of a step (`StepTimes`), what was measured, and a sentence about what to change."""

    model: str
    data: str
    device: str
    precision: str
    memory_format: str
    compiled: bool
    workers: int
    threads: int
    times: StepTimes
    advice: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; times in seconds, memory in bytes."""
        times = self.times
        return {
            **{k: v for k, v in asdict(self).items() if k != "times"},
            **asdict(times),
            "images_per_second": times.images_per_second,
            "synthetic_images_per_second": times.batch / times.synthetic,
            "share_of_synthetic": times.share,
        }


@same_threads()
def bench(
    model: str | Recipe | None = None, *, steps: int = 20, progress: bool = True, **options: Unpack[Options]
) -> Bench:
    """Train for a few steps as `finetune` would with the same options, and time the parts. Nothing is kept.

    steps: measured for each figure. model and options are those of `finetune`. Raises a ZooError for anything the
    caller can mend.
    """
    recipe = model if isinstance(model, Recipe) else make_recipe(model, **options)
    prepared = prepare(recipe, progress=False)
    say = TrainingProgress(0, quiet=not progress).say
    for text in prepared.notes:
        say(text)
    say(f"timing {steps} steps of {min(int(prepared.recipe.data.batch_size), len(prepared.data.train))} images …")
    trainer = prepared.trainer
    try:
        times = step_times(trainer, prepared.train, steps=steps)
    except (RuntimeError, MemoryError) as e:
        known = oom.refused(e, prepared)
        if known is None:
            raise
        raise known from e
    workers = int(prepared.recipe.data.workers)
    return Bench(
        model=prepared.model.name,
        data=prepared.data.name,
        device=_device(trainer.engine.device),
        precision=prepared.execution.precision,
        memory_format=prepared.execution.memory_format,
        compiled=prepared.execution.compile,
        workers=workers,
        threads=torch.get_num_threads(),
        times=times,
        advice=_advice(times, workers, trainer.engine.device),
    )


# Within a tenth of what the model alone would do, a faster loader changes nothing that can be felt.
_NEAR = 0.9


def _advice(times: StepTimes, workers: int, device: torch.device) -> str:
    if times.share >= _NEAR:
        return "the model is the limit: a smaller one, a smaller --img-size or a frozen backbone is faster"
    if times.data > times.synthetic:
        more = f"more than {workers} --workers, " if workers else "--workers 2 or more, "
        return f"the data are the limit: {more}smaller files, or a lighter augmentation is faster"
    if not workers:
        return "loading and training take turns: --workers 1 or more may help where cores are free"
    if device.type == "cpu":
        return "loading and training share the processor's cores: smaller files or a lighter augmentation is faster"
    return "the loader keeps up only at times: more --workers may help"


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
