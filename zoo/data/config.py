"""The `data` section of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from zoo.config import Config, YamlSwitch

__all__ = ["DataConfig"]


class DataConfig(Config):
    """Where images and targets come from, how they are split, decoded and loaded."""

    source: str = Field(
        "digits", description="a folder, an archive or a table of images, or hf:NAME, torchvision:NAME, digits"
    )
    image_column: str | None = Field(None, description="table column with image paths; default: found by its name")
    label_column: tuple[str, ...] = Field((), description="table column with labels, or several for several targets")
    label_separator: str | None = Field(None, description="text between the labels of one image in a table cell")
    split_column: str | None = Field(None, description="table column with the values train and val")
    group_column: str | None = Field(
        None, description="table column with groups; all images of a group go into the same split"
    )
    val: str | None = Field(None, description="a folder or table of validation images, if not part of `source`")
    val_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of the images for validation if the source has no validation split"
    )
    folds: int | None = Field(None, ge=2, description="number of folds for cross-validation")
    fold: int | None = Field(None, ge=1, description="with folds: the fold used for validation, from 1")
    split: str | None = Field(
        None, description="a file with the names of validation images, or a run to copy them from"
    )
    balance: Literal["none", "oversample", "sqrt"] = Field(
        "none",
        description="class balance of an epoch: as in the data, equal (oversample), or by the square root of the count",
    )
    batch_size: int | Literal["auto"] = Field(
        32,
        description="images per step and process; auto: chosen by speed and memory, with at least 8 steps per epoch",
    )
    workers: int | Literal["auto"] = Field("auto", description="loader processes; 0 loads in the main process")
    unreadable: Literal["error", "skip"] = Field(
        "error", description="files that cannot be decoded: stop, or skip them"
    )
    image_cache: Annotated[Literal["auto", "on", "off"], YamlSwitch] = Field(
        "auto", description="cache decoded images on disk; auto: if it makes the run faster"
    )

    norm: Literal["auto", "model", "data"] = Field(
        "auto",
        description="mean and standard deviation for normalization: the model's or the data's; auto: the model's if "
        "they suit the data",
    )
    fit: Literal["auto", "crop", "squash", "pad"] = Field(
        "auto", description="how images of another shape are resized: center crop, squash or pad; auto: as the model"
    )
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
