"""`zoo recommend` and `zoo quadrant`: measurements, decisions, pilots, and recipes set to `auto`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageDraw

import zoo as api
from zoo.errors import DataError, UsageError, WeightsError
from zoo.options import Options
from zoo.recipe import build, load_values
from zoo.run import Run
from zoo.workflows.finetune.auto import resolve_auto
from zoo.workflows.recommend import pilots
from zoo.workflows.recommend.measure import measure_models
from zoo.workflows.recommend.run import recommend

if TYPE_CHECKING:
    from tests.conftest import CliResult
    from zoo.run import Run


def test_measurements_of_a_model_pretrained_on_similar_data(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    found = measure_models(["zoo_tiny"], data=small, progress=False)
    best = found.best
    assert found.images == 96
    assert best.scores.ridge.outcome.score > 0.95
    assert best.evidence.size.name == "small"
    assert best.evidence.architecture == "cnn"
    assert best.evidence.shift is not None
    assert best.prior is None
    assert best.params > 900_000
    assert best.features == 192
    assert best.computed == 2 * 96
    assert found.decisions[0].recipe in {"small-similar", "full", "small-different"}
    assert best.scores.depths is not None
    assert found.to_dict()["models"][0]["multi_depth_score"] == best.scores.depths.outcome.score
    assert found.decisions[0].changes.get("model.head", "linear") == best.scores.head
    assert len(found.summary()) == 3
    assert "96 training images in 4 classes" in found.summary()[0]
    again = measure_models(["zoo_tiny"], data=small, progress=False)
    assert again.best.computed == 0
    assert again.best.evidence.similarity == best.evidence.similarity


def test_training_a_head_reuses_the_cached_features(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    measure_models(["zoo_tiny"], data=small, progress=False)
    settings = {"model.head": "multi-depth"}
    api.finetune("zoo_tiny", data=small, freeze="backbone", settings=settings, output_dir="run")
    assert "feature cache: 24 computed, 96 found" in capsys.readouterr().err  # validation is new


def test_permuted_labels_are_not_similar(small: Path, tmp_path: Path) -> None:
    """The same images with random labels cannot be learned."""
    rng = np.random.default_rng(0)
    files = sorted(small.rglob("*.png"))
    for label in range(4):
        (tmp_path / "mixed" / str(label)).mkdir(parents=True)
    for number, (file, label) in enumerate(zip(files, rng.permutation(len(files)) % 4, strict=True)):
        shutil.copy(file, tmp_path / "mixed" / str(label) / f"{number}.png")
    found = measure_models(["zoo_tiny"], data=tmp_path / "mixed", progress=False)
    similar = found.best.evidence.similarity
    assert similar.value < 0.2
    assert similar.verdict != "similar"


def test_duplicates_are_removed_and_conflicts_reported(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "duplicates")
    for number, file in enumerate(sorted((tmp_path / "duplicates" / "0").glob("*.png"))[:10]):
        shutil.copy(file, tmp_path / "duplicates" / "0" / f"again{number}.png")
        shutil.copy(file, tmp_path / "duplicates" / "1" / f"other{number}.png")
    found = measure_models(["zoo_tiny"], data=tmp_path / "duplicates", progress=False)
    assert 5 <= found.sample.duplicates <= 20
    assert 1 <= found.sample.conflicting <= 10
    assert len(found.sample.indices) + found.sample.duplicates == found.images
    assert any("duplicate with a different target" in text for text in found.warnings)


def test_models_without_weights_are_skipped_with_the_reason(small: Path, make_run: Callable[..., Run]) -> None:
    run = make_run("test_resnet", tuple("0123"))
    found = measure_models(["test_vit2.r160_in1k", "zoo_tiny"], data=small, progress=False)
    assert [m.name for m in found.results] == ["zoo_tiny"]
    assert [m.name for m in found.skipped_models] == ["test_vit2.r160_in1k"]
    assert found.skipped_models[0].reason
    assert run.path.exists()
    with pytest.raises(WeightsError):
        measure_models(["test_vit2.r160_in1k"], data=small, progress=False)


def test_models_above_max_params_are_skipped(small: Path) -> None:
    found = measure_models(["zoo_tiny", "resnet50"], data=small, max_params=5e6, progress=False)
    assert [(m.name, m.reason) for m in found.skipped_models] == [("resnet50", "25.6 M parameters")]
    with pytest.raises(DataError):
        measure_models(["zoo_tiny"], data=small.parent / "nowhere", progress=False)


def test_regression_has_r2_and_no_classes(small: Path, tmp_path: Path) -> None:
    rows = ["image,brightness"]
    from PIL import Image

    for file in sorted(small.rglob("*.png")):
        rows.append(f"{file},{np.asarray(Image.open(file)).mean():.3f}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    found = measure_models(["zoo_tiny"], data=tmp_path / "t.csv", progress=False)
    assert found.task == "regression"
    assert found.best.scores.ridge.outcome.score > 0.25
    assert "R²" in found.summary()[1]


def test_recipe_auto_uses_the_decision_and_explicit_options_override_it(small: Path) -> None:
    found = measure_models(["zoo_tiny"], data=small, progress=False)
    decision = found.decisions[0]
    name, options = resolve_auto(
        "zoo_tiny", Options(data=small, recipe="auto", epochs=2, settings={"augment.name": "none"}), progress=False
    )
    assert name == "zoo_tiny"
    assert options["recipe"] == decision.recipe
    assert options["epochs"] == 2
    assert options["settings"]["augment.name"] == "none"  # type: ignore[index]
    run = api.finetune("zoo_tiny", data=small, recipe="auto", epochs=1, progress=False)
    assert run.status == "finished"


def test_the_images_are_described(small: Path, tmp_path: Path, zoo: Callable[..., CliResult]) -> None:
    found = measure_models(["zoo_tiny"], data=small, progress=False)
    as_dict = found.to_dict()
    assert as_dict["images_per_class"] == list(found.sample.counts)
    assert sum(as_dict["images_per_class"]) == found.images
    rng = np.random.default_rng(0)
    for part in ("one", "two"):
        (tmp_path / "wide" / part).mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(0, 256, (30, 50, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "wide" / part / f"{part}{number}.png")
    wide = measure_models(["zoo_tiny"], data=tmp_path / "wide", progress=False)
    assert (wide.sample.width, wide.sample.height, wide.sample.colours) == (50, 30, "colour")
    assert "images: 50x30 pixels (median), colour; " in zoo("quadrant", tmp_path / "wide", "zoo_tiny").err


def _lines(root: Path, angles: tuple[int, int]) -> Path:
    """40 images in two classes: lines at an angle, in degrees, anywhere."""
    rng = np.random.default_rng(0)
    for number in range(40):
        angle, (x, y) = np.radians(angles[number % 2] + rng.normal(0, 4)), rng.uniform(10, 22, 2)
        image = Image.new("RGB", (32, 32), "black")
        dx, dy = 14 * np.cos(angle), 14 * np.sin(angle)
        ImageDraw.Draw(image).line([(x - dx, y - dy), (x + dx, y + dy)], fill="white", width=3)
        folder = root / ("one", "two")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{number}.png")
    return root


def test_flips_that_change_the_class_are_turned_off(tmp_path: Path) -> None:
    leaning = _lines(tmp_path / "leaning", (45, 135))
    found = measure_models(["zoo_tiny"], data=leaning, progress=False)
    assert found.best.evidence.flip_invariance is not None
    assert found.best.evidence.flip_invariance.flipped_score < 0.3
    assert found.decisions[0].changes["augment.flips"] == "off"
    assert any("flipped" in warning for warning in found.warnings)
    assert found.to_dict()["models"][0]["flip_invariance"]["verdict"] == "harmful"
    _, options = resolve_auto("zoo_tiny", Options(data=leaning, freeze="auto"), progress=False)
    assert options["settings"]["augment.flips"] == "off"  # type: ignore[index]
    chosen = measure_models(["zoo_tiny"], data=leaning, settings={"augment.flips": "on"}, progress=False)
    assert chosen.best.evidence.flip_invariance is None

    upright = measure_models(["zoo_tiny"], data=_lines(tmp_path / "upright", (0, 90)), progress=False)
    assert upright.best.evidence.flip_invariance is not None
    assert upright.best.evidence.flip_invariance.verdict == "harmless"
    assert "augment.flips" not in upright.decisions[0].changes


@pytest.mark.parametrize("side", ["border", "center"])
def test_images_are_squashed_if_the_crop_cuts_off_what_tells_classes_apart(tmp_path: Path, side: str) -> None:
    """Wide images, with a digit-like mark at the left border or in the center."""
    rng = np.random.default_rng(0)
    for number in range(40):
        image = rng.integers(100, 140, (32, 96, 3)).astype(np.uint8)
        column = 0 if side == "border" else 40
        mark = image[4:28, column : column + 16]
        mark[:] = 255
        mark[8 * (number % 2) : 8 * (number % 2) + 14, 3:13] = 0
        if side == "center":  # squashing hides it between the noise of both sides
            image[:, :32] = rng.integers(0, 255, (32, 32, 3))
            image[:, 64:] = rng.integers(0, 255, (32, 32, 3))
        path = tmp_path / "data" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    found = measure_models(["zoo_tiny"], data=tmp_path / "data", progress=False)
    changes = found.decisions[0].changes
    assert changes.get("data.fit", "auto") == ("squash" if side == "border" else "auto")
    explicit = measure_models(["zoo_tiny"], data=tmp_path / "data", fit="pad", progress=False)
    assert "data.fit" not in explicit.decisions[0].changes


def test_freeze_auto_takes_the_plan_only(small: Path) -> None:
    decision = measure_models(["zoo_tiny"], data=small, progress=False).decisions[0]
    plan = build(load_values(decision.recipe), decision.changes).freeze
    _, options = resolve_auto("zoo_tiny", Options(data=small, freeze="auto", lr=0.1), progress=False)
    assert options["freeze"] == plan
    assert options.get("recipe") is None
    assert options["lr"] == 0.1
    with pytest.raises(UsageError, match="without a model"):
        resolve_auto(None, Options(data=small, freeze="auto"), progress=False)


def test_the_command_line(zoo: Callable[..., CliResult], small: Path, tmp_path: Path) -> None:
    result = zoo("recommend", small, "zoo_tiny", "-o", "out")
    assert result.code == 0
    head, row = (line.split("\t") for line in result.out.splitlines())
    assert head[:3] == ["rank", "model", "linear probe"]
    assert row[:2] == ["1", "zoo_tiny"]
    assert "You have 96 training images" in result.err
    assert "next: zoo finetune zoo_tiny --data" in result.err
    written = json.loads((tmp_path / "out" / "recommend.json").read_text())
    assert written["models"][0]["model"] == "zoo_tiny"
    assert written["summary"][2].startswith("Recommendation: ")
    assert (tmp_path / "out" / "recommend.png").read_bytes().startswith(b"\x89PNG")

    as_json = json.loads(zoo("recommend", small, "zoo_tiny", "--json").out)
    assert as_json["models"][0]["similarity"] == written["models"][0]["similarity"]

    point = zoo("quadrant", small, "zoo_tiny")
    values = dict(line.split("\t") for line in point.out.splitlines())
    assert values["recipe"] == written["models"][0]["decision"]["recipe"]
    assert values["size"] == "small"

    assert zoo("recommend", small, "zoo_tiny", "--budget", "soon").code == 2
    assert zoo("recommend", small, "zoo_tiny", "--top", "0").code == 2
    assert zoo("recommend", tmp_path / "nothing").code == 3
    assert zoo("quadrant", small, "no_such_model").code == 4


def test_the_printed_command_works(zoo: Callable[..., CliResult], small: Path) -> None:
    import shlex

    result = zoo("recommend", small, "zoo_tiny")
    command = next(line for line in result.err.splitlines() if line.startswith("next: zoo "))
    assert zoo(*shlex.split(command.removeprefix("next: zoo ")), "--dry-run").code == 0


def test_pilots_use_the_rest_of_the_budget_and_resume_their_runs(small: Path, tmp_path: Path) -> None:
    found = recommend(["zoo_tiny"], data=small, budget=120, output_dir=tmp_path / "out", progress=False)
    tried = found.pilots
    assert tried is not None
    assert {p.strategy for p in tried.tried} == {"head", "partial", "all"}
    assert {p.epochs for p in tried.tried} <= {1, 20, 60}  # of 60 epochs, the limit for 500 steps
    default = {"backbone": "head", "none": "all"}[load_values(found.decisions[0].recipe)["freeze"]]
    assert (
        next(p.epochs for p in tried.tried if p.strategy == default) == tried.tried[0].epochs
    )  # always trained to the end
    rule_changes = found.decisions[0].changes
    for pilot in tried.tried:
        run = Run(tmp_path / "out" / "pilots" / f"zoo_tiny-{pilot.strategy}")
        assert len(run.metrics()) == (1 if pilot.strategy == "head" else pilot.epochs)  # fitted in closed form
        given = load_values(run.path)
        if pilot.strategy != "head" and found.decisions[0].recipe == "full":
            assert given["optimizer"]["lr"] == rule_changes.get("optimizer.lr", given["optimizer"]["lr"])
    model, decision = found.choice
    assert model == "zoo_tiny"
    assert (tried.chosen is None) == (decision == found.decisions[0])
    written = json.loads((tmp_path / "out" / "recommend.json").read_text())
    assert written["pilots"]["tried"][0]["epochs"] == tried.tried[0].epochs


def test_only_a_complete_pilot_replaces_the_rule(small: Path, tmp_path: Path) -> None:
    found = recommend(["zoo_tiny"], data=small, budget=1e-6, output_dir=tmp_path / "out", progress=False)
    default = ("zoo_tiny", "all")

    def verdict(epochs: int, head: float, all_layers: float) -> pilots.Pilots:
        done = {
            (model, strategy): pilots.Pilot(model, strategy, epochs, value, 1.0)
            for (model, strategy), value in {("zoo_tiny", "head"): head, default: all_layers}.items()
        }
        return pilots._verdict(found, done, default, 60, "top1")

    early = verdict(20, 0.9, 0.3)
    assert early.chosen is None
    assert "20 of 60 epochs" in early.reason
    assert verdict(60, 0.3, 0.9).chosen is None
    replacement = verdict(60, 0.9, 0.3).chosen
    assert replacement is not None
    assert replacement[1].recipe == "small-similar"


def test_without_time_there_are_no_pilots(small: Path, tmp_path: Path) -> None:
    found = recommend(["zoo_tiny"], data=small, budget=1e-6, output_dir=tmp_path / "out", progress=False)
    assert found.pilots is None
    assert found.choice == ("zoo_tiny", found.decisions[0])
