"""The whole recipe, composed of the packages' own sections."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from zoo.augment.config import AugmentConfig
from zoo.config import Config
from zoo.data.config import DataConfig
from zoo.losses.config import LossConfig
from zoo.models.config import ModelConfig
from zoo.optim.config import OptimizerConfig, ScheduleConfig
from zoo.tasks import TaskName
from zoo.training.config import ExecutionConfig, TrainConfig
from zoo.training.transfer.config import TransferConfig


class Recipe(Config):
    """All settings of one fine-tuning run, frozen."""

    description: str = Field("", description="one line for `zoo recipes`")
    task: Literal["auto", TaskName] = "auto"
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    freeze: str = "none"
    transfer: TransferConfig = TransferConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    execution: ExecutionConfig = ExecutionConfig()

    @field_validator("freeze", mode="before")
    @classmethod
    def _number_to_text(cls, value: Any) -> Any:
        if value is None:
            return "none"
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
