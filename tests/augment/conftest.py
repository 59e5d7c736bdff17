"""Fixtures of the augmentation room."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from zoo.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess


@pytest.fixture
def preprocess() -> Preprocess:
    return Preprocess((3, 48, 48), IMAGENET_MEAN, IMAGENET_STD, "bilinear", 0.875)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    return np.ascontiguousarray(load_sample_images().images[1][100:220, 200:360])
