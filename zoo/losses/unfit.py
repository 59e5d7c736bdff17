"""The losses of torch.nn that fit no task, with the reasons."""

from __future__ import annotations

_PAIRS = "it compares the embeddings of two inputs, and a task here has one image and its target"
_TRIPLETS = "it compares the embeddings of three inputs, and a task here has one image and its target"
_OWN_LAYER = "it has its own output layer and takes features; the model's head returns logits (use cross_entropy)"

UNFIT: dict[str, str] = {
    "AdaptiveLogSoftmaxWithLoss": _OWN_LAYER,
    "CTCLoss": "it aligns sequences of unknown length (speech, text lines), and an image here has one output vector",
    "CosineEmbeddingLoss": _PAIRS,
    "GaussianNLLLoss": "it needs a variance for each mean, and the model returns one number per target (mse, huber)",
    "HingeEmbeddingLoss": "it takes the distance between two inputs, not logits (use soft_margin or multi_margin)",
    "LinearCrossEntropyLoss": _OWN_LAYER,
    "MarginRankingLoss": "it ranks the scores of two inputs, and a task here has one image and its target",
    "PoissonNLLLoss": "it needs counts, and regression targets are standardized before "
    "the loss (use mse or huber, or mse of the logarithms)",
    "TripletMarginLoss": _TRIPLETS,
    "TripletMarginWithDistanceLoss": _TRIPLETS,
}


def _plain(name: str) -> str:
    """ctc, for CTCLoss, ctc_loss and ctc."""
    return name.lower().replace("_", "").removesuffix("loss")


_REASONS = {_plain(name): reason for name, reason in UNFIT.items()}


def why_unfit(name: str) -> str | None:
    """Why the loss `name` (torch's class or its snake_case) fits no task; None for any other name."""
    return _REASONS.get(_plain(name.removeprefix("torch.nn:")))
