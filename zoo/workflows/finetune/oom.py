"""What a run prints and records when it runs out of memory. The micro-batches: zoo/training/microbatch.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch.nn.modules.batchnorm import _BatchNorm

from zoo.errors import TrainingError
from zoo.run import Run
from zoo.training.microbatch import OOM_AT_ONE_IMAGE, OOM_HINT, MicroBatcher, is_out_of_memory
from zoo.workflows.finetune.session import TrainingSession


def report_micro_batches(run: Run, session: TrainingSession, log: Callable[[str], None]) -> None:
    """Print and record in run.json when batches are split into micro-batches; print it if a resumed run did so."""
    trainer, size = session.trainer, session.recipe.data.batch_size
    batchers: dict[str, MicroBatcher] = {"train": trainer.micro_batcher, "val": trainer.eval_micro_batcher}

    def write() -> None:
        run.update(micro_batch_size={name: cut.limit for name, cut in batchers.items() if cut.limit is not None})

    def on_train_limit(limit: int) -> None:
        has_batch_norm = any(isinstance(part, _BatchNorm) and part.training for part in trainer.module.modules())
        exception = f" (batch-norm statistics: {limit})" if has_batch_norm else ""
        log(
            f"out of memory: continuing with micro-batches of {limit}; the effective batch size stays {size}{exception}"
        )
        write()

    def on_val_limit(limit: int) -> None:
        log(f"out of memory: continuing validation with batches of {limit}")
        write()

    trainer.micro_batcher.on_change, trainer.eval_micro_batcher.on_change = on_train_limit, on_val_limit
    if trainer.micro_batcher.limit is not None:
        log(f"continuing with micro-batches of {trainer.micro_batcher.limit}, as before")


def out_of_memory_error(error: BaseException, session: TrainingSession) -> TrainingError | None:
    """The error to raise if `error` is out of memory and no smaller micro-batch is possible; None for other errors."""
    if not is_out_of_memory(error):
        return None
    recipe, trainer = session.recipe, session.trainer
    size, steps = int(recipe.data.batch_size), recipe.train.grad_accum_steps
    where = trainer.accelerator.device
    if size == 1 or 1 in (trainer.micro_batcher.limit, trainer.eval_micro_batcher.limit):
        return TrainingError(OOM_AT_ONE_IMAGE.format(device=where), OOM_HINT)
    return TrainingError(
        f"out of memory on {where} with batches of {size}",
        f"start again with --batch-size {size // 2} --set train.grad_accum_steps={steps * 2}",
    )


@contextmanager
def translate_out_of_memory(session: TrainingSession) -> Iterator[None]:
    """Raise the TrainingError of `out_of_memory_error` in place of an out-of-memory error."""
    try:
        yield
    except (RuntimeError, MemoryError) as e:
        known = out_of_memory_error(e, session)
        if known is None:
            raise
        raise known from e
