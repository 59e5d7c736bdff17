"""An export of torch.export works without zoo and without timm, for any head and any batch size."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import zoo
from zoo.errors import ExportError
from zoo.formats.spec import sample_batch
from zoo.run import Run
from zoo.workflows.load_run import load_run

MakeRun = Callable[..., Run]

# Runs the code of each model card in its folder without zoo and timm, and saves its output.
STANDALONE_SCRIPT = """
import contextlib, io, os, re, sys
sys.modules["zoo"] = sys.modules["timm"] = None
for folder in sys.argv[1:]:
    os.chdir(folder)
    code = re.findall(r"```python\\n(.*?)```", open("README.md", encoding="utf-8").read(), re.DOTALL)[0]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    open("printed.txt", "w", encoding="utf-8").write(printed.getvalue())
"""


def test_torch_alone_gives_the_logits_and_the_prediction_of_zoo(make_run: MakeRun, photo_folder: Path) -> None:
    image = photo_folder / "china" / "03.jpg"
    folders = {}
    for i, (model, options) in enumerate(
        [("test_resnet", {}), ("test_vit", {"img_size": 64, "head": "multi-depth"}), ("torchvision/resnet18", {})]
    ):
        run = make_run(model, tuple("abcde"), where=f"run{i}", **{"img_size": 64, **options})
        folder = zoo.export(run, format="torch-export").folder
        restored = load_run(run)
        images = sample_batch(restored.preprocess)[[0, 1, 0]]
        with torch.inference_mode():
            loaded = torch.export.load(folder / "model.pt2").module()(images)
            assert torch.allclose(loaded, restored.model.module(images), atol=1e-5)
        (folder / "image.jpg").write_bytes(image.read_bytes())
        folders[folder] = run
    subprocess.run([sys.executable, "-c", STANDALONE_SCRIPT, *folders], check=True)
    for folder, run in folders.items():
        label, probability = (folder / "printed.txt").read_text(encoding="utf-8").rsplit(maxsplit=1)
        (ours,) = zoo.predict(run, image)
        assert label == ours.label
        assert float(probability) == pytest.approx(ours.probability, abs=2e-3)


@pytest.mark.parametrize(("model", "library"), [("test_resnet", "timm"), ("torchvision/resnet18", "torchvision")])
def test_formats_of_a_library_say_that_it_has_no_multi_depth_head(make_run: MakeRun, model: str, library: str) -> None:
    run = make_run(model, img_size=32, head="multi-depth")
    with pytest.raises(ExportError, match=f"loaded by {library}, which has no multi-depth head") as e:
        zoo.export(run)
    assert "torch-export" in e.value.hint
    assert not (run.path / "export" / "safetensors").exists()
