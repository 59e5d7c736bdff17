"""fastai as in its book: DataLoaders from folders, a Learner, freeze, one cycle.

Its `freeze` leaves batch-norm layers trainable (train_bn, the default), so gradients are computed for the whole
network.
The last line on stdout is JSON with the top-1 accuracy of the last epoch.
"""

from __future__ import annotations

import json

import torch
from fastai.vision.all import (
    CrossEntropyLossFlat,
    ImageDataLoaders,
    Learner,
    Normalize,
    RandomResizedCrop,
    Resize,
    accuracy,
    aug_transforms,
    imagenet_stats,
    params,
    set_seed,
)
from hand import build, options
from torch import nn


def parameter_groups(model: nn.Module) -> list[list[nn.Parameter]]:
    """Parameter groups for `freeze` and `freeze_to`: before layer4, layer4, the head."""
    head, last = model.get_classifier(), model.layer4
    before = [m for m in model.children() if m is not head and m is not last]
    return [[p for m in before for p in params(m)], params(last), params(head)]


def main() -> None:
    args = options()
    set_seed(0)
    augmented = args.freeze == "none"
    data = ImageDataLoaders.from_folder(
        args.data,
        train="train",
        valid="val",
        bs=args.batch_size,
        num_workers=args.workers,
        item_tfms=RandomResizedCrop(224, min_scale=0.08) if augmented else Resize(224),
        batch_tfms=[
            *(aug_transforms(max_rotate=0, max_zoom=1, max_lighting=0, max_warp=0) if augmented else []),
            Normalize.from_stats(*imagenet_stats),
        ],
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )
    model = build(args, len(data.vocab))
    learner = Learner(
        data, model, loss_func=CrossEntropyLossFlat(), metrics=accuracy, splitter=parameter_groups, wd=args.weight_decay
    )
    if args.freeze != "none":
        learner.freeze_to(-1 if args.freeze == "backbone" else -2)
    with learner.no_bar():
        learner.fit_one_cycle(args.epochs, args.lr)
    print(json.dumps({"top1": float(learner.recorder.values[-1][-1])}))


if __name__ == "__main__":
    main()
