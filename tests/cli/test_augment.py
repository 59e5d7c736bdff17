"""`zoo augment` from the command line: the picture holds what the loader gave."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from zoo.augment import make_augment
from zoo.data import Data, data_config, make_loader, open_data
from zoo.data.dataset import Subset
from zoo.data.decode.intensity import IntensityStats
from zoo.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from zoo.workflows import augment as workflow


def tiles(path, rows, columns, side, gap=6):
    """The images of a grid, (rows, columns, side, side, 3), for each place at which the sheet may begin: it ends with
    the picture, but for a border of 0.15 inches at 120 dots, give or take two pixels."""
    sheet = np.asarray(Image.open(path).convert("RGB"))
    step = side + gap
    for y, x in itertools.product(range(16, 21), repeat=2):
        top, left = sheet.shape[0] - y - rows * step + gap, sheet.shape[1] - x - columns * step + gap
        part = np.pad(sheet[top:, left:], ((0, gap), (0, gap), (0, 0)))[: rows * step, : columns * step]
        yield part.reshape(rows, step, columns, step, 3).swapaxes(1, 2)[:, :, :side, :side]


def test_the_grid_shows_the_loaders_pixels(zoo, photo_folder):
    result = zoo("augment", photo_folder, "--set", "augment.name=affine", "--per-class", 3, "--seed", 4, "--json",
               "--set", "model.img_size=100")  # fmt: skip
    assert result.code == 0, result.err
    printed = json.loads(result.out)
    assert printed["picture"] == "augment.png"
    assert printed["size"] == [100, 100]
    assert [row["row"] for row in printed["images"]] == ["china", "flower"]
    data = open_data(data_config(str(photo_folder)), seed=4)
    preprocess = Preprocess((3, 100, 100), IMAGENET_MEAN, IMAGENET_STD)
    indices = [next(i for i in range(len(data.train)) if data.train.where(i) == r["image"]) for r in printed["images"]]
    expected = []
    for epoch in (None, 0, 1, 2):
        augment = None if epoch is None else make_augment("affine", preprocess=preprocess, flips=True)
        loader = make_loader(
            Subset(data.train, np.array(indices)), preprocess=preprocess, batch_size=2, train=False, augment=augment,
            seed=4, workers=0,
        )  # fmt: skip
        loader.set_epoch(epoch or 0)
        expected.append(next(iter(loader))[0].numpy().transpose(0, 2, 3, 1))
    assert any(
        all(np.array_equal(grid[r, c], expected[c][r]) for r in range(2) for c in range(4))
        for grid in tiles("augment.png", 2, 4, 100)
    )


def test_digits_have_32_pixels_and_the_number_of_classes_is_limited(zoo):
    result = zoo("augment", "digits", "--classes-shown", 4, "--per-class", 2, "-o", "grid.png")
    assert (result.code, result.out) == (0, "grid.png\n")
    assert "the first 4 of 10 classes are shown" in result.err
    width, height = Image.open("grid.png").size
    assert 3 * 96 < width < 4 * 96
    assert 4 * 96 < height < 5.5 * 96


def test_the_model_sets_the_image_size(zoo, photo_folder):
    result = zoo("augment", photo_folder, "test_resnet", "--per-class", 1, "--json")
    assert json.loads(result.out)["size"] == [160, 160]


@dataclass(frozen=True)
class Planes:
    """Six images of four channels."""

    classes: tuple[str, ...] = ("a", "b", "日本\ue000")
    name: str = "planes"
    channels: int = 4
    in_memory: bool = True
    skip_unreadable: bool = False

    @property
    def targets(self):
        return np.arange(6) % 3

    def __len__(self):
        return 6

    def read(self, index, choose=None):
        image = np.random.default_rng(index).integers(0, 256, (40, 50, 4), dtype=np.uint8)
        return image if choose is None else choose(*image.shape[:2]).apply(image)

    def intensity_stats(self, index):
        return IntensityStats()

    def with_intensity_range(self, intensity_range):
        return self

    def where(self, index):
        return f"planes[{index}]"

    def fingerprint(self):
        return "0"


@pytest.mark.parametrize("name", ["light", "medium", "augmix"])
def test_three_of_four_channels_are_drawn_with_a_note(monkeypatch, name):
    data = Data("planes", "planes", Planes(), Planes(), Planes().classes, "", (), flips_ok=True)
    monkeypatch.setattr(workflow, "open_dataset", lambda recipe: data)
    found = workflow.augment_grid("planes", settings={"augment.name": name, "model.img_size": 48}, per_class=1)
    assert "the images have 4 channels: the first three are drawn as red, green and blue" in found.notes
    assert found.path.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--per-class", 0], "--per-class 0 is less than 1"),
        (["digits", "-o", "grid.jpg"], "does not end in .png"),
        (["digits", "-o", "nowhere/grid.png"], "cannot write nowhere/grid.png"),
        (["digits", "--set", "augment.name=lite"], "no augmentation named 'lite'"),
        (["nowhere", "--set", "augment.name=lite"], "2 problems"),
        (["digits", "--set", "augment.name=imgaug", "--set", "augment.params.pipeline=[Afine, CLAE]"],
         "2 problems\n  - augment.params.pipeline[0]: imgaug has no augmenter 'Afine'"),
        (["digits", "no_such_model"], "no_such_model"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(zoo, arguments, message):
    result = zoo("augment", *arguments)
    assert result.code in (2, 3, 4, 5)
    assert message in result.err
    assert "Traceback" not in result.err
