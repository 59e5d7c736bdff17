"""Which head predicts held-out images better."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.strategy.scores import Targets, measure


@pytest.mark.parametrize(("early", "expected"), [(2.0, "multi-depth"), (0.0, "linear")])
def test_all_depths_are_used_where_earlier_stages_tell_the_classes_apart(early: float, expected: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 4
    last = rng.normal(size=(120, 16)) + 0.5 * rng.normal(size=(4, 16))[labels]
    stages = rng.normal(size=(120, 100)) + early * rng.normal(size=(4, 100))[labels]
    found = measure(last, Targets.of(labels, "single-label"), np.hstack([stages, last]))
    assert found.head == expected
    assert found.depths is not None
    assert (min(found.depths.losses) < min(found.ridge.losses)) == (expected == "multi-depth")
    plain = measure(last, Targets.of(labels, "single-label"))
    assert (plain.head, plain.depths) == ("linear", None)
    assert plain.ridge.outcome.score == found.ridge.outcome.score
