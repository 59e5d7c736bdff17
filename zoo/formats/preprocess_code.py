"""Prediction code for the model card of an export, with `zoo.augment.fit` as torchvision code."""

from __future__ import annotations

import math
from collections.abc import Sequence

from zoo.preprocess import IntensityRange, Preprocess
from zoo.tasks import TaskName, get_task


def needs_array_input(preprocess: Preprocess) -> bool:
    """Whether the images are other than 8-bit pictures that Pillow converts to grey or RGB."""
    return preprocess.channels not in (1, 3) or preprocess.intensity_range != IntensityRange()


def intensity_range_line(preprocess: Preprocess) -> dict[str, str]:
    """A line for the model card with the intensity range of images of more than 8 bits."""
    limits = preprocess.intensity_range
    if limits == IntensityRange():
        return {}
    floats = "" if limits.floats is None else f"; floating point: {', '.join(f'{v:g}' for v in limits.floats)}"
    return {"white value of images of more than 8 bits": f"{', '.join(map(str, limits.integers))}{floats}"}


def resize_code(preprocess: Preprocess) -> str:
    """Code that resizes a Pillow image before the center crop: short side, both sides, or long side and padding."""
    height, width = _target(preprocess)
    mode = preprocess.interpolation.upper()
    if preprocess.crop_mode == "border":
        colour = tuple(round(255 * m) for m in preprocess.mean)
        shown = colour if len(colour) > 1 else colour[0]
        return f"v2.Lambda(lambda image: ImageOps.pad(image, ({width}, {height}), Image.Resampling.{mode}, {shown}))"
    both = preprocess.crop_mode == "squash" or height != width
    return f"v2.Resize({f'({height}, {width})' if both else height}, interpolation=v2.InterpolationMode.{mode})"


def array_input_code(preprocess: Preprocess) -> str:
    """Code that computes `outputs` of image.npy, an array (C, H, W), with `model`; needs np, torch and v2."""
    height, width = _target(preprocess)
    # torchvision has no Lanczos for tensors. CenterCrop pads with 0 after the normalization, which is the mean.
    mode = "BICUBIC" if preprocess.interpolation == "lanczos" else preprocess.interpolation.upper()
    if preprocess.crop_mode == "border":
        size = f"None, max_size={min(height, width)}"
    elif preprocess.crop_mode == "squash" or height != width:
        size = f"({height}, {width})"
    else:
        size = str(height)
    limits = preprocess.intensity_range
    floats = "[1]" if limits.floats is None else list(limits.floats)
    return f"""transform = v2.Compose([
    v2.Resize({size}, interpolation=v2.InterpolationMode.{mode}),
    v2.Normalize({list(preprocess.mean)}, {list(preprocess.std)}),
    v2.CenterCrop(({preprocess.height}, {preprocess.width})),
])

array = np.load("image.npy")  # (channels, height, width)
white = [255] if array.dtype == np.uint8 else {floats} if array.dtype.kind == "f" else {list(limits.integers)}
image = torch.from_numpy(array.astype(np.float32) / np.array(white, np.float32)[:, None, None])
with torch.inference_mode():
    outputs = model(transform(image).unsqueeze(0))"""


def prediction_code(preprocess: Preprocess, task: TaskName, *, imports: Sequence[str], build: str) -> str:
    """Code that prints the prediction for image.jpg (or image.npy) with torch and torchvision.

    imports: import statements of `build`. build: code that sets `model`, in evaluation mode.
    """
    arrays = needs_array_input(preprocess)
    needed = ["import numpy as np"] if arrays else ["from PIL import Image, ImageOps"]
    lines = ["import torch", "from torchvision.transforms import v2", *needed, *imports]
    lines.sort(key=lambda line: (line.startswith("from"), line.lower()))
    head = "\n".join(lines)
    if arrays:
        outputs = array_input_code(preprocess)
    else:
        mode = "L" if preprocess.channels == 1 else "RGB"
        outputs = f"""transform = v2.Compose([
    {resize_code(preprocess)},
    v2.CenterCrop(({preprocess.height}, {preprocess.width})),
    v2.PILToTensor(),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize({list(preprocess.mean)}, {list(preprocess.std)}),
])

image = ImageOps.exif_transpose(Image.open("image.jpg")).convert("{mode}")
with torch.inference_mode():
    outputs = model(transform(image).unsqueeze(0))"""
    return f"""
{head}

{build}
{outputs}
names = open("labels.txt", encoding="utf-8").read().splitlines()
{get_task(task).output_code("names")}
"""


def _target(preprocess: Preprocess) -> tuple[int, int]:
    return math.floor(preprocess.height / preprocess.crop_pct), math.floor(preprocess.width / preprocess.crop_pct)
