"""What a run says and writes when memory does not hold its batches."""

from __future__ import annotations

from collections.abc import Callable

from torch.nn.modules.batchnorm import _BatchNorm

from zoo.errors import TrainingError
from zoo.run import Run
from zoo.training.microbatch import OOM_AT_ONE_IMAGE, OOM_HINT, MicroBatcher, is_out_of_memory
from zoo.workflows.finetune.session import TrainingSession

__all__ = ["out_of_memory_error", "report_micro_batches"]


def report_micro_batches(run: Run, session: TrainingSession, log: Callable[[str], None]) -> None:
    """From here on, say and write into run.json that batches are cut; and say it where a resumed run cuts already."""
    trainer, size = session.trainer, session.recipe.data.batch_size
    batchers: dict[str, MicroBatcher] = {"train": trainer.micro_batcher, "val": trainer.eval_micro_batcher}

    def write() -> None:
        run.update(micro_batch_size={name: cut.limit for name, cut in batchers.items() if cut.limit is not None})

    def training(limit: int) -> None:
        has_batch_norm = any(isinstance(part, _BatchNorm) and part.training for part in trainer.module.modules())
        exception = f", but for batch norm, which sees {limit}" if has_batch_norm else ""
        log(
            f"out of memory: training batches go on in pieces of at most {limit} images; the steps are still those of "
            f"{size}{exception}"
        )
        write()

    def on_val_limit(limit: int) -> None:
        log(f"out of memory: validation goes on with at most {limit} images at a time")
        write()

    trainer.micro_batcher.on_change, trainer.eval_micro_batcher.on_change = training, on_val_limit
    if trainer.micro_batcher.limit is not None:
        log(f"training batches go on in pieces of at most {trainer.micro_batcher.limit} images, as before")


def out_of_memory_error(error: BaseException, session: TrainingSession) -> TrainingError | None:
    """What to say if `error` is that memory is exhausted, and nothing is left to cut; None if it is something else."""
    if not is_out_of_memory(error):
        return None
    recipe, trainer = session.recipe, session.trainer
    size, steps = int(recipe.data.batch_size), recipe.train.grad_accum_steps
    where = trainer.accelerator.device
    if size == 1 or 1 in (trainer.micro_batcher.limit, trainer.eval_micro_batcher.limit):
        return TrainingError(OOM_AT_ONE_IMAGE.format(device=where), OOM_HINT)
    return TrainingError(
        f"out of memory on {where} with batches of {size}",
        f"start anew with --batch-size {size // 2} --set train.grad_accum_steps={steps * 2}",
    )
