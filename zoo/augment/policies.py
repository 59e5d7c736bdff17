"""The published augmentation policies: torchvision's transforms, with our random generator.

Before each comes the random crop and flip of `light`. The changes act on the cropped image, at the model's
size, as in torchvision's training recipes. Channel counts other than 1 and 3 are changed plane by plane, alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode, v2

from zoo.arrays import Pixels
from zoo.augment.crop import RATIO
from zoo.augment.presets import Light, check_integer
from zoo.augment.view import to_array, to_pil
from zoo.errors import UsageError, nearest
from zoo.preprocess import Preprocess

__all__ = ["AugMix", "AutoAugment", "RandAugment", "TrivialAugment"]


# torchvision's default is nearest, whose turned edges are jagged; its training recipes pass bilinear.
_INTERPOLATION = InterpolationMode.BILINEAR
_POLICIES = {policy.value: policy for policy in AutoAugmentPolicy}


class _Policy:
    """Crop and flip of `light` without its color changes, then `change`, a transform of torchvision."""

    is_random = True

    def __init__(
        self, change: v2.Transform, preprocess: Preprocess, flips: bool, scale: Sequence[float], ratio: Sequence[float]
    ) -> None:
        self.change = change
        self.first = Light(
            preprocess=preprocess, flips=flips, scale=scale, ratio=ratio, brightness=0, contrast=0, saturation=0
        )
        self.sample_view, self.crops = self.first.sample_view, self.first.crops

    def transform_view(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        image = self.first.transform_view(image, rng)
        seed = int(rng.integers(2**63))
        if image.shape[2] in (1, 3):
            return to_array(self._apply_policy(to_pil(image), seed))
        # What is drawn does not depend on the pixels, so each plane meets the same; a saturation it has not.
        planes = [self._apply_policy(Image.fromarray(np.ascontiguousarray(p)), seed) for p in np.moveaxis(image, 2, 0)]
        return np.stack([np.asarray(p) for p in planes], axis=2)

    def _apply_policy(self, image: Image.Image, seed: int) -> Image.Image:
        """torchvision draws from torch's global generator, which is seeded and put back (20 µs)."""
        state = torch.get_rng_state()
        torch.default_generator.manual_seed(seed)  # the CPU's alone: torch.manual_seed would reseed the GPUs too
        try:
            changed: Image.Image = self.change(image)
        finally:
            torch.set_rng_state(state)
        return changed


class TrivialAugment(_Policy):
    """One change of a strength drawn uniformly, nothing to tune (Müller and Hutter 2021, the "wide" space).

    num_magnitude_bins: strengths. Where `flips` is False turns end at 30 degrees instead of 135. scale, ratio: of the
    crop, see `Light`.
    """

    def __init__(
        self,
        *,
        preprocess: Preprocess,
        flips: bool,
        scale: Sequence[float] = (0.5, 1.0),
        ratio: Sequence[float] = RATIO,
        num_magnitude_bins: int = 31,
    ) -> None:
        bins = check_integer(num_magnitude_bins, "num_magnitude_bins", 2, 1000)
        change = v2.TrivialAugmentWide(bins, interpolation=_INTERPOLATION)
        if not flips:  # a 6 that is turned by 135 degrees is nearly a 9
            change._AUGMENTATION_SPACE = {**change._AUGMENTATION_SPACE, "Rotate": (_small_rotations, True)}
        super().__init__(change, preprocess, flips, scale, ratio)


def _small_rotations(bins: int, height: int, width: int) -> torch.Tensor:
    return torch.linspace(0.0, 30.0, bins)  # degrees, as the other policies have


class RandAugment(_Policy):
    """`num_ops` changes of strength `magnitude` of `num_magnitude_bins` (Cubuk et al. 2020); defaults torchvision's.

    scale, ratio: of the crop, see `Light`.
    """

    def __init__(
        self,
        *,
        preprocess: Preprocess,
        flips: bool,
        scale: Sequence[float] = (0.5, 1.0),
        ratio: Sequence[float] = RATIO,
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
    ) -> None:
        bins = check_integer(num_magnitude_bins, "num_magnitude_bins", 2, 1000)
        strength = check_integer(magnitude, "magnitude", 0, bins - 1)
        change = v2.RandAugment(check_integer(num_ops, "num_ops", 0, 20), strength, bins, interpolation=_INTERPOLATION)
        super().__init__(change, preprocess, flips, scale, ratio)


class AutoAugment(_Policy):
    """One of 25 pairs of changes that were learned (Cubuk et al. 2019) on `policy`: imagenet, cifar10 or svhn.

    scale, ratio: of the crop, see `Light`.
    """

    def __init__(
        self,
        *,
        preprocess: Preprocess,
        flips: bool,
        scale: Sequence[float] = (0.5, 1.0),
        ratio: Sequence[float] = RATIO,
        policy: str = "imagenet",
    ) -> None:
        if policy not in _POLICIES:
            close = nearest(str(policy), _POLICIES, n=1)
            raise UsageError(
                f"policy must be one of {', '.join(_POLICIES)}, not {policy!r}",
                f"did you mean {close[0]}?" if close else "",
            )
        change = v2.AutoAugment(_POLICIES[policy], interpolation=_INTERPOLATION)
        super().__init__(change, preprocess, flips, scale, ratio)


class AugMix(_Policy):
    """`mixture_width` chains of one to three changes, mixed with each other and the image (Hendrycks et al. 2020);
    the paper's consistency loss is not part of it.

    severity: 1..10. chain_depth: changes a chain, -1 for one to three. alpha: of the Dirichlet and Beta distributions
    of the shares. all_ops: brightness, contrast, colour and sharpness too, which the paper leaves out where it tests
    against corruptions; torchvision does not. scale, ratio: of the crop, see `Light`.
    """

    def __init__(
        self,
        *,
        preprocess: Preprocess,
        flips: bool,
        scale: Sequence[float] = (0.5, 1.0),
        ratio: Sequence[float] = RATIO,
        severity: int = 3,
        mixture_width: int = 3,
        chain_depth: int = -1,
        alpha: float = 1.0,
        all_ops: bool = True,
    ) -> None:
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not alpha > 0:
            raise UsageError(f"alpha must be a number above 0, not {alpha!r}")
        if not isinstance(all_ops, bool):
            raise UsageError(f"all_ops must be true or false, not {all_ops!r}")
        change = v2.AugMix(
            severity=check_integer(severity, "severity", 1, 10),
            mixture_width=check_integer(mixture_width, "mixture_width", 1, 20),
            chain_depth=check_integer(chain_depth, "chain_depth", -1, 20),
            alpha=float(alpha),
            all_ops=all_ops,
            interpolation=_INTERPOLATION,
        )
        super().__init__(change, preprocess, flips, scale, ratio)
