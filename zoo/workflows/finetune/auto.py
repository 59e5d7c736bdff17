"""`--recipe auto` and `--freeze auto`: the options of a run, with what its data say in the place of `auto`."""

from __future__ import annotations

from typing import Any

from zoo.errors import UsageError
from zoo.options import DataOptions, Options, declared
from zoo.recipe import build, load_values
from zoo.workflows.finetune.options import AUTO
from zoo.workflows.recommend.measure import measure_models

__all__ = ["resolve_auto"]

# What a freezing plan brings along of a decision: where learning starts from, what adapts in place of weights, and what
# is true of the images however they are learned from.
_PLAN_KEYS = ("transfer.", "augment.flips")
# Options that say what the network sees; `balance` changes only how often.
_DATA_OPTIONS = (
    *(name for name in declared(DataOptions) if name != "balance"),
    "classes", "in_chans", "img_size", "weights", "seed", "device", "workers",
)  # fmt: skip


def resolve_auto(model: str | None, options: Options, *, progress: bool) -> tuple[str, Options]:
    """The model and the options of `finetune`, with a recipe or a plan in the place of `auto`.

    recipe auto: the decision's, whole; without a model the best of the usual ones is taken. freeze auto: of the
    decision the plan and the start; the rest stays as it is. What the user set himself stays.

    Raises what `measure_models` raises, and UsageError if a plan is asked for without a model.
    """
    use_recipe = options.get("recipe") == AUTO
    if model is None and not use_recipe:
        raise UsageError("freeze auto without a model", "name one, or take --recipe auto, which chooses one")
    data_options: dict[str, Any] = {key: options[key] for key in _DATA_OPTIONS if options.get(key) is not None}  # type: ignore[literal-required]
    found = measure_models([model] if model else (), progress=progress, **data_options)
    decision = found.decisions[0]
    if progress:
        from zoo.console import note

        for text in found.summary():
            note(text)
        note(f"rule: {decision.rule}")
    settings = dict(options.get("settings") or {})
    changed = Options(**options)
    if use_recipe:
        changed["recipe"] = decision.recipe
        decision_changes = decision.changes
    else:
        decision_recipe = build(load_values(decision.recipe), decision.changes, where=decision.recipe)
        settings.pop("freeze", None)
        changed["freeze"] = decision_recipe.freeze
        decision_changes = {key: value for key, value in decision.changes.items() if key.startswith(_PLAN_KEYS)}
    if changed.get("freeze") == AUTO or settings.get("freeze") == AUTO:  # both were asked for: the recipe brings it
        changed["freeze"] = None
        settings.pop("freeze", None)
    changed["settings"] = {**decision_changes, **settings}
    return found.best.name, changed
