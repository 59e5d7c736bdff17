"""What the workflows' tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 digits as 16x16 PNGs in class folders: an epoch costs little."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    root = tmp_path_factory.mktemp("small")
    for label in range(4):
        (root / str(label)).mkdir()
        for number, image in enumerate(digits.images[digits.target == label][:30]):
            Image.fromarray((image * 15.9375).astype(np.uint8)).resize((16, 16)).save(
                root / str(label) / f"{number:02d}.png"
            )
    return root
