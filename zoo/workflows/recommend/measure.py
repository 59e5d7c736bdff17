"""Evaluate frozen pretrained models on a data set, without training.

data → sample without duplicates → features of each candidate and of the same network at random init → scores in closed
form → size, similarity and batch-norm shift → decision table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import Unpack

from zoo.arrays import Indices
from zoo.catalog.index import find_weights
from zoo.data import Data
from zoo.errors import DataError, ModelError, WeightsError
from zoo.options import Options
from zoo.progress import TrainingProgress
from zoo.recipe import Recipe
from zoo.strategy.decision_table import Measurements, decide
from zoo.strategy.ranking import Candidate, prior_for, rank_models
from zoo.strategy.scores import (  # fmt: skip
    FlipInvariance,
    HeadName,
    decompose,
    flip_invariance,
    held_out,
    learning_curve,
    measure,
    ridge_loo,
    similarity,
    size_class,
)
from zoo.tasks import get_task
from zoo.workflows.finetune.inputs import create_model, open_dataset
from zoo.workflows.finetune.options import make_recipe
from zoo.workflows.recommend.candidates import CandidateModel, parse_candidates
from zoo.workflows.recommend.features import extract_features
from zoo.workflows.recommend.open_candidate import OpenCandidate, architecture, load_candidate
from zoo.workflows.recommend.result import ModelResult, Recommendation, SkippedModel
from zoo.workflows.recommend.sample import Sample, draw_sample, sample_targets

# Number of images on which cropping and squashing are compared, which costs a forward pass of each.
_MAX_FIT_IMAGES = 1000
# Fraction of the images, with minimum and maximum, whose flipped version is also evaluated with the best model (ours:
# this must not cost more than 1.3 times two passes over all images).
_FLIPPED_SHARE, _MIN_FLIPPED, _MAX_FLIPPED = 0.25, 100, 1000


def measure_models(
    models: Sequence[str | Path] = (),
    *,
    budget: float | None = None,
    max_params: float | None = None,
    progress: bool = True,
    **options: Unpack[Options],
) -> Recommendation:
    """Evaluate models on the training images of `options`, without training.

    Args:
        models: Candidates as for `recommend`; empty for ten common models.
        budget: Time limit in seconds; a model that would exceed it is skipped, except the first one.
        max_params: Largest number of parameters (with the default head, from the catalog).
        progress: Print progress to stderr.
        **options: Options of `finetune` about data, weights, seed and device.

    Raises:
        UsageError: An option is wrong.
        DataError: The data cannot be used.
        WeightsError: No candidate has weights that can be loaded.
    """
    start = time.perf_counter()
    log = TrainingProgress(0, quiet=not progress).log
    candidates = parse_candidates(models)
    base = make_recipe(candidates[0].model, **options)
    data = open_dataset(base)
    sample = draw_sample(data, base.train.seed)
    _log_data(data, sample, log)
    results: list[ModelResult] = []
    skipped_models: list[SkippedModel] = []
    for candidate in _within_max_params(candidates, max_params, skipped_models):
        seconds_left = None if budget is None else budget - (time.perf_counter() - start)
        try:
            results.append(_measure_model(candidate, base, data, sample, seconds_left if results else None, log))
            continue
        except _OverBudget as e:
            skipped_models.append(SkippedModel(candidate.name, str(e)))
        except (WeightsError, ModelError) as e:
            if len(candidates) == 1:
                raise
            skipped_models.append(SkippedModel(candidate.name, e.message))
        log(f"{candidate.name}: skipped: {skipped_models[-1].reason}")
    if not results:
        raise WeightsError(
            "no candidate model could be evaluated: " + "; ".join(f"{m.name}: {m.reason}" for m in skipped_models[:3]),
            "name models whose weights are available (`zoo fetch MODEL` downloads them), or the built-in zoo_tiny",
        )
    targets = sample_targets(data, sample)
    ranked = rank_models(
        [_candidate_of(m) for m in results],
        targets.score_weights,
        bounds=targets.bounds,
    )
    ordered = [results[r.index] for r in ranked]
    open_best = cache(partial(load_candidate, ordered[0].candidate.recipe(base), data))  # by the first that needs it
    flips = _flip_invariance(open_best, base, data, sample, log)
    fit = _choose_fit(open_best, ordered[0].scores.head, base, data, sample, log)
    ordered = [replace(m, evidence=replace(m.evidence, flip_invariance=flips, fit=fit)) for m in ordered]
    return Recommendation(
        data=data.name,
        images=len(data.train),
        validation=len(data.val),
        classes=len(data.classes),
        task=data.task,
        sample=sample,
        results=tuple(ordered),
        ranked=tuple(replace(r, index=i) for i, r in enumerate(ranked)),
        decisions=tuple(decide(m.evidence) for m in ordered),
        skipped_models=tuple(skipped_models),
        warnings=tuple(_warnings(data, sample, ordered[0])),
        seconds=time.perf_counter() - start,
    )


class _OverBudget(Exception):
    """A candidate would take longer than the rest of the budget."""


def _log_data(data: Data, sample: Sample, log: Callable[[str], None]) -> None:
    task = get_task(data.task)
    duplicates = f", {sample.duplicates:,} duplicates removed" if sample.duplicates else ""
    log(
        f"data: {data.name}, {len(data.train):,} training images, {len(data.classes):,} {data.task} {task.outputs}; "
        f"evaluating on {len(sample.indices):,} images{duplicates}"
    )
    low, high = min(sample.counts), max(sample.counts)
    per_class = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    counts = f"; {per_class} images per {task.output}" if task.has_classes else ""
    log(f"images: {sample.width}x{sample.height} pixels (median), {sample.colours}{counts}")


def _within_max_params(
    candidates: Sequence[CandidateModel], max_params: float | None, skipped_models: list[SkippedModel]
) -> Iterator[CandidateModel]:
    for candidate in candidates:
        entry, _ = find_weights(candidate.model)
        if max_params is not None and entry.params is not None and entry.params > max_params:
            skipped_models.append(SkippedModel(candidate.name, f"{entry.params / 1e6:.1f} M parameters"))
            continue
        yield candidate


def _measure_model(
    candidate: CandidateModel,
    base: Recipe,
    data: Data,
    sample: Sample,
    seconds_left: float | None,
    log: Callable[[str], None],
) -> ModelResult:
    recipe = candidate.recipe(base)
    entry, _ = find_weights(candidate.model)
    model, train, settings = load_candidate(recipe, data)
    if seconds_left is not None:
        trial = extract_features(model, train, sample.indices[:8], settings)
        expected = 2 * trial.seconds * len(sample.indices)
        if expected > seconds_left:
            raise _OverBudget(f"it would take {expected:.0f} s, {max(seconds_left, 0):.0f} s of the budget are left")
    pretrained = extract_features(model, train, sample.indices, settings)
    kind = architecture(model.module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        random_model = create_model(recipe, data, with_weights=False)
        random = extract_features(random_model, train, sample.indices, settings, random=True)

    targets = sample_targets(data, sample)
    scores = measure(pretrained.features, targets, pretrained.depths)
    baseline = ridge_loo(decompose(random.features, targets.weights), targets)
    similar = similarity(
        scores.ridge.outcome.values,
        baseline.outcome.values,
        targets.constant_baseline(),
        targets.score_weights,
        bounds=targets.bounds,
    )
    curve = learning_curve(pretrained.features, targets, scores.ridge.outcome)
    try:
        holdout = held_out(pretrained.features, targets)
    except DataError:
        holdout = None  # too few images
    size = size_class(len(data.train), np.array(sample.counts), curve)
    shift = pretrained.shift
    parameters = sum(p.numel() for p in model.module.parameters())
    log(
        f"{candidate.name}: linear probe {scores.ridge.outcome.score:.1%}"
        + (f" ({scores.depths.outcome.score:.1%} with the outputs of all stages)" if scores.depths else "")
        + f", k-NN {scores.knn.outcome.score:.1%}, "
        f"similarity {similar.value:.2f} ({similar.verdict})"
        + (f", batch-norm shift {shift.value:.2g} ({shift.verdict})" if shift else "")
    )
    return ModelResult(
        candidate=candidate,
        evidence=Measurements(size, similar, shift, kind, head=scores.head, parameters=parameters),
        scores=scores,
        holdout=holdout,
        curve=curve,
        # The weights may be those of another training: only published ones have a published accuracy.
        prior=prior_for(f"{entry.name}.{model.weights.tag}") if model.weights.tag else None,
        params=parameters,
        features=pretrained.features.shape[1],
        gmacs=entry.gmacs,
        seconds=pretrained.seconds,
        computed=pretrained.computed + random.computed,
    )


def _candidate_of(m: ModelResult) -> Candidate:
    dissimilar = m.evidence.similarity.verdict == "dissimilar"
    return Candidate(m.scores.ridge.outcome.values, m.scores.knn.outcome.values, m.prior, dissimilar)


def _flip_invariance(
    open_best: Callable[[], OpenCandidate], base: Recipe, data: Data, sample: Sample, log: Callable[[str], None]
) -> FlipInvariance | None:
    """Accuracy of the best model on flipped images; None if the recipe or the data set decides about flips, or if
    there are too few images."""
    if base.augment.flips != "auto" or not data.flips_ok:
        return None
    model, train, settings = open_best()
    images = len(sample.indices)
    number = min(max(int(_FLIPPED_SHARE * images), _MIN_FLIPPED), _MAX_FLIPPED, images)
    evaluated = np.linspace(0, images - 1, number).astype(np.int64)

    def features(indices: Indices, flipped: bool) -> NDArray[np.float32]:
        return extract_features(model, train, indices, settings, flipped=flipped, measure_shift=False).features

    try:
        flipped = features(sample.indices[evaluated], True)
        found = flip_invariance(features(sample.indices, False), flipped, sample_targets(data, sample), evaluated)
    except DataError:
        return None
    if found.verdict == "harmful":
        log(
            f"accuracy drops from {found.score:.0%} to {found.flipped_score:.0%} on flipped images: "
            "flips are turned off"
        )
    return found


def _choose_fit(
    open_best: Callable[[], OpenCandidate],
    head: HeadName,
    base: Recipe,
    data: Data,
    sample: Sample,
    log: Callable[[str], None],
) -> Literal["auto", "squash"]:
    """ "squash" if a linear probe on squashed images has a lower leave-one-out squared error than on those that the
    model's own preprocessing crops; "auto" if the recipe decides, or if nothing is cropped."""
    if base.data.fit != "auto":
        return "auto"
    model, train, settings = open_best()
    whole = settings.preprocess.crop_pct == 1 and sample.width == sample.height
    if settings.preprocess.crop_mode != "center" or whole:
        return "auto"
    number = min(len(sample.indices), _MAX_FIT_IMAGES)
    indices = sample.indices[np.linspace(0, len(sample.indices) - 1, number).astype(np.int64)]
    targets = sample_targets(data, replace(sample, indices=indices))
    squashed = replace(settings, preprocess=settings.preprocess.with_fit("squash"))
    losses = []
    for one in (settings, squashed):
        found = extract_features(model, train, indices, one, measure_shift=False)
        features = found.features if found.depths is None or head == "linear" else found.depths
        losses.append(min(ridge_loo(decompose(features, targets.weights), targets).losses))
    if losses[1] >= losses[0]:
        return "auto"
    log(
        f"images are squashed to the input size: the leave-one-out error of a linear probe is {losses[1]:.3g}, and "
        f"{losses[0]:.3g} where they are cropped to the center"
    )
    return "squash"


def _warnings(data: Data, sample: Sample, best: ModelResult) -> list[str]:
    task = get_task(data.task)
    found = []
    if task.has_one_class_per_image:
        counts = np.array(sample.counts)
        single = [data.classes[k] for k in np.flatnonzero(counts == 1)]
        if single:
            found.append(f"{len(single)} classes have a single image (such as {single[0]}) and cannot be evaluated")
        ratio = counts.max() / counts[counts > 0].min()
        if ratio >= 10:
            found.append(
                f"the largest class has {ratio:.0f} times as many images as the smallest; all classes have the same "
                "weight in the scores; see --balance and --class-weights"
            )
    if sample.conflicting:
        found.append(f"{sample.conflicting} images have a duplicate with a different target: `zoo check` lists them")
    similar, shift, flips = best.evidence.similarity, best.evidence.shift, best.evidence.flip_invariance
    if flips is not None and flips.verdict == "harmful":
        found.append(
            f"accuracy is {flips.score:.0%}, but {flips.flipped_score:.0%} on flipped images: left and right "
            "distinguish classes, so augmentation does not flip"
        )
    if similar.easy:
        found.append(
            f"a linear probe on random features already reaches {similar.baseline:.0%}: the task is easy, and training "
            "from scratch (--weights none) may do as well"
        )
    elif similar.verdict == "similar" and shift is not None and shift.verdict == "strong":
        found.append("the features fit, but the images differ strongly from the pretraining images: try --budget")
    if best.scores.ridge.outcome.score > 0.995 and task.has_classes:
        found.append("a linear probe makes almost no errors: no strategy can be much better")
    if len(sample.indices) < best.features:
        found.append(
            f"there are fewer images ({len(sample.indices):,}) than features ({best.features:,}): scores are uncertain"
        )
    return found
