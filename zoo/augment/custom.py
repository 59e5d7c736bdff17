"""User augmentations by import path: an imgaug augmenter, an Albumentations transform or any callable."""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from zoo.arrays import Pixels
from zoo.augment.fit import EvalView, to_model_input
from zoo.augment.imgaug_compat import Step, load_imgaug, reproducible
from zoo.augment.imgaug_spec import one_line
from zoo.augment.view import View
from zoo.errors import UsageError
from zoo.preprocess import Preprocess
from zoo.registry import check_params, import_object


def find(path: str, params: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """The object at `path` and the problems of its `params`. Raises UsageError if it cannot be imported."""
    imgaug_error = _patch_imgaug()
    try:
        found = import_object(path, "augmentation")
    except UsageError as e:
        if imgaug_error is not None and _same_reason(e, imgaug_error):
            raise UsageError(f"{e.message}; {imgaug_error.message}", imgaug_error.hint) from e
        raise
    if _is_factory(found):
        return found, check_params(found, params, label="augment.params")
    if params:
        advice = "make it a function that needs no positional argument and returns the augmentation"
        return found, [f"augment.params: {path!r} takes no parameters ({', '.join(params)}); {advice}"]
    return found, []


def load_custom(path: str, preprocess: Preprocess, params: Mapping[str, Any]) -> Custom:
    """Import `path`, call it with `params` if it is a factory, and try the result on one random image.

    Raises UsageError if it cannot be imported, is not an augmentation, or fails on that image.
    """
    found, problems = find(path, params)
    if problems:
        raise UsageError("; ".join(problems))
    if _is_factory(found):
        try:
            found = found(**params)
        except Exception as e:  # user code may raise anything
            raise UsageError(
                f"augmentation {path!r} cannot be built: {type(e).__name__}: {one_line(e)}", "fix it"
            ) from e
    custom = Custom(path, preprocess, _step(path, found))
    rng = np.random.default_rng(0)
    trial = rng.integers(0, 256, (preprocess.height, preprocess.width, preprocess.channels), dtype=np.uint8)
    custom.transform_view(trial, rng)
    return custom


class Custom:
    """The evaluation view, then the user's step, whose output is checked."""

    is_random = True
    crops = None

    def __init__(self, path: str, preprocess: Preprocess, step: Step) -> None:
        self.path = path
        self.preprocess = preprocess
        self.step = step

    def sample_view(self, height: int, width: int, rng: np.random.Generator) -> View:
        return EvalView(self.preprocess)

    def transform_view(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        fitted = np.array(image)  # a copy: many augmentations write in place
        try:
            result = self.step(fitted, rng)
        except Exception as e:  # user code may raise anything
            raise UsageError(
                f"augmentation {self.path!r} failed: {type(e).__name__}: {one_line(e)}", "fix it or choose another"
            ) from e
        return to_model_input(result, f"augmentation {self.path!r}", self.preprocess)


def _patch_imgaug() -> UsageError | None:
    """Patch imgaug before the user's module imports it. Returns the error if that fails: imgaug may not be needed."""
    try:
        load_imgaug()
    except UsageError as e:
        return e
    return None


def _same_reason(error: UsageError, imgaug_error: UsageError) -> bool:
    """Whether the user's module fails because imgaug or OpenCV cannot be imported."""
    cause = error.__cause__
    return isinstance(cause, ImportError) and (
        cause.name in ("cv2", "imgaug") or str(cause) == str(imgaug_error.__cause__)
    )


def _is_albumentations(found: Any) -> bool:
    """Whether `found` is an Albumentations transform, without importing Albumentations."""
    return any(c.__module__.split(".")[0] == "albumentations" for c in type(found).__mro__)


def _albumentations(found: Any) -> Step:
    """Adapter for Albumentations: images by keyword, results in a dictionary."""
    reseed = getattr(found, "set_random_seed", None)  # since 1.4.19 each object has its own generators

    def step(image: Pixels, rng: np.random.Generator) -> Any:
        seed = int(rng.integers(2**32))
        if reseed is not None:
            reseed(seed)
        with _seeded(seed):  # used by earlier versions and user transforms
            return found(image=image)["image"]

    return step


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of random, NumPy, PyTorch (CPU) and imgaug; the first three are restored after."""
    torch = sys.modules.get("torch")
    states = random.getstate(), np.random.get_state(), torch.get_rng_state() if torch else None
    random.seed(seed)
    np.random.seed(seed)
    if torch:
        torch.default_generator.manual_seed(seed)  # CPU only: torch.manual_seed would reseed the GPUs too
    if "imgaug" in sys.modules:
        load_imgaug().seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if torch:
            torch.set_rng_state(states[2])


def _is_factory(found: Any) -> bool:
    if inspect.isclass(found):
        return True
    return inspect.isroutine(found) and _required(found) == 0


def _required(function: Any) -> int:
    """Number of required positional arguments; 1 if `function` has no signature."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters)


def _step(path: str, found: Any) -> Step:
    imgaug = sys.modules.get("imgaug")
    if imgaug is not None and isinstance(found, imgaug.augmenters.Augmenter):
        return reproducible(found)
    if _is_albumentations(found):
        return _albumentations(found)
    if not callable(found):
        raise UsageError(
            f"augmentation {path!r} is a {type(found).__name__}, not callable",
            "name an imgaug augmenter, or a function of (image) or (image, generator)",
        )
    if _required(found) >= 2:
        with_generator: Step = found
        return with_generator

    def step(image: Pixels, rng: np.random.Generator) -> Any:
        with _seeded(int(rng.integers(2**32))):
            return found(image)

    return step
