"""Fine-tune image models: from a folder of images to a trained model that can be deployed.

    import zoo

    zoo.list_models("*densenet*")
    run = zoo.finetune("resnet34", data="photos", freeze="backbone")
    zoo.evaluate(run)

Names are imported on first use, so that `import zoo` is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.imports import lazy_exports
from zoo.version import __version__

if TYPE_CHECKING:
    from zoo.errors import (
        DataError,
        ExportError,
        Interrupted,
        ModelError,
        RecipeError,
        TrainingError,
        UsageError,
        WeightsError,
        ZooError,
    )
    from zoo.options import Options
    from zoo.recipe import Recipe
    from zoo.run import Run
    from zoo.workflows.augment import augment_grid
    from zoo.workflows.bench import bench
    from zoo.workflows.cache import clear_cache, list_cache
    from zoo.workflows.check import check
    from zoo.workflows.evaluate import evaluate
    from zoo.workflows.export import export
    from zoo.workflows.fetch import fetch
    from zoo.workflows.finetune.build import build_session
    from zoo.workflows.finetune.options import make_recipe
    from zoo.workflows.finetune.run import finetune, resume
    from zoo.workflows.inspect import inspect
    from zoo.workflows.inspect_file import inspect_file
    from zoo.workflows.list_models import list_models, search_models, search_tags
    from zoo.workflows.lr_find import lr_find
    from zoo.workflows.predict import predict
    from zoo.workflows.recommend.measure import measure_models
    from zoo.workflows.recommend.run import recommend
    from zoo.workflows.schedule import schedule
    from zoo.workflows.tune.run import tune

_EXPORTS = {
    "zoo.workflows.list_models": ("list_models", "search_models", "search_tags"),
    "zoo.workflows.inspect": ("inspect",),
    "zoo.workflows.inspect_file": ("inspect_file",),
    "zoo.workflows.fetch": ("fetch",),
    "zoo.workflows.finetune.options": ("make_recipe",),
    "zoo.workflows.check": ("check",),
    "zoo.workflows.finetune.run": ("finetune", "build_session", "resume"),
    "zoo.workflows.lr_find": ("lr_find",),
    "zoo.workflows.schedule": ("schedule",),
    "zoo.workflows.tune.run": ("tune",),
    "zoo.workflows.bench": ("bench",),
    "zoo.workflows.cache": ("list_cache", "clear_cache"),
    "zoo.workflows.evaluate": ("evaluate",),
    "zoo.workflows.predict": ("predict",),
    "zoo.workflows.recommend.run": ("recommend",),
    "zoo.workflows.recommend.measure": ("measure_models",),
    "zoo.workflows.augment": ("augment_grid",),
    "zoo.workflows.export": ("export",),
    "zoo.options": ("Options",),
    "zoo.recipe": ("Recipe",),
    "zoo.run": ("Run",),
    "zoo.errors": (
        "ZooError", "UsageError", "RecipeError", "DataError", "ModelError", "WeightsError", "TrainingError",
        "ExportError", "Interrupted",
    ),
}  # fmt: skip

# For type checkers, in full; a test compares it with the table.
__all__ = [
    "DataError", "ExportError", "Interrupted", "ModelError", "Options", "Recipe", "RecipeError", "Run",
    "TrainingError", "UsageError", "WeightsError", "ZooError", "__version__", "augment_grid", "bench",
    "build_session", "check", "clear_cache", "evaluate", "export", "fetch", "finetune", "inspect", "inspect_file",
    "list_cache", "list_models", "lr_find", "make_recipe", "measure_models", "predict", "recommend", "resume",
    "schedule", "search_models", "search_tags", "tune",
]  # fmt: skip

__getattr__ = lazy_exports(__name__, _EXPORTS)


def __dir__() -> list[str]:
    return sorted(__all__)
