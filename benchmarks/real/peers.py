"""What others would do with the same images and weights: a logistic regression, a plain PyTorch loop, fastai.

Each takes a job of worker.py and returns the top-1 accuracy in [0, 1] on the test folder.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

BATCH_SIZE = 32
# Inverse penalties of the logistic regression.
PENALTIES = np.logspace(-5, 1, 7)
FOLDS = 5


def logistic(job: dict[str, Any]) -> float:
    """scikit-learn's logistic regression on the standardised features of all training images.

    The penalty is chosen by cross-validated log loss, in as many folds as the smallest class has images, at most 5.
    """
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = create_model(job, classes=0).eval()
    features, targets = _features(model, _folder(job, model, "train"))
    folds = min(FOLDS, int(np.bincount(targets).min()))
    head = make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(
            Cs=PENALTIES, cv=folds, scoring="neg_log_loss", l1_ratios=(0,), use_legacy_attributes=False, max_iter=1000
        ),
    ).fit(features, targets)
    features, targets = _features(model, _folder(job, model, "test"))
    return float((head.predict(features) == targets).mean())


def adamw(job: dict[str, Any], *, lr: float, weight_decay: float, epochs: int) -> float:
    """AdamW with a cosine schedule, timm's default augmentation, all training images, and the weights of the last step.

    Args:
        lr: learning rate of all parameters.
    """
    torch.manual_seed(job["cell"]["seed"])
    train = _folder(job, timm.create_model(job["cell"]["backbone"]), "train", augmented=True)
    model = create_model(job, classes=len(train.classes))
    one_left = len(train) % BATCH_SIZE == 1  # batch norm needs two images
    batches = DataLoader(train, BATCH_SIZE, shuffle=True, drop_last=one_left)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(batches))
    model.train()
    for _ in range(epochs):
        for images, targets in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), targets).backward()
            optimizer.step()
            schedule.step()
    logits, targets = _features(model.eval(), _folder(job, model, "test"))
    return float((logits.argmax(1) == targets).mean())


def fastai(job: dict[str, Any], *, epochs: int) -> float:
    """fastai's `vision_learner(...).fine_tune(epochs)` as in its book: a fifth of the images for validation, its head,
    learning rates and augmentation."""
    from fastai.vision import all as fv

    size = job["cell"]["img_size"]
    fv.set_seed(job["cell"]["seed"])
    config = resolve_model_data_config(timm.create_model(job["cell"]["backbone"]))
    loaders = fv.ImageDataLoaders.from_folder(
        job["train"],
        valid_pct=0.2,
        seed=job["cell"]["seed"],
        bs=BATCH_SIZE,
        num_workers=0,
        item_tfms=fv.Resize(size * 5 // 4),
        batch_tfms=[
            *fv.aug_transforms(size=size, min_scale=0.75),
            fv.Normalize.from_stats(config["mean"], config["std"]),
        ],
    )
    learner = fv.vision_learner(loaders, job["cell"]["backbone"], pretrained=False, normalize=False)
    body = learner.model[0].model
    missing = body.load_state_dict(_state(job), strict=False).missing_keys
    if missing:
        raise ValueError(f"the weights lack {missing[0]}")
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)
        files = fv.get_image_files(job["test"])
        probabilities, _ = learner.get_preds(dl=loaders.test_dl(files))
    labels = [loaders.vocab.o2i[file.parent.name] for file in files]
    return float((probabilities.argmax(1) == torch.tensor(labels)).float().mean())


def create_model(job: dict[str, Any], classes: int) -> nn.Module:
    """timm's model with the weights of the job and a new classifier, as timm initialises it; none if `classes` is 0."""
    model: nn.Module = timm.create_model(job["cell"]["backbone"], num_classes=classes)
    classifier = {f"{model.default_cfg['classifier']}.{of}" for of in ("weight", "bias")}
    state = {name: values for name, values in _state(job).items() if name not in classifier}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - classifier:
        raise ValueError(f"the weights do not fit the model: {(unexpected or missing)[0]}")
    return model


def _state(job: dict[str, Any]) -> dict[str, Tensor]:
    return load_file(job["weights"])


def _folder(job: dict[str, Any], model: nn.Module, part: str, *, augmented: bool = False) -> ImageFolder:
    """The images of a part at the size of the cell, whole, with the normalisation of the model."""
    size = job["cell"]["img_size"]
    config = {**resolve_model_data_config(model), "input_size": (3, size, size), "crop_pct": 1.0, "crop_mode": "squash"}
    return ImageFolder(job[part], create_transform(**config, is_training=augmented))


@torch.inference_mode()
def _features(model: nn.Module, images: ImageFolder) -> tuple[Any, Any]:
    """Outputs `(N, D)` and targets `(N,)`."""
    found = [(model(batch).numpy(), targets.numpy()) for batch, targets in DataLoader(images, 2 * BATCH_SIZE)]
    outputs, targets = zip(*found, strict=True)
    return np.concatenate(outputs), np.concatenate(targets)
