"""Whether a linear head is fitted directly (L-BFGS, ridge) instead of by gradient steps, and the epoch that does it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo import dist_env, losses
from zoo.data import Loader
from zoo.errors import RecipeError
from zoo.progress import duration
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.strategy.scores.ridge import ridge_head, ridge_loo
from zoo.strategy.scores.svd import decompose
from zoo.strategy.scores.targets import Targets
from zoo.training.features.dataset import FeatureBatches, FeatureCachePolicy
from zoo.training.features.linear_probe import CONVEX_LOSSES, MAX_BYTES, fit_linear_probe, why_not_linear
from zoo.training.features.standardize import column_shares
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
    why = next(_why_not_fitted(recipe, feature_cache, images=images), "")
    if setting != "on" and not why and feature_cache is not None:
        rows = images * feature_cache.rows_per_image
        if takes_long(rows, feature_cache.feature_extractor.numbers, outputs):
            numbers = f"{feature_cache.feature_extractor.numbers:,} features and {outputs:,} outputs"
            why = f"{images:,} images with {numbers} take long; --linear-probe on forces it"
    if recipe.train.refit == "on" and (why or setting == "off"):
        why = why or "train.linear_probe is off"
        raise RecipeError([f"train.refit: only a linear probe is fitted again: {why}"], "leave out --refit")
    if setting == "off":
        return False, "" if why else (
            "linear probe off: the head is trained by gradient steps from zero weights, which takes longer and rarely "
            "gives a lower loss than fitting it"
        )
    if not why:
        return True, (
            "linear probe: the head is fitted directly, with a penalty chosen on the training images; epochs, learning "
            "rate and schedule have no effect (--linear-probe off trains the head by gradient steps)"
        )
    if setting == "on":
        raise RecipeError([f"train.linear_probe: on: {why}"], "leave it out, or set it to off")
    return False, f"linear probe off, the head is trained by gradient steps: {why}" if feature_cache is not None else ""


def takes_long(rows: int, features: int, outputs: int) -> bool:
    """Whether fitting takes longer than gradient steps."""
    return float(rows) * features * outputs > _MAX_WORK


def fit_bytes(recipe: Recipe, rows: int, features: int) -> int:
    """Memory of fitting; ridge regression holds several copies of the features in float64."""
    return (16 if losses.table_name(recipe.loss.name) == "mse" else 4) * rows * features


def why_no_convex_fit(recipe: Recipe, device: torch.device) -> Iterator[str]:
    """The reasons of loss, sampling and device against fitting a linear head directly."""
    if device.type == "mps":
        yield "MPS has no float64"
    if losses.table_name(recipe.loss.name) not in (*CONVEX_LOSSES, "mse") or (
        recipe.loss.params.get("reduction", "mean") != "mean"
    ):
        yield f"the loss {recipe.loss.name} is not known to be smooth and convex with reduction mean"
    if recipe.data.balance != "none":
        yield f"data.balance={recipe.data.balance} draws other images in each epoch; loss.class_weights works"


def _why_not_fitted(recipe: Recipe, feature_cache: FeatureCachePolicy | None, *, images: int) -> Iterator[str]:
    if feature_cache is None:
        yield "it needs cached features of a frozen backbone"
        return
    extractor = feature_cache.feature_extractor
    if dist_env.world_size() > 1:
        yield "it runs in one process"
    if why := why_not_linear(extractor):
        yield why
    yield from why_no_convex_fit(recipe, next(extractor.module.parameters()).device)
    for key, given in (
        ("train.model_ema", recipe.train.model_ema),
        ("transfer.l2_sp", recipe.transfer.l2_sp is not None),
        ("transfer.auto_rgn", recipe.transfer.auto_rgn),
    ):
        if given:
            yield f"{key} needs gradient steps"
    memory = fit_bytes(recipe, images * feature_cache.rows_per_image, extractor.numbers)
    if memory > MAX_BYTES:
        yield f"it holds all features in memory, {memory / 2**30:.1f} GiB for {images:,} images"
    if losses.table_name(recipe.loss.name) == "mse" and feature_cache.views > 1:
        yield f"there are {feature_cache.views} views of each image, and ridge regression fits one"


@dataclass(frozen=True)
class FittedHead:
    """A head that was fitted directly. logits (N, K), loss: on the training images without augmentation. details: the
    method, its penalty and the held-out loss, for run.json."""

    logits: Tensor
    loss: float
    details: dict[str, Any]


def fit_head(
    session: TrainingSession, layer: nn.Linear, features: Tensor, targets: Tensor, views: Sequence[Tensor] = ()
) -> FittedHead:
    """Fit the linear layer to features (N, D) and set its weight and bias.

    targets: in the data's units. views: features (N, D) of random views of the same images. Raises TrainingError if
    features or loss are not finite.
    """
    recipe, trainer, device = session.recipe, session.trainer, layer.weight.device
    loss, targets = trainer.loss, trainer.scale_for_loss(targets.to(device))
    columns = session.model.depths.columns if session.model.depths is not None else ()
    if losses.table_name(recipe.loss.name) == "mse" and bool((targets != targets[0]).any()):
        (weight, bias), details = _fit_ridge(features, targets, columns)
    else:
        probe = fit_linear_probe(
            features.to(device), targets, loss, outputs=layer.out_features, seed=recipe.train.seed,
            views=[view.to(device) for view in views], columns=columns,
        )  # fmt: skip
        weight, bias = probe.weight, probe.bias
        details = {
            "method": "l-bfgs",
            "penalty": probe.penalty,
            "held_out_loss": probe.held_out_loss,
            **({"views": probe.views} if views else {}),
            "passes": probe.passes,
        }
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
        logits = features.to(device).float() @ weight.T.to(device) + bias.to(device)
        return FittedHead(logits, float(loss(logits, targets)), details)


def run_linear_probe(run: Run, session: TrainingSession, log: Callable[[str], None]) -> EpochStats:
    """Fit the head and set its weights; loss and accuracy of the fitted head on the training images.

    Raises TrainingError if features or loss are not finite.
    """
    start = time.perf_counter()
    (features, *views), targets = _cached(session.train)
    fitted = fit_head(session, _layer(session), features, targets, views)
    one_class = not targets.is_floating_point()
    top1 = float((fitted.logits.argmax(1).cpu() == targets).float().mean()) if one_class else None
    seconds = time.perf_counter() - start
    details = fitted.details
    run.update(linear_probe={**details, "seconds": round(seconds, 3)})
    used = details.get("views", 1)
    used_views = f" and {used - 1} random views of each" if used > 1 else ""
    unused = f"; {len(views)} random views of each do not lower the held-out loss" if len(views) >= used else ""
    log(
        f"linear probe fitted on the features of {len(features):,} images{used_views} in {duration(seconds)}: "
        f"penalty {details['penalty']:.2g}, training loss {fitted.loss:.3g}, held-out loss "
        f"{details['held_out_loss']:.3g}{unused}"
    )
    return EpochStats(fitted.loss, top1, len(features), seconds)


def refit_linear_probe(run: Run, session: TrainingSession, log: Callable[[str], None]) -> None:
    """Fit the head on the training and validation images and save it; the metrics of the run are not changed.

    Raises TrainingError if the features are not finite, or the disk refuses.
    """
    (views, targets), ((val,), val_targets) = _cached(session.train), _cached(session.val)
    # There are no random views of the validation images: each is repeated, to weigh as much as a training image.
    features, *augmented = (torch.cat([view, val]) for view in views)
    fitted = fit_head(session, _layer(session), features, torch.cat([targets, val_targets]), augmented)
    run.save_weights(session.trainer.weights())
    run.update(refit={**fitted.details, "images": len(features)})
    log(
        f"refitted on all {len(features):,} images, the {len(val):,} validation images included; the metrics are those "
        "from before"
    )


def _cached(batches: Loader | FeatureBatches) -> tuple[list[Tensor], Tensor]:
    """The features of each view, and the targets."""
    if not isinstance(batches, FeatureBatches):
        raise TypeError("a linear probe needs cached features")
    return batches.all()


def _layer(session: TrainingSession) -> nn.Linear:
    """The layer that the cached features are the input of."""
    extractor = session.trainer.feature_extractor
    if extractor is None:
        raise TypeError("a linear probe needs cached features")
    layer = extractor.module.get_submodule(extractor.end)
    assert isinstance(layer, nn.Linear)
    return layer


def _fit_ridge(
    features: Tensor, targets: Tensor, columns: Sequence[slice]
) -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
    """In closed form; penalty and shares of the groups `columns` are chosen by leave-one-out."""
    ridge_targets = Targets.of(targets.cpu().numpy(), "regression")
    shares = [share.numpy() for share in column_shares(columns)] if columns else [None]
    svds = (decompose(features.float().numpy(), shares=share) for share in shares)
    svd, tried = min(((svd, ridge_loo(svd, ridge_targets)) for svd in svds), key=lambda pair: min(pair[1].losses))
    head = ridge_head(svd, ridge_targets, tried.chosen)
    # `Targets` standardizes the targets a second time, which changes only rounding errors.
    weight = torch.from_numpy(head.weight * ridge_targets.scale[:, None]).float()
    bias = torch.from_numpy(head.bias * ridge_targets.scale + ridge_targets.offset).float()
    details = {"method": "ridge", "penalty": tried.chosen, "held_out_loss": min(tried.losses) / targets.shape[1]}
    return (weight, bias), details
