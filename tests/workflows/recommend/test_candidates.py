"""Candidates that are files: `MODEL=FILE`, runs and exports."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import save_file

from zoo.catalog.packages import PACKAGES
from zoo.errors import ModelError, TrainingError, WeightsError
from zoo.models import build
from zoo.models.builtin import weights_path
from zoo.workflows.recommend.candidates import CandidateModel, default_models, parse_candidates
from zoo.workflows.recommend.measure import measure_models
from zoo.workflows.recommend.run import recommend

if TYPE_CHECKING:
    from tests.conftest import CliResult
    from zoo.run import Run

TINY = str(weights_path("zoo_tiny"))


def test_names_and_files_become_candidates(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run("test_resnet", tuple("0123")).path
    export = tmp_path / "export"
    export.mkdir()
    shutil.copy(run / "model.safetensors", export)
    (export / "config.json").write_text(json.dumps({"architecture": "test_resnet", "num_classes": 4}))
    found = parse_candidates(
        ["resnet18.a1_in1k", f"zoo_tiny={TINY}", run, run / "model.safetensors", export, export / "model.safetensors"]
    )
    assert found == [
        CandidateModel("resnet18.a1_in1k", "resnet18.a1_in1k"),
        CandidateModel(f"zoo_tiny={TINY}", "zoo_tiny", TINY),
        CandidateModel(str(run), "test_resnet", str(run)),
        CandidateModel(str(run / "model.safetensors"), "test_resnet", str(run)),
        CandidateModel(str(export), "test_resnet", str(export)),
        CandidateModel(str(export / "model.safetensors"), "test_resnet", str(export)),
    ]


def test_what_records_no_model_is_an_error_with_the_next_command(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    shutil.copy(TINY, file)
    with pytest.raises(WeightsError, match="does not record the model") as caught:
        parse_candidates([str(file)])
    assert caught.value.hint == f"write zoo_tiny={file}"
    with pytest.raises(WeightsError, match="names no weights"):
        parse_candidates(["zoo_tiny="])
    with pytest.raises(WeightsError, match="no weights file"):
        parse_candidates([str(tmp_path / "nothing.pth")])
    with pytest.raises(ModelError, match="no model named 'no_such_model'"):
        parse_candidates([f"no_such_model={file}"])


def test_the_default_candidates_include_installed_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.catalog.packages.WeightsPackage.find_file", lambda _: Path("w.pth"))
    assert {package.architecture for package in PACKAGES.values()} <= set(default_models())
    monkeypatch.setattr("zoo.catalog.packages.WeightsPackage.find_file", lambda _: None)
    assert len(default_models()) == 10
    assert parse_candidates([])[0] == CandidateModel("resnet18", "resnet18")


def test_the_same_weights_measure_the_same_by_name_and_by_file(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But a published accuracy belongs to the published weights only: a file may be of any training."""
    monkeypatch.setattr("zoo.workflows.recommend.measure.prior_for", {"zoo_tiny.strokes": 0.4}.get)
    file = tmp_path / "random.safetensors"
    save_file(build("zoo_tiny", weights="none").module.state_dict(), file)
    found = measure_models(["zoo_tiny", f"zoo_tiny={TINY}", f"zoo_tiny={file}"], data=small, progress=False)
    scores = {m.name: m.scores.ridge.outcome.score for m in found.results}
    assert scores["zoo_tiny"] == scores[f"zoo_tiny={TINY}"] > scores[f"zoo_tiny={file}"]
    assert found.results[-1].name == f"zoo_tiny={file}"
    assert {m.name: m.prior for m in found.results} == {
        "zoo_tiny": 0.4, f"zoo_tiny={TINY}": None, f"zoo_tiny={file}": None
    }  # fmt: skip
    assert found.to_dict()["models"][-1]["weights"] == str(file)
    assert found.to_dict()["models"][-1]["catalog_name"] == "zoo_tiny"
    (alone,) = measure_models(["zoo_tiny"], data=small, weights=TINY, progress=False).results
    assert alone.prior is None


def test_the_printed_command_names_the_file(
    zoo: Callable[..., CliResult], small: Path, make_run: Callable[..., Run], tmp_path: Path
) -> None:
    file = tmp_path / "my weights.safetensors"
    shutil.copy(TINY, file)
    run = make_run("test_resnet", tuple("0123")).path
    result = zoo("recommend", small, f"zoo_tiny={file}", run)
    assert result.code == 0, result.err
    rows = [line.split("\t") for line in result.out.splitlines()]
    assert {row[1] for row in rows[1:]} == {f"zoo_tiny={file}", str(run)}
    command = next(line for line in result.err.splitlines() if line.startswith("next: zoo "))
    words = shlex.split(command.removeprefix("next: zoo "))
    assert words[:2] == ["finetune", "zoo_tiny"]
    assert words[words.index("--weights") + 1] == str(file)
    assert zoo(*words, "--dry-run").code == 0
    assert zoo("quadrant", small, f"zoo_tiny={file}").code == 0


def test_short_trainings_start_from_the_file(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, Path, str]] = []

    def finetune(model: str, *, output_dir: Path, weights: str, **_: Any) -> Run:
        given.append((model, output_dir, weights))
        raise TrainingError("not now")

    monkeypatch.setattr("zoo.workflows.recommend.pilots.finetune", finetune)
    found = recommend([f"zoo_tiny={TINY}"], data=small, budget=60, output_dir=tmp_path / "out", progress=False)
    assert found.pilots is None
    assert {(model, weights) for model, _, weights in given} == {("zoo_tiny", TINY)}
    assert len({folder for _, folder, _ in given}) == 3
    assert {folder.parent for _, folder, _ in given} == {tmp_path / "out" / "pilots"}
