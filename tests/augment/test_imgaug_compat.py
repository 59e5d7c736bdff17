"""imgaug 0.4.0 with the installed NumPy."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from zoo.augment.imgaug_compat import load_imgaug, reproducible

ia = load_imgaug()
iaa = ia.augmenters

# Geometry, colour, noise, blur and weather; every one that needs a patch is here (marked so).
AUGMENTERS = {
    "Affine": lambda: iaa.Affine(rotate=(-20, 20), shear=(-5, 5), scale=(0.8, 1.2), mode=ia.ALL),
    "PerspectiveTransform": lambda: iaa.PerspectiveTransform(scale=(0.01, 0.1)),
    "PiecewiseAffine": lambda: iaa.PiecewiseAffine(scale=(0.01, 0.03)),
    "ElasticTransformation, int alpha (patched)": lambda: iaa.ElasticTransformation(alpha=5, sigma=2),
    "ElasticTransformation": lambda: iaa.ElasticTransformation(alpha=(1.0, 5.0), sigma=1.5),
    "Pad, any mode (patched)": lambda: iaa.Pad(px=(1, 6), pad_mode=ia.ALL),
    "CropAndPad": lambda: iaa.CropAndPad(percent=(-0.1, 0.1)),
    "Fliplr": lambda: iaa.Fliplr(0.5),
    "Rot90": lambda: iaa.Rot90((0, 3)),
    "AddToHueAndSaturation": lambda: iaa.AddToHueAndSaturation((-20, 20)),
    "Grayscale": lambda: iaa.Grayscale(alpha=(0.0, 1.0)),
    "GammaContrast": lambda: iaa.GammaContrast((0.5, 2.0)),
    "CLAHE": iaa.CLAHE,
    "pillike.Autocontrast, cutoff (patched)": lambda: iaa.pillike.Autocontrast(cutoff=(5, 20)),
    "GaussianBlur": lambda: iaa.GaussianBlur((0.0, 2.0)),
    "MotionBlur": lambda: iaa.MotionBlur(k=5),
    "AdditiveGaussianNoise": lambda: iaa.AdditiveGaussianNoise(scale=(0, 20), per_channel=True),
    "CoarseDropout": lambda: iaa.CoarseDropout(0.1, size_percent=0.2),
    "Cutout": lambda: iaa.Cutout(nb_iterations=(1, 3)),
    "JpegCompression": lambda: iaa.JpegCompression((50, 90)),
    "Superpixels": lambda: iaa.Superpixels(p_replace=0.5, n_segments=20),
    "Clouds (np.complex)": iaa.Clouds,
    "Fog (np.complex)": iaa.Fog,
    "Rain, with a generator of its own": iaa.Rain,
    "Snowflakes": iaa.Snowflakes,
    "BlendAlphaFrequencyNoise (np.complex)": lambda: iaa.BlendAlphaFrequencyNoise(foreground=iaa.Invert(1.0)),
    "SomeOf": lambda: iaa.SomeOf((1, 2), [iaa.Fliplr(1.0), iaa.Multiply(0.5), iaa.Invert(0.5)], random_order=True),
    "OneOf": lambda: iaa.OneOf([iaa.Fliplr(1.0), iaa.Flipud(1.0)]),
}


@pytest.mark.parametrize("name", AUGMENTERS)
def test_augmenters_are_reproducible(photo, name):
    step = reproducible(AUGMENTERS[name]())
    results = [step(photo.copy(), np.random.default_rng(seed)) for seed in (0, 1, 2, 3, 4, 0)]
    assert results[0].dtype == np.uint8
    assert results[0].ndim == 3
    assert np.array_equal(results[0], results[-1])
    assert any(r.shape != photo.shape or not np.array_equal(r, photo) for r in results)


def test_a_seeded_pipeline_still_follows_the_generator(photo):
    step = reproducible(
        iaa.Sequential([iaa.RandAugment(n=2, seed=3), iaa.Rain(), iaa.Affine(rotate=(-9, 9), seed=5)], seed=1)
    )
    first = [step(photo.copy(), np.random.default_rng(s)) for s in range(3)]
    again = [step(photo.copy(), np.random.default_rng(s)) for s in reversed(range(3))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])


def test_numpy_is_left_as_it_was():
    code = """
        import numpy as np
        before = set(dir(np))
        from zoo.augment.imgaug_compat import load_imgaug
        assert load_imgaug() is load_imgaug()
        new = set(dir(np)) - before
        assert new <= {"f2py", "char", "rec", "ctypeslib", "testing", "lib", "ma"}, new
        assert "sctypes" not in vars(np) and "complex" not in vars(np)
        import imgaug, cv2
        assert cv2.getNumThreads() == 1, cv2.getNumThreads()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (
            "cv2",
            "ImportError('libGL.so.1: cannot open shared object file')",
            "OpenCV cannot load, and imgaug needs it: libGL",
        ),
        ("cv2", "ModuleNotFoundError('No module named cv2', name='cv2')", "needs OpenCV, which is not installed"),
        (
            "imgaug",
            "ModuleNotFoundError('No module named imgaug', name='imgaug')",
            "needs imgaug, which cannot be imported",
        ),
    ],
)
def test_without_opencv_the_rest_works_and_the_error_says_what_to_install(tmp_path, module, error, message):
    (tmp_path / "my_own.py").write_text("def p(image):\n    return image")
    (tmp_path / "my_iaa.py").write_text("import imgaug.augmenters as iaa\np = iaa.Fliplr(0.5)")
    code = f"""
        import sys, numpy as np
        class Refuse:
            def find_spec(self, name, path=None, target=None):
                if name == {module!r}:
                    raise {error}
        sys.meta_path.insert(0, Refuse())
        sys.path.append(".")
        from zoo.augment import make_augment, problems
        from zoo.errors import UsageError
        from zoo.preprocess import Preprocess
        preprocess = Preprocess((3, 32, 32), (0.5,) * 3, (0.5,) * 3)
        image = np.zeros((40, 40, 3), np.uint8)
        names = ["none", "affine", "light"]
        if "libGL" in {message!r}:  # once is enough: torchvision takes four seconds to import
            names += ["trivialaugment", "randaugment", "autoaugment", "augmix"]
        for name in names:
            assert problems(name, {{}}) == []
            assert make_augment(name, preprocess=preprocess, flips=True)(image, np.random.default_rng(0)).any() == 0
        try:
            make_augment("medium", preprocess=preprocess, flips=True)
        except UsageError as e:
            assert {message!r} in e.message, e.message
            assert "pip install" in e.hint, e.hint
        else:
            raise SystemExit("no error")
        assert {message!r} in problems("medium", {{}})[0]
        assert {message!r} in problems("imgaug", {{"pipeline": ["CLAHE"]}})[0]
        theirs = problems("my_iaa:p", {{}})[0]
        assert "importing my_iaa failed" in theirs and {message!r} in theirs and "pip install" in theirs, theirs
        assert problems("my_own:p", {{}}) == []
        assert make_augment("my_own:p", preprocess=preprocess, flips=True)(image, np.random.default_rng(0)).any() == 0
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_the_table_and_the_light_presets_import_no_imgaug():
    code = """
        import sys
        import zoo.augment
        assert not {"numpy", "PIL", "imgaug", "cv2"} & set(sys.modules)
        from zoo.preprocess import Preprocess
        zoo.augment.make_augment("light", preprocess=Preprocess((3, 8, 8), (0,), (1,)), flips=True)
        assert not {"imgaug", "cv2"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
