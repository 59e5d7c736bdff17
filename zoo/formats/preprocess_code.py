"""`zoo.augment.fit` in torchvision's words: Python for the README of an export."""

from __future__ import annotations

import math

from zoo.preprocess import IntensityRange, Preprocess

__all__ = ["array_input_code", "intensity_range_line", "needs_array_input", "resize_code"]


def needs_array_input(preprocess: Preprocess) -> bool:
    """Whether the images are not pictures of 8 bits that Pillow converts to grey or RGB."""
    return preprocess.channels not in (1, 3) or preprocess.levels != IntensityRange()


def intensity_range_line(preprocess: Preprocess) -> dict[str, str]:
    """A line for the README, where images of more than 8 bits were measured."""
    levels = preprocess.levels
    if levels == IntensityRange():
        return {}
    floats = "" if levels.floats is None else f"; of floating point {', '.join(f'{v:g}' for v in levels.floats)}"
    return {"white of images of more than 8 bits": f"{', '.join(map(str, levels.integers))}{floats}"}


def resize_code(preprocess: Preprocess) -> str:
    """The step before the centre crop, of a Pillow image: the short side, both sides, or the long side and a border."""
    height, width = _target(preprocess)
    mode = preprocess.interpolation.upper()
    if preprocess.crop_mode == "border":
        colour = tuple(round(255 * m) for m in preprocess.mean)
        shown = colour if len(colour) > 1 else colour[0]
        return f"v2.Lambda(lambda image: ImageOps.pad(image, ({width}, {height}), Image.Resampling.{mode}, {shown}))"
    both = preprocess.crop_mode == "squash" or height != width
    return f"v2.Resize({f'({height}, {width})' if both else height}, interpolation=v2.InterpolationMode.{mode})"


def array_input_code(preprocess: Preprocess) -> str:
    """Python that makes `outputs` of image.npy, an array (C, H, W), with a `model`; needs np, torch and v2."""
    height, width = _target(preprocess)
    # Tensors know no Lanczos; what is padded after the normalisation with 0 is padded with the mean.
    mode = "BICUBIC" if preprocess.interpolation == "lanczos" else preprocess.interpolation.upper()
    if preprocess.crop_mode == "border":
        size = f"None, max_size={min(height, width)}"
    elif preprocess.crop_mode == "squash" or height != width:
        size = f"({height}, {width})"
    else:
        size = str(height)
    levels = preprocess.levels
    floats = "[1]" if levels.floats is None else list(levels.floats)
    return f"""transform = v2.Compose([
    v2.Resize({size}, interpolation=v2.InterpolationMode.{mode}),
    v2.Normalize({list(preprocess.mean)}, {list(preprocess.std)}),
    v2.CenterCrop(({preprocess.height}, {preprocess.width})),
])

array = np.load("image.npy")  # (channels, height, width)
white = [255] if array.dtype == np.uint8 else {floats} if array.dtype.kind == "f" else {list(levels.integers)}
image = torch.from_numpy(array.astype(np.float32) / np.array(white, np.float32)[:, None, None])
with torch.inference_mode():
    outputs = model(transform(image).unsqueeze(0))"""


def _target(preprocess: Preprocess) -> tuple[int, int]:
    return math.floor(preprocess.height / preprocess.crop_pct), math.floor(preprocess.width / preprocess.crop_pct)
