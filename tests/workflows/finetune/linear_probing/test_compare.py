"""The fine-tuned weights replace the linear probe only if the held-out images say so clearly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.errors import RecipeError
from zoo.run import Run
from zoo.workflows.evaluate import evaluate
from zoo.workflows.finetune.run import finetune


def _run(small: Path, where: str, /, **options: Any) -> Run:
    settings = {"augment.name": "none", "transfer.compare_probe": True, **options.pop("settings", {})}
    return finetune("zoo_tiny", data=small, amp=False, progress=True, output_dir=where, settings=settings, **options)


def test_a_useless_fine_tuning_gives_the_probe(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Monitored by train order only: a learning rate of almost zero cannot be better by a standard error."""
    run = _run(small, "r", epochs=2, lr=1e-9, head_lr=1e-9)
    probe = finetune("zoo_tiny", data=small, freeze="backbone", amp=False, progress=False, output_dir="probe")
    assert run.info()["best"]["epoch"] == 0
    for name, value in probe.weights().items():
        assert torch.allclose(run.weights()[name].float(), value.float(), atol=1e-4), name
    text = capsys.readouterr().err
    assert "the linear probe is used" in text
    assert evaluate(run.path).evaluation.top1 == pytest.approx(run.info()["best"]["value"])


def test_a_clear_gain_is_taken_and_recorded(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A probe that knows nothing: every weight zero.
    def fit_nothing(session: Any, layer: torch.nn.Linear, features: Any, targets: Any) -> Any:
        from zoo.workflows.finetune.linear_probing.fit import FittedHead

        return FittedHead(torch.zeros(len(features), layer.out_features), math.log(layer.out_features), {})

    monkeypatch.setattr("zoo.workflows.finetune.linear_probing.phase.fit_head", fit_nothing)
    run = _run(small, "r", epochs=2, lr=3e-3, head_lr=3e-3)
    found = run.info()["probe_comparison"]
    assert run.info()["best"]["epoch"] > 0
    assert found["chosen"] == "the fine-tuned model"
    assert found["gain"] > found["standard_error"] > 0
    assert found["gain"] == pytest.approx(found["probe"]["loss"] - found["fine_tuned"]["loss"], abs=1e-4)
    assert found["probe"]["loss"] == pytest.approx(math.log(4), abs=1e-3)
    assert "±" in capsys.readouterr().err


def test_it_needs_the_probing_phase(small: Path) -> None:
    with pytest.raises(RecipeError, match=r"transfer\.compare_probe"):
        _run(small, "r", epochs=1, settings={"transfer.start": "plain"})
    plain = {"transfer.start": "plain", "transfer.compare_probe": "auto"}
    assert "probe_comparison" not in _run(small, "plain", epochs=1, settings=plain).info()
