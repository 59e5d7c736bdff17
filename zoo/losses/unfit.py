"""Losses of torch.nn that fit no task of zoo, each with the reason for the error message."""

from __future__ import annotations

__all__ = ["UNFIT", "why_unfit"]

_PAIRS = "it compares the embeddings of two inputs, and a task of zoo has one image and its target"
_TRIPLETS = "it compares the embeddings of three inputs, and a task of zoo has one image and its target"
_OWN_LAYER = "it has its own final layer and takes features; the model's head returns logits (cross_entropy)"

UNFIT: dict[str, str] = {
    "AdaptiveLogSoftmaxWithLoss": _OWN_LAYER,
    "CTCLoss": "it aligns sequences of unknown length (speech, text lines), and an image has one output vector",
    "CosineEmbeddingLoss": _PAIRS,
    "GaussianNLLLoss": "it needs a variance for each mean, and the model has one output per target (mse, huber)",
    "HingeEmbeddingLoss": "it takes the distance between two inputs, not logits (soft_margin and multi_margin do)",
    "LinearCrossEntropyLoss": _OWN_LAYER,
    "MarginRankingLoss": "it ranks the scores of two inputs, and a task of zoo has one image and its target",
    "PoissonNLLLoss": "it takes counts, and regression targets are standardized before "
    "the loss (mse, huber, or mse of the logarithms of the counts)",
    "TripletMarginLoss": _TRIPLETS,
    "TripletMarginWithDistanceLoss": _TRIPLETS,
}


def _plain(name: str) -> str:
    """The same text for CTCLoss, ctc_loss and ctc."""
    return name.lower().replace("_", "").removesuffix("loss")


_REASONS = {_plain(name): reason for name, reason in UNFIT.items()}


def why_unfit(name: str) -> str | None:
    """The reason why the loss `name`, a class of torch or its snake_case name, fits no task; None for other names."""
    return _REASONS.get(_plain(name.removeprefix("torch.nn:")))
