"""Pretrained models measured on a data set: how well their features fit it, and what follows; nothing is trained.

data → a sample without duplicates → for each candidate the features of its frozen backbone, and those of the same
network at random init → scores in closed form → size and similarity → the decision table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from typing_extensions import Unpack

from zoo.catalog.entries import ModelEntry
from zoo.catalog.index import find_weights
from zoo.data import Data, ImageDataset
from zoo.data.check.counts import class_counts
from zoo.data.check.examine_images import examine_images
from zoo.data.check.image_record import GREY, READABLE
from zoo.data.split.holdout import holdout_split
from zoo.errors import DataError, ModelError, WeightsError
from zoo.losses import make_loss
from zoo.models import Model
from zoo.options import Options
from zoo.preprocess import Preprocess
from zoo.progress import TrainingProgress
from zoo.recipe import Recipe, build
from zoo.strategy.decision_table import Measurements, ModelKind, decide
from zoo.strategy.freeze import resolve_plan, set_train_mode
from zoo.strategy.ranking import Candidate, prior_for, rank_models
from zoo.strategy.scores import (  # fmt: skip
    FlipInvariance,
    Targets,
    decompose,
    flip_invariance,
    held_out,
    learning_curve,
    measure,
    ridge_loo,
    similarity,
    size_class,
)
from zoo.tasks import TASKS
from zoo.training.device import pick_device
from zoo.training.inference import Normalize
from zoo.training.sanity_check import check_step
from zoo.workflows.finetune import preprocessing, validate
from zoo.workflows.finetune.autotune import AutotuneContext, choose
from zoo.workflows.finetune.feature_cache import image_keys
from zoo.workflows.finetune.inputs import create_model, open_dataset, per_process_batch_size
from zoo.workflows.finetune.options import make_recipe
from zoo.workflows.recommend.features import Indices, extract_features
from zoo.workflows.recommend.result import ModelResult, Recommendation, Sample, SkippedModel

__all__ = ["DEFAULT_MODELS", "measure_models"]

# Asked when the user names none: of several families and pretrainings, small enough for a CPU (ours).
DEFAULT_MODELS = (
    "resnet18", "resnet50", "mobilenetv3_large_100", "efficientnet_b0", "convnext_tiny", "convnextv2_nano",
    "vit_small_patch16_224", "deit3_small_patch16_224", "swin_tiny_patch4_window7_224", "zoo_tiny",
)  # fmt: skip
# Images that are looked at (issue and facts/transfer.md: beyond, the scores move less than their intervals are wide).
MAX_IMAGES = 5000
# Images whose size and colours are told, which are read whole.
_SIZE_SAMPLE = 16
# Of the images, and at least and at most so many: looked at mirrored, too, with the best of the models (ours: looking
# at one model is to cost at most 1.3 times two passes of all images).
_FLIPPED_SHARE, _MIN_FLIPPED, _MAX_FLIPPED = 0.25, 100, 1000


def measure_models(
    models: Sequence[str] = (),
    *,
    budget: float | None = None,
    max_params: float | None = None,
    progress: bool = True,
    **options: Unpack[Options],
) -> Recommendation:
    """Look at the training images of `options` with each of `models` (names of `zoo list`; none: DEFAULT_MODELS).

    budget: seconds; a model that would take more than what is left of it is left out and named, the first one never.
    max_params: of the catalog, with the default head. options: those of `finetune` that concern the data, and weights.

    Raises UsageError or DataError for what the caller can mend; WeightsError if no candidate's weights can be had.
    """
    start = time.perf_counter()
    log = TrainingProgress(0, quiet=not progress).log
    names = list(models or DEFAULT_MODELS)
    base = make_recipe(names[0], **options)
    data = open_dataset(base)
    sample = _draw_sample(data, base.train.seed)
    log(
        f"data: {data.name}, {len(data.train):,} training images, {len(data.classes):,} {data.task} "
        f"{TASKS[data.task].outputs}; {len(sample.indices):,} are looked at"
        + (f", {sample.duplicates:,} duplicates left out" if sample.duplicates else "")
    )
    per_class_text = (
        f"; {min(sample.counts):,} to {max(sample.counts):,} images of each" if TASKS[data.task].has_classes else ""
    )
    log(f"images: {sample.width}x{sample.height} pixels (median), {sample.colours}{per_class_text}")
    results: list[ModelResult] = []
    skipped_models: list[SkippedModel] = []
    for entry in _candidate_names(names, max_params, skipped_models):
        seconds_left = None if budget is None else budget - (time.perf_counter() - start)
        try:
            found = _measure_model(entry, base, data, sample, seconds_left if results else None, log)
        except _OverBudget as e:
            skipped_models.append(SkippedModel(entry, str(e)))
        except (WeightsError, ModelError) as e:
            if len(names) == 1:
                raise
            skipped_models.append(SkippedModel(entry, e.message))
        else:
            results.append(found)
            continue
        log(f"{entry}: left out, {skipped_models[-1].reason}")
    if not results:
        raise WeightsError(
            "no candidate could be looked at: " + "; ".join(f"{o.name}: {o.reason}" for o in skipped_models[:3]),
            "name models whose weights are there (`zoo fetch MODEL` gets them), or zoo_tiny, which is built in",
        )
    targets = _targets(data, sample)
    ranked = rank_models(
        [Candidate(m.scores.ridge.outcome.values, m.scores.knn.outcome.values, m.prior) for m in results],
        targets.score_weights,
        bounds=targets.bounds,
    )
    ordered = [results[r.index] for r in ranked]
    mirrored = _flip_invariance(ordered[0].name, base, data, sample, log)
    ordered = [replace(m, evidence=replace(m.evidence, flip_invariance=mirrored)) for m in ordered]
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
    """No error: a candidate that would take more than the budget leaves."""


def _candidate_names(
    models: Sequence[str], max_params: float | None, skipped_models: list[SkippedModel]
) -> Iterator[str]:
    for name in dict.fromkeys(models):
        entry, _ = find_weights(name)
        if max_params is not None and entry.params is not None and entry.params > max_params:
            skipped_models.append(SkippedModel(name, f"{entry.params / 1e6:.1f} M parameters"))
            continue
        yield name


def _draw_sample(data: Data, seed: int) -> Sample:
    """At most MOST training images, of each class in proportion, of equal ones the first."""
    indices = np.arange(len(data.train))
    if len(indices) > MAX_IMAGES:
        _, indices, _ = holdout_split(
            data.train.targets, data.classes, data.task, fraction=MAX_IMAGES / len(indices), seed=seed
        )
    first: dict[bytes, int] = {}
    unique, conflicting = [], 0
    targets = data.train.targets
    for index, key in zip(indices.tolist(), image_keys(data.train, indices), strict=True):
        if key not in first:
            first[key] = index
            unique.append(index)
        elif not np.array_equal(targets[index], targets[first[key]]):
            conflicting += 1
    if len(unique) < 4:
        raise DataError(f"{len(unique)} different training images are too few to say anything", "add images")
    found = np.array(unique, np.int64)
    width, height, colours = _size_and_colours(data.train, found)
    counts = tuple(_counts(data).tolist())
    return Sample(found, len(indices) - len(unique), conflicting, counts, width, height, colours)


def _size_and_colours(source: ImageDataset, indices: Indices) -> tuple[int, int, str]:
    """Median width and height in pixels, and what the colours are, of a few images."""
    spread = indices[np.linspace(0, len(indices) - 1, min(len(indices), _SIZE_SAMPLE)).astype(np.int64)]
    rows = examine_images(source, spread.tolist()).rows
    rows = rows[(rows["flags"] & READABLE) > 0]
    if not len(rows):
        raise DataError(f"none of {len(spread)} training images can be read", "`zoo check` names what is wrong")
    grey = int(np.count_nonzero(rows["flags"] & GREY))
    if source.channels != 3:
        colours = f"{source.channels} channels"
    else:
        colours = "grey" if grey == len(rows) else f"colour, {grey} of {len(rows)} grey" if grey else "colour"
    return int(np.median(rows["width"])), int(np.median(rows["height"])), colours


def _targets(data: Data, sample: Sample) -> Targets:
    balanced = TASKS[data.task].has_one_class_per_image
    return Targets.of(data.train.targets[sample.indices], data.task, outputs=len(data.classes), balanced=balanced)


def _measure_model(
    name: str, base: Recipe, data: Data, sample: Sample, seconds_left: float | None, log: Callable[[str], None]
) -> ModelResult:
    recipe = _recipe_of(name, base)
    entry, tag = find_weights(name)
    model, source, shared = _load_candidate(recipe, data)
    if seconds_left is not None:
        trial = extract_features(model, source, sample.indices[:8], random=False, **shared)
        expected = 2 * trial.seconds * len(sample.indices)
        if expected > seconds_left:
            raise _OverBudget(f"it would take {expected:.0f} s of the {max(seconds_left, 0):.0f} s that are left")
    pretrained = extract_features(model, source, sample.indices, random=False, **shared)
    kind = _architecture_kind(model.module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        random_model = create_model(recipe, data, with_weights=False)
        random = extract_features(random_model, source, sample.indices, random=True, **shared)

    targets = _targets(data, sample)
    scores = measure(pretrained.features, targets)
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
        holdout = None  # too few images for folds
    size = size_class(len(data.train), np.array(sample.counts), curve)
    found = ModelResult(
        name=name,
        evidence=Measurements(size, similar, pretrained.shift, kind),
        scores=scores,
        holdout=holdout,
        curve=curve,
        prior=_prior(entry, tag),
        params=sum(p.numel() for p in model.module.parameters()),
        features=pretrained.features.shape[1],
        gmacs=entry.gmacs,
        seconds=pretrained.seconds,
        computed=pretrained.computed + random.computed,
    )
    shift = pretrained.shift
    log(
        f"{name}: head {scores.ridge.outcome.score:.1%}, neighbours {scores.knn.outcome.score:.1%}, "
        f"S {similar.value:.2f} ({similar.verdict})" + (f", D {shift.value:.2g} ({shift.verdict})" if shift else "")
    )
    return found


def _recipe_of(name: str, base: Recipe) -> Recipe:
    return base.model_copy(update={"model": base.model.model_copy(update={"name": name})})


def _load_candidate(recipe: Recipe, data: Data) -> tuple[Model, ImageDataset, dict[str, Any]]:
    """The pretrained model, the training images as it sees them, and what else `extract_features` is told in each
    case."""
    model = create_model(recipe, data, with_weights=True)
    if model.weights.source == "none":
        raise WeightsError(f"{recipe.model.name} has no pretrained weights", "leave it out")
    pixel_settings = preprocessing.resolve_preprocessing(recipe, model, data)
    device = pick_device(recipe.train.device)
    shared = {
        "preprocess": pixel_settings.preprocess, "device": device, "data": data.name,
        "amp_dtype": _precision(recipe, model, pixel_settings.data, pixel_settings.preprocess, device),
        "workers": validate.resolve_workers(recipe.data.workers, data),
    }  # fmt: skip
    return model, pixel_settings.data.train, shared


def _precision(
    recipe: Recipe, model: Model, data: Data, preprocess: Preprocess, device: torch.device
) -> torch.dtype | None:
    """What a run that trains the head only would compute with: it then finds the features that are computed here."""
    module = model.module.to(device)
    plan = resolve_plan("backbone", model.groups, module)
    plan.apply(module)
    set_train_mode(module, plan)
    normalize = Normalize(preprocess).to(device)
    name, params, _ = validate.resolve_loss(recipe, TASKS[data.task])
    loss = make_loss(name, params)
    images, targets = validate.sample_batch(data, preprocess, device)
    if isinstance(loss, nn.Module):
        loss.to(device)
    recipe = build(recipe.model_dump(), {"loss.name": name})  # as a run resolves it: the key of the timing cache
    context = AutotuneContext(recipe, model, plan, preprocess, device, batch=per_process_batch_size(recipe, data))
    step = check_step(
        module, normalize, loss, images, targets, auxiliary=model.auxiliary or 0.0,
        callback=lambda step: choose(context, step, normalize, images),
    )  # fmt: skip
    return step.dtype


def _flip_invariance(
    name: str, base: Recipe, data: Data, sample: Sample, log: Callable[[str], None]
) -> FlipInvariance | None:
    """What mirroring does to the classes, by the features of the model `name`; None where flips are decided anyhow, or
    there is no telling: no classes, too few images."""
    if base.augment.flips != "auto" or not data.flips_ok:
        return None
    model, source, shared = _load_candidate(_recipe_of(name, base), data)
    images = len(sample.indices)
    number = min(max(int(_FLIPPED_SHARE * images), _MIN_FLIPPED), _MAX_FLIPPED, images)
    flipped_indices = np.linspace(0, images - 1, number).astype(np.int64)

    def features(indices: Indices, mirrored: bool) -> NDArray[np.float32]:
        return extract_features(
            model, source, indices, random=False, measure_shift=False, mirrored=mirrored, **shared
        ).features

    try:
        mirrored = features(sample.indices[flipped_indices], True)
        found = flip_invariance(features(sample.indices, False), mirrored, _targets(data, sample), flipped_indices)
    except DataError:
        return None
    if found.verdict == "breaks":
        log(f"mirrored, {found.mirrored:.0%} of the images are recognised, not {found.score:.0%}: flips do harm")
    return found


def _prior(entry: ModelEntry, tag: str | None) -> float | None:
    name = tag or entry.default_tag
    return None if name is None else prior_for(f"{entry.name}.{name}")


def _architecture_kind(module: nn.Module) -> ModelKind:
    """Whether the backbone attends: any part that is an attention, in more than one block."""
    num_attention = sum(
        isinstance(part, nn.MultiheadAttention) or (hasattr(part, "qkv") and isinstance(part.qkv, nn.Module))
        for part in module.modules()
    )
    return "transformer" if num_attention > 1 else "cnn"


def _counts(data: Data) -> NDArray[np.int64]:
    """(classes,) images of each class or label; all of them for regression."""
    images = len(data.train)
    if not TASKS[data.task].has_classes:
        return np.array([images])
    alike = np.zeros(images, np.int64)
    return class_counts(data.train.targets, alike, len(data.classes), 1, data.task)[:, 0]


def _warnings(data: Data, sample: Sample, best: ModelResult) -> list[str]:
    found = []
    counts = np.array(sample.counts)
    if TASKS[data.task].has_one_class_per_image:
        single_image_classes = [data.classes[k] for k in np.flatnonzero(counts == 1)]
        if single_image_classes:
            found.append(
                f"{len(single_image_classes)} classes have a single image, such as {single_image_classes[0]}: "
                "nothing can be said of them"
            )
        present = counts[counts > 0]
        if present.max() >= 10 * present.min():
            found.append(
                f"the largest class has {present.max() / present.min():.0f} times the images of the smallest: "
                "scores count "
                "classes alike; see --balance and --class-weights"
            )
    if sample.conflicting:
        found.append(f"{sample.conflicting} images have a copy with another target: `zoo check` names them")
    similar, scores, mirrored = best.evidence.similarity, best.scores, best.evidence.flip_invariance
    if mirrored is not None and mirrored.verdict == "breaks":
        found.append(
            f"mirrored images are mistaken ({mirrored.score:.0%} right, mirrored {mirrored.mirrored:.0%}): left and "
            "right tell classes apart, and augmentation leaves flips out"
        )
    shift = best.evidence.shift
    if similar.easy:
        found.append(
            f"even random features get {similar.baseline:.0%}: the task is easy, and pretraining may not matter; "
            "--weights none may do as well"
        )
    elif similar.verdict == "similar" and shift is not None and shift.verdict == "strong":
        found.append("the features fit, but the images differ strongly from those of the pretraining: try a pilot")
    if scores.ridge.outcome.score > 0.995 and TASKS[data.task].has_classes:
        found.append("a head on frozen features makes hardly any mistake: no strategy can be much better")
    if len(sample.indices) < best.features:
        found.append(
            f"{len(sample.indices):,} images, and {best.features:,} features of each: what is measured is far from sure"
        )
    return found
