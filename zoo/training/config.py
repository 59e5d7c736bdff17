"""The `train` and `execution` sections of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from zoo.config import Config, YamlSwitch

__all__ = ["ExecutionConfig", "TrainConfig"]


class TrainConfig(Config):
    """Length, precision and stopping of the training."""

    epochs: int = Field(10, ge=1, description="passes over the training images")
    amp: bool = Field(True, description="mixed precision where the hardware is faster with it")
    amp_dtype: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto", description="number format of mixed precision; auto: the fastest on the first batch"
    )
    grad_accum_steps: int = Field(1, ge=1, description="batches per optimizer step")
    clip_grad: float | None = Field(None, gt=0, description="maximum norm of the gradient")
    model_ema: bool = Field(False, description="validate and save an exponential moving average (EMA) of the weights")
    model_ema_decay: float = Field(0.999, gt=0, lt=1, description="EMA decay per step; lower during the first steps")
    monitor: str = Field("auto", description="validation metric that chooses the best epoch; auto: the task's default")
    patience: int | None = Field(
        None, ge=1, description="early stopping: epochs without improvement before the run stops"
    )
    feature_cache: Annotated[Literal["auto", "on", "off"], YamlSwitch] = Field(
        "auto", description="cache the outputs of the frozen layers; auto: if it makes the run faster"
    )
    views: int | None = Field(None, ge=1, description="cached random views of each training image, used in turn")
    linear_probe: Annotated[Literal["auto", "on", "off"], YamlSwitch] = Field(
        "off", description="fit a linear head on cached features directly (L-BFGS or ridge), not by gradient steps"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="random seed")
    device: str = Field("auto", description="auto | cpu | cuda | cuda:N | mps")


class ExecutionConfig(Config):
    """Speed settings. They change results in the last bits only."""

    memory_format: Literal["auto", "contiguous", "channels_last"] = Field(
        "auto", description="memory layout of image tensors; auto: the faster one, for convolutional models"
    )
    compile: Annotated[Literal["auto", "on", "off"], YamlSwitch] = Field(
        "auto", description="torch.compile for training steps; auto: in long runs, if the speedup justifies it"
    )
    threads: int | Literal["auto"] = Field(
        "auto", description="torch threads of this process; auto: fewer if loader processes need the cores"
    )
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp", description="several processes: each has the whole model (ddp), or a shard of it (fsdp)"
    )
    sync_batch_norm: bool = Field(
        False, description="batch-norm statistics over the batches of all processes; GPUs only"
    )

    @field_validator("threads")
    @classmethod
    def _check_threads(cls, value: Any) -> Any:
        if value != "auto" and value < 1:
            raise ValueError("give 1 or more, or auto")
        return value
