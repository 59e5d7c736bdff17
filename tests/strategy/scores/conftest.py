"""Features with known structure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Clusters = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def clusters() -> Callable[..., Clusters]:
    """make(n, d, classes, apart, seed) → features (n, d) of very different scales, labels (n,) in any order."""

    def make(n: int = 60, d: int = 20, classes: int = 4, *, apart: float = 1.0, seed: int = 0) -> Clusters:
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(n) % classes)
        features = rng.normal(size=(classes, d))[labels] * apart + rng.normal(size=(n, d))
        return features * np.logspace(-3, 3, d) + rng.normal(size=d), labels

    return make
