"""`zoo.export`: input runs, target folder and license."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.errors import DataError, UsageError
from zoo.run import Run

MakeRun = Callable[..., Run]


def test_exports_into_the_run_by_default_and_again(make_run: MakeRun) -> None:
    run = make_run("test_vit", img_size=32)
    for _ in range(2):
        done = zoo.export(run)
        assert done.folder == run.path / "export" / "safetensors"
        assert (done.folder / "labels.txt").read_text().split() == list("0123456789")
        assert json.loads((done.folder / "preprocess.json").read_text()) == run.model_record()["preprocess"]


def test_the_preprocessing_of_the_run_is_exported(make_run: MakeRun) -> None:
    """A run on small images trains at their size."""
    run = make_run("test_resnet")
    change(run, lambda record: record["preprocess"].update(input_size=[3, 32, 32], crop_pct=1.0))
    config = json.loads((zoo.export(run).folder / "config.json").read_text())
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32]
    assert config["pretrained_cfg"]["crop_pct"] == 1.0


@pytest.mark.parametrize(("task", "what"), [("multi-label", "labels"), ("regression", "targets")])
def test_the_files_contain_the_task_and_class_names(make_run: MakeRun, task: str, what: str) -> None:
    run = make_run("test_vit", ("width", "height of it"), task=task, img_size=32, data={"source": "some/table.csv"})
    folder = zoo.export(run).folder
    assert json.loads((folder / "config.json").read_text())["task"] == task
    assert (folder / "labels.txt").read_text() == "width\nheight of it\n"
    assert f"`table.csv`, 2 {what}" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("source", "license", "expected"),
    [
        ("hf-hub:timm/test_vit.r160_in1k/model.safetensors", "apache-2.0", "apache-2.0"),
        ("builtin:zoo_tiny", "apache-2.0", "apache-2.0"),
        ("https://example.org/x.pth", None, "unknown"),
        ("/home/me/x.pth", "apache-2.0", "unknown"),
        ("none", "apache-2.0", "unknown"),
    ],
)
def test_license_only_of_the_pretrained_weights(
    make_run: MakeRun, source: str, license: str | None, expected: str
) -> None:
    run = make_run("test_vit", img_size=32)

    def edit(record: dict[str, Any]) -> None:
        record["model"]["weights"]["source"] = source
        record["model"]["pretrained_cfg"]["license"] = license

    change(run, edit)
    folder = zoo.export(run).folder
    assert f"license: {expected}\n" in (folder / "README.md").read_text()
    assert json.loads((folder / "config.json").read_text())["pretrained_cfg"]["license"] == expected


def test_an_unfinished_run_is_exported_with_a_note(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.export(make_run("test_vit", img_size=32, status="interrupted"))
    assert "best weights so far (epoch 2)" in capsys.readouterr().err


def test_a_run_without_weights_cannot_be_exported(make_run: MakeRun) -> None:
    run = make_run("test_vit", img_size=32, status="interrupted")
    run.weights_file.unlink()
    with pytest.raises(DataError, match=r"model\.safetensors is missing"):
        zoo.export(run)
    assert not (run.path / "export").exists()


def test_unknown_format_and_used_folder(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("test_vit", img_size=32)
    with pytest.raises(UsageError, match="safetensor") as e:
        zoo.export(run, "safetensor")
    assert "did you mean safetensors?" in e.value.hint
    with pytest.raises(UsageError, match="in use"):
        zoo.export(run, output_dir=run.path)


def change(run: Run, edit: Callable[[Any], object]) -> None:
    record = json.loads(run.model_file.read_text())
    edit(record)
    run.model_file.write_text(json.dumps(record))
