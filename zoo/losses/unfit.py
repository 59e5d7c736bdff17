"""The losses of torch.nn that no task here can use, each with the reason that a user is told."""

from __future__ import annotations

__all__ = ["UNFIT", "why_unfit"]

_PAIRS = "it compares the embeddings of two inputs, and a task here has one image and its target"
_TRIPLETS = "it compares the embeddings of three inputs, and a task here has one image and its target"
_OWN_LAYER = "it has a final layer of its own and wants features; the model's head gives logits (cross_entropy)"

UNFIT: dict[str, str] = {
    "AdaptiveLogSoftmaxWithLoss": _OWN_LAYER,
    "CTCLoss": "it aligns sequences of unknown length (speech, text lines), and an image here has one output vector",
    "CosineEmbeddingLoss": _PAIRS,
    "GaussianNLLLoss": "it wants a variance beside each mean, and the model gives one number a target (mse, huber)",
    "HingeEmbeddingLoss": "it takes the distance between two inputs, not logits (soft_margin and multi_margin do)",
    "LinearCrossEntropyLoss": _OWN_LAYER,
    "MarginRankingLoss": "it ranks the scores of two inputs, and a task here has one image and its target",
    "PoissonNLLLoss": "it wants counts, and regression targets are brought to mean 0 and standard deviation 1 before "
    "the loss (mse, huber, or mse of the logarithms of the counts)",
    "TripletMarginLoss": _TRIPLETS,
    "TripletMarginWithDistanceLoss": _TRIPLETS,
}


def _plain(name: str) -> str:
    """CTCLoss, ctc_loss and ctc alike."""
    return name.lower().replace("_", "").removesuffix("loss")


_REASONS = {_plain(name): reason for name, reason in UNFIT.items()}


def why_unfit(name: str) -> str | None:
    """The reason why the loss `name`, torch's class or its snake form, fits no task; None for any other name."""
    return _REASONS.get(_plain(name.removeprefix("torch.nn:")))
