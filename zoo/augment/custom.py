"""The user's own augmentation by import path: an imgaug augmenter or any callable, made reproducible."""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.augment.fit import Fit
from zoo.augment.imgaug_compat import Step, load_imgaug, repeatable
from zoo.augment.view import View
from zoo.components import check_params, import_object
from zoo.errors import UsageError
from zoo.preprocess import Preprocess

__all__ = ["Custom", "find", "load_custom"]

Pixels = NDArray[np.uint8]


def find(path: str, params: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """The object at `path`, and what is wrong with giving it `params`. Raises UsageError if it cannot be imported."""
    _mend_imgaug()
    found = import_object(path, "augmentation")
    if _is_factory(found):
        return found, check_params(found, params, label="augment.params")
    if params:
        advice = "make it a function that needs no positional argument and returns the augmentation"
        return found, [f"augment.params: {path!r} is ready made and takes none ({', '.join(params)}); {advice}"]
    return found, []


def load_custom(path: str, preprocess: Preprocess, params: Mapping[str, Any]) -> Custom:
    """Import `path`, call it with `params` if it is a factory, and try the result on one image of random levels.

    Raises UsageError if it cannot be imported, is nothing that augments, or fails on the trial image.
    """
    found, problems = find(path, params)
    if problems:
        raise UsageError("; ".join(problems))
    if _is_factory(found):
        try:
            found = found(**params)
        except Exception as e:  # the user's code may raise anything; name it as theirs
            raise UsageError(f"augmentation {path!r} cannot be built: {type(e).__name__}: {e}", "mend it") from e
    custom = Custom(path, preprocess, _step(path, found))
    rng = np.random.default_rng(0)
    trial = rng.integers(0, 256, (preprocess.height, preprocess.width, preprocess.channels), dtype=np.uint8)
    custom.finish(trial, rng)
    return custom


class Custom:
    """The evaluation view, then the user's step; checked to return what a model can take."""

    is_random = True

    def __init__(self, path: str, preprocess: Preprocess, step: Step) -> None:
        self.path = path
        self.preprocess = preprocess
        self.step = step

    def draw(self, height: int, width: int, rng: np.random.Generator) -> View:
        return Fit(self.preprocess)

    def finish(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        fitted = np.array(image)  # a copy of its own: many augmentations write in place
        try:
            result = self.step(fitted, rng)
        except Exception as e:  # the user's code may raise anything; name it as theirs
            raise UsageError(
                f"augmentation {self.path!r} failed: {type(e).__name__}: {e}", "mend it or choose another"
            ) from e
        if not isinstance(result, np.ndarray) or result.dtype != np.uint8 or result.shape != fitted.shape:
            got = f"{result.dtype} {result.shape}" if isinstance(result, np.ndarray) else type(result).__name__
            raise UsageError(
                f"augmentation {self.path!r} must return a uint8 array of the shape given, {fitted.shape}; got {got}"
            )
        return result


def _mend_imgaug() -> None:
    """Let the user's module say `import imgaug` itself: it must be mended before, where it is installed."""
    try:
        load_imgaug()
    except UsageError:  # their pipeline may not need it; if it does, its own import tells
        return


def _is_factory(found: Any) -> bool:
    if inspect.isclass(found):
        return True
    return inspect.isroutine(found) and _required(found) == 0


def _required(function: Any) -> int:
    """How many positional arguments `function` cannot do without; 1 if it publishes no signature."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters)


def _step(path: str, found: Any) -> Step:
    imgaug = sys.modules.get("imgaug")
    if imgaug is not None and isinstance(found, imgaug.augmenters.Augmenter):
        return repeatable(found)
    if not callable(found):
        raise UsageError(
            f"augmentation {path!r} is a {type(found).__name__}, not callable",
            "name an imgaug augmenter, or a function of (image) or (image, generator)",
        )
    if _required(found) >= 2:
        given_both: Step = found
        return given_both

    def step(image: Pixels, rng: np.random.Generator) -> Any:
        with seeded(int(rng.integers(2**32))):
            return found(image)

    return step


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of random, NumPy, PyTorch and imgaug, and put them back afterwards."""
    torch = sys.modules.get("torch")
    states = random.getstate(), np.random.get_state(), torch.get_rng_state() if torch else None
    random.seed(seed)
    np.random.seed(seed)
    if torch:
        torch.default_generator.manual_seed(seed)  # the CPU's alone: torch.manual_seed would reseed the GPUs too
    if "imgaug" in sys.modules:
        load_imgaug().seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if torch:
            torch.set_rng_state(states[2])
