"""Every augmentation by name, in the loader: the same batches from any number of workers, others in every epoch."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.augment import AUGMENTATIONS, make_augment
from zoo.data import data_config, make_loader, open_data

PARAMS = {
    "imgaug": {
        "scale": [0.5, 1],
        "pipeline": [
            {"Affine": {"rotate": [-20, 20]}},
            {"SomeOf": {"n": [1, None], "children": ["Rain", "ImpulseNoise", {"Add": {"normal": [0, 20]}}]}},
            {"Sometimes": {"p": 0.5, "then_list": [{"RandAugment": {"n": 1}}]}},
        ],
    }
}
QUICK = ("light", "trivialaugment", "imgaug")


def epochs(folder, preprocess, name, workers, numbers=(0, 1), seed=5):
    data = open_data(data_config(str(folder)))
    augment = make_augment(name, preprocess=preprocess, flips=data.flips_ok, params=PARAMS.get(name))
    loader = make_loader(
        data.train, preprocess=preprocess, batch_size=8, train=True, augment=augment, seed=seed, workers=workers
    )
    found = []
    for number in numbers:
        loader.set_epoch(number)
        found.append(np.concatenate([images.numpy() for images, _ in loader]))
    return found


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in sorted(AUGMENTATIONS)]
)
def test_batches_do_not_depend_on_the_number_of_workers(photo_folder, preprocess, name):
    alone = epochs(photo_folder, preprocess, name, 0)
    for workers in (1, 4):
        for a, b in zip(alone, epochs(photo_folder, preprocess, name, workers), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_epochs_differ_and_are_reproducible(photo_folder, preprocess, name):
    first, second, third = epochs(photo_folder, preprocess, name, 0, (0, 1, 2))
    (resumed,) = epochs(photo_folder, preprocess, name, 0, (2,))
    assert np.array_equal(resumed, third)
    if name == "none":
        return
    pictures = {image.tobytes() for image in np.concatenate([first, second, third])}
    # A policy may shift an image out of sight, or not change one: two in a hundred are alike.
    assert len(pictures) > 0.9 * 3 * len(first)
    (other,) = epochs(photo_folder, preprocess, name, 0, (0,), seed=6)
    assert len(pictures & {image.tobytes() for image in other}) < 3
