"""The typed recipe: what every step of a run does; read from YAML, changed by `--set` and flags, saved with the run.

    recipe = load("head-only")                         # a shipped name, or a file
    recipe = build(load_values("head-only"), {"model.name": "resnet34", "train.epochs": 5})
    text = dump(recipe)                                # fully resolved; loading it again gives an equal recipe

Only `zoo.workflows` reads a Recipe; the rooms below take plain values.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from zoo.errors import RecipeError, UsageError, nearest

__all__ = [
    "AugmentSection",
    "DataSection",
    "LossSection",
    "ModelSection",
    "OptimizerSection",
    "Recipe",
    "ScheduleSection",
    "TrainSection",
    "build",
    "copy_to",
    "describe",
    "dump",
    "load_values",
    "parse_assignments",
    "recipe_path",
    "shipped",
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ModelSection(_Section):
    name: str = Field("", description="model name: timm, torchvision/NAME or built-in; `zoo list` shows them")
    weights: str = Field(
        "default", description="default | none | a pretrained tag | a .safetensors or .pth file | a run"
    )
    classes: int | None = Field(None, ge=2, description="number of classes; inferred from the data if absent")
    in_chans: int = Field(3, ge=1, description="input channels of the stem")
    img_size: int | None = Field(None, ge=1, description="input height and width in pixels; the model's own if absent")
    drop: float | None = Field(None, ge=0, lt=1, description="dropout rate before the head")
    drop_path: float | None = Field(None, ge=0, lt=1, description="stochastic depth rate")
    pool: str | None = Field(
        None, description="global pooling before the head, e.g. avg, max, avgmax; timm models only"
    )
    stem: Literal["auto", "sum", "repeat", "mean", "zero"] = Field(
        "auto", description="how pretrained filters meet other channel counts; auto: sum for 1 channel, else repeat"
    )
    head_init: Literal["default", "zero"] = Field(
        "default", description="a new head starts as the library does, or at zero"
    )

    @field_validator("weights", mode="before")
    @classmethod
    def _absent_is_none(cls, value: Any) -> Any:
        return "none" if value is None else value


class DataSection(_Section):
    source: str = Field("digits", description="a folder of images, or the name of an embedded data set")
    val: str | None = Field(None, description="a folder of validation images, if not inside `source`")
    val_fraction: float = Field(0.2, gt=0, lt=1, description="share held out when the source brings no validation part")
    batch_size: int = Field(32, ge=1, description="images per step on one device")
    workers: int | Literal["auto"] = Field("auto", description="loader processes; 0 decodes in the main process")
    unreadable: Literal["error", "skip"] = Field("error", description="files that cannot be read: refuse, or leave out")

    @field_validator("workers")
    @classmethod
    def _not_negative(cls, value: Any) -> Any:
        if isinstance(value, int) and value < 0:
            raise ValueError("Input should be 0 or more, or auto")
        return value


class AugmentSection(_Section):
    name: str = Field("light", description="none | light | medium | strong | affine, or module:attribute")
    params: dict[str, Any] = Field(default_factory=dict)


class LossSection(_Section):
    name: str = Field("cross_entropy", description="a name of zoo.losses, or module:attribute")
    params: dict[str, Any] = Field(default_factory=dict)


class OptimizerSection(_Section):
    name: str = Field("adamw", description="a name of zoo.optim, or module:attribute")
    lr: float = Field(
        3e-4, gt=0, description="learning rate of the last stage (and of the head unless head_lr is given)"
    )
    head_lr: float | None = Field(None, gt=0, description="learning rate of the head")
    layer_decay: float | None = Field(
        None, gt=0, le=1, description="factor on the rate for each group further from the head"
    )
    weight_decay: float = Field(0.05, ge=0, description="not applied to biases and normalisation")
    params: dict[str, Any] = Field(default_factory=dict)


class ScheduleSection(_Section):
    name: str = Field("cosine", description="a name of zoo.optim.schedules, or module:attribute")
    warmup_epochs: float = Field(0.0, ge=0, description="epochs of linear rise from 0 before the schedule")
    params: dict[str, Any] = Field(default_factory=dict)


class TrainSection(_Section):
    epochs: int = Field(10, ge=1)
    amp: bool = Field(True, description="mixed precision where the hardware gains by it")
    amp_dtype: Literal["auto", "bf16", "fp16", "fp32"] = Field("auto", description="auto measures on the first batch")
    grad_accum_steps: int = Field(1, ge=1, description="batches per optimizer step")
    clip_grad: float | None = Field(None, gt=0, description="largest norm of the gradient")
    monitor: str = Field("top1", description="the validation metric that chooses the best weights")
    seed: int = Field(0, ge=0, lt=2**32)
    device: str = Field("auto", description="auto | cpu | cuda | cuda:N | mps")


class Recipe(_Section):
    """Every choice of one fine-tuning run, frozen."""

    description: str = Field("", description="one line for `zoo recipes`")
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    freeze: str = Field("none", description="freezing plan: none | backbone | N | GROUP | globs")
    augment: AugmentSection = AugmentSection()
    loss: LossSection = LossSection()
    optimizer: OptimizerSection = OptimizerSection()
    schedule: ScheduleSection = ScheduleSection()
    train: TrainSection = TrainSection()

    @field_validator("freeze", mode="before")
    @classmethod
    def _plan_is_text(cls, value: Any) -> Any:
        if value is None:
            return "none"
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


# --- files -----------------------------------------------------------------------------------------------------------


def recipes_folder() -> Path:
    """Where the shipped recipes lie: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "_recipes"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "recipes"


def shipped() -> dict[str, Path]:
    """Name → file of every recipe that comes with zoo, sorted by name."""
    return {p.stem: p for p in sorted(recipes_folder().glob("*.yaml"))}


def describe(path: Path) -> str:
    """The one-line description of the recipe at `path`."""
    return str(load_values(path).get("description", ""))


def load_values(name: str | os.PathLike[str]) -> dict[str, Any]:
    """The plain values of a recipe: a shipped name, a YAML file, or a run directory (its recipe.yaml).

    Raises UsageError if there is no such recipe, RecipeError if it is not YAML with a mapping at the top.
    """
    path = recipe_path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise RecipeError([f"cannot be read: {e}"], "give a YAML text file", where=str(path)) from e
    values = _parse_yaml(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise RecipeError(["the top level must be a mapping of sections"], "see `zoo recipes full`", where=str(path))
    return values


def copy_to(name: str | os.PathLike[str], target: Path) -> None:
    """Copy a recipe with its comments. Raises UsageError if `target` exists or cannot be written."""
    text = recipe_path(name).read_text(encoding="utf-8")
    try:
        with target.open("x", encoding="utf-8") as f:
            f.write(text)
    except FileExistsError:
        raise UsageError(f"{target} exists already", "choose another name") from None
    except OSError as e:
        raise UsageError(f"cannot write {target}: {e.strerror}", "choose another place") from e


def recipe_path(name: str | os.PathLike[str]) -> Path:
    """The file that `name` stands for: a text is a shipped recipe's name first, a path-like object always a path."""
    known = shipped()
    path = Path(name)
    if isinstance(name, str) and name in known:
        return known[name]
    if path.is_dir() and (path / "recipe.yaml").is_file():
        return path / "recipe.yaml"
    if path.is_file():
        return path
    close = nearest(str(name), known)
    raise UsageError(
        f"no recipe {str(name)!r}: neither a shipped one nor a file",
        (f"did you mean {' or '.join(close)}? " if close else "") + f"shipped: {', '.join(known)}",
    )


def _parse_yaml(text: str, where: str) -> Any:
    # YAML 1.2, so that 3e-4 is a number and `no` is a word. PyYAML reads 1.1, where both are otherwise.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark is not None else ""
        raise RecipeError([f"{place}{getattr(e, 'problem', None) or 'not YAML'}"], "mend the YAML", where=where) from e


def dump(recipe: Recipe) -> str:
    """The recipe as YAML with every field, in the order of the sections above."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 10_000
    stream = io.StringIO()
    yaml.dump(recipe.model_dump(), stream)
    return stream.getvalue()


# --- overrides and validation ----------------------------------------------------------------------------------------


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`["train.epochs=5", "loss.params.gamma=2"]` → dotted key → value, values read as YAML. Raises UsageError."""
    values: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(
                f"--set {text!r} is not of the form key=value", "write for example --set optimizer.lr=3e-4"
            )
        values[key.strip()] = _parse_yaml(value, f"--set {key.strip()}") if value.strip() else None
    return values


def build(values: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, *, where: str = "recipe") -> Recipe:
    """Validate `values` with dotted `overrides` laid over them.

    Raises RecipeError with every problem: unknown keys with the nearest known key, wrong types, values out of range.
    """
    merged = _copy(values)
    problems: list[str] = []
    for key, value in (overrides or {}).items():
        *parents, last = key.split(".")
        place = merged
        for parent in parents:
            child = place.setdefault(parent, {})
            if not isinstance(child, dict):
                problems.append(f"{key}: {parent} is not a section")
                break
            place = child
        else:
            place[last] = value
    try:
        recipe = Recipe.model_validate(merged)
    except ValidationError as e:
        problems += [_say(error) for error in e.errors()]
        raise RecipeError(problems, "`zoo recipes full` shows every key", where=where) from None
    if problems:
        raise RecipeError(problems, "`zoo recipes full` shows every key", where=where)
    return recipe


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _say(error: Any) -> str:
    """One line for one pydantic error."""
    place = ".".join(str(p) for p in error["loc"] if p not in ("int", "literal['auto']"))
    if error["type"] == "extra_forbidden":
        known = _keys_at(error["loc"][:-1])
        close = nearest(str(error["loc"][-1]), known, n=1)
        elsewhere = [k for k in _all_keys() if k.rsplit(".", 1)[-1] == str(error["loc"][-1])]
        if elsewhere:
            return f"unknown key {place}; did you mean {elsewhere[0]}?"
        if close:
            return f"unknown key {place}; did you mean {'.'.join([*map(str, error['loc'][:-1]), close[0]])}?"
        return f"unknown key {place}; known here: {', '.join(known)}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{place}: {message.replace('input should', 'should')}, not {error['input']!r}"


def _keys_at(loc: tuple[Any, ...]) -> list[str]:
    section: Any = Recipe
    for part in loc:
        section = section.model_fields[part].annotation
    return list(section.model_fields)


def _all_keys() -> list[str]:
    keys = []
    for name, field in Recipe.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            keys += [f"{name}.{inner}" for inner in annotation.model_fields]
        else:
            keys.append(name)
    return keys
