from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from zoo.augment import AUGMENTATIONS, make_augment, problems
from zoo.augment.crop import random_crop
from zoo.augment.fit import fit
from zoo.augment.presets import jitter, warp
from zoo.augment.view import RESAMPLE
from zoo.errors import UsageError
from zoo.preprocess import Preprocess

BILINEAR = RESAMPLE["bilinear"]
NAMES = sorted(set(AUGMENTATIONS) - {"imgaug"})  # which is nothing without a pipeline: test_declared.py


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_preset_gives_the_models_size_from_any_image(name, channels):
    preprocess = Preprocess((channels, 24, 40), (0.5,) * channels, (0.5,) * channels, "bicubic", 0.9)
    augment = make_augment(name, preprocess=preprocess, flips=True)
    for shape in [(1, 1), (8, 8), (10, 300), (300, 10), (60, 90), (1, 200)]:
        image = rng().integers(0, 256, (*shape, channels), dtype=np.uint8)
        before = image.copy()
        for seed in range(8):
            out = augment(image, rng(seed))
            assert out.shape == (24, 40, channels)
            assert out.dtype == np.uint8
        assert np.array_equal(image, before)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_depends_on_the_generator_alone(photo, preprocess, name):
    augment = make_augment(name, preprocess=preprocess, flips=True)
    first = [augment(photo, rng(s)) for s in range(6)]
    np.random.seed(1)
    again = [augment(photo, rng(s)) for s in reversed(range(6))][::-1]
    elsewhere = pickle.loads(pickle.dumps(augment))
    for a, b, s in zip(first, again, range(6), strict=True):
        assert np.array_equal(a, b)
        assert np.array_equal(a, elsewhere(photo, rng(s)))
    if augment.is_random:
        assert all(not np.array_equal(first[0], other) for other in first[1:])
    else:
        assert np.array_equal(first[0], fit(photo, preprocess))


POLICIES = {
    "trivialaugment": v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR),
    "randaugment": v2.RandAugment(interpolation=v2.InterpolationMode.BILINEAR),
    "autoaugment": v2.AutoAugment(interpolation=v2.InterpolationMode.BILINEAR),
    "augmix": v2.AugMix(),
}
WHOLE = {"scale": [1, 1], "ratio": [1, 1]}


@pytest.mark.parametrize("name", POLICIES)
def test_policies_are_torchvisions_and_leave_its_generator_alone(photo, preprocess, name):
    square = fit(photo, preprocess)
    augment = make_augment(name, preprocess=preprocess, flips=True, params=WHOLE)
    changed = 0
    for seed in range(25):
        state = torch.get_rng_state()
        found = augment(square, rng(seed))
        assert torch.equal(torch.get_rng_state(), state)
        # The draws for the crop and the flip come first, then the seed for torchvision.
        ours = rng(seed)
        cropped = augment.pipeline.crop_and_flip.transform_view(
            augment.pipeline.sample_view(48, 48, ours).apply(square), ours
        )
        torch.manual_seed(int(ours.integers(2**63)))
        assert np.array_equal(found, np.asarray(POLICIES[name](Image.fromarray(cropped))))
        changed += not np.array_equal(found, cropped)
    assert changed > 15


def test_trivialaugment_turns_no_6_into_a_9(preprocess):
    ramp = np.tile(np.arange(0, 240, 5, dtype=np.uint8)[:, None, None], (1, 48, 3))
    turned = {}
    for flips in (True, False):
        augment = make_augment("trivialaugment", preprocess=preprocess, flips=flips, params=WHOLE)
        space = augment.pipeline.change._AUGMENTATION_SPACE
        turned[flips] = float(space["Rotate"][0](31, 48, 48).max())
        # Beyond 90 degrees what was above is below.
        upside_down = sum(
            float(out[40:, 20:28].mean()) < float(out[:8, 20:28].mean()) - 50
            for out in (augment(ramp, rng(s)) for s in range(400))
        )
        assert bool(upside_down) or not flips
    assert turned == {True: 135.0, False: 30.0}


def test_planes_of_other_channel_counts_are_changed_alike(photo):
    preprocess = Preprocess((4, 48, 48), (0.5,) * 4, (0.5,) * 4)
    grey = np.repeat(photo[:, :, :1], 4, axis=2)
    for name in POLICIES:
        augment = make_augment(name, preprocess=preprocess, flips=True)
        for seed in range(10):
            assert np.ptp(augment(grey, rng(seed)), axis=2).max() == 0


@pytest.mark.parametrize("name", ["light", "medium", "strong", "randaugment"])
def test_flips_half_of_the_images_or_none(preprocess, name):
    still = WHOLE | ({"num_ops": 0} if name == "randaugment" else {"brightness": 0, "contrast": 0, "saturation": 0})
    if name in ("medium", "strong"):
        still |= {"degrees": 0, "shear": 0, "hue": 0, "blur": 0, "noise": 0, "cutout": 0}
    ramp = np.tile(np.arange(0, 240, 5, dtype=np.uint8)[None, :, None], (48, 1, 3))
    for flips, low, high in ((True, 60, 140), (False, 0, 0)):
        augment = make_augment(name, preprocess=preprocess, flips=flips, params=still)
        flipped = sum(bool(augment(ramp, rng(s))[0, 0, 0] > 120) for s in range(200))
        assert low <= flipped <= high


def test_crops_keep_the_share_and_the_ratio_that_were_asked_for():
    # Each pixel holds its own place, so that the crop can be measured in what comes out.
    y, x = np.mgrid[0:200, 0:250].astype(np.uint8)
    image = np.stack([y, x, x], axis=2)
    for seed in range(60):
        crop = random_crop(
            200, 250, rng(seed), size=(100, 100), scale=(0.3, 0.5), ratio=(0.75, 4 / 3), resample=BILINEAR
        )
        out = crop.apply(image).astype(float)
        height, width = out[-1, 50, 0] - out[0, 50, 0], out[50, -1, 1] - out[50, 0, 1]
        assert 0.27 < height * width / (200 * 250) < 0.52
        assert 0.7 < width / height < 1.42
        assert abs(out[50, 0, 1] - crop.box[0]) < 3
        assert abs(out[-1, 50, 0] - crop.box[3]) < 3


def test_crops_of_tiny_images_are_fractional():
    image = rng().integers(0, 256, (8, 8, 1), dtype=np.uint8)
    crops = [
        random_crop(8, 8, rng(s), size=(16, 16), scale=(0.8, 1), ratio=(0.9, 1.1), resample=BILINEAR) for s in range(20)
    ]
    assert len({c.apply(image).tobytes() for c in crops}) == 20


def test_jitter_scales_about_black_mean_and_grey():
    image = rng().integers(60, 120, (20, 20, 3), dtype=np.uint8)
    assert np.array_equal(jitter(image, 1, 1, 1), image)
    assert np.abs(jitter(image, 1.5, 1, 1) - image * 1.5).max() <= 1
    grey = jitter(image, 1, 1, 0)
    assert np.ptp(grey, axis=2).max() == 0
    flat = jitter(image, 1, 0, 1)
    assert np.ptp(flat) == 0
    assert abs(float(flat.mean()) - (image @ [0.299, 0.587, 0.114]).mean()) < 1
    assert np.array_equal(jitter(image, 1, 1, 1, flip=True), image[:, ::-1])
    one = jitter(image[:, :, :1], 0.5, 1, 0.3)
    assert np.abs(one - image[:, :, :1] * 0.5).max() <= 1


def test_warp_translates_rotates_and_zooms():
    image = np.zeros((33, 33, 3), np.uint8)
    image[6:11, 14:19] = 200  # a blob 8 above the centre

    def centre(**change) -> tuple[float, float]:
        out = warp(image, **({"move": (0, 0), "turn": 0.0, "zoom": 1.0, "shear": 0.0, "edge": False} | change))
        weight = out[:, :, 0].astype(float)
        y, x = np.mgrid[0:33, 0:33]
        return round((weight * x).sum() / weight.sum(), 1), round((weight * y).sum() / weight.sum(), 1)

    assert centre() == (16, 8)
    assert centre(move=(3, 2)) == (19, 10)
    assert centre(turn=np.pi / 2) == (24, 16)  # clockwise: above goes to the right
    assert centre(zoom=1.5) == (16, 4)
    x, y = centre(shear=np.pi / 8)
    assert x != 16
    assert y == 8
    # All together: sheared, turned by 90 degrees, zoomed to half, moved.
    assert centre(turn=np.pi / 2, zoom=0.5, move=(1, 1)) == (21, 17)


def test_affine_fills_with_black_or_the_edge(preprocess):
    image = np.full((48, 48, 3), 255, np.uint8)
    black = make_augment("affine", preprocess=preprocess, flips=False, params={"degrees": 45})
    edge = make_augment("affine", preprocess=preprocess, flips=False, params={"degrees": 45, "border": "edge"})
    assert min(black(image, rng(s)).min() for s in range(5)) == 0
    assert min(edge(image, rng(s)).min() for s in range(5)) == 255


def test_affine_parameters_for_digits_move_within_two_pixels(preprocess):
    small = preprocess.with_size(32, 32)
    image = np.zeros((32, 32, 3), np.uint8)
    image[14:18, 14:18] = 255
    params = {"shift": 2 / 32, "degrees": 0, "scale": [1, 1], "shear": 0}
    augment = make_augment("affine", preprocess=small, flips=False, params=params)
    x = np.arange(32)
    plain = fit(image, small)[:, :, 0].astype(float)
    middle = (plain.sum(0) @ x) / plain.sum()
    moved = []
    for s in range(100):
        out = augment(image, rng(s))[:, :, 0].astype(float)
        moved.append((out.sum(0) @ x) / out.sum() - middle)
    assert 1.8 < max(moved) < 2.1
    assert -2.1 < min(moved) < -1.8


@pytest.mark.parametrize(
    ("name", "params", "problem"),
    [
        ("lite", {}, "no augmentation named 'lite' (did you mean light?"),
        ("light", {"brightnes": 0.1}, "augment.params.brightnes is unknown; did you mean brightness"),
        ("light", {"flips": True}, "augment.params.flips is set by zoo itself"),
        ("light", {"scale": [1.0, 0.5]}, "scale must be two rising numbers between 0.001 and 1, not [1.0, 0.5]"),
        ("light", {"scale": 0.5}, "scale must be two rising numbers"),
        ("affine", {"degrees": "ten"}, "degrees must be a number between 0 and 180, not 'ten'"),
        ("affine", {"border": "mirror"}, "border must be black or edge"),
        ("strong", {"cutout": 2}, "cutout must be a number between 0 and 1"),
        ("randaugment", {"magnitude": 31}, "magnitude must be a whole number between 0 and 30, not 31"),
        ("randaugment", {"num_ops": 1.5}, "num_ops must be a whole number"),
        ("trivialaugment", {"magnitude": 3}, "augment.params.magnitude is unknown"),
        ("autoaugment", {"policy": "imagnet"}, "policy must be one of imagenet, cifar10, svhn, not 'imagnet'"),
        ("augmix", {"severity": 11}, "severity must be a whole number between 1 and 10"),
        ("augmix", {"alpha": 0}, "alpha must be a number above 0"),
        ("none", {"scale": [1, 1]}, "augment.params.scale is unknown"),
        ("nowhere:pipeline", {}, "no module named 'nowhere'"),
    ],
)
def test_invalid_parameters_are_refused(preprocess, name, params, problem):
    (found,) = problems(name, params)
    assert problem in found
    with pytest.raises(UsageError):
        make_augment(name, preprocess=preprocess, flips=True, params=params)


def test_valid_parameters_have_no_problems():
    for name in NAMES:
        assert problems(name, {}) == []
    assert problems("light", {"scale": [0.3, 1], "saturation": 0}) == []


def test_a_crop_may_be_taken_by_the_reader_instead(photo, preprocess):
    for name in NAMES:
        augment = make_augment(name, preprocess=preprocess, flips=True)

        def read(choose):
            return choose(*photo.shape[:2]).apply(photo)

        assert np.array_equal(augment.read_augmented(read, rng(3)), augment(photo, rng(3)))
