"""Whether a linear head is solved directly instead of trained in steps, and the one epoch in which it is."""

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

__all__ = ["choose", "run_linear_probe"]


# Products in a pass over the features up to which it takes no longer than the steps of an ordinary run: 20,000 images
# of 2,048 numbers and 100 classes are half a minute of one core (benchmarks/head_solver.py).
_MAX_WORK = 5e9


def choose(
    recipe: Recipe,
    feature_cache: FeatureCachePolicy | None,
    loss: str,
    loss_params: dict[str, Any],
    *,
    images: int,
    outputs: int,
) -> tuple[bool, str]:
    """Whether the head is solved, and a sentence that says so or why not ("" where nobody would ask).

    loss: the name of the run's own; images: of training; outputs: of the head. Raises RecipeError if it is asked for
    and cannot be.
    """
    setting = recipe.train.linear_probe
    if setting == "off":
        return False, ""
    why = next(_why_not_fitted(recipe, feature_cache, loss, loss_params, images=images), "")
    if setting == "auto" and not why and feature_cache is not None:
        numbers = feature_cache.feature_extractor.numbers
        if float(images) * feature_cache.rows_per_image * numbers * outputs > _MAX_WORK:
            why = (
                f"{images:,} images of {numbers:,} numbers and {outputs:,} outputs take long; --linear-probe on does it"
            )
    if not why:
        return True, (
            "the head is solved directly, its penalty chosen on the training images: epochs, rates and schedule do not "
            "matter; --linear-probe off trains it"
        )
    if setting == "on":
        raise RecipeError([f"train.linear_probe: on: {why}"], "leave it out, or set steps")
    return False, f"the head is trained in steps, not solved directly: {why}" if feature_cache is not None else ""


def _why_not_fitted(
    recipe: Recipe, feature_cache: FeatureCachePolicy | None, loss: str, loss_params: dict[str, Any], *, images: int
) -> Iterator[str]:
    if feature_cache is None:
        yield "that takes kept features of a frozen backbone"
        return
    if dist_env.world_size() > 1:
        yield "it runs in one process"
    if next(feature_cache.feature_extractor.module.parameters()).device.type == "mps":
        yield "MPS has no float64"
    if why := why_not_linear(feature_cache.feature_extractor):
        yield why
    known = losses.table_name(loss)
    if known not in (*CONVEX_LOSSES, "mse") or loss_params.get("reduction", "mean") != "mean":
        yield f"the loss {loss} is not known to be a mean that is smooth and convex"
    if recipe.data.balance != "none":
        yield f"data.balance={recipe.data.balance} draws other images in each epoch; loss.class_weights can be solved"
    for key, given in (
        ("train.model_ema", recipe.train.model_ema),
        ("transfer.l2_sp", recipe.transfer.l2_sp is not None),
        ("transfer.auto_rgn", recipe.transfer.auto_rgn),
    ):
        if given:
            yield f"{key} belongs to steps"
    # Ridge regression holds several copies of them in float64.
    room = (
        (16 if known == "mse" else 4) * images * feature_cache.rows_per_image * feature_cache.feature_extractor.numbers
    )
    if room > MAX_BYTES:
        yield f"it holds all features in memory, {room / 2**30:.1f} GiB of {images:,} images"
    if known == "mse" and feature_cache.views > 1:
        yield f"there are {feature_cache.views} views of each image, and the squared error is solved with one"


def run_linear_probe(run: Run, session: TrainingSession, log: Callable[[str], None]) -> EpochStats:
    """Put the solution into the head; what an epoch says of the training images, met with it.

    Raises TrainingError if features or loss are not finite.
    """
    trainer, feature_extractor, batches = session.trainer, session.trainer.feature_extractor, session.train
    if feature_extractor is None or not isinstance(batches, FeatureBatches):
        raise TypeError("a head is solved on kept features")
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
    tried = f" and {fitted - 1} random views of each" if fitted > 1 else ""
    views_text = (
        f"; {len(views)} random views of each foretell images left out no better" if len(views) >= fitted else ""
    )
    log(
        f"head solved on the features of {len(features):,} images{tried} in {duration(seconds)}: "
        f"penalty {details['penalty']:.2g}, loss {loss:.3g}, {details['held_out_loss']:.3g} on images left "
        f"out{views_text}"
    )
    return EpochStats(loss, top1, len(features), seconds)


def _fit_ridge(features: Tensor, targets: Tensor) -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
    """In closed form, each image left out once for every penalty."""
    svd = decompose(features.float().numpy())
    ridge_targets = Targets.of(targets.cpu().numpy(), "regression")
    tried = ridge_loo(svd, ridge_targets)
    head = ridge_head(svd, ridge_targets, tried.chosen)
    # The truth has units of its own: mean 0 and variance 1 once more, which changes only what rounding left.
    weight = torch.from_numpy(head.weight * ridge_targets.scale[:, None]).float()
    bias = torch.from_numpy(head.bias * ridge_targets.scale + ridge_targets.offset).float()
    details = {"method": "ridge", "penalty": tried.chosen, "held_out_loss": min(tried.losses) / targets.shape[1]}
    return (weight, bias), details
