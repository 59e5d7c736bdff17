"""`zoo bench`: how fast this machine trains a model, and where the bottleneck is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from typing_extensions import Unpack

from zoo.options import Options
from zoo.progress import TrainingProgress
from zoo.recipe import Recipe
from zoo.training.autotune.step_profile import StepProfile, profile_steps
from zoo.training.autotune.workers import preserve_num_threads
from zoo.training.device import device_name
from zoo.workflows.finetune.build import build_session
from zoo.workflows.finetune.oom import translate_out_of_memory
from zoo.workflows.finetune.options import make_recipe


@dataclass(frozen=True)
class BenchResult:
    """The times of a step (`StepProfile`), the settings, and a sentence of advice."""

    model: str
    data: str
    device: str
    precision: str
    memory_format: str
    compiled: bool
    workers: int
    threads: int
    times: StepProfile
    advice: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; times in seconds, memory in bytes."""
        times = self.times
        return {
            **{k: v for k, v in asdict(self).items() if k != "times"},
            **asdict(times),
            "images_per_second": times.images_per_second,
            "synthetic_images_per_second": times.batch / times.synthetic,
            "share_of_synthetic": times.share,
        }


@preserve_num_threads()
def bench(
    model: str | Recipe | None = None, *, steps: int = 20, progress: bool = True, **options: Unpack[Options]
) -> BenchResult:
    """Train for a few steps as `finetune` would with the same options, and time the parts. Nothing is saved.

    Args:
        model: a model name or a complete recipe.
        steps: number of steps per measurement.
        progress: whether to print on stderr.
        options: the options of `finetune`.

    Raises:
        ZooError: any problem that the caller can fix.
    """
    recipe = model if isinstance(model, Recipe) else make_recipe(model, **options)
    session = build_session(recipe, progress=False)
    log = TrainingProgress(0, quiet=not progress).log
    for text in session.notes:
        log(text)
    log(f"timing {steps} steps of {min(int(session.recipe.data.batch_size), len(session.data.train))} images …")
    trainer = session.trainer
    with translate_out_of_memory(session):
        times = profile_steps(trainer, session.train, steps=steps)
    workers = int(session.recipe.data.workers)
    return BenchResult(
        model=session.model.name,
        data=session.data.name,
        device=device_name(trainer.accelerator.device),
        precision=session.execution.precision,
        memory_format=session.execution.memory_format,
        compiled=session.execution.compile,
        workers=workers,
        threads=torch.get_num_threads(),
        times=times,
        advice=_advice(times, workers, trainer.accelerator.device),
    )


# If the run reaches this share of the speed of the model alone, a faster loader makes no noticeable difference.
_MODEL_BOUND_SHARE = 0.9


def _advice(times: StepProfile, workers: int, device: torch.device) -> str:
    if times.share >= _MODEL_BOUND_SHARE:
        return "the model is the bottleneck: a smaller model, a smaller --img-size or a frozen backbone is faster"
    if times.data > times.synthetic:
        more = f"more than {workers} --workers, " if workers else "--workers 2 or more, "
        return f"data loading is the bottleneck: {more}smaller files, or a lighter augmentation is faster"
    if not workers:
        return "loading and training take turns: --workers 1 or more may help if there are idle cores"
    if device.type == "cpu":
        return "loading and training share the CPU cores: smaller files or a lighter augmentation is faster"
    return "the loader is sometimes too slow: more --workers may help"
