"""Pipelines by import path: each is written into the working directory, which is searched."""

from __future__ import annotations

import itertools
import pickle
import random
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.augment import make_augment, problems
from zoo.augment.fit import fit
from zoo.errors import UsageError

_numbers = itertools.count()


@pytest.fixture
def module(tmp_path):
    """`module("source")` writes a module and returns its name."""

    def write(source: str) -> str:
        name = f"user_augmentation_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write


SOURCES = {
    "augmenter": "import imgaug.augmenters as iaa\n"
    "p = iaa.Sequential([iaa.Affine(rotate=(-30, 30)), iaa.Multiply((0.5, 1.5))])",
    "seeded augmenter": "import imgaug.augmenters as iaa\n"
    "p = iaa.Sequential([iaa.Affine(rotate=(-30, 30), seed=3)], seed=4)",
    "image": "import random\nimport numpy as np\ndef p(image):\n    image[0, 0] = random.randrange(256)\n"
    "    image[1, 1] = np.random.randint(256)\n    return image",
    "torch": "import torch\ndef p(image):\n    return (torch.from_numpy(image) // torch.randint(1, 90, ())).numpy()",
    "image and generator": "def p(image, rng):\n    return (image // rng.integers(1, 90)).astype(image.dtype)",
    "factory": "import imgaug.augmenters as iaa\ndef p(amount=40):\n    return iaa.Add((-amount, amount))",
    "class": "class p:\n    def __init__(self, amount=9):\n        self.amount = amount\n"
    "    def __call__(self, image, rng):\n        return (image // rng.integers(1, 10 * self.amount)).astype('uint8')",
}


# What Albumentations does: images by keyword, a dictionary back, generators of its own (since 1.4.19).
STAND_IN = """
import random
class BasicTransform:
    def __init__(self, amount=90):
        self.amount, self.own = amount, random.Random()
    def set_random_seed(self, seed):
        self.own.seed(seed)
    def __call__(self, *args, image=None):
        assert not args and image is not None
        return {"image": (image // self.own.randint(1, self.amount)).astype("uint8")[:, ::-1]}
class Compose(BasicTransform):
    def __init__(self, transforms):
        self.transforms = transforms
    def set_random_seed(self, seed):
        for t in self.transforms:
            t.set_random_seed(seed)
    def __call__(self, *args, image=None):
        for t in self.transforms:
            image = t(*args, image=image)["image"]
        return {"image": image}
"""
REAL = """
import albumentations as A
p = A.Compose([A.HorizontalFlip(p=0.5), A.RandomResizedCrop(size=(40, 60)), A.RandomBrightnessContrast(p=1.0)])
"""


@pytest.fixture(params=["stand-in", "real"])
def albumentations(request, module, tmp_path, monkeypatch):
    """The path of a pipeline: of a module with the same protocol, and of the real one where it is installed."""
    if request.param == "real":
        pytest.importorskip("albumentations")
        yield f"{module(REAL)}:p"
        return
    (tmp_path / "albumentations.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "albumentations", raising=False)
    name = module("import albumentations as A\np = A.Compose([A.BasicTransform(), A.BasicTransform(9)])")
    yield f"{name}:p"
    sys.modules.pop("albumentations", None)


def test_albumentations_pipelines_follow_the_generator(albumentations, photo, preprocess):
    assert problems(albumentations, {}) == []
    augment = make_augment(albumentations, preprocess=preprocess, flips=True)
    state = random.getstate()
    first = [augment(photo, np.random.default_rng(s)) for s in range(5)]
    assert random.getstate() == state
    other = pickle.loads(pickle.dumps(augment))
    for s in reversed(range(5)):
        assert np.array_equal(other(photo, np.random.default_rng(s)), first[s])
    assert first[0].shape == (48, 48, 3)
    assert len({f.tobytes() for f in first}) == 5


def test_another_size_is_resized_to_the_models(module, photo, preprocess):
    name = module("def p(image):\n    return image[4:24, 8:48]")
    augment = make_augment(f"{name}:p", preprocess=preprocess, flips=True)
    out = augment(photo, np.random.default_rng(0)).astype(int)
    part = Image.fromarray(fit(photo, preprocess)[4:24, 8:48])
    assert np.array_equal(out, np.asarray(part.resize((48, 48), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_is_applied_after_the_fit_from_the_generator_alone(module, photo, preprocess, kind):
    path = f"{module(SOURCES[kind])}:p"
    assert problems(path, {}) == []
    augment = make_augment(path, preprocess=preprocess, flips=True)
    before = photo.copy()
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    first = [augment(photo, np.random.default_rng(s)) for s in range(5)]
    assert (states[0], states[1].tolist()) == (random.getstate(), np.random.get_state()[1].tolist())
    assert torch.equal(states[2], torch.get_rng_state())
    assert np.array_equal(photo, before)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    other = pickle.loads(pickle.dumps(augment))
    for s in reversed(range(5)):
        assert np.array_equal(other(photo, np.random.default_rng(s)), first[s])
    assert first[0].shape == (48, 48, 3)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], fit(photo, preprocess))


def test_parameters_go_to_factories_only(module, photo, preprocess):
    path = f"{module(SOURCES['factory'])}:p"
    still = make_augment(path, preprocess=preprocess, flips=True, params={"amount": 0})
    assert np.array_equal(still(photo, np.random.default_rng(0)), fit(photo, preprocess))
    assert problems(path, {"amout": 1}) == ["augment.params.amout is unknown; did you mean amount?"]
    (ready,) = problems(f"{module(SOURCES['augmenter'])}:p", {"amount": 1})
    assert "takes no parameters (amount)" in ready


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("p = 3", "is a int, not callable"),
        (
            "def p(image):\n    return image[:, :, :2]",
            r"must return a uint8 array \(height, width, 3\); got uint8 \(48, 48, 2\)",
        ),
        ("def p(image):\n    return image[:, :, 0]", r"got uint8 \(48, 48\)"),
        ("def p(image):\n    return image[:0]", r"got uint8 \(0, 48, 3\)"),
        ("def p(image):\n    return image / 255", r"got float64 .*leave Normalize"),
        ("def p(image):\n    return image.astype('int64')", "got int64"),
        ("def p(image):\n    return {'image': image}", "got dict .*under its key 'image'"),
        ("import torch\ndef p(image):\n    return torch.from_numpy(image)", "got Tensor .*leave ToTensor out"),
        ("def p(image):\n    return None", "got NoneType"),
        ("def p(image):\n    return image.rotate(3)", "failed: AttributeError"),
        ("def p():\n    raise OSError('no such lens')", "cannot be built: OSError: no such lens"),
        ("q = 3", "has no 'p'"),
        ("import nothing_of_that_name\np = 3", "no module named 'nothing_of_that_name'|importing"),
        ("def p(:", "importing"),
    ],
)
def test_unusable_augmentations_are_refused(module, preprocess, source, message):
    with pytest.raises(UsageError, match=message):
        make_augment(f"{module(source)}:p", preprocess=preprocess, flips=True)
