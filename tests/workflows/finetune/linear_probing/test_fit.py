"""A linear head on cached features is fitted in one epoch, in a run like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.errors import Interrupted, RecipeError, UsageError
from zoo.recipe import build, load_values
from zoo.run import Run
from zoo.workflows.evaluate import evaluate
from zoo.workflows.finetune.build import build_session
from zoo.workflows.finetune.options import make_recipe
from zoo.workflows.finetune.run import finetune, resume
from zoo.workflows.load_run import load_run


def _run(data: Path | str, where: str, /, **options: Any) -> Run:
    options = {"freeze": "backbone", "amp": False, **options}
    return finetune("zoo_tiny", data=data, progress=False, output_dir=where, **options)


def test_head_only_fits_a_linear_probe_as_good_as_ten_epochs(small: Path) -> None:
    run = _run(small, "direct")
    (row,) = run.metrics()
    assert row["lr"] == row["lr_names"] == []
    assert row["train_top1"] == 1.0
    assert run.info()["status"] == "finished"
    assert run.info()["epochs"] == 1
    assert run.info()["linear_probe"]["method"] == "l-bfgs"
    assert load_values(run.path)["train"]["linear_probe"] == "on"
    steps = _run(small, "steps", linear_probe="off")
    assert len(steps.metrics()) == 10
    assert row["val_top1"] >= steps.info()["best"]["value"]
    assert row["val_loss"] <= steps.metrics()[-1]["val_loss"]
    # What is saved is the plain model.
    assert evaluate(run.path).evaluation.top1 == pytest.approx(row["val_top1"])
    with pytest.raises(UsageError, match="has finished"):
        resume("direct")


def test_the_same_weights_from_the_recipe_of_the_run_and_whatever_the_epochs(small: Path) -> None:
    one = _run(small, "one")
    again = finetune(build(load_values(one.path), {}), output_dir="two", progress=False)
    for name, value in one.weights().items():
        assert torch.equal(again.weights()[name], value), name
    for given in ({"lr": 0.1}, {"epochs": 3}, {"sched": "constant"}, {"settings": {"train.clip_grad": 1.0}}):
        assert build_session(make_recipe("zoo_tiny", data=small, freeze="backbone", **given)).fits_linear_probe
    few = _run(small, "few", epochs=3, lr=1e-4)
    for name, value in one.weights().items():
        assert torch.equal(few.weights()[name], value), name
    steps = build_session(make_recipe("zoo_tiny", data=small, freeze="backbone", linear_probe="off"))
    assert not steps.fits_linear_probe
    assert any("takes longer and rarely" in note for note in steps.notes)


def test_random_views_are_used_only_if_the_held_out_loss_is_lower(small: Path) -> None:
    plain = _run(small, "plain", seed=3)
    run = _run(small, "views", recipe="small-similar", seed=3)
    solved = run.info()["linear_probe"]
    assert load_values(run.path)["train"]["linear_probe"] == "on"
    assert len(run.metrics()) == 1
    assert solved["views"] in (1, 9)
    # The better of the two by the images left out, and the one without them is what head-only finds.
    assert solved["held_out_loss"] <= plain.info()["linear_probe"]["held_out_loss"]
    if solved["views"] == 1:
        assert all(torch.equal(value, plain.weights()[name]) for name, value in run.weights().items())
    # Views that show nothing but a corner.
    worse = {"augment.params": {"scale": [0.02, 0.03]}}
    corner = _run(small, "corner", recipe="small-similar", seed=3, settings=worse)
    assert corner.info()["linear_probe"]["views"] == 1
    for name, value in corner.weights().items():
        assert torch.equal(value, plain.weights()[name]), name
    steps = _run(small, "steps", recipe="small-similar", epochs=2, linear_probe="off")
    assert "linear_probe" not in steps.info()
    assert len(steps.metrics()) == 2


def test_refit_uses_all_images_and_keeps_the_metrics_from_before(small: Path) -> None:
    plain, run = _run(small, "plain"), _run(small, "refit", refit=True)
    assert run.metrics()[0]["val_loss"] == plain.metrics()[0]["val_loss"]
    assert run.info()["best"] == plain.info()["best"]
    assert run.info()["refit"]["images"] == sum(run.info()["data"][key] for key in ("train_images", "val_images"))
    before, after = plain.weights(), run.weights()
    assert {k for k in before if not torch.equal(before[k], after[k])} == {"fc.weight", "fc.bias"}
    result = evaluate(run.path)
    assert any("--refit" in note for note in result.notes)
    assert not evaluate(plain.path).notes
    # The same held-out images, by the name of the data set.
    digits = _run("digits", "digits", refit=True)
    named = evaluate(digits.path, "digits", save=False)
    assert named.evaluation.images == digits.info()["data"]["val_images"]
    assert any("--refit" in note for note in named.notes)
    # As a run whose training images are all of them.
    assert float(result.evaluation.loss) < plain.metrics()[0]["val_loss"]
    with pytest.raises(RecipeError, match=r"train\.refit: only a linear probe"):
        _run(small, "tuned", freeze="none", refit=True)
    for freeze, expected in (("backbone", "on"), ("none", "off")):
        auto = make_recipe("zoo_tiny", data=small, freeze=freeze, recipe="head-only", settings={"train.refit": "auto"})
        assert build_session(auto).recipe.train.refit == expected


@pytest.mark.parametrize("head", ["linear", "multi-depth"])
@pytest.mark.parametrize("task", ["regression", "multi-label"])
def test_numbers_and_labels(small: Path, tmp_path: Path, task: str, head: str) -> None:
    lines = ["image,label" if task == "multi-label" else "image,a,b"]
    for n, path in enumerate(sorted(small.rglob("*.png"))):
        digit = int(path.parent.name)
        labels = "odd;all" if digit % 2 else "all" if n % 7 else ""
        lines.append(f"{path},{labels}" if task == "multi-label" else f"{path},{digit * 100 + 5},{-digit}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(lines) + "\n")
    columns = ["label"] if task == "multi-label" else ["a", "b"]
    options: dict[str, Any] = {"task": task, "label_column": columns, "settings": {"model.head": head}}
    if task == "multi-label":
        options["label_separator"] = ";"
    run = _run(table, "direct", **options)
    steps = _run(table, "steps", linear_probe="off", **options)
    assert run.info()["linear_probe"]["method"] == ("ridge" if task == "regression" else "l-bfgs")
    assert run.metrics()[0]["val_loss"] < 1.05 * min(row["val_loss"] for row in steps.metrics())
    measured = evaluate(run.path).evaluation
    name = "r2" if task == "regression" else "micro_f1"
    assert getattr(measured, name) == pytest.approx(run.metrics()[0][f"val_{name}"], abs=0.01)


def test_a_multi_depth_head_is_fitted_saved_resumed_and_trained_further(small: Path) -> None:
    settings = {"model.head": "multi-depth"}
    run = _run(small, "fitted", settings=settings)
    assert run.info()["linear_probe"]["method"] == "l-bfgs"
    (row,) = run.metrics()
    measured = evaluate(run.path).evaluation
    assert measured.top1 == pytest.approx(row["val_top1"])
    assert measured.loss == pytest.approx(row["val_loss"], abs=1e-4)
    restored = load_run(run.path).model
    assert run.weights()["multi_depth.fc.weight"].shape == (4, restored.depths.columns[-1].stop)

    def stop(row: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    tuned = _run(small, "tuned", freeze="none", epochs=2, settings=settings)
    assert tuned.info()["start"]["head"]["val_top1"] > 0.5
    with pytest.raises(Interrupted):
        _run(small, "broken", freeze="none", epochs=2, settings=settings, on_epoch=stop)
    for name, value in resume("broken", progress=False).weights().items():
        assert torch.equal(value, tuned.weights()[name]), name
    steps = _run(small, "steps", linear_probe="off", epochs=2, settings=settings)
    assert len(steps.metrics()) == 2


def test_a_run_stopped_after_linear_probing_can_be_resumed(small: Path) -> None:
    def stop(row: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        _run(small, "broken", on_epoch=stop)
    again, whole = resume("broken", progress=False), _run(small, "whole")
    assert again.info()["status"] == "finished"
    assert len(again.metrics()) == 1
    for name, value in whole.weights().items():
        assert torch.equal(again.weights()[name], value), name


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"freeze": "none"}, "cached features"),
        ({"freeze": "stage3"}, "both trained"),
        ({"model.drop": 0.5}, "dropout"),
        ({"loss.name": "focal"}, "smooth and convex"),
        ({"data.balance": "oversample"}, "data.balance"),
        ({"train.model_ema": True}, "train.model_ema"),
        ({"train.feature_cache": "off"}, "cached features"),
    ],
)
def test_the_reason_against_a_linear_probe_is_printed_and_auto_uses_gradient_steps(
    small: Path, settings: dict[str, Any], reason: str
) -> None:
    freeze = settings.get("freeze", "backbone")
    rest = {k: v for k, v in settings.items() if k != "freeze"}

    def session(linear_probe: str) -> Any:
        values = {**rest, "train.linear_probe": linear_probe}
        return build_session(
            make_recipe("zoo_tiny", data=small, recipe="head-only", freeze=freeze, amp=False, settings=values)
        )

    with pytest.raises(RecipeError, match=reason):
        session("on")
    auto = session("auto")
    assert not auto.fits_linear_probe
    assert auto.recipe.train.linear_probe == "off"
