"""What is done to a whole batch on its device: MixUp, CutMix and random erasing.

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

__all__ = ["Mixing", "cutmix", "mixing_problems", "mixup", "random_box"]

Box = tuple[int, int, int, int]  # left, top, right, bottom: pixels, the last two excluded

# Zhong et al. 2020, "Random Erasing Data Augmentation", section 4.1: s_l, s_h, r_1 (and r_2 = 1 / r_1); random values
# in the hole were the best of its table 5.
_ERASE_SCALE = (0.02, 0.4)
_ERASE_RATIO = (0.3, 1 / 0.3)


def mixing_problems(mixup: float, cutmix: float, prob: float, erase: float, task: TaskName) -> list[str]:
    """What is wrong with the numbers, one line each; names are those of the recipe's section `augment`."""
    problems = []
    for name, value in (("mixup", mixup), ("cutmix", cutmix)):
        if not 0 <= value < math.inf:
            problems.append(f"augment.{name} must be 0 (off) or a number above 0, not {value!r}")
    for name, value in (("mix_prob", prob), ("erase", erase)):
        if not 0 <= value <= 1:
            problems.append(f"augment.{name} must be a probability between 0 and 1, not {value!r}")
    if cutmix and not get_task(task).has_classes:
        problems.append(
            "augment.cutmix: a part of another image says nothing of how far its number counts; "
            "mixup mixes numbers, cutmix is for classes and labels"
        )
    return problems


@dataclass(frozen=True)
class Mixing:
    """mixup, cutmix: the parameter alpha of the Beta(alpha, alpha) from which each batch's share is drawn; 0 is off; if
    both are on, each batch gets one of them, by a coin. prob: share of the batches that are mixed. erase: share of the
    images that lose a rectangle, before they are mixed. classes: number of classes, labels or targets.

    Zhang et al. 2018, "mixup" (alpha 0.1 to 0.4 on ImageNet); Yun et al. 2019, "CutMix" (alpha 1); Zhong et al. 2020.
    For numbers (regression) MixUp mixes the targets as it mixes the images, which assumes that halfway between two
    images is halfway between their numbers; C-Mixup (Yao et al. 2022) found that false for distant ones, so keep alpha
    small there. CutMix is refused for numbers: a pasted part has no share in them.

    Raises UsageError if a number is out of range or CutMix is asked for regression.
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
        """Whether targets become shares of classes."""
        return bool(self.prob and (self.mixup or self.cutmix))

    @property
    def is_on(self) -> bool:
        """False if a batch comes back as it is."""
        return self.mixes or bool(self.erase)

    def __call__(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """images (n, C, H, W) uint8 or float; targets (n,) int64 or (n, K) float; generator: on the CPU, wherever the
        batch is, so that nothing waits for the device.

        Images come back in their type (uint8 is rounded), targets as (n, K) float32; if nothing is mixed at all, as
        they came. Each image is paired with the one before it: the loader has shuffled them. A batch of one image is
        not mixed. The arguments are not written to.
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
    """Each image with the part `box` of the one before it, whose target gets the part's share of the area."""
    left, top, right, bottom = box
    height, width = images.shape[2:]
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[:, :, top:bottom, left:right].roll(1, 0)
    return mixed, _blend(targets, 1 - (right - left) * (bottom - top) / (height * width))


def random_box(height: int, width: int, share: float, rng: np.random.Generator) -> Box:
    """A rectangle of 1 - share of the area about a pixel drawn uniformly, cut off at the edges (Yun et al. 2019)."""
    side = 0.5 * math.sqrt(1 - share)
    x, y = int(rng.integers(width)), int(rng.integers(height))
    half_w, half_h = int(side * width), int(side * height)
    return max(x - half_w, 0), max(y - half_h, 0), min(x + half_w, width), min(y + half_h, height)


def _blend(values: Tensor, share: float) -> Tensor:
    return values.roll(1, 0).mul_(1 - share).add_(values, alpha=share)


def _erase(images: Tensor, prob: float, rng: np.random.Generator) -> Tensor:
    """A rectangle of random levels in each image that is drawn; of a uint8 image 0..255, else the batch's own range."""
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
    """(n, 4) boxes. A hole that would not fit is cut down to the image, where the paper draws again."""
    area = rng.uniform(*_ERASE_SCALE, n) * height * width
    ratio = rng.uniform(*_ERASE_RATIO, n)  # uniform as in the paper's algorithm 1
    h = np.clip(np.sqrt(area * ratio).astype(np.int64), 1, height)
    w = np.clip(np.sqrt(area / ratio).astype(np.int64), 1, width)
    left, top = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
    return np.stack([left, top, left + w, top + h], axis=1)


def _column(values: np.ndarray[tuple[int], np.dtype[np.int64]], like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(like.device, non_blocking=True).view(-1, 1, 1, 1)
