"""Imports and patches imgaug 0.4.0 (2020), which uses names that NumPy has removed. No other module imports imgaug.

The patches apply to imgaug's own modules, or only during its import. They were found by comparing 2,755 argument
variants with a NumPy 1.23 reference.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from zoo.arrays import Pixels
from zoo.errors import UsageError

Step = Callable[[Pixels, np.random.Generator], Any]


_PATCHED_VERSION = "0.4.0"
_INSTALL = "pip install imgaug==0.4.0"
_HEADLESS = (
    "on a machine without a display: pip uninstall opencv-python && pip install opencv-python-headless "
    "(or apt install libgl1 libglib2.0-0); every augmentation but medium, strong and imgaug works without it"
)


@lru_cache(maxsize=1)
def load_imgaug() -> Any:
    """The module imgaug, with `imgaug.augmenters` imported, ready for the installed NumPy.

    Raises UsageError if it is not installed, or if OpenCV cannot load its system libraries.
    """
    try:
        # One thread in OpenCV: small images gain nothing from more, worker processes already use the cores, and its
        # thread pool does not survive a fork.
        importlib.import_module("cv2").setNumThreads(0)
    except ModuleNotFoundError as e:
        raise UsageError("this augmentation needs OpenCV, which is not installed", _HEADLESS) from e
    except ImportError as e:  # a shared library of the system is missing, most often libGL.so.1
        raise UsageError(f"OpenCV cannot load, and imgaug needs it: {e}", _HEADLESS) from e
    try:
        imgaug = _import()
    except ImportError as e:
        raise UsageError(f"this augmentation needs imgaug, which cannot be imported: {e}", _INSTALL) from e
    if imgaug.__version__ == _PATCHED_VERSION:
        _add_numpy_names(imgaug)
        _patch_functions(imgaug)
    return imgaug


@lru_cache(maxsize=1)
def load_imagecorruptions() -> None:
    """Import and patch the optional package imagecorruptions 1.1.2 (2021), which `imgcorruptlike` uses.

    Raises UsageError if it is not installed.
    """
    # It finds its frost images with pkg_resources, which setuptools 82 has removed.
    is_missing = importlib.util.find_spec("pkg_resources") is None
    if is_missing:
        sys.modules["pkg_resources"] = _pkg_resources()
    try:
        with warnings.catch_warnings():  # it changes the warning filters of the process
            corruptions: Any = importlib.import_module("imagecorruptions.corruptions")
    except ImportError as e:
        raise UsageError(
            f"the augmenters imgcorruptlike.* need the package imagecorruptions, which cannot be imported: {e}",
            "pip install --no-deps imagecorruptions",
        ) from e
    finally:
        if is_missing:
            del sys.modules["pkg_resources"]
    if not hasattr(np, "float_"):  # removed in 2.0: Fog
        corruptions.np = _numpy_with(float_=np.float64)
    blur = corruptions.gaussian

    def gaussian(*args: Any, multichannel: bool = False, **rest: Any) -> Any:
        # scikit-image renamed `multichannel` in 0.19: GaussianBlur, GlassBlur
        return blur(*args, channel_axis=-1 if multichannel else None, **rest)

    corruptions.gaussian = gaussian
    random_noise = corruptions.sk.util.random_noise

    def seeded_noise(*args: Any, **rest: Any) -> Any:
        # scikit-image 0.22 uses its own unseeded generator; imgaug seeds NumPy's: ImpulseNoise
        return random_noise(*args, rng=np.random.randint(2**31), **rest)

    corruptions.sk = types.SimpleNamespace(
        color=corruptions.sk.color, util=types.SimpleNamespace(random_noise=seeded_noise)
    )
    # imgaug's copy of this function calls scikit-image directly; the package's is equivalent.
    load_imgaug().augmenters.imgcorruptlike._apply_glass_blur_imgaug = corruptions.glass_blur


def _pkg_resources() -> types.ModuleType:
    def resource_filename(module: str, path: str) -> str:
        return os.path.join(os.path.dirname(str(sys.modules[module].__file__)), path)

    stub = types.ModuleType("pkg_resources")
    stub.__dict__["resource_filename"] = resource_filename
    return stub


def reproducible(augmenter: Any) -> Step:
    """`augmenter` as a deterministic function of (image, generator).

    Most augmenters use imgaug's global generator, which is seeded per image (8 µs). Augmenters with their own seed
    (also Rain, Snowflakes, RandAugment) need `seed_` as well (259 µs).
    """
    imgaug = load_imgaug()
    family = [augmenter, *augmenter.get_all_children(flat=True)]
    own = any(not a.random_state.is_global_rng() for a in family)

    def step(image: Pixels, rng: np.random.Generator) -> Any:
        seed = int(rng.integers(2**31))
        imgaug.seed(seed)
        if own:
            augmenter.seed_(seed)
        return np.ascontiguousarray(augmenter(image=image))  # Flipud and Rot90 give negative strides

    return step


def _import() -> Any:
    """Import imgaug, with `np.sctypes` (removed in NumPy 2.0) defined during the import."""
    is_missing = not hasattr(np, "sctypes")
    if is_missing:
        kinds = {
            "int": [np.int8, np.int16, np.int32, np.int64],
            "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
            "float": [np.float16, np.float32, np.float64, np.longdouble],
        }
        setattr(np, "sctypes", kinds)  # noqa: B010  mypy knows that the name does not exist
    try:
        imgaug = importlib.import_module("imgaug")
        importlib.import_module("imgaug.augmenters")
    finally:
        if is_missing:
            delattr(np, "sctypes")
    return imgaug


def _numpy_with(**names: type) -> types.ModuleType:
    """A copy of the NumPy namespace with additional names, to replace `np` in one module."""
    module = types.ModuleType("numpy")
    module.__dict__.update(np.__dict__)
    module.__dict__.update(names)
    return module


def _add_numpy_names(imgaug: Any) -> None:
    if not hasattr(np, "complex"):  # removed in 1.24: Clouds, Fog, CloudLayer, BlendAlphaFrequencyNoise, Power
        imgaug.parameters.np = _numpy_with(complex=complex)
    if not hasattr(np, "bool"):  # missing in 1.24 to 1.26: SomeOf, OneOf, polygons
        imgaug.augmenters.meta.np = _numpy_with(bool=bool)
        imgaug.augmentables.polys.np = _numpy_with(bool=bool)


def _patch_functions(imgaug: Any) -> None:
    elastic = imgaug.augmenters.ElasticTransformation
    shift_maps = elastic._generate_shift_maps.__func__

    def generate_shift_maps(cls: Any, shape: Any, alpha: Any, sigma: Any, random_state: Any) -> Any:
        return shift_maps(cls, shape, float(alpha), sigma, random_state)  # an int alpha fails

    elastic._generate_shift_maps = classmethod(generate_shift_maps)

    pillike = imgaug.augmenters.pillike
    autocontrast = pillike._autocontrast_pil

    def autocontrast_pil(image: Any, cutoff: Any, ignore: Any) -> Any:
        return autocontrast(image, np.asarray(cutoff).item(), ignore)  # Pillow needs a plain number

    pillike._autocontrast_pil = autocontrast_pil

    warp_affine = pillike.warp_affine

    def warp_affine_pil(image: Any, *args: Any, fillcolor: Any = None, **rest: Any) -> Any:
        if image.shape[2:] == (1,) and isinstance(fillcolor, tuple):
            fillcolor = fillcolor[:1]  # Pillow needs one value per channel
        return warp_affine(image, *args, fillcolor=fillcolor, **rest)

    pillike.warp_affine = warp_affine_pil

    size = imgaug.augmenters.size
    pad_mode = size._handle_pad_mode_param

    def handle_pad_mode_param(mode: Any) -> Any:
        # "ALL" is a set of strings there, so that the choice would depend on PYTHONHASHSEED.
        return pad_mode(_PAD_MODES if isinstance(mode, str) and mode == imgaug.ALL else mode)

    size._handle_pad_mode_param = handle_pad_mode_param


_PAD_MODES = sorted(
    ["constant", "edge", "linear_ramp", "maximum", "mean", "median", "minimum", "reflect", "symmetric", "wrap"]
)
