"""How pixels become a model's input: the values that travel from the model to data, run, evaluation and export."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

__all__ = ["FIT_MODES", "IMAGENET_MEAN", "IMAGENET_STD", "IntensityRange", "Preprocess"]

# Deng et al. 2009; the channel statistics used by torchvision's and most of timm's weights.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# What a recipe calls the ways to fit an image → timm's name of the crop mode, and the crop_pct, None: the model's.
FIT_MODES: dict[str, tuple[str, float | None]] = {
    "crop": ("center", None),
    "squash": ("squash", 1.0),
    "pad": ("border", 1.0),
}


@dataclass(frozen=True)
class IntensityRange:
    """The level that becomes white (255) in images of more than 8 bits; those from 0 to it are spread evenly.

    integers: of whole numbers, one for all channels or one each. floats: of floating point; None: 1 if all levels of an
    image are within 0..1, else 255. clips: brighter levels become white, too; if not, an image that has them is refused
    as one of another range.
    """

    integers: tuple[int, ...] = (65535,)
    floats: tuple[float, ...] | None = None
    clips: bool = False


@dataclass(frozen=True)
class Preprocess:
    """Evaluation-time preprocessing of one model.

    input_size: (C, H, W) in pixels. mean, std: one number a channel, for pixels scaled to 0..1.
    interpolation: "bilinear" | "bicubic" | "nearest" | "lanczos". crop_pct: share of the resized short side that the
    centre crop keeps (timm's meaning). crop_mode: "center" (resize the short side, centre crop) | "squash" (resize both
    sides, aspect ratio lost) | "border" (resize the long side, pad). levels: see `IntensityRange`.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    crop_pct: float = 0.875
    crop_mode: str = "center"
    levels: IntensityRange = IntensityRange()

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
        """JSON-able; without the levels where they are those of the types."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        del values["levels"]
        if self.levels != IntensityRange():
            values["levels"] = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.levels).items()}
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        size = values["input_size"]
        levels = values.get("levels") or {}
        floats = levels.get("floats")
        return cls(
            input_size=(int(size[0]), int(size[1]), int(size[2])),
            mean=tuple(float(v) for v in values["mean"]),
            std=tuple(float(v) for v in values["std"]),
            interpolation=str(values["interpolation"]),
            crop_pct=float(values["crop_pct"]),
            crop_mode=str(values.get("crop_mode", "center")),
            levels=IntensityRange(
                tuple(int(v) for v in levels.get("integers", IntensityRange.integers)),
                None if floats is None else tuple(float(v) for v in floats),
                bool(levels.get("clips", False)),
            ),
        )

    def with_fit(self, mode: str) -> Preprocess:
        """Fitted as the recipe's `data.fit` says: "auto" as it is, or a name of FIT_MODES."""
        if mode == "auto":
            return self
        crop_mode, crop_pct = FIT_MODES[mode]
        return replace(self, crop_mode=crop_mode, crop_pct=self.crop_pct if crop_pct is None else crop_pct)

    def with_size(self, height: int, width: int) -> Preprocess:
        return replace(self, input_size=(self.channels, height, width))
