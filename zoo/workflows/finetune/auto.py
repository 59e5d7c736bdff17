"""`--recipe auto` and `--freeze auto`: the options of a run, with `auto` replaced by a choice measured on its data."""

from __future__ import annotations

from typing import Any

from zoo.errors import UsageError
from zoo.options import DataOptions, Options, declared
from zoo.recipe import build, load_values
from zoo.workflows.finetune.options import AUTO
from zoo.workflows.recommend.measure import measure_models

# Settings of a decision that belong to its freeze plan: the start, adapters, and flips, which depend on the images.
_PLAN_KEYS = ("transfer.", "augment.flips")
# Options that describe the data and how the network sees them; `balance` changes only how often.
_DATA_OPTIONS = (
    *(name for name in declared(DataOptions) if name != "balance"),
    "classes", "in_chans", "img_size", "weights", "seed", "device", "workers",
)  # fmt: skip


def resolve_auto(model: str | None, options: Options, *, progress: bool) -> tuple[str, Options]:
    """The model and the options of `finetune`, with a recipe or a freeze plan in place of `auto`.

    recipe auto: the whole recipe of the decision; without a model, the best of the default candidates. freeze auto:
    only the freeze plan and the start. Options that the user gave are not changed.

    Raises what `measure_models` raises, and UsageError for freeze auto without a model.
    """
    use_recipe = options.get("recipe") == AUTO
    if model is None and not use_recipe:
        raise UsageError("freeze auto without a model", "name a model, or use --recipe auto, which chooses one")
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
    if changed.get("freeze") == AUTO or settings.get("freeze") == AUTO:  # both are auto: the recipe has the freeze plan
        changed["freeze"] = None
        settings.pop("freeze", None)
    changed["settings"] = {**decision_changes, **settings}
    return found.best.name, changed
