"""Parser of imgaug pipelines in recipes: builds the augmenters, or reports every problem.

    - Fliplr: 0.5                                     # a single value sets the first parameter
    - Affine: {rotate: [-20, 20], mode: [edge, reflect]}
    - Sometimes: {p: 0.3, then_list: [{GaussianBlur: [0, 2]}]}
    - OneOf: [{Add: {value: {normal: [0, 10]}}}, CLAHE]

Two numbers are a uniform range; any other list is a choice; `{choice: [3, 5]}`, `{normal: [0, 10]}` and other names of
`imgaug.parameters` are distributions; `{tuple: […]}`, `{list: […]}` and `{array: […]}` are literal values.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from zoo.augment.imgaug_compat import load_imagecorruptions, load_imgaug
from zoo.errors import UsageError, did_you_mean, nearest
from zoo.registry import check_params

# Parameters that contain steps.
CHILD_PARAMETERS = ("children", "then_list", "else_list", "foreground", "background")

# Augmenters that only select among steps.
CONTAINERS = ("Sequential", "Sometimes", "SomeOf", "OneOf")

_FUNCTIONS = "takes Python functions, which a recipe cannot hold; write it in a module and name that: my_aug:pipeline"
UNSUPPORTED = {
    "Lambda": _FUNCTIONS,
    "AssertLambda": _FUNCTIONS,
    "BlendAlphaSegMapClassIds": "needs a segmentation map of each image, which these data do not have",
    "BlendAlphaBoundingBoxes": "needs bounding boxes for each image, which these data do not have",
    "SaveDebugImageEveryNBatches": "writes files while training; `zoo augment` shows what a pipeline does",
}

# Exceptions of imgaug's constructors on invalid values.
IMGAUG_ERRORS = (
    AssertionError, ArithmeticError, AttributeError, LookupError, NotImplementedError, OSError, TypeError, ValueError,
)  # fmt: skip

_SEEDS = ("seed", "random_state", "deterministic")
_KEYS = ("x", "y", "height", "width", "shorter-side", "longer-side")  # keys in parameters of Affine and Resize
_Step = tuple[str, Any]


def one_line(error: BaseException, length: int = 200) -> str:
    """The first sentences of an error, without line breaks."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= length else f"{text[: length - 1]}…"


class PipelineParser:
    """Parses one pipeline.

    problems: one line per problem, with its location. leaf_steps: (location, augmenter) inside the containers.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.leaf_steps: list[_Step] = []

    def steps(self, spec: Any, where: str) -> list[Any]:
        """The augmenters of one step or a list of steps."""
        if isinstance(spec, str | Mapping):
            spec = [spec]
        if not isinstance(spec, list | tuple):
            self._problem(where, f"must be a list of augmenters, not {spec!r}")
            return []
        if not spec:
            self._problem(where, "is empty; name at least one augmenter")
        found = [self._step(item, f"{where}[{i}]") for i, item in enumerate(spec)]
        return [step for step in found if step is not None]

    def _problem(self, where: str, text: str) -> Any:
        """Record a problem; returns None, for the caller to return."""
        self.problems.append(f"{where}{' ' if text.startswith(('must', 'is ')) else ': '}{text}")

    def _step(self, spec: Any, where: str) -> Any:
        if isinstance(spec, str):
            name, given = spec, None
        elif isinstance(spec, Mapping) and len(spec) == 1:
            name, given = next(iter(spec.items()))
        elif isinstance(spec, Mapping):
            names = ", ".join(map(str, spec)) or "none"
            return self._problem(where, f"one step has one name, this has {names}; begin each with a dash of its own")
        elif isinstance(spec, list | tuple):
            return self._problem(where, "wrong nesting: a list inside a list of steps; put it into Sequential: […]")
        else:
            return self._problem(where, f"must be an augmenter's name, or {{name: parameters}}, not {spec!r}")
        name = str(name)
        cls = augmenters().get(name)
        if cls is None:
            return self._problem(where, _unknown(name))
        if name in UNSUPPORTED:
            return self._problem(where, f"{name} {UNSUPPORTED[name]}")
        where = f"{where}.{name}"
        if name.startswith("imgcorruptlike."):
            try:
                load_imagecorruptions()
            except UsageError as e:
                return self._problem(where, f"{e}")
        before = len(self.leaf_steps)
        step = self._make(cls, given, where, _named_arguments(cls, given))
        if step is not None and name not in CONTAINERS:
            self.leaf_steps[before:] = [(where, step)]  # nested steps may get other channels: tried together
        return step

    def _make(self, cls: type, given: Any, where: str, arguments: Mapping[str, Any] | None) -> Any:
        """An instance of `cls`, or None after a problem."""
        before = len(self.problems)
        if arguments is None:
            names = ", ".join(_names(cls)) or "nothing"
            return self._problem(where, f"{given!r} is more than it takes: {names}")
        self.problems += check_params(cls, arguments, given=_SEEDS, label=where)
        known = inspect.signature(cls).parameters
        values = {}
        for key, value in arguments.items():
            if key not in known or key in _SEEDS:
                continue
            place = f"{where}.{key}"
            if key not in CHILD_PARAMETERS or cls not in augmenters().values():
                values[key] = self._value(value, place)
            elif value is not None:
                # Always a list: imgaug treats a single Sequential as the list of its children, and loses its order.
                values[key] = self.steps(value, place)
        if len(self.problems) > before:
            return None
        try:
            with warnings.catch_warnings():  # imgaug's own deprecations
                warnings.simplefilter("ignore", load_imgaug().DeprecationWarning)
                return cls(**values)
        except IMGAUG_ERRORS as e:
            return self._problem(where, f"imgaug refuses it: {one_line(e)}")

    def _value(self, spec: Any, where: str) -> Any:
        if isinstance(spec, Mapping):
            return self._mapping(spec, where)
        if not isinstance(spec, list | tuple):
            return spec
        if len(spec) == 2 and all(_is_number(v) or v is None for v in spec):
            low, high = spec
            if _is_number(low) and _is_number(high) and low > high:
                self._problem(where, f"a range must rise, [{low}, {high}] falls; write [{high}, {low}]")
            return low, high
        return [self._value(v, f"{where}[{i}]") for i, v in enumerate(spec)]

    def _mapping(self, spec: Mapping[Any, Any], where: str) -> Any:
        if spec and set(spec) <= set(_KEYS):
            return {key: self._value(v, f"{where}.{key}") for key, v in spec.items()}
        name, given = next(iter(spec.items()), ("", None))
        key = str(name).lower()
        if len(spec) == 1 and key in literals():
            if not isinstance(given, list | tuple):
                return self._problem(where, f"{name} must be given a list, not {given!r}")
            try:
                return literals()[key]([self._value(v, f"{where}[{i}]") for i, v in enumerate(given)])
            except (TypeError, ValueError) as e:
                return self._problem(where, f"cannot be an array: {one_line(e)}")
        if len(spec) == 1 and key in distributions():
            cls = distributions()[key]
            return self._make(cls, given, f"{where}.{name}", _named_arguments(cls, given, spread=key != "choice"))
        if len(spec) == 1 and name in augmenters():
            own = ", ".join(CHILD_PARAMETERS)
            return self._problem(where, f"wrong nesting: {name} is an augmenter, this is no place for one ({own} are)")
        close = nearest(key, [*distributions(), *literals(), *_KEYS], n=2)
        advice = did_you_mean(close, "for example {normal: [0, 10]}")
        return self._problem(where, f"{{{', '.join(map(str, spec))}}} is no distribution; {advice}")


def _named_arguments(cls: type, given: Any, *, spread: bool = False) -> Mapping[str, Any] | None:
    """Parameters by name: `given` itself, or a single value for the first (if `spread`, a list for the first ones).
    None if there are too many values."""
    names = _names(cls)
    if given is None:
        return {}
    if isinstance(given, Mapping) and not _is_value(given, names):
        return given
    if not names:
        return None
    if spread and isinstance(given, list | tuple):
        return dict(zip(names, given, strict=False)) if len(given) <= len(names) else None
    return {names[0]: given}


def _names(cls: type) -> list[str]:
    return [n for n in inspect.signature(cls).parameters if n not in (*_SEEDS, "name")]


def _is_value(given: Mapping[Any, Any], names: list[str]) -> bool:
    """Whether `given` is itself a value, such as {choice: […]} or {Add: 3}, and not a mapping of parameters."""
    if len(given) != 1:
        return False
    (key,) = given
    return key not in names and (str(key).lower() in {*distributions(), *literals()} or key in augmenters())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unknown(name: str) -> str:
    if name.lower() in distributions() and not nearest(name, augmenters(), cutoff=0.9):
        return f"{name} is a distribution: use it as the value of a parameter, not as an augmenter"
    close = nearest(name, augmenters()) or [n for n in augmenters() if n.lower() == name.lower()]
    return f"imgaug has no augmenter {name!r}; {did_you_mean(close, 'its documentation lists them')}"


@lru_cache(maxsize=1)
def augmenters() -> dict[str, type]:
    """Name → class of every augmenter of imgaug 0.4.0 (188): "Affine", "pillike.Equalize", "imgcorruptlike.Snow"."""
    iaa = load_imgaug().augmenters
    found = _classes(iaa, iaa.Augmenter)
    for submodule in ("pillike", "imgcorruptlike"):
        module = getattr(iaa, submodule)
        own = {n: c for n, c in _classes(module, iaa.Augmenter).items() if c.__module__ == module.__name__}
        found.update((f"{submodule}.{n}", c) for n, c in own.items())
    return found


@lru_cache(maxsize=1)
def distributions() -> dict[str, type]:
    """Lower-case name → class of distributions ("normal", "choice"), and of mask generators and samplers of points."""
    imgaug = load_imgaug()
    iaa = imgaug.augmenters
    found = _classes(imgaug.parameters, imgaug.parameters.StochasticParameter)
    found |= _classes(iaa, iaa.blend.IBatchwiseMaskGenerator)
    found |= _classes(iaa, iaa.segmentation.IPointsSampler)
    return {name.lower(): c for name, c in found.items()}


def literals() -> dict[str, Callable[[list[Any]], Any]]:
    """Lists that are neither a range nor a choice."""
    return {"tuple": tuple, "list": list, "array": lambda rows: np.array(rows, dtype=np.float32)}


def _classes(module: Any, base: type) -> dict[str, type]:
    return {
        n: c
        for n, c in vars(module).items()
        if inspect.isclass(c) and issubclass(c, base) and c is not base and not n.startswith("_")
    }
