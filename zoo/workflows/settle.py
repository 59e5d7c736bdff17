"""What the user said → one Recipe: a shipped or given recipe, `--set` over it, flags over that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from typing_extensions import Unpack

from zoo.errors import UsageError, nearest
from zoo.recipe import Recipe, build, load_values

__all__ = ["Options", "make_recipe"]


class Options(TypedDict, total=False):
    """The choices that have a flag of their own; None means not given. Each is a short name of a recipe field."""

    data: str | Path | None
    val: str | Path | None
    classes: int | None
    in_chans: int | None
    img_size: int | None
    drop: float | None
    drop_path: float | None
    pool: str | None
    freeze: str | int | None
    weights: str | Path | None
    epochs: int | None
    batch_size: int | None
    lr: float | None
    opt: str | None
    sched: str | None
    loss: str | None
    amp: bool | None
    amp_dtype: str | None
    workers: int | str | None
    seed: int | None
    device: str | None
    recipe: str | Path | None
    settings: Mapping[str, Any] | None


_FIELDS = {
    "data": "data.source",
    "val": "data.val",
    "classes": "model.classes",
    "in_chans": "model.in_chans",
    "img_size": "model.img_size",
    "drop": "model.drop",
    "drop_path": "model.drop_path",
    "pool": "model.pool",
    "freeze": "freeze",
    "weights": "model.weights",
    "epochs": "train.epochs",
    "batch_size": "data.batch_size",
    "lr": "optimizer.lr",
    "opt": "optimizer.name",
    "sched": "schedule.name",
    "loss": "loss.name",
    "amp": "train.amp",
    "amp_dtype": "train.amp_dtype",
    "workers": "data.workers",
    "seed": "train.seed",
    "device": "train.device",
}


def make_recipe(model: str | None = None, **options: Unpack[Options]) -> Recipe:
    """The recipe of a run. Without `recipe`: `head-only` if the plan is `backbone`, else `full`.

    `settings` maps dotted recipe keys to values (`{"loss.params.gamma": 2}`) and is laid over the recipe, the named
    options over both. Raises UsageError or RecipeError, the latter with every problem.
    """
    unknown = [k for k in options if k not in _FIELDS and k not in ("recipe", "settings")]
    if unknown:
        close = nearest(unknown[0], [*_FIELDS, "recipe", "settings"])
        raise UsageError(
            f"no option {unknown[0]!r}", f"did you mean {' or '.join(close)}?" if close else "see zoo.Options"
        )
    chosen = {key: options.get(name) for name, key in _FIELDS.items() if options.get(name) is not None}
    if model is not None:
        chosen["model.name"] = model
    settings = dict(options.get("settings") or {})
    name = options.get("recipe")
    if name is None:
        name = "head-only" if str(chosen.get("freeze", settings.get("freeze"))) == "backbone" else "full"
    for key in ("data.source", "data.val", "model.weights"):
        if isinstance(chosen.get(key), Path):
            chosen[key] = str(chosen[key])
    overrides = settings | chosen
    values = load_values(name)
    for section in ("loss", "optimizer", "schedule"):
        inside = values.get(section)
        given = overrides.get(f"{section}.name")
        if given is not None and isinstance(inside, dict) and inside.get("name") != given:
            inside.pop("params", None)  # they belong to the one that the recipe named
    recipe = build(values, overrides, where=f"recipe {name}")
    if not recipe.model.name:
        raise UsageError("no model named", "give one, for example `zoo finetune resnet34`; `zoo list` shows them all")
    return recipe
