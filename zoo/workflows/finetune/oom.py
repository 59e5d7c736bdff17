"""What a run says and writes when memory does not hold its batches."""

from __future__ import annotations

from collections.abc import Callable

from torch.nn.modules.batchnorm import _BatchNorm

from zoo.errors import TrainingError
from zoo.run import Run
from zoo.training.microbatch import LESS, ONE_IMAGE, AtOnce, out_of_memory
from zoo.workflows.finetune.session import Prepared

__all__ = ["refused", "watch"]


def watch(run: Run, prepared: Prepared, say: Callable[[str], None]) -> None:
    """From here on, say and write into run.json that batches are cut; and say it where a resumed run cuts already."""
    trainer, size = prepared.trainer, prepared.recipe.data.batch_size
    both: dict[str, AtOnce] = {"train": trainer.at_once, "val": trainer.judged_at_once}

    def write() -> None:
        run.update(images_at_once={name: cut.limit for name, cut in both.items() if cut.limit is not None})

    def training(limit: int) -> None:
        normed = any(isinstance(part, _BatchNorm) and part.training for part in trainer.module.modules())
        but = f", but for batch norm, which sees {limit}" if normed else ""
        say(
            f"out of memory: training batches go on in pieces of at most {limit} images; the steps are still those of "
            f"{size}{but}"
        )
        write()

    def judging(limit: int) -> None:
        say(f"out of memory: validation goes on with at most {limit} images at a time")
        write()

    trainer.at_once.on_change, trainer.judged_at_once.on_change = training, judging
    if trainer.at_once.limit is not None:
        say(f"training batches go on in pieces of at most {trainer.at_once.limit} images, as before")


def refused(error: BaseException, prepared: Prepared) -> TrainingError | None:
    """What to say if `error` is that memory is exhausted, and nothing is left to cut; None if it is something else."""
    if not out_of_memory(error):
        return None
    recipe, trainer = prepared.recipe, prepared.trainer
    size, steps = int(recipe.data.batch_size), recipe.train.grad_accum_steps
    where = trainer.engine.device
    if size == 1 or 1 in (trainer.at_once.limit, trainer.judged_at_once.limit):
        return TrainingError(ONE_IMAGE.format(device=where), LESS)
    return TrainingError(
        f"out of memory on {where} with batches of {size}",
        f"start anew with --batch-size {size // 2} --set train.grad_accum_steps={steps * 2}",
    )
