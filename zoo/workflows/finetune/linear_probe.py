"""Whether a linear head is fitted directly (L-BFGS, ridge) instead of by gradient steps, and the epoch that does it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from zoo import dist_env, losses
from zoo.errors import RecipeError
from zoo.progress import duration
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.strategy.scores.ridge import ridge_head, ridge_loo
from zoo.strategy.scores.svd import decompose
from zoo.strategy.scores.targets import Targets
from zoo.training.features.dataset import FeatureBatches, FeatureCachePolicy
from zoo.training.features.linear_probe import CONVEX_LOSSES, MAX_BYTES, fit_linear_probe, why_not_linear
from zoo.training.trainer import EpochStats
from zoo.workflows.finetune.session import TrainingSession

# Multiplications per pass over the features up to which fitting takes no longer than gradient steps: 20,000 images of
# 2,048 features and 100 classes are half a minute of one core (benchmarks/linear_probe.py).
_MAX_WORK = 5e9


def choose_linear_probe(
    recipe: Recipe, feature_cache: FeatureCachePolicy | None, *, images: int, outputs: int
) -> tuple[bool, str]:
    """Whether the head is fitted directly, and a sentence about it ("" if the recipe cannot use it).

    images: number of training images. outputs: of the head. Raises RecipeError if it is requested and not possible.
    """
    setting = recipe.train.linear_probe
    if setting == "off":
        return False, ""
    why = next(_why_not_fitted(recipe, feature_cache, images=images), "")
    if setting == "auto" and not why and feature_cache is not None:
        numbers = feature_cache.feature_extractor.numbers
        if float(images) * feature_cache.rows_per_image * numbers * outputs > _MAX_WORK:
            why = (
                f"{images:,} images with {numbers:,} features and {outputs:,} outputs take long; --linear-probe on "
                "forces it"
            )
    if not why:
        return True, (
            "linear probe: the head is fitted directly, with a penalty chosen on the training images; epochs, learning "
            "rate and schedule have no effect (--linear-probe off trains the head by gradient steps)"
        )
    if setting == "on":
        raise RecipeError([f"train.linear_probe: on: {why}"], "leave it out, or set it to off")
    return False, f"linear probe off, the head is trained by gradient steps: {why}" if feature_cache is not None else ""


def _why_not_fitted(recipe: Recipe, feature_cache: FeatureCachePolicy | None, *, images: int) -> Iterator[str]:
    if feature_cache is None:
        yield "it needs cached features of a frozen backbone"
        return
    extractor, loss = feature_cache.feature_extractor, recipe.loss.name
    if dist_env.world_size() > 1:
        yield "it runs in one process"
    if next(extractor.module.parameters()).device.type == "mps":
        yield "MPS has no float64"
    if why := why_not_linear(extractor):
        yield why
    known = losses.table_name(loss)
    if known not in (*CONVEX_LOSSES, "mse") or recipe.loss.params.get("reduction", "mean") != "mean":
        yield f"the loss {loss} is not known to be smooth and convex with reduction mean"
    if recipe.data.balance != "none":
        yield f"data.balance={recipe.data.balance} draws other images in each epoch; loss.class_weights works"
    for key, given in (
        ("train.model_ema", recipe.train.model_ema),
        ("transfer.l2_sp", recipe.transfer.l2_sp is not None),
        ("transfer.auto_rgn", recipe.transfer.auto_rgn),
    ):
        if given:
            yield f"{key} needs gradient steps"
    # Ridge regression holds several copies of the features in float64.
    copies = 16 if known == "mse" else 4
    memory = copies * images * feature_cache.rows_per_image * extractor.numbers
    if memory > MAX_BYTES:
        yield f"it holds all features in memory, {memory / 2**30:.1f} GiB for {images:,} images"
    if known == "mse" and feature_cache.views > 1:
        yield f"there are {feature_cache.views} views of each image, and ridge regression fits one"


def run_linear_probe(run: Run, session: TrainingSession, log: Callable[[str], None]) -> EpochStats:
    """Fit the head and set its weights; loss and accuracy of the fitted head on the training images.

    Raises TrainingError if features or loss are not finite.
    """
    trainer, feature_extractor, batches = session.trainer, session.trainer.feature_extractor, session.train
    if feature_extractor is None or not isinstance(batches, FeatureBatches):
        raise TypeError("a linear probe needs cached features")
    start = time.perf_counter()
    (features, *views), on_host = batches.all()
    device = trainer.accelerator.device
    targets = trainer.scale_for_loss(on_host.to(device))
    outputs = len(session.data.classes)
    if losses.table_name(session.recipe.loss.name) == "mse" and bool((targets != targets[0]).any()):
        found, details = _fit_ridge(features, targets)
    else:
        linear_probe = fit_linear_probe(
            features.to(device), targets, trainer.loss, outputs=outputs, seed=session.recipe.train.seed,
            views=[view.to(device) for view in views],
        )  # fmt: skip
        found = linear_probe.weight, linear_probe.bias
        details = {
            "method": "l-bfgs",
            "penalty": linear_probe.penalty,
            "held_out_loss": linear_probe.held_out_loss,
            **({"views": linear_probe.views} if views else {}),
            "passes": linear_probe.passes,
        }
    weight, bias = found
    with torch.no_grad():
        layer = feature_extractor.module.get_submodule(feature_extractor.end)
        for name, value in (("weight", weight), ("bias", bias)):
            layer.get_parameter(name).copy_(value)
        logits = features.to(device).float() @ weight.T.to(device) + bias.to(device)
        loss = float(trainer.loss(logits, targets))
    one_class = not targets.is_floating_point()
    top1 = float((logits.argmax(1) == targets).float().mean()) if one_class else None
    seconds = time.perf_counter() - start
    run.update(linear_probe={**details, "seconds": round(seconds, 3)})
    fitted = details.get("views", 1)
    used_views = f" and {fitted - 1} random views of each" if fitted > 1 else ""
    unused = f"; {len(views)} random views of each do not lower the held-out loss" if len(views) >= fitted else ""
    log(
        f"linear probe fitted on the features of {len(features):,} images{used_views} in {duration(seconds)}: "
        f"penalty {details['penalty']:.2g}, training loss {loss:.3g}, held-out loss {details['held_out_loss']:.3g}"
        f"{unused}"
    )
    return EpochStats(loss, top1, len(features), seconds)


def _fit_ridge(features: Tensor, targets: Tensor) -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
    """In closed form; the penalty is chosen by leave-one-out."""
    svd = decompose(features.float().numpy())
    ridge_targets = Targets.of(targets.cpu().numpy(), "regression")
    tried = ridge_loo(svd, ridge_targets)
    head = ridge_head(svd, ridge_targets, tried.chosen)
    # `Targets` standardizes the targets a second time, which changes only rounding errors.
    weight = torch.from_numpy(head.weight * ridge_targets.scale[:, None]).float()
    bias = torch.from_numpy(head.bias * ridge_targets.scale + ridge_targets.offset).float()
    details = {"method": "ridge", "penalty": tried.chosen, "held_out_loss": min(tried.losses) / targets.shape[1]}
    return (weight, bias), details
