"""The options of a run → its Recipe: a shipped recipe or a file, changed by `--set`, changed by flags."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from zoo.data.config import DataConfig
from zoo.errors import UsageError, did_you_mean, nearest
from zoo.options import OPTIONS, RECIPE_KEYS, Options
from zoo.recipe import Recipe, build, load_values

AUTO = "auto"


def uses_auto(options: Options) -> bool:
    """Whether the recipe or the freeze plan is to be chosen by measuring the data."""
    return AUTO in (options.get("recipe"), options.get("freeze"), (options.get("settings") or {}).get("freeze"))


def make_recipe(model: str | None = None, **options: Unpack[Options]) -> Recipe:
    """The recipe of a run. The default recipe is `head-only` if the freeze plan is `backbone`, else `full`.

    Args:
        model: model name; default: the recipe's.
        options: see `zoo.options.Options`. `settings` maps dotted recipe keys to values (`{"loss.params.gamma": 2}`)
            and overrides the recipe; the other options override both.

    Raises:
        UsageError: an unknown option, or no model.
        RecipeError: every problem of the recipe.
    """
    if unknown := [name for name in options if name not in OPTIONS]:
        hint = did_you_mean(nearest(unknown[0], OPTIONS), "see zoo.Options")
        raise UsageError(f"no option {unknown[0]!r}", hint)
    chosen = {key: options.get(name) for name, key in RECIPE_KEYS.items() if options.get(name) is not None}
    if isinstance(channels_last := chosen.get("execution.memory_format"), bool):
        chosen["execution.memory_format"] = "channels_last" if channels_last else "contiguous"
    if model is not None:
        chosen["model.name"] = model
    settings = dict(options.get("settings") or {})
    name = options.get("recipe")
    if name is None:
        name = "head-only" if str(chosen.get("freeze", settings.get("freeze"))) == "backbone" else "full"
    for key in ("data.source", "data.val", "data.split", "model.weights", "loss.class_weights"):
        if isinstance(chosen.get(key), Path):
            chosen[key] = str(chosen[key])
    overrides = settings | chosen
    values = load_values(name)
    for section in ("augment", "loss", "optimizer", "schedule"):
        section_values = values.get(section)
        given = overrides.get(f"{section}.name")
        if given is not None and isinstance(section_values, dict) and section_values.get("name") != given:
            section_values.pop("params", None)  # parameters of the recipe's own loss, optimizer, …
    recipe = _with_lr_base_size(build(values, overrides, where=f"recipe {name}"), values, overrides)
    if not recipe.model.name:
        raise UsageError(
            "no model named",
            "give one, as in `zoo finetune resnet34` or `zoo tune full --model resnet34`; `zoo list` shows them all",
        )
    return recipe


_LR_KEYS = ("optimizer", "optimizer.lr", "optimizer.head_lr", "optimizer.groups")


def _with_lr_base_size(recipe: Recipe, values: Mapping[str, Any], overrides: Mapping[str, Any]) -> Recipe:
    """The recipe with optimizer.lr_base_size if the batch size is auto and the learning rates are the recipe's own.

    values: the recipe without `overrides`, whose batch size the learning rates are meant for. A recipe with batch size
    auto and its own learning rate is not changed.
    """
    if recipe.data.batch_size != "auto" or recipe.optimizer.lr_base_size is not None:
        return recipe
    size, lr = _value(values, "data", "batch_size"), _value(values, "optimizer", "lr")
    if any(key in overrides for key in _LR_KEYS) or (size == "auto" and lr is not None):
        return recipe
    batch = size if isinstance(size, int) else int(DataConfig().batch_size)
    return build(
        recipe.model_dump(), {"optimizer.lr_base_size": batch * int(_value(values, "train", "grad_accum_steps") or 1)}
    )


def _value(values: Mapping[str, Any], section: str, key: str) -> Any:
    section_values = values.get(section)
    return section_values.get(key) if isinstance(section_values, Mapping) else None
