"""Transfer of the built-in backbone: ten labelled digits per class, a logistic regression, three kinds of features.

    python benchmarks/builtin_transfer.py [--shots 10] [--seeds 5] [--require 94]

scikit-learn's 1,797 digits (8 x 8, 0..16) are converted to 8-bit grey, enlarged to 32 x 32 with Pillow's bilinear
filter, repeated to RGB and normalized for the backbone. For each seed, `shots` images per class are used for training
and all others for the test. Features are standardized with the mean and standard deviation of the training images;
the head is scikit-learn's multinomial logistic regression (L2, C = 0.1 in all rows; raw pixels are the 64 original
ones). Exits with 1 if the accuracy of `zoo_tiny` is below
`--require` percent.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import safetensors.torch
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from zoo.models.builtin import BUILTIN, weights_path

NAME = "zoo_tiny"
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def digit_images() -> tuple[torch.Tensor, Ints, Floats]:
    """The digits: normalized RGB `(1797, 3, 32, 32)`, labels `(1797,)`, original pixels `(1797, 64)`."""
    digits = load_digits()
    cfg = BUILTIN[NAME].pretrained_cfg
    size = cfg["input_size"][1:]
    grey = (digits.images * (255 / 16)).round().astype(np.uint8)
    enlarged = [np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)) for image in grey]
    images = torch.from_numpy(np.stack(enlarged)).float()[:, None].expand(-1, 3, -1, -1) / 255
    mean, std = (torch.tensor(cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    return (images - mean) / std, digits.target.astype(np.int64), digits.data.astype(np.float32)


def backbone(pretrained: bool, seed: int = 0) -> nn.Module:
    """`zoo_tiny` that returns pooled features: the committed weights, or random ones from `seed`."""
    torch.manual_seed(seed)
    spec = BUILTIN[NAME]
    model = timm.create_model(spec.architecture, num_classes=0, **spec.model_args)
    if pretrained:
        model.load_state_dict(safetensors.torch.load_file(weights_path(NAME)))
    return model.eval()


@torch.inference_mode()
def features(model: nn.Module, images: torch.Tensor) -> Floats:
    """Pooled features `(N, D)` of images `(N, 3, H, W)`."""
    return torch.cat([model(batch) for batch in images.split(256)]).numpy()


def few_shot_accuracy(inputs: Floats, labels: Ints, shots: int, seed: int) -> float:
    """Accuracy in [0, 1] on the images that are not used for training; inputs `(N, D)`, labels `(N,)`."""
    rng = np.random.default_rng(seed)
    train = np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:shots] for c in np.unique(labels)])
    test = np.setdiff1d(np.arange(len(labels)), train)
    scaler = StandardScaler().fit(inputs[train])
    head = LogisticRegression(C=0.1, max_iter=1000).fit(scaler.transform(inputs[train]), labels[train])
    return float(head.score(scaler.transform(inputs[test]), labels[test]))


def main() -> int:
    parser = argparse.ArgumentParser(description="Few-shot transfer of zoo_tiny to scikit-learn's digits.")
    parser.add_argument("--shots", type=int, default=10, help="labelled images per class")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--require", type=float, default=94.0, help="minimum mean accuracy of zoo_tiny, percent")
    options = parser.parse_args()
    torch.set_num_threads(2)
    images, labels, pixels = digit_images()
    seeds = range(options.seeds)
    pretrained = features(backbone(pretrained=True), images)
    rows = {
        "raw pixels": [few_shot_accuracy(pixels, labels, options.shots, s) for s in seeds],
        "same architecture, random weights": [
            few_shot_accuracy(features(backbone(False, s), images), labels, options.shots, s) for s in seeds
        ],
        NAME: [few_shot_accuracy(pretrained, labels, options.shots, s) for s in seeds],
    }
    print(f"{options.shots} digits per class, {options.seeds} seeds: mean accuracy (%), standard deviation, each seed")
    for name, accuracies in rows.items():
        percent = 100 * np.array(accuracies)
        print(f"{name:34s} {percent.mean():6.2f} {percent.std():5.2f}   {' '.join(f'{a:.1f}' for a in percent)}")
    if percent.mean() < options.require:
        print(f"{NAME} is below the required {options.require} %", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
