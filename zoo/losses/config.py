"""The `loss` section of a recipe."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from zoo.config import Config


class LossConfig(Config):
    """The training loss."""

    name: str = "auto"
    params: dict[str, Any] = Field(default_factory=dict, description="parameters of the loss by name")
    class_weights: str = "none"
