"""fastai as its book does it: DataLoaders from folders, a Learner, freeze, one cycle.

Its `freeze` leaves batch norms learning (train_bn, its default), so that the gradients go through the whole network.
The last line on stdout is what it reached, as JSON.
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


def parts(model: nn.Module) -> list[list[nn.Parameter]]:
    """Groups of parameters by which `freeze` and `freeze_to` go: before layer4, layer4, the head."""
    head, last = model.get_classifier(), model.layer4
    before = [m for m in model.children() if m is not head and m is not last]
    return [[p for m in before for p in params(m)], params(last), params(head)]


def main() -> None:
    asked = options()
    set_seed(0)
    augmented = asked.freeze == "none"
    data = ImageDataLoaders.from_folder(
        asked.data,
        train="train",
        valid="val",
        bs=asked.batch_size,
        num_workers=asked.workers,
        item_tfms=RandomResizedCrop(224, min_scale=0.08) if augmented else Resize(224),
        batch_tfms=[
            *(aug_transforms(max_rotate=0, max_zoom=1, max_lighting=0, max_warp=0) if augmented else []),
            Normalize.from_stats(*imagenet_stats),
        ],
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )
    model = build(asked, len(data.vocab))
    learner = Learner(
        data, model, loss_func=CrossEntropyLossFlat(), metrics=accuracy, splitter=parts, wd=asked.weight_decay
    )
    if asked.freeze != "none":
        learner.freeze_to(-1 if asked.freeze == "backbone" else -2)
    with learner.no_bar():
        learner.fit_one_cycle(asked.epochs, asked.lr)
    print(json.dumps({"top1": float(learner.recorder.values[-1][-1])}))


if __name__ == "__main__":
    main()
