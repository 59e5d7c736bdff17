"""What a user's step may return, and what is made of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.arrays import Pixels
from zoo.augment.view import RESAMPLE, to_array, to_pil
from zoo.errors import UsageError
from zoo.preprocess import Preprocess

__all__ = ["to_model_input"]


def to_model_input(result: Any, who: str, preprocess: Preprocess) -> Pixels:
    """`result` of the step `who`, if it is an image that the model can take; one of another size is resized to the
    model's, both sides, as crop_mode "squash" does.

    Raises UsageError on anything but a uint8 array (H, W, C) with the model's channels; (H, W) stands for one.
    """
    wanted = f"must return a uint8 array (height, width, {preprocess.channels})"
    if not isinstance(result, np.ndarray):
        kind = type(result)
        hint = "return the array under its key 'image'" if isinstance(result, dict) else ""
        if kind.__module__.split(".")[0] == "torch":
            hint = "leave ToTensor out: zoo makes the tensors"
        raise UsageError(f"{who} {wanted}; got {kind.__name__}", hint)
    if result.dtype != np.uint8:
        hint = "leave Normalize and divisions by 255 out: zoo normalises on the device"
        raise UsageError(f"{who} {wanted}; got {result.dtype} {result.shape}", hint)
    if result.ndim == 2 and preprocess.channels == 1:
        result = result[:, :, None]
    if result.ndim != 3 or result.shape[2] != preprocess.channels or 0 in result.shape:
        raise UsageError(f"{who} {wanted}; got {result.dtype} {result.shape}")
    return _resized(result, preprocess)


def _resized(image: Pixels, preprocess: Preprocess) -> Pixels:
    height, width, channels = image.shape
    if (height, width) == (preprocess.height, preprocess.width):
        return np.ascontiguousarray(image)  # a flipped view has negative strides, which torch does not support
    planes = [image] if channels in (1, 3) else [image[:, :, i : i + 1] for i in range(channels)]
    size, resample = (preprocess.width, preprocess.height), RESAMPLE[preprocess.interpolation]
    done = [to_array(to_pil(np.ascontiguousarray(p)).resize(size, resample)) for p in planes]
    return np.concatenate(done, axis=2)
