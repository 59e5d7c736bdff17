"""The `augment` section of a recipe."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from zoo.config import Config


class AugmentConfig(Config):
    """Random changes of the training images."""

    name: str = Field("light", description="a name of zoo.augment, or module:attribute")
    params: dict[str, Any] = Field(default_factory=dict, description="parameters of the augmentation by name")
    flips: Literal["auto", "on", "off"] = Field(
        "auto", description="horizontal flips; auto: on, unless the data set or its class names show that they do harm"
    )
    mixup: float = Field(0.0, ge=0, description="alpha of MixUp, which blends pairs of images; 0: off")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix, which pastes a part of another image; 0: off")
    mix_prob: float = Field(1.0, ge=0, le=1, description="share of the batches that MixUp or CutMix changes")
    erase: float = Field(0.0, ge=0, le=1, description="share of the images with a random rectangle erased")
