"""`zoo recommend`: which pretrained model to take and how to train it, measured and, if there is time, tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from typing_extensions import Unpack

from zoo.options import Options
from zoo.progress import TrainingProgress
from zoo.workflows.recommend.measure import measure_models
from zoo.workflows.recommend.pilots import run_pilots
from zoo.workflows.recommend.result import Recommendation, create_output_folder, save

__all__ = ["recommend"]


def recommend(
    models: Sequence[str] = (),
    *,
    budget: float | None = None,
    max_params: float | None = None,
    output_dir: str | Path | None = None,
    progress: bool = True,
    **options: Unpack[Options],
) -> Recommendation:
    """Measure `models` (names of `zoo list`; none: ten usual ones) on the training images of `options`; best first.

    budget: seconds. Without one nothing is trained; with one a model that would take too long is left out and named,
    and what is left of it goes to pilots, whose result overrides the rules. max_params: parameters of the catalog.
    output_dir: for recommend.json, recommend.png and the pilots' runs; absent: runs/recommend-DATA. options: those of
    `finetune` that concern the data, weights, seed and device.

    Raises UsageError or DataError for what the caller can mend, WeightsError if no candidate's weights can be had.
    """
    recommendation = measure_models(models, budget=budget, max_params=max_params, progress=progress, **options)
    folder = create_output_folder(recommendation, Path(output_dir) if output_dir is not None else None)
    if budget is not None and recommendation.seconds < budget:
        log = TrainingProgress(0, quiet=not progress).log
        pilots = run_pilots(
            recommendation, options, folder / "pilots", seconds=budget - recommendation.seconds, log=log
        )
        recommendation = replace(recommendation, pilots=pilots)
    recommendation = replace(recommendation, folder=folder)
    save(recommendation, folder)
    return recommendation
