"""Use a loss and an augmentation of your own, by import path. Needs no download.

python examples/own_parts.py
"""

import sys
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn import functional as F

import zoo


def poly(output: Tensor, target: Tensor, epsilon: float = 1.0) -> Tensor:
    """Cross entropy plus epsilon · (1 - p[y]) (PolyLoss, Leng et al. 2022).

    Shape: output (N, K) logits, target (N,) class indices → scalar.
    """
    probability = output.float().softmax(1).gather(1, target[:, None])
    return F.cross_entropy(output.float(), target) + epsilon * (1 - probability).mean()


def invert_some(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Invert half of the images. (H, W, C) uint8 → the same."""
    return 255 - image if rng.random() < 0.5 else image


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))  # `zoo` on the command line finds modules in the working directory
    run = zoo.finetune(
        "zoo_tiny",
        epochs=1,
        loss="own_parts:poly",
        settings={"loss.params": {"epsilon": 0.5}, "augment.name": "own_parts:invert_some", "data.workers": 0},
    )
    recipe = (run.path / "recipe.yaml").read_text()
    print([line for line in recipe.splitlines() if "own_parts" in line])


if __name__ == "__main__":
    main()
