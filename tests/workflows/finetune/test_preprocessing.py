"""Images of other channels, intensity ranges and shapes through a whole run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

import zoo
from zoo.augment.fit import EvalView, fit
from zoo.data import read_image
from zoo.errors import ZooError
from zoo.preprocess import IntensityRange, Preprocess
from zoo.workflows.finetune.build import build_session
from zoo.workflows.finetune.run import finetune, resolve_options

TINY = {"weights": "none", "img_size": 32, "epochs": 6, "batch_size": 8, "lr": 3e-3, "workers": 0, "device": "cpu"}


@pytest.fixture
def microscopy(tmp_path: Path):
    """Two classes of 12-bit images in four channels of unequal strength: cells shine in the third or the fourth."""

    def make(kind: str, images: int = 8) -> str:
        rng = np.random.default_rng(0)
        for number, name in enumerate(("third", "fourth")):
            (tmp_path / kind / name).mkdir(parents=True)
            for i in range(images):
                image = rng.integers(0, [900, 900, 200, 200], (40, 48, 4)).astype(np.uint16)
                image[10:30, 10:30, 2 + number] += 3000
                path = tmp_path / kind / name / f"{i}.{kind}"
                if kind == "npy":
                    np.save(path, image if i % 2 else image.transpose(2, 0, 1))
                elif i % 2:
                    tifffile.imwrite(path, image.transpose(2, 0, 1), photometric="minisblack")  # pages
                else:
                    tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig")
        return str(tmp_path / kind)

    return make


@pytest.mark.parametrize("kind", ["tif", "npy"])
def test_training_evaluation_prediction_and_export_with_four_channels_of_12_bits(microscopy, kind, tmp_path):
    data = microscopy(kind)
    run = finetune("test_resnet", data=data, in_chans=4, output_dir=tmp_path / "run", progress=False, **TINY)
    assert max(row["val_top1"] for row in run.metrics()) == 1
    preprocess = Preprocess.from_dict(run.model_record()["preprocess"])
    assert preprocess.intensity_range == IntensityRange((1023, 1023, 4095, 4095))
    assert zoo.evaluate(run).evaluation.top1 == 1
    assert zoo.evaluate(run, data, save=False).evaluation.top1 == 1
    found = list(zoo.predict(run, [f"{data}/fourth"]))
    assert {p.label for p in found} == {"fourth"}
    path = str(tmp_path / kind / "fourth" / f"0.{kind}")
    pixels = fit(read_image(path, 4, intensity_range=preprocess.intensity_range), preprocess)
    assert [len(np.unique(pixels[:, :, c])) > 8 for c in range(4)] == [True] * 4
    (same,) = zoo.predict(run, [read_image(path, 4, intensity_range=preprocess.intensity_range)])
    assert same.probability == pytest.approx(next(p.probability for p in found if p.path == path), abs=1e-5)
    folder = zoo.export(run, format="safetensors").folder
    assert json.loads((folder / "preprocess.json").read_text())["intensity_range"]["integers"] == [
        1023,
        1023,
        4095,
        4095,
    ]
    if kind == "tif":  # one run of the README's code is enough
        return
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    np.save(folder / "image.npy", np.load(path))
    message = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    assert message.split()[0] == "fourth"
    assert float(message.split()[1]) == pytest.approx(same.probability, abs=0.02)


def test_an_image_of_another_intensity_range_is_an_error(microscopy, tmp_path):
    run = finetune("test_resnet", data=microscopy("npy", 4), in_chans=4, output_dir=tmp_path / "run", progress=False,
                   **{**TINY, "epochs": 1})  # fmt: skip
    np.save(tmp_path / "other.npy", np.full((4, 20, 20), 60000, np.uint16))
    with pytest.raises(ZooError, match="1023 is white in the training images"):
        list(zoo.predict(run, [tmp_path / "other.npy"]))


def session(data: str, **options):
    return build_session(resolve_options("test_resnet", data=data, **{**TINY, **options}))


def test_normalization_statistics_auto_and_explicit(microscopy, photo_folder, tmp_path):
    photos = str(photo_folder)
    own = session(photos, norm="model")
    assert own.preprocess.mean == own.model.preprocess.mean
    assert own.recipe.data.norm == "model"
    measured = session(photos)  # without weights
    assert measured.recipe.data.norm == "data"
    view, train = EvalView(measured.preprocess), measured.data.train
    pixels = [train.read(i, lambda h, w: view) for i in range(len(train))]
    assert np.allclose(measured.preprocess.mean, np.mean(pixels, axis=(0, 1, 2)) / 255)
    assert np.allclose(measured.preprocess.std, np.std(pixels, axis=(0, 1, 2)) / 255)
    assert any("the model has no pretrained weights" in note for note in measured.notes)
    again = build_session(
        measured.recipe.model_copy(update={"data": measured.recipe.data.model_copy(update={"workers": 1})})
    )
    assert again.preprocess == measured.preprocess


@pytest.mark.parametrize(("mode", "crop_mode"), [("crop", "center"), ("squash", "squash"), ("pad", "border")])
def test_fit_is_used_in_training_evaluation_and_prediction(photo_folder, tmp_path, mode, crop_mode):
    options = {**TINY, "epochs": 1}
    run = finetune(
        "test_resnet", data=str(photo_folder), fit=mode, output_dir=tmp_path / "r", progress=False, **options
    )
    preprocess = Preprocess.from_dict(run.model_record()["preprocess"])
    assert preprocess.crop_mode == crop_mode
    evaluated = zoo.evaluate(run, save=False)
    assert evaluated.evaluation.top1 == pytest.approx(run.metrics()[0]["val_top1"])
    folder = zoo.export(run, format="safetensors").folder
    assert json.loads((folder / "preprocess.json").read_text())["crop_mode"] == crop_mode


def test_intensity_range_can_be_set_per_channel(microscopy):
    data = microscopy("npy", 4)
    given = session(data, in_chans=4, settings={"data.intensity_range": [600, 600, 3000, 3000]})
    assert given.preprocess.intensity_range == IntensityRange(
        (600, 600, 3000, 3000), (600.0, 600.0, 3000.0, 3000.0), clips=True
    )
    with pytest.raises(ZooError, match="has 2 values, but the images have 4 channels"):
        session(data, in_chans=4, settings={"data.intensity_range": [600, 600]})
    with pytest.raises(ZooError, match="intensity_range: should be auto"):
        session(data, in_chans=4, settings={"data.intensity_range": 0})


def test_files_with_other_channels_are_an_error_before_training(microscopy, zoo):
    result = zoo("finetune", "test_resnet", "--data", microscopy("npy", 4), "--weights", "none", "--dry-run")
    assert result.code == 3
    assert "4 channels, not the 3 asked for (--in-chans)" in result.err


def test_check_and_augment_read_arrays(microscopy, zoo, tmp_path):
    data = microscopy("tif", 4)
    result = zoo("check", data, "--json")
    assert result.code == 0, result.err
    drawn = zoo("augment", data, "--set", "model.in_chans=4", "--out", tmp_path / "grid.png")
    assert drawn.code == 0, drawn.err
    assert "4 channels: the first three are drawn" in drawn.err
