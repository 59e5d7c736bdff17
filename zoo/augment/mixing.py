"""Batch augmentations on the device: MixUp, CutMix and random erasing.

mixing = Mixing(mixup=0.2, cutmix=1.0, erase=0.25, classes=10)
images, targets = mixing(images, targets, torch.Generator().manual_seed(seed))   # targets (n, 10) float32
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from zoo.errors import UsageError
from zoo.tasks import TaskName, get_task

Box = tuple[int, int, int, int]  # left, top, right, bottom: pixels, the last two excluded

# Zhong et al. 2020, "Random Erasing Data Augmentation", section 4.1: s_l, s_h, r_1 (and r_2 = 1 / r_1); random values
# in the rectangle were best in table 5.
_ERASE_SCALE = (0.02, 0.4)
_ERASE_RATIO = (0.3, 1 / 0.3)


def mixing_problems(mixup: float, cutmix: float, prob: float, erase: float, task: TaskName) -> list[str]:
    """Problems of the values, one line each, with the names of the recipe section `augment`."""
    problems = []
    for name, value in (("mixup", mixup), ("cutmix", cutmix)):
        if not 0 <= value < math.inf:
            problems.append(f"augment.{name} must be 0 (off) or a number above 0, not {value!r}")
    for name, value in (("mix_prob", prob), ("erase", erase)):
        if not 0 <= value <= 1:
            problems.append(f"augment.{name} must be a probability between 0 and 1, not {value!r}")
    if cutmix and not get_task(task).has_classes:
        problems.append(
            "augment.cutmix does not support regression: the pasted area has no share of a number; use augment.mixup"
        )
    return problems


@dataclass(frozen=True)
class Mixing:
    """MixUp (Zhang et al. 2018, alpha 0.1 to 0.4 on ImageNet), CutMix (Yun et al. 2019, alpha 1), random erasing.

    In regression MixUp interpolates the targets too; C-Mixup (Yao et al. 2022) found this wrong for distant targets, so
    alpha should be small. If MixUp and CutMix are both on, each batch gets one of them with equal probability.

    Args:
        mixup: alpha of the Beta(alpha, alpha) distribution of the mixing share; 0: off.
        cutmix: the same for CutMix; not for regression.
        prob: share of the batches that are mixed.
        erase: share of the images with an erased rectangle, before mixing.
        classes: number of classes, labels or targets.
        task: name of the task.

    Raises:
        UsageError: a value is out of range, or CutMix for regression.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    prob: float = 1.0
    erase: float = 0.0
    classes: int = 1
    task: TaskName = "single-label"

    def __post_init__(self) -> None:
        problems = mixing_problems(self.mixup, self.cutmix, self.prob, self.erase, self.task)
        if problems:
            raise UsageError("; ".join(problems))

    @property
    def mixes(self) -> bool:
        """Whether targets become soft targets."""
        return bool(self.prob and (self.mixup or self.cutmix))

    @property
    def is_on(self) -> bool:
        """False if batches are returned unchanged."""
        return self.mixes or bool(self.erase)

    def __call__(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Augment one batch; the arguments are not modified.

        Each image is paired with the one before it, as the loader has shuffled them. One image alone is not mixed.

        Args:
            images: (n, C, H, W) uint8 or float.
            targets: (n,) int64 or (n, K) float.
            generator: a CPU generator, so that the device is not synchronised.

        Returns:
            Images of the same type, and targets (n, K) float32 (unchanged if mixing is off).
        """
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        if self.erase:
            images = _erase(images, self.erase, rng)
        if not self.mixes:
            return images, targets
        soft_targets = one_hot(targets, self.classes).float() if targets.ndim == 1 else targets.float()
        if len(images) < 2 or rng.random() >= self.prob:
            return images, soft_targets
        if self.cutmix and not (self.mixup and rng.random() < 0.5):
            height, width = images.shape[2:]
            return cutmix(images, soft_targets, random_box(height, width, rng.beta(self.cutmix, self.cutmix), rng))
        return mixup(images, soft_targets, rng.beta(self.mixup, self.mixup))


def mixup(images: Tensor, targets: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """`share` of each image and target plus 1 - share of the one before it."""
    mixed = _blend(images if images.is_floating_point() else images.float(), share)
    return (mixed if images.is_floating_point() else mixed.round_().to(images.dtype)), _blend(targets, share)


def cutmix(images: Tensor, targets: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """Paste the region `box` of the previous image into each image; targets are weighted by area."""
    left, top, right, bottom = box
    height, width = images.shape[2:]
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[:, :, top:bottom, left:right].roll(1, 0)
    return mixed, _blend(targets, 1 - (right - left) * (bottom - top) / (height * width))


def random_box(height: int, width: int, share: float, rng: np.random.Generator) -> Box:
    """A rectangle of 1 - share of the area around a uniformly drawn pixel, clipped to the image (Yun et al. 2019)."""
    side = 0.5 * math.sqrt(1 - share)
    x, y = int(rng.integers(width)), int(rng.integers(height))
    half_w, half_h = int(side * width), int(side * height)
    return max(x - half_w, 0), max(y - half_h, 0), min(x + half_w, width), min(y + half_h, height)


def _blend(values: Tensor, share: float) -> Tensor:
    return values.roll(1, 0).mul_(1 - share).add_(values, alpha=share)


def _erase(images: Tensor, prob: float, rng: np.random.Generator) -> Tensor:
    """Fill a rectangle of the drawn images with noise: 0..255 for uint8, otherwise in the range of the batch."""
    n, _, height, width = images.shape
    chosen = np.flatnonzero(rng.random(n) < prob)
    seed = int(rng.integers(2**62))
    if not len(chosen):
        return images
    left, top, right, bottom = (_column(v, images) for v in _erased_boxes(len(chosen), height, width, rng).T)
    y = torch.arange(height, device=images.device).view(1, 1, -1, 1)
    x = torch.arange(width, device=images.device).view(1, 1, 1, -1)
    hole = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    where = torch.from_numpy(chosen).to(images.device, non_blocking=True)
    part = images[where]
    generator = torch.Generator(images.device).manual_seed(seed)
    if images.is_floating_point():
        low, high = images.amin(), images.amax()
        noise = torch.rand(part.shape, generator=generator, device=images.device, dtype=images.dtype)
        noise = low + noise * (high - low)
    else:
        noise = torch.randint(0, 256, part.shape, generator=generator, device=images.device, dtype=images.dtype)
    erased = images.clone()
    erased[where] = torch.where(hole, noise, part)
    return erased


def _erased_boxes(
    n: int, height: int, width: int, rng: np.random.Generator
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """(n, 4) boxes, clipped to the image (the paper redraws instead)."""
    area = rng.uniform(*_ERASE_SCALE, n) * height * width
    ratio = rng.uniform(*_ERASE_RATIO, n)  # uniform as in the paper's algorithm 1
    h = np.clip(np.sqrt(area * ratio).astype(np.int64), 1, height)
    w = np.clip(np.sqrt(area / ratio).astype(np.int64), 1, width)
    left, top = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
    return np.stack([left, top, left + w, top + h], axis=1)


def _column(values: np.ndarray[tuple[int], np.dtype[np.int64]], like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(like.device, non_blocking=True).view(-1, 1, 1, 1)
