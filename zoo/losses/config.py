"""The `loss` section of a recipe."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from zoo.config import Config

__all__ = ["LossConfig"]


class LossConfig(Config):
    """The training loss."""

    name: str = Field("auto", description="a name of zoo.losses, or module:attribute; auto: the task's default")
    params: dict[str, Any] = Field(default_factory=dict, description="parameters of the loss by name")
    class_weights: str = Field(
        "none", description="none | balanced | effective | a JSON or CSV file with a weight per class name"
    )
