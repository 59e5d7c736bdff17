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
from zoo.strategy.scores.targets import Truth
from zoo.training.features.dataset import FeatureBatches, Keeping
from zoo.training.features.linear_probe import CONVEX, MOST_BYTES, solve_head, why_not_linear
from zoo.training.trainer import EpochStats
from zoo.workflows.finetune.session import Prepared

__all__ = ["choose", "solve"]


# Products in a pass over the features up to which it takes no longer than the steps of an ordinary run: 20,000 images
# of 2,048 numbers and 100 classes are half a minute of one core (benchmarks/head_solver.py).
_MOST_WORK = 5e9


def choose(
    recipe: Recipe, keeping: Keeping | None, loss: str, loss_params: dict[str, Any], *, images: int, outputs: int
) -> tuple[bool, str]:
    """Whether the head is solved, and a sentence that says so or why not ("" where nobody would ask).

    loss: the name of the run's own; images: of training; outputs: of the head. Raises RecipeError if it is asked for
    and cannot be.
    """
    asked = recipe.train.solver
    if asked == "steps":
        return False, ""
    why = next(_why_not(recipe, keeping, loss, loss_params, images=images), "")
    if asked == "auto" and not why and keeping is not None:
        numbers = keeping.prefix.numbers
        if float(images) * keeping.seen * numbers * outputs > _MOST_WORK:
            why = f"{images:,} images of {numbers:,} numbers and {outputs:,} outputs take long; --solver direct does it"
    if not why:
        return True, (
            "the head is solved directly, its penalty chosen on the training images: epochs, rates and schedule do not "
            "matter; --solver steps trains it"
        )
    if asked == "direct":
        raise RecipeError([f"train.solver: direct: {why}"], "leave it out, or set steps")
    return False, f"the head is trained in steps, not solved directly: {why}" if keeping is not None else ""


def _why_not(
    recipe: Recipe, keeping: Keeping | None, loss: str, loss_params: dict[str, Any], *, images: int
) -> Iterator[str]:
    if keeping is None:
        yield "that takes kept features of a frozen backbone"
        return
    if dist_env.count() > 1:
        yield "it runs in one process"
    if next(keeping.prefix.module.parameters()).device.type == "mps":
        yield "MPS has no float64"
    if why := why_not_linear(keeping.prefix):
        yield why
    known = losses.table_name(loss)
    if known not in (*CONVEX, "mse") or loss_params.get("reduction", "mean") != "mean":
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
    room = (16 if known == "mse" else 4) * images * keeping.seen * keeping.prefix.numbers
    if room > MOST_BYTES:
        yield f"it holds all features in memory, {room / 2**30:.1f} GiB of {images:,} images"
    if known == "mse" and keeping.views > 1:
        yield f"there are {keeping.views} views of each image, and the squared error is solved with one"


def solve(run: Run, prepared: Prepared, say: Callable[[str], None]) -> EpochStats:
    """Put the solution into the head; what an epoch says of the training images, met with it.

    Raises TrainingError if features or loss are not finite.
    """
    trainer, prefix, batches = prepared.trainer, prepared.trainer.prefix, prepared.train
    if prefix is None or not isinstance(batches, FeatureBatches):
        raise TypeError("a head is solved on kept features")
    start = time.perf_counter()
    (features, *views), on_host = batches.all()
    device = trainer.engine.device
    targets = trainer.for_loss(on_host.to(device))
    outputs = len(prepared.data.classes)
    if losses.table_name(prepared.recipe.loss.name) == "mse" and bool((targets != targets[0]).any()):
        found, said = _ridge(features, targets)
    else:
        solved = solve_head(
            features.to(device), targets, trainer.loss, outputs=outputs, seed=prepared.recipe.train.seed,
            views=[view.to(device) for view in views],
        )  # fmt: skip
        found = solved.weight, solved.bias
        said = {
            "method": "l-bfgs",
            "penalty": solved.penalty,
            "held_out_loss": solved.held_out,
            **({"views": solved.views} if views else {}),
            "passes": solved.passes,
        }
    weight, bias = found
    with torch.no_grad():
        layer = prefix.module.get_submodule(prefix.end)
        for name, value in (("weight", weight), ("bias", bias)):
            layer.get_parameter(name).copy_(value)
        logits = features.to(device).float() @ weight.T.to(device) + bias.to(device)
        loss = float(trainer.loss(logits, targets))
    one_class = not targets.is_floating_point()
    top1 = float((logits.argmax(1) == targets).float().mean()) if one_class else None
    seconds = time.perf_counter() - start
    run.update(solved={**said, "seconds": round(seconds, 3)})
    fitted = said.get("views", 1)
    tried = f" and {fitted - 1} random views of each" if fitted > 1 else ""
    left = f"; {len(views)} random views of each foretell images left out no better" if len(views) >= fitted else ""
    say(
        f"head solved on the features of {len(features):,} images{tried} in {duration(seconds)}: "
        f"penalty {said['penalty']:.2g}, loss {loss:.3g}, {said['held_out_loss']:.3g} on images left out{left}"
    )
    return EpochStats(loss, top1, len(features), seconds)


def _ridge(features: Tensor, targets: Tensor) -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
    """In closed form, each image left out once for every penalty."""
    spectrum = decompose(features.float().numpy())
    truth = Truth.of(targets.cpu().numpy(), "regression")
    tried = ridge_loo(spectrum, truth)
    head = ridge_head(spectrum, truth, tried.chosen)
    # The truth has units of its own: mean 0 and variance 1 once more, which changes only what rounding left.
    weight = torch.from_numpy(head.weight * truth.scale[:, None]).float()
    bias = torch.from_numpy(head.bias * truth.scale + truth.offset).float()
    said = {"method": "ridge", "penalty": tried.chosen, "held_out_loss": min(tried.losses) / targets.shape[1]}
    return (weight, bias), said
