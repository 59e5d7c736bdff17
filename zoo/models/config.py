"""The `model` section of a recipe."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from zoo.config import Config

__all__ = ["ModelConfig"]


class ModelConfig(Config):
    """The architecture, its pretrained weights and its head."""

    name: str = Field("", description="model name: timm, torchvision/NAME or built-in; `zoo list` prints them all")
    weights: str = Field(
        "default", description="default | none | a pretrained tag | a .safetensors or .pth file | a run directory"
    )
    classes: int | None = Field(
        None, ge=1, description="number of classes, labels or targets; checked against the data if given"
    )
    in_chans: int = Field(3, ge=1, description="number of input channels")
    img_size: int | None = Field(None, ge=1, description="input height and width in pixels; default: the model's own")
    drop: float | None = Field(None, ge=0, lt=1, description="dropout rate before the head")
    drop_path: float | None = Field(None, ge=0, lt=1, description="stochastic depth rate")
    pool: str | None = Field(
        None, description="global pooling before the head, e.g. avg, max, avgmax; timm models only"
    )
    stem: Literal["auto", "sum", "repeat", "mean", "zero"] = Field(
        "auto",
        description="how pretrained input filters are adapted to another number of channels; auto: sum for 1 channel, "
        "else repeat",
    )
    head_init: Literal["default", "zero"] = Field(
        "default", description="initialization of a new head: the library's default, or zeros"
    )

    @field_validator("weights", mode="before")
    @classmethod
    def _null_to_none_text(cls, value: Any) -> Any:
        return "none" if value is None else value
