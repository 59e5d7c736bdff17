"""The strategies and peers that are compared, each declared once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Runner = Literal["zoo", "logistic", "adamw", "fastai"]


@dataclass(frozen=True)
class Strategy:
    """How a model is trained in a cell.

    Attributes:
        runner: `zoo.finetune`; a logistic regression on features; a training loop in plain PyTorch; fastai.
        options: arguments of `zoo.finetune`, or keywords of the function in peers.py.
        follows_code: whether a change of zoo's source trains it again; for a choice that zoo makes.
        candidate: whether it is one of those that the automatic choice is compared with, not a peer.
    """

    runner: Runner = "zoo"
    options: dict[str, Any] = field(default_factory=dict)
    follows_code: bool = False
    candidate: bool = True


def _full(lr: float, head_lr: float, **settings: Any) -> dict[str, Any]:
    return {"recipe": "full", "lr": lr, "settings": {"optimizer.head_lr": head_lr, **settings}}


STRATEGIES: dict[str, Strategy] = {
    "auto": Strategy(options={"recipe": "auto"}, follows_code=True, candidate=False),
    "head": Strategy(options={"recipe": "head-only"}),
    "views": Strategy(options={"recipe": "small-similar"}),
    "multi-depth": Strategy(options={"recipe": "head-only", "settings": {"model.head": "multi-depth"}}),
    "multi-depth-refit": Strategy(
        options={"recipe": "head-only", "refit": True, "settings": {"model.head": "multi-depth"}}
    ),
    "multi-depth-views": Strategy(options={"recipe": "small-similar", "settings": {"model.head": "multi-depth"}}),
    "logistic": Strategy("logistic"),
    # The second half of the layers and the head.
    "partial": Strategy(options={"recipe": "full", "freeze": "50%"}),
    # The head is fitted before, so it has the learning rate of the other layers.
    **{f"lp-ft-{lr:.0e}".replace("e-0", "e-"): Strategy(options=_full(lr, lr, **{"transfer.start": "lp-ft"}))
       for lr in (1e-4, 3e-4, 1e-3)},
    # A few epochs from each probe, with fixed batch-norm statistics or not.
    **{f"{name}-{lr:.0e}{'-bn' if fixed else ''}".replace("e-0", "e-"): Strategy(
           options={**_full(lr, head_lr, **{"model.head": head, "transfer.fixed_bn_stats": fixed}), "epochs": 6})
       for name, head, head_lr in (("short", "linear", 3e-4), ("depths", "multi-depth", 3e-5))
       for lr in (1e-4, 3e-4) for fixed in (True, False)},
    "full": Strategy(options={"recipe": "full", "settings": {"transfer.start": "plain"}}),
    # 2e-3 is the learning rate of zoo_tiny's pretraining; twice the epochs of `full`.
    "scratch": Strategy(options={"weights": "none", "epochs": 20, **_full(2e-3, 2e-3, **{"data.norm": "model"})}),
    # The usual loop: all training images, 20 epochs.
    "adamw": Strategy("adamw", {"lr": 3e-4, "weight_decay": 0.05, "epochs": 20}, candidate=False),
    "fastai": Strategy("fastai", {"epochs": 5}, candidate=False),
}  # fmt: skip
