"""Preprocessing settings of a model, shared by data loading, runs, evaluation and export."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

# Channel statistics of ImageNet (Deng et al. 2009), used by torchvision's and most of timm's weights.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Values of `data.fit` → timm's crop mode and crop_pct (None: that of the model).
FIT_MODES: dict[str, tuple[str, float | None]] = {
    "crop": ("center", None),
    "squash": ("squash", 1.0),
    "pad": ("border", 1.0),
}


@dataclass(frozen=True)
class IntensityRange:
    """The value that is scaled to 255 (white) in images of more than 8 bits; 0 stays 0.

    integers: maximum of integer images, one for all channels or one per channel. floats: maximum of floating-point
    images; None: 1 if all values of an image are within 0..1, else 255. clips: whether higher values are clipped to
    white; otherwise such images are refused.
    """

    integers: tuple[int, ...] = (65535,)
    floats: tuple[float, ...] | None = None
    clips: bool = False


@dataclass(frozen=True)
class Preprocess:
    """Evaluation-time preprocessing of one model.

    Args:
        input_size: (C, H, W) in pixels.
        mean: one number per channel, for pixels scaled to 0..1.
        std: one number per channel, for pixels scaled to 0..1.
        interpolation: "bilinear" | "bicubic" | "nearest" | "lanczos".
        crop_pct: size of the centre crop as a share of the resized image (as in timm).
        crop_mode: "center" (resize the short side, centre crop) | "squash" (resize both sides, ignoring the aspect
            ratio) | "border" (resize the long side, pad).
        intensity_range: range of images of more than 8 bits.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    crop_pct: float = 0.875
    crop_mode: str = "center"
    intensity_range: IntensityRange = IntensityRange()

    @property
    def channels(self) -> int:
        return self.input_size[0]

    @property
    def height(self) -> int:
        return self.input_size[1]

    @property
    def width(self) -> int:
        return self.input_size[2]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values, without the default intensity range."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        if self.intensity_range == IntensityRange():
            del values["intensity_range"]
        else:
            range_values = asdict(self.intensity_range).items()
            values["intensity_range"] = {k: list(v) if isinstance(v, tuple) else v for k, v in range_values}
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        size = values["input_size"]
        # Runs of earlier versions call it "levels".
        limits = values.get("intensity_range") or values.get("levels") or {}
        floats = limits.get("floats")
        return cls(
            input_size=(int(size[0]), int(size[1]), int(size[2])),
            mean=tuple(float(v) for v in values["mean"]),
            std=tuple(float(v) for v in values["std"]),
            interpolation=str(values["interpolation"]),
            crop_pct=float(values["crop_pct"]),
            crop_mode=str(values.get("crop_mode", "center")),
            intensity_range=IntensityRange(
                tuple(int(v) for v in limits.get("integers", IntensityRange.integers)),
                None if floats is None else tuple(float(v) for v in floats),
                bool(limits.get("clips", False)),
            ),
        )

    def with_fit(self, mode: str) -> Preprocess:
        """With the crop mode of the recipe's `data.fit`: "auto" (unchanged) or a name of FIT_MODES."""
        if mode == "auto":
            return self
        crop_mode, crop_pct = FIT_MODES[mode]
        return replace(self, crop_mode=crop_mode, crop_pct=self.crop_pct if crop_pct is None else crop_pct)

    def with_size(self, height: int, width: int) -> Preprocess:
        return replace(self, input_size=(self.channels, height, width))
