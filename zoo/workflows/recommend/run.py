"""`zoo recommend`: choose a pretrained model and how to train it."""

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


def recommend(
    models: Sequence[str | Path] = (),
    *,
    budget: float | None = None,
    max_params: float | None = None,
    output_dir: str | Path | None = None,
    progress: bool = True,
    **options: Unpack[Options],
) -> Recommendation:
    """Rank pretrained models for a data set and choose how to train the best one.

    Nothing is trained without `budget`: the models are ranked by closed-form scores of their frozen features.

    Args:
        models: Names from `zoo list`; "MODEL=WEIGHTS" for a weights file or any other value of `weights`; run
            directories and exports. Empty for ten common models, and tf_efficientnet_lite0 if zoo[weights] is
            installed.
        budget: Time limit in seconds. Models that would exceed it are skipped; the remaining time is used for short
            trainings of the best two models, whose result can replace that of the rules.
        max_params: Largest number of parameters of a candidate (with the default head, from the catalog).
        output_dir: Folder for recommend.json, recommend.png and the short trainings; None for runs/recommend-DATA.
        progress: Print progress to stderr.
        **options: Options of `finetune` about data, weights, seed and device.

    Returns:
        The measurements, the ranking (best first) and the decision for each model.

    Raises:
        UsageError: An option is wrong, or `output_dir` is in use.
        DataError: The data cannot be used.
        WeightsError: No candidate has weights that can be loaded.
        TrainingError: The output folder cannot be written.
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
