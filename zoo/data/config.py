"""The `data` section of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from zoo.config import Config, YamlSwitch


class DataConfig(Config):
    """Where images and targets come from, how they are split, decoded and loaded."""

    source: str = "digits"
    image_column: str | None = None
    label_column: tuple[str, ...] = ()
    label_separator: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    val: str | None = None
    val_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of the images for validation if the source has no validation split"
    )
    folds: int | None = Field(None, ge=2)
    fold: int | None = Field(None, ge=1)
    split: str | None = None
    balance: Literal["none", "oversample", "sqrt"] = "none"
    batch_size: int | Literal["auto"] = 32
    workers: int | Literal["auto"] = "auto"
    unreadable: Literal["error", "skip"] = Field(
        "error", description="files that cannot be decoded: stop, or skip them"
    )
    image_cache: Annotated[Literal["auto", "on", "off"], YamlSwitch] = "auto"

    norm: Literal["auto", "model", "data"] = "auto"
    fit: Literal["auto", "crop", "squash", "pad"] = "auto"
    intensity_range: int | tuple[int, ...] | Literal["auto"] = Field(
        "auto",
        description="pixel value of white in images of more than 8 bits, one number or one per channel; auto: the "
        "smallest bit depth that holds all values",
    )

    @field_validator("intensity_range")
    @classmethod
    def _check_intensity_range(cls, value: Any) -> Any:
        if value != "auto" and (value == () or min(value if isinstance(value, tuple) else (value,)) < 1):
            raise ValueError("Input should be auto, a number from 1 up, or a list of such numbers")
        return value

    @field_validator("label_column", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return () if value is None else (value,) if isinstance(value, str) else value

    @field_validator("batch_size")
    @classmethod
    def _check_batch_size(cls, value: Any) -> Any:
        if isinstance(value, int) and value < 1:
            raise ValueError("Input should be 1 or more, or auto")
        return value

    @field_validator("workers")
    @classmethod
    def _check_workers(cls, value: Any) -> Any:
        if isinstance(value, int) and value < 0:
            raise ValueError("Input should be 0 or more, or auto")
        return value
