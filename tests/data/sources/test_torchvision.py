"""torchvision's data sets, read by the real library from files laid out like its downloads."""

from __future__ import annotations

import hashlib
import inspect
import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image

from zoo.data import data_config, make_loader, open_data, open_eval
from zoo.data.open import open_listing
from zoo.data.sources.torchvision_sets import SETS
from zoo.errors import DataError, UsageError


def write_cifar10(monkeypatch, cache: Path) -> dict[bytes, str]:
    """The files of CIFAR-10, ten images in each batch, with checksums patched into torchvision; pixels -> class."""
    from torchvision.datasets import CIFAR10

    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    folder = cache / "torchvision" / "CIFAR10" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    found: dict[bytes, str] = {}

    def write(name: str, content: dict) -> list[str]:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(name: str) -> list[str]:
        pixels = rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
        found.update((p.tobytes(), n) for p, n in zip(pixels, names, strict=True))
        return write(name, {"data": pixels.transpose(0, 3, 1, 2).reshape(10, -1), "labels": list(range(10))})

    monkeypatch.setattr(CIFAR10, "train_list", [batch(n) for n, _ in CIFAR10.train_list])
    monkeypatch.setattr(CIFAR10, "test_list", [batch(n) for n, _ in CIFAR10.test_list])
    md5 = write(CIFAR10.meta["filename"], {"label_names": names})[1]
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5})
    return found


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_cifar10_equals_torchvision(monkeypatch, cache, preprocess, tmp_path, seen):
    found = write_cifar10(monkeypatch, cache)
    data = open_data(data_config("torchvision:cifar10"))
    assert (data.name, len(data.train), len(data.val), data.flips_ok) == ("CIFAR10", 50, 10, True)
    assert data.classes[:3] == ("airplane", "automobile", "bird")
    assert seen(data.train, data.val) == found
    assert data.rule.startswith(
        "given: 50 training images of torchvision:cifar10, 10 validation images of its split test"
    )
    for i in range(10):  # a folder of the same images is fitted to the same pixels
        folder = tmp_path / "folder" / data.val.classes[i]
        folder.mkdir(parents=True)
        Image.fromarray(data.val.read(i)).save(folder / "0.png")
    options = {"preprocess": preprocess, "batch_size": 10, "train": False, "augment": None, "seed": 0}
    ((ours, targets),) = make_loader(data.val, workers=0, **options)
    ((theirs, also),) = make_loader(open_eval(data_config("folder"), data.classes)[0], workers=1, **options)
    assert (ours == theirs).all()
    assert (targets == also).all()
    source, _ = open_eval(data_config("torchvision:CIFAR10"), data.classes, split="train")
    assert len(source) == 50
    with pytest.raises(DataError, match="torchvision:CIFAR10 has no split 'val'"):
        open_eval(data_config("torchvision:CIFAR10"), data.classes, split="val")


def test_mnist_equals_torchvision(cache):
    folder = cache / "torchvision" / "MNIST" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        pixels = rng.integers(0, 256, (20, 28, 28), dtype=np.uint8)
        labels = np.arange(20, dtype=np.uint8) % 10
        big_endian = np.array([0x803, 20, 28, 28], ">i4").tobytes(), np.array([0x801, 20], ">i4").tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(big_endian[0] + pixels.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(big_endian[1] + labels.tobytes())
    data = open_data(data_config("torchvision:MNIST"), channels=1)
    assert (len(data.train), len(data.val), data.flips_ok) == (20, 20, False)
    assert data.classes[3] == "3 - three"
    assert (data.val.read(4)[:, :, 0] == pixels[4]).all()
    colour = open_data(data_config("torchvision:MNIST"))
    assert (colour.val.read(4) == pixels[4][:, :, None]).all()


def test_image_files_of_torchvision_are_decoded_by_zoo(cache):
    """EuroSAT is a folder of class folders, without splits."""
    root = cache / "torchvision" / "EuroSAT" / "eurosat" / "2750"
    for label in ("Forest", "River"):
        (root / label).mkdir(parents=True)
        for i in range(5):
            turned = Image.Exif()
            turned[0x0112] = 6
            Image.new("RGB", (8, 6), (40 * i, 0, 0)).save(root / label / f"{i}.jpg", exif=turned)
    data = open_data(data_config("torchvision:EuroSAT"))
    assert (len(data.train), len(data.val), data.classes) == (8, 2, ("Forest", "River"))
    assert data.train.read(0).shape == (8, 6, 3)
    assert data.train.source.where(0) == str(root / "Forest" / "0.jpg")
    (root / "River" / "9.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"9\.jpg: not an image: the file holds HTML"):
        open_data(data_config("torchvision:EuroSAT"))


def test_fake_data_is_split_reproducibly():
    data = open_data(data_config("torchvision:FakeData:60"))
    assert len(data.train) + len(data.val) == 60
    assert data.was_split
    assert data.train.read(0).shape == (224, 224, 3)
    assert open_data(data_config("torchvision:FakeData:60")).fingerprint() == data.fingerprint()
    assert len(open_listing(data_config("torchvision:FakeData:60"))) == 60


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        (
            "torchvision:CIFAR11",
            "torchvision has no classification data set 'CIFAR11'",
            "did you mean torchvision:CIFAR1",
        ),
        ("torchvision:", "torchvision has no classification data set ''", "known: CIFAR10, CIFAR100"),
        ("torchvision:MNIST:letters", "MNIST has no variants", "omit 'letters'"),
        ("torchvision:EMNIST:words", "no split 'words'", "known: balanced, byclass"),
        ("torchvision:DTD:11", "no partition '11'", "known: 1, 2, 3"),
        ("torchvision:FakeData:x", "no size 'x'", "a positive number"),
        ("torchvision:ImageNet", "must be downloaded manually", "image-net.org"),
        ("torchvision:StanfordCars", "must be downloaded manually (Dataset not found.", "StanfordCars"),
        ("torchvision:DTD", "cannot be downloaded: no network here", "put its files in"),
    ],
)
def test_torchvision_errors_are_one_line(source, message, hint, cache, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no network here")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises((DataError, UsageError)) as e:
        open_data(data_config(source))
    assert message in e.value.message
    assert hint in e.value.hint
    assert "\n" not in str(e.value)


def test_every_set_exists_in_torchvision_with_its_arguments():
    from torchvision import datasets

    for name, known in SETS.items():
        kinds = getattr(datasets, name).__mro__
        accepted = {p for kind in kinds for p in inspect.signature(kind.__init__).parameters}
        asked = {*known.fixed, *(p for part in known.splits.values() for p in part)}
        asked |= {known.variant[0]} if known.variant else set()
        assert asked <= accepted, name
