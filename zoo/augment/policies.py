"""The published augmentation policies: torchvision's transforms, with our random generator.

They follow the random crop and flip of `light` and act on the cropped image, at the model's input size, as in
torchvision's training recipes. With other than 1 or 3 channels, each channel is transformed alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode, v2

from zoo.arrays import Pixels
from zoo.augment.presets import Light, RandomCrop, check_integer
from zoo.augment.view import to_array, to_pil
from zoo.errors import UsageError, did_you_mean, nearest

# torchvision's default is nearest, which makes rotated edges jagged; its training recipes pass bilinear.
_INTERPOLATION = InterpolationMode.BILINEAR
_POLICIES = {policy.value: policy for policy in AutoAugmentPolicy}


@dataclass(kw_only=True, eq=False)
class _Policy(RandomCrop, ABC):
    """Crop and flip of `light` without its colour changes, then a transform of torchvision."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.change = self._transform()
        self.crop_and_flip = Light(preprocess=self.preprocess, flips=self.flips, brightness=0, contrast=0, saturation=0)

    @abstractmethod
    def _transform(self) -> v2.Transform: ...

    def transform_view(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        image = self.crop_and_flip.transform_view(image, rng)
        seed = int(rng.integers(2**63))
        if image.shape[2] in (1, 3):
            return to_array(self._apply_policy(to_pil(image), seed))
        # The draws do not depend on the pixels, so each channel gets the same operations; saturation has no effect.
        planes = [self._apply_policy(Image.fromarray(np.ascontiguousarray(p)), seed) for p in np.moveaxis(image, 2, 0)]
        return np.stack([np.asarray(p) for p in planes], axis=2)

    def _apply_policy(self, image: Image.Image, seed: int) -> Image.Image:
        """torchvision draws from torch's global generator, which is seeded and then restored (20 µs)."""
        state = torch.get_rng_state()
        torch.default_generator.manual_seed(seed)  # CPU only: torch.manual_seed would reseed the GPUs too
        try:
            changed: Image.Image = self.change(image)
        finally:
            torch.set_rng_state(state)
        return changed


@dataclass(kw_only=True, eq=False)
class TrivialAugment(_Policy):
    """One operation of a uniformly drawn magnitude; nothing to tune (Müller and Hutter 2021, the "wide" space).

    num_magnitude_bins: number of magnitudes. Without `flips` rotations end at 30 degrees instead of 135. scale, ratio:
    see `RandomCrop`.
    """

    num_magnitude_bins: int = 31

    def _transform(self) -> v2.Transform:
        bins = check_integer(self.num_magnitude_bins, "num_magnitude_bins", 2, 1000)
        change = v2.TrivialAugmentWide(bins, interpolation=_INTERPOLATION)
        if not self.flips:  # a 6 rotated by 135 degrees is nearly a 9
            change._AUGMENTATION_SPACE = {**change._AUGMENTATION_SPACE, "Rotate": (_small_rotations, True)}
        return change


def _small_rotations(bins: int, height: int, width: int) -> torch.Tensor:
    return torch.linspace(0.0, 30.0, bins)  # degrees, as in the other policies


@dataclass(kw_only=True, eq=False)
class RandAugment(_Policy):
    """`num_ops` operations of one `magnitude` of `num_magnitude_bins` (Cubuk et al. 2020); torchvision's defaults.

    scale, ratio: see `RandomCrop`.
    """

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31

    def _transform(self) -> v2.Transform:
        bins = check_integer(self.num_magnitude_bins, "num_magnitude_bins", 2, 1000)
        magnitude = check_integer(self.magnitude, "magnitude", 0, bins - 1)
        return v2.RandAugment(
            check_integer(self.num_ops, "num_ops", 0, 20), magnitude, bins, interpolation=_INTERPOLATION
        )


@dataclass(kw_only=True, eq=False)
class AutoAugment(_Policy):
    """One of 25 pairs of operations learned on `policy` (Cubuk et al. 2019): imagenet, cifar10 or svhn.

    scale, ratio: see `RandomCrop`.
    """

    policy: str = "imagenet"

    def _transform(self) -> v2.Transform:
        if self.policy not in _POLICIES:
            raise UsageError(
                f"policy must be one of {', '.join(_POLICIES)}, not {self.policy!r}",
                did_you_mean(nearest(str(self.policy), _POLICIES, n=1)),
            )
        return v2.AutoAugment(_POLICIES[self.policy], interpolation=_INTERPOLATION)


@dataclass(kw_only=True, eq=False)
class AugMix(_Policy):
    """`mixture_width` chains of operations, mixed with each other and the image (Hendrycks et al. 2020), without the
    paper's consistency loss.

    severity: 1..10. chain_depth: operations per chain, -1 for one to three. alpha: of the Dirichlet and Beta
    distributions of the mixing weights. all_ops: whether to use brightness, contrast, colour and sharpness too, as
    torchvision does (the paper excludes them, as it tests against corruptions). scale, ratio: see `RandomCrop`.
    """

    severity: int = 3
    mixture_width: int = 3
    chain_depth: int = -1
    alpha: float = 1.0
    all_ops: bool = True

    def _transform(self) -> v2.Transform:
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, int | float) or not self.alpha > 0:
            raise UsageError(f"alpha must be a number above 0, not {self.alpha!r}")
        if not isinstance(self.all_ops, bool):
            raise UsageError(f"all_ops must be true or false, not {self.all_ops!r}")
        return v2.AugMix(
            severity=check_integer(self.severity, "severity", 1, 10),
            mixture_width=check_integer(self.mixture_width, "mixture_width", 1, 20),
            chain_depth=check_integer(self.chain_depth, "chain_depth", -1, 20),
            alpha=float(self.alpha),
            all_ops=self.all_ops,
            interpolation=_INTERPOLATION,
        )
