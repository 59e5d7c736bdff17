"""The `train` and `execution` sections of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from zoo.config import Config, YamlSwitch


class TrainConfig(Config):
    """Length, precision and stopping of the training."""

    epochs: int = Field(10, ge=1)
    amp: bool = True
    amp_dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    grad_accum_steps: int = Field(1, ge=1)
    clip_grad: float | None = Field(None, gt=0)
    model_ema: bool = False
    model_ema_decay: float = Field(0.999, gt=0, lt=1, description="EMA decay per step; lower during the first steps")
    monitor: str = "auto"
    patience: int | None = Field(None, ge=1)
    feature_cache: Annotated[Literal["auto", "on", "off"], YamlSwitch] = "auto"
    views: int | None = Field(None, ge=1)
    linear_probe: Annotated[Literal["auto", "on", "off"], YamlSwitch] = "off"
    refit: Annotated[Literal["auto", "on", "off"], YamlSwitch] = "off"
    seed: int = Field(0, ge=0, lt=2**32)
    device: str = "auto"


class ExecutionConfig(Config):
    """Speed settings. They change results in the last bits only."""

    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    compile: Annotated[Literal["auto", "on", "off"], YamlSwitch] = "auto"
    threads: int | Literal["auto"] = "auto"
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
