"""The `optimizer` and `schedule` sections of a recipe."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from zoo.config import Config


class ParamGroupConfig(Config):
    """Settings for the parameters whose full names match. If several groups match, the last one counts."""

    match: tuple[str, ...] = Field(description="one or several globs over parameter names, such as layer4.*")
    lr: float | None = Field(None, gt=0, description="learning rate")
    lr_scale: float | None = Field(None, gt=0, description="learning-rate factor, instead of lr")
    weight_decay: float | None = Field(None, ge=0, description="weight decay")

    @field_validator("match", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _lr_or_lr_scale(self) -> ParamGroupConfig:
        if self.lr is not None and self.lr_scale is not None:
            raise ValueError("give lr or lr_scale, not both")
        return self


class OptimizerConfig(Config):
    """The optimizer, its learning rates and weight decay."""

    name: str = "adamw"
    lr: float = Field(3e-4, gt=0)
    head_lr: float | None = Field(None, gt=0)
    lr_base_size: int | None = Field(
        None,
        ge=1,
        description="images per optimizer step that the learning rates are meant for; with data.batch_size auto they "
        "are scaled to the chosen size",
    )
    layer_decay: float | None = Field(None, gt=0, le=1)
    weight_decay: float = Field(0.05, ge=0)
    groups: tuple[ParamGroupConfig, ...] = Field(
        (), description="learning rates and weight decays for parameters chosen by name"
    )
    params: dict[str, Any] = Field(default_factory=dict, description="other parameters of the optimizer by name")


class ScheduleConfig(Config):
    """The learning-rate schedule."""

    name: str = "cosine"
    warmup_epochs: float = Field(0.0, ge=0)
    monitor: str | None = Field(None, description="metric for ReduceLROnPlateau; default: the same as train.monitor")
    params: dict[str, Any] = Field(default_factory=dict, description="parameters of the schedule by name")
