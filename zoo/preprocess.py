"""How pixels become a model's input: the values that travel from the model to data, run, evaluation and export."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Preprocess"]

# Deng et al. 2009; the channel statistics used by torchvision's and most of timm's weights.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """Evaluation-time preprocessing of one model.

    input_size: (C, H, W) in pixels. mean, std: one number a channel, for pixels scaled to 0..1.
    interpolation: "bilinear" | "bicubic" | "nearest" | "lanczos". crop_pct: share of the resized short side that the
    centre crop keeps (timm's meaning). crop_mode: "center" (resize the short side, centre crop) | "squash" (resize both
    sides, aspect ratio lost) | "border" (resize the long side, pad).
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    crop_pct: float = 0.875
    crop_mode: str = "center"

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
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        size = values["input_size"]
        return cls(
            input_size=(int(size[0]), int(size[1]), int(size[2])),
            mean=tuple(float(v) for v in values["mean"]),
            std=tuple(float(v) for v in values["std"]),
            interpolation=str(values["interpolation"]),
            crop_pct=float(values["crop_pct"]),
            crop_mode=str(values.get("crop_mode", "center")),
        )

    def with_size(self, height: int, width: int) -> Preprocess:
        return replace(self, input_size=(self.channels, height, width))
