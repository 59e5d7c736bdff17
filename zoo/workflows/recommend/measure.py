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
from zoo.data import Data, ImageSource
from zoo.data.check.counts import class_counts
from zoo.data.check.examine import examine_images
from zoo.data.check.records import GREY, READ
from zoo.data.split.holdout import hold_out
from zoo.errors import DataError, ModelError, WeightsError
from zoo.losses import make_loss
from zoo.models import Model
from zoo.preprocess import Preprocess
from zoo.progress import TrainingProgress
from zoo.recipe import Recipe
from zoo.strategy.decision_table import Evidence, Kind, decide
from zoo.strategy.freeze import resolve_plan, set_train_mode
from zoo.strategy.ranking import Candidate, prior_of, rank_models
from zoo.strategy.scores import (  # fmt: skip
    Mirroring,
    Truth,
    decompose,
    held_out,
    learning_curve,
    measure,
    mirroring,
    ridge_loo,
    similarity,
    size_class,
)
from zoo.tasks import TASKS
from zoo.training.device import pick_device
from zoo.training.inference import Normalize
from zoo.training.sanity_check import try_step
from zoo.workflows.finetune import components, preprocessing, validate
from zoo.workflows.finetune.autotune import Job, choose
from zoo.workflows.finetune.feature_cache import image_keys
from zoo.workflows.finetune.inputs import build_model, open_source
from zoo.workflows.finetune.options import Options, make_recipe
from zoo.workflows.recommend.features import Indices, look
from zoo.workflows.recommend.result import LeftOut, Measured, Recommendation, Sample

__all__ = ["USUAL", "measure_models"]

# Asked when the user names none: of several families and pretrainings, small enough for a CPU (ours).
USUAL = (
    "resnet18", "resnet50", "mobilenetv3_large_100", "efficientnet_b0", "convnext_tiny", "convnextv2_nano",
    "vit_small_patch16_224", "deit3_small_patch16_224", "swin_tiny_patch4_window7_224", "zoo_tiny",
)  # fmt: skip
# Images that are looked at (issue and facts/transfer.md: beyond, the scores move less than their intervals are wide).
MOST = 5000
# Images whose size and colours are told, which are read whole.
_SHOWN = 16
# Of the images, and at least and at most so many: looked at mirrored, too, with the best of the models (ours: looking
# at one model is to cost at most 1.3 times two passes of all images).
_MIRRORED, _LEAST_MIRRORED, _MOST_MIRRORED = 0.25, 100, 1000


def measure_models(
    models: Sequence[str] = (),
    *,
    budget: float | None = None,
    max_params: float | None = None,
    progress: bool = True,
    **options: Unpack[Options],
) -> Recommendation:
    """Look at the training images of `options` with each of `models` (names of `zoo list`; none: USUAL).

    budget: seconds; a model that would take more than what is left of it is left out and named, the first one never.
    max_params: of the catalog, with the default head. options: those of `finetune` that concern the data, and weights.

    Raises UsageError or DataError for what the caller can mend; WeightsError if no candidate's weights can be had.
    """
    begun = time.perf_counter()
    say = TrainingProgress(0, quiet=not progress).say
    names = list(models or USUAL)
    base = make_recipe(names[0], **options)
    data = open_source(base)
    sample = _sample(data, base.train.seed)
    say(
        f"data: {data.name}, {len(data.train):,} training images, {len(data.classes):,} {data.task} "
        f"{'classes' if data.task == 'single-label' else 'targets'}; {len(sample.places):,} are looked at"
        + (f", {sample.duplicates:,} duplicates left out" if sample.duplicates else "")
    )
    of_each = "" if data.task == "regression" else f"; {min(sample.counts):,} to {max(sample.counts):,} images of each"
    say(f"images: {sample.width}x{sample.height} pixels (median), {sample.colours}{of_each}")
    measured: list[Measured] = []
    left_out: list[LeftOut] = []
    for entry in _entries(names, max_params, left_out):
        left = None if budget is None else budget - (time.perf_counter() - begun)
        try:
            found = _measure(entry, base, data, sample, left if measured else None, say)
        except _TooLong as e:
            left_out.append(LeftOut(entry, str(e)))
        except (WeightsError, ModelError) as e:
            if len(names) == 1:
                raise
            left_out.append(LeftOut(entry, e.message))
        else:
            measured.append(found)
            continue
        say(f"{entry}: left out, {left_out[-1].reason}")
    if not measured:
        raise WeightsError(
            "no candidate could be looked at: " + "; ".join(f"{o.name}: {o.reason}" for o in left_out[:3]),
            "name models whose weights are there (`zoo fetch MODEL` gets them), or zoo_tiny, which is built in",
        )
    truth = _truth(data, sample)
    ranked = rank_models(
        [Candidate(m.scores.ridge.outcome.values, m.scores.knn.outcome.values, m.prior) for m in measured],
        truth.score_weights,
        bounds=truth.bounds,
    )
    ordered = [measured[r.index] for r in ranked]
    mirrored = _mirroring(ordered[0].name, base, data, sample, say)
    ordered = [replace(m, evidence=replace(m.evidence, mirroring=mirrored)) for m in ordered]
    return Recommendation(
        data=data.name,
        images=len(data.train),
        validation=len(data.val),
        classes=len(data.classes),
        task=data.task,
        sample=sample,
        measured=tuple(ordered),
        ranked=tuple(replace(r, index=i) for i, r in enumerate(ranked)),
        decisions=tuple(decide(m.evidence) for m in ordered),
        left_out=tuple(left_out),
        warnings=tuple(_warnings(data, sample, ordered[0])),
        seconds=time.perf_counter() - begun,
    )


class _TooLong(Exception):
    """No error: a candidate that would take more than the budget leaves."""


def _entries(models: Sequence[str], max_params: float | None, left_out: list[LeftOut]) -> Iterator[str]:
    for name in dict.fromkeys(models):
        entry, _ = find_weights(name)
        if max_params is not None and entry.params is not None and entry.params > max_params:
            left_out.append(LeftOut(name, f"{entry.params / 1e6:.1f} M parameters"))
            continue
        yield name


def _sample(data: Data, seed: int) -> Sample:
    """At most MOST training images, of each class in proportion, of equal ones the first."""
    places = np.arange(len(data.train))
    if len(places) > MOST:
        _, places, _ = hold_out(data.train.targets, data.classes, data.task, fraction=MOST / len(places), seed=seed)
    first: dict[bytes, int] = {}
    kept, conflicting = [], 0
    targets = data.train.targets
    for place, key in zip(places.tolist(), image_keys(data.train, places), strict=True):
        if key not in first:
            first[key] = place
            kept.append(place)
        elif not np.array_equal(targets[place], targets[first[key]]):
            conflicting += 1
    if len(kept) < 4:
        raise DataError(f"{len(kept)} different training images are too few to say anything", "add images")
    found = np.array(kept, np.int64)
    width, height, colours = _pictures(data.train, found)
    counts = tuple(_counts(data).tolist())
    return Sample(found, len(places) - len(kept), conflicting, counts, width, height, colours)


def _pictures(source: ImageSource, places: Indices) -> tuple[int, int, str]:
    """Median width and height in pixels, and what the colours are, of a few images."""
    spread = places[np.linspace(0, len(places) - 1, min(len(places), _SHOWN)).astype(np.int64)]
    rows = examine_images(source, spread.tolist()).rows
    rows = rows[(rows["flags"] & READ) > 0]
    if not len(rows):
        raise DataError(f"none of {len(spread)} training images can be read", "`zoo check` names what is wrong")
    grey = int(np.count_nonzero(rows["flags"] & GREY))
    if source.channels != 3:
        colours = f"{source.channels} channels"
    else:
        colours = "grey" if grey == len(rows) else f"colour, {grey} of {len(rows)} grey" if grey else "colour"
    return int(np.median(rows["width"])), int(np.median(rows["height"])), colours


def _truth(data: Data, sample: Sample) -> Truth:
    return Truth.of(
        data.train.targets[sample.places], data.task, outputs=len(data.classes), balanced=data.task == "single-label"
    )


def _measure(
    name: str, base: Recipe, data: Data, sample: Sample, left: float | None, say: Callable[[str], None]
) -> Measured:
    recipe = _recipe_of(name, base)
    entry, tag = find_weights(name)
    model, source, shared = _ready(recipe, data)
    if left is not None:
        trial = look(model, source, sample.places[:8], random=False, **shared)
        expected = 2 * trial.seconds * len(sample.places)
        if expected > left:
            raise _TooLong(f"it would take {expected:.0f} s of the {max(left, 0):.0f} s that are left")
    pretrained = look(model, source, sample.places, random=False, **shared)
    kind = _kind(model.module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        bare = build_model(recipe, data, with_weights=False)
        random = look(bare, source, sample.places, random=True, **shared)

    truth = _truth(data, sample)
    scores = measure(pretrained.features, truth)
    baseline = ridge_loo(decompose(random.features, truth.weights), truth)
    similar = similarity(
        scores.ridge.outcome.values, baseline.outcome.values, truth.naive(), truth.score_weights, bounds=truth.bounds
    )
    curve = learning_curve(pretrained.features, truth, scores.ridge.outcome)
    try:
        held = held_out(pretrained.features, truth)
    except DataError:
        held = None  # too few images for folds
    size = size_class(len(data.train), np.array(sample.counts), curve)
    found = Measured(
        name=name,
        evidence=Evidence(size, similar, pretrained.shift, kind),
        scores=scores,
        held=held,
        curve=curve,
        prior=_prior(entry, tag),
        params=sum(p.numel() for p in model.module.parameters()),
        features=pretrained.features.shape[1],
        gmacs=entry.gmacs,
        seconds=pretrained.seconds,
        computed=pretrained.computed + random.computed,
    )
    shift = pretrained.shift
    say(
        f"{name}: head {scores.ridge.outcome.score:.1%}, neighbours {scores.knn.outcome.score:.1%}, "
        f"S {similar.value:.2f} ({similar.verdict})" + (f", D {shift.value:.2g} ({shift.verdict})" if shift else "")
    )
    return found


def _recipe_of(name: str, base: Recipe) -> Recipe:
    return base.model_copy(update={"model": base.model.model_copy(update={"name": name})})


def _ready(recipe: Recipe, data: Data) -> tuple[Model, ImageSource, dict[str, Any]]:
    """The pretrained model, the training images as it sees them, and what else `look` is told in each case."""
    model = build_model(recipe, data, with_weights=True)
    if model.weights.source == "none":
        raise WeightsError(f"{recipe.model.name} has no pretrained weights", "leave it out")
    seen = preprocessing.settle(recipe, model, data)
    device = pick_device(recipe.train.device)
    shared = {
        "preprocess": seen.preprocess, "device": device, "data": data.name,
        "amp_dtype": _precision(recipe, model, seen.data, seen.preprocess, device),
        "workers": validate.workers(recipe.data.workers, data),
    }  # fmt: skip
    return model, seen.data.train, shared


def _precision(
    recipe: Recipe, model: Model, data: Data, preprocess: Preprocess, device: torch.device
) -> torch.dtype | None:
    """What a run that trains the head only would compute with: it then finds the features that are computed here."""
    module = model.module.to(device)
    plan = resolve_plan("backbone", model.groups, module)
    plan.apply(module)
    set_train_mode(module, plan)
    normalize = Normalize(preprocess).to(device)
    name, params, _ = validate.loss_of(recipe, TASKS[data.task])
    loss = make_loss(name, params)
    images, targets = validate.a_few(data, preprocess, device)
    if isinstance(loss, nn.Module):
        loss.to(device)
    job = Job(recipe, model, plan, preprocess, device, batch=components.batch_of(recipe, data))
    step = try_step(
        module, normalize, loss, images, targets, auxiliary=model.auxiliary or 0.0,
        then=lambda step: choose(job, step, normalize, images),
    )  # fmt: skip
    return step.dtype


def _mirroring(name: str, base: Recipe, data: Data, sample: Sample, say: Callable[[str], None]) -> Mirroring | None:
    """What mirroring does to the classes, by the features of the model `name`; None where flips are decided anyhow, or
    there is no telling: no classes, too few images."""
    if base.augment.flips != "auto" or not data.flips_ok or data.task == "regression":
        return None
    model, source, shared = _ready(_recipe_of(name, base), data)
    images = len(sample.places)
    number = min(max(int(_MIRRORED * images), _LEAST_MIRRORED), _MOST_MIRRORED, images)
    judged = np.linspace(0, images - 1, number).astype(np.int64)

    def features(places: Indices, mirrored: bool) -> NDArray[np.float32]:
        return look(model, source, places, random=False, watch=False, mirrored=mirrored, **shared).features

    try:
        mirrored = features(sample.places[judged], True)
        found = mirroring(features(sample.places, False), mirrored, _truth(data, sample), judged)
    except DataError:
        return None
    if found.verdict == "breaks":
        say(f"mirrored, {found.mirrored:.0%} of the images are recognised, not {found.score:.0%}: flips do harm")
    return found


def _prior(entry: ModelEntry, tag: str | None) -> float | None:
    name = tag or entry.default_tag
    return None if name is None else prior_of(f"{entry.name}.{name}")


def _kind(module: nn.Module) -> Kind:
    """Whether the backbone attends: any part that is an attention, in more than one block."""
    attends = sum(
        isinstance(part, nn.MultiheadAttention) or (hasattr(part, "qkv") and isinstance(part.qkv, nn.Module))
        for part in module.modules()
    )
    return "transformer" if attends > 1 else "cnn"


def _counts(data: Data) -> NDArray[np.int64]:
    """(classes,) images of each class or label; all of them for regression."""
    images = len(data.train)
    if data.task == "regression":
        return np.array([images])
    alike = np.zeros(images, np.int64)
    return class_counts(data.train.targets, alike, len(data.classes), 1, data.task)[:, 0]


def _warnings(data: Data, sample: Sample, best: Measured) -> list[str]:
    found = []
    counts = np.array(sample.counts)
    if data.task == "single-label":
        lonely = [data.classes[k] for k in np.flatnonzero(counts == 1)]
        if lonely:
            found.append(f"{len(lonely)} classes have a single image, such as {lonely[0]}: nothing can be said of them")
        there = counts[counts > 0]
        if there.max() >= 10 * there.min():
            found.append(
                f"the largest class has {there.max() / there.min():.0f} times the images of the smallest: scores count "
                "classes alike; see --balance and --class-weights"
            )
    if sample.conflicting:
        found.append(f"{sample.conflicting} images have a copy with another target: `zoo check` names them")
    similar, scores, mirrored = best.evidence.similarity, best.scores, best.evidence.mirroring
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
    if scores.ridge.outcome.score > 0.995 and data.task != "regression":
        found.append("a head on frozen features makes hardly any mistake: no strategy can be much better")
    if len(sample.places) < best.features:
        found.append(
            f"{len(sample.places):,} images, and {best.features:,} features of each: what is measured is far from sure"
        )
    return found
