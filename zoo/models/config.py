"""The `model` section of a recipe."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from zoo.config import Config


class ModelConfig(Config):
    """The architecture, its pretrained weights and its head."""

    name: str = Field("", description="model name: timm, torchvision/NAME or built-in; `zoo list` prints them all")
    weights: str = "default"
    classes: int | None = Field(None, ge=1)
    in_chans: int = Field(3, ge=1)
    img_size: int | None = Field(None, ge=1)
    drop: float | None = Field(None, ge=0, lt=1)
    drop_path: float | None = Field(None, ge=0, lt=1)
    pool: str | None = None
    stem: Literal["auto", "sum", "repeat", "mean", "zero"] = Field(
        "auto",
        description="how pretrained input filters are adapted to another number of channels; auto: sum for 1 channel, "
        "else repeat",
    )
    head: Literal["linear", "multi-depth"] = Field(
        "linear",
        description="the classifier: the architecture's own, or multi-depth, a linear layer on the pooled outputs of "
        "all stages",
    )
    head_init: Literal["default", "zero"] = Field(
        "default", description="initialization of a new head: the library's default, or zeros"
    )

    @field_validator("weights", mode="before")
    @classmethod
    def _null_to_none_text(cls, value: Any) -> Any:
        return "none" if value is None else value
