"""Fine-tune image models: from a folder of images to a trained model that can be deployed.

    import zoo

    zoo.list_models("*densenet*")
    run = zoo.finetune("resnet34", data="photos", freeze="backbone")
    zoo.evaluate(run)

Names are imported on first use, so that `import zoo` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zoo.imports import gc_paused
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
    from zoo.workflows.finetune.options import make_recipe
    from zoo.workflows.finetune.run import build_session, finetune, resume
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
    "list_models": "zoo.workflows.list_models",
    "search_models": "zoo.workflows.list_models",
    "search_tags": "zoo.workflows.list_models",
    "inspect": "zoo.workflows.inspect",
    "inspect_file": "zoo.workflows.inspect_file",
    "fetch": "zoo.workflows.fetch",
    "make_recipe": "zoo.workflows.finetune.options",
    "check": "zoo.workflows.check",
    "finetune": "zoo.workflows.finetune.run",
    "build_session": "zoo.workflows.finetune.run",
    "resume": "zoo.workflows.finetune.run",
    "lr_find": "zoo.workflows.lr_find",
    "schedule": "zoo.workflows.schedule",
    "tune": "zoo.workflows.tune.run",
    "bench": "zoo.workflows.bench",
    "list_cache": "zoo.workflows.cache",
    "clear_cache": "zoo.workflows.cache",
    "evaluate": "zoo.workflows.evaluate",
    "predict": "zoo.workflows.predict",
    "recommend": "zoo.workflows.recommend.run",
    "measure_models": "zoo.workflows.recommend.measure",
    "augment_grid": "zoo.workflows.augment",
    "export": "zoo.workflows.export",
    "Options": "zoo.options",
    "Recipe": "zoo.recipe",
    "Run": "zoo.run",
    "ZooError": "zoo.errors",
    "UsageError": "zoo.errors",
    "RecipeError": "zoo.errors",
    "DataError": "zoo.errors",
    "ModelError": "zoo.errors",
    "WeightsError": "zoo.errors",
    "TrainingError": "zoo.errors",
    "ExportError": "zoo.errors",
    "Interrupted": "zoo.errors",
}

__all__ = ["__version__", *_EXPORTS]  # noqa: PLE0604 - names of the table


def __getattr__(name: str) -> Any:
    module_name = _EXPORTS.get(name)
    if module_name is None:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    with gc_paused():
        value = getattr(importlib.import_module(module_name), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
