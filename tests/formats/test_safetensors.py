"""An export works without zoo: timm or torchvision gives the same logits, and the code of the model card runs."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

import zoo
from zoo.errors import ExportError
from zoo.formats import FORMATS
from zoo.formats.safetensors import write
from zoo.formats.spec import ExportSpec, check_logits, sample_batch
from zoo.models import build
from zoo.run import Run
from zoo.workflows.load_run import load_run

MakeRun = Callable[..., Run]

# (model, in_chans, img_size): a CNN, a ViT at another size and depth of channels, the built-in backbone
TIMM = [("test_resnet", 3, None), ("test_vit", 1, 64), ("zoo_tiny", 3, 32), ("test_efficientnet", 4, 64)]
TORCHVISION = [
    ("torchvision/mobilenet_v3_small", 3, 64),
    ("torchvision/resnet18", 1, 32),
    ("torchvision/mnasnet0_5", 3, 64),
]


def logits(run: Run) -> torch.Tensor:
    restored = load_run(run)
    with torch.inference_mode():
        return restored.model.module(sample_batch(restored.preprocess))


# Runs the code of each model card in its folder without zoo, and saves its output and logits.
STANDALONE_SCRIPT = """
import contextlib, io, os, re, sys
sys.modules["zoo"] = None
import torch
for folder in sys.argv[1:]:
    os.chdir(folder)
    code = re.findall(r"```python\\n(.*?)```", open("README.md", encoding="utf-8").read(), re.DOTALL)[0]
    names = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, names)
    open("printed.txt", "w", encoding="utf-8").write(printed.getvalue())
    with torch.inference_mode():
        torch.save(names["model"](torch.load("images.pt")), "logits.pt")
"""


@pytest.mark.parametrize(("model", "in_chans", "img_size"), TIMM)
def test_timm_alone_gives_identical_logits(make_run: MakeRun, model: str, in_chans: int, img_size: int | None) -> None:
    run = make_run(model, tuple("abcde"), in_chans=in_chans, img_size=img_size)
    done = zoo.export(run)
    loaded = timm.create_model(f"local-dir:{done.folder}", pretrained=True).eval()
    preprocess = load_run(run).preprocess
    with torch.inference_mode():
        assert torch.equal(loaded(sample_batch(preprocess)), logits(run))
    assert list(loaded.pretrained_cfg["label_names"]) == list("abcde")
    config = timm.data.resolve_model_data_config(loaded)
    assert tuple(config["input_size"]) == preprocess.input_size
    assert tuple(config["mean"]) == preprocess.mean
    assert (config["crop_pct"], config["interpolation"]) == (preprocess.crop_pct, preprocess.interpolation)


def test_the_model_card_code_gives_the_outputs_of_zoo(make_run: MakeRun, photo_folder: Path) -> None:
    """For both libraries: identical logits, and the same prediction for a JPEG that is resized, cropped and, with one
    channel, converted to grey."""
    image = photo_folder / "china" / "03.jpg"
    runs, folders = [], []
    for i, (model, in_chans, img_size) in enumerate([TIMM[1], TIMM[2], *TORCHVISION]):
        run = make_run(model, ("left $", "it's", "日本"), in_chans=in_chans, img_size=img_size, where=f"run{i}")
        done = zoo.export(run)
        (done.folder / "image.jpg").write_bytes(image.read_bytes())
        torch.save(sample_batch(load_run(run).preprocess), done.folder / "images.pt")
        runs.append(run)
        folders.append(done.folder)
    subprocess.run([sys.executable, "-c", STANDALONE_SCRIPT, *folders], check=True)
    for run, folder in zip(runs, folders, strict=True):
        assert torch.equal(torch.load(folder / "logits.pt"), logits(run)), run
        label, probability = (folder / "printed.txt").read_text(encoding="utf-8").rsplit(maxsplit=1)
        (ours,) = zoo.predict(run, image)
        assert label == ours.label
        assert float(probability) == pytest.approx(ours.probability, abs=2e-3)


def test_the_model_card_code_of_every_task_gives_the_outputs_of_predict(make_run: MakeRun, photo_folder: Path) -> None:
    """Labels from probability 0.5 and plain numbers, with both libraries."""
    image = photo_folder / "flower" / "05.jpg"
    runs = {}
    for task in ("multi-label", "regression"):
        for i, (model, in_chans, img_size) in enumerate([TIMM[2], TORCHVISION[1]]):
            run = make_run(
                model, tuple("abcdefg"), task=task, in_chans=in_chans, img_size=img_size, where=f"{task}-{i}"
            )
            folder = zoo.export(run).folder
            (folder / "image.jpg").write_bytes(image.read_bytes())
            torch.save(sample_batch(load_run(run).preprocess), folder / "images.pt")
            assert json.loads((folder / "config.json").read_text())["task"] == task
            runs[folder] = run
    subprocess.run([sys.executable, "-c", STANDALONE_SCRIPT, *runs], check=True)
    for folder, run in runs.items():
        assert torch.equal(torch.load(folder / "logits.pt"), logits(run))
        lines = [line.split() for line in (folder / "printed.txt").read_text().splitlines()]
        (ours,) = zoo.predict(run, image)
        if ours.task == "multi-label":
            expected = sorted(ours.top)
            assert 0 < len(expected) < 7, "some labels and not all of them"
        else:
            expected = list(ours.values.items())
        assert [name for name, _ in lines] == [name for name, _ in expected]
        spread = float(logits(run).std())
        assert [float(v) for _, v in lines] == pytest.approx([v for _, v in expected], abs=2e-3 + 0.02 * spread)


@pytest.mark.parametrize(("model", "in_chans", "img_size"), [TIMM[1], TORCHVISION[1]])
def test_the_printed_command_loads_the_model(
    make_run: MakeRun, tmp_path: Path, model: str, in_chans: int, img_size: int
) -> None:
    done = zoo.export(make_run(model, in_chans=in_chans, img_size=img_size), output_dir=tmp_path / "it's a $HOME")
    python, flag, code = shlex.split(done.command)
    assert (python, flag) == ("python", "-c")
    exec(code, {})


def test_torchvision_config_names_the_library(make_run: MakeRun) -> None:
    done = zoo.export(make_run("torchvision/mobilenet_v3_small", img_size=64))
    config = json.loads((done.folder / "config.json").read_text())
    assert (config["library"], config["architecture"]) == ("torchvision", "mobilenet_v3_small")
    assert config["preprocess"]["input_size"] == [3, 64, 64]
    assert len(config["label_names"]) == config["num_classes"] == 10


def test_metadata_of_the_pretrained_weights_is_removed(tmp_path: Path) -> None:
    model = build("test_resnet", classes=2, weights="none")
    stale = {"url": "u", "hf_hub_id": "timm/x", "tag": "a1_in1k", "origin_url": "o", "paper_ids": "p", "source": "s"}
    stale |= {"label_offset": 1, "test_input_size": (3, 9, 9), "custom_load": True, "not_timms": 1}
    model.pretrained_cfg.update(stale)
    model.module.eval()
    write(ExportSpec(model, ("a", "b"), model.preprocess, "run", None), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert not stale.keys() & config["pretrained_cfg"].keys()
    assert config["pretrained_cfg"]["license"] == "unknown"
    assert config["pretrained_cfg"]["num_classes"] == config["num_classes"] == 2


def test_a_changed_model_is_an_error(make_run: MakeRun) -> None:
    restored = load_run(make_run())
    spec = ExportSpec(restored.model, restored.classes, restored.preprocess, "run", None)
    check_logits(spec, restored.model.module, "the same")
    for loaded in (lambda x: restored.model.module(x) * 1.01, lambda x: restored.model.module(x) * float("nan")):
        with pytest.raises(ExportError, match="other logits"):
            check_logits(spec, loaded, "another")
    with pytest.raises(ExportError, match="gives logits"):
        check_logits(spec, lambda x: restored.model.module(x)[:, :3], "another")


def test_large_outputs_may_differ_by_rounding(make_run: MakeRun) -> None:
    """Targets such as years: large, with a spread close to the rounding error."""

    class Years(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2000 + 0.001 * x.mean((2, 3))

    restored = load_run(make_run(task="regression"))
    years = Years()
    spec = ExportSpec(replace(restored.model, module=years), restored.classes, restored.preprocess, "run", None)
    check_logits(spec, lambda x: torch.nextafter(years(x), torch.tensor(torch.inf)), "another machine's sum")
    with pytest.raises(ExportError, match="other logits"):
        check_logits(spec, lambda x: years(x) + 0.01, "another")


def test_the_table_imports_no_torch() -> None:
    code = "import sys, zoo.formats; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'timm', 'safetensors')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert all(entry.load() for entry in FORMATS.values())
