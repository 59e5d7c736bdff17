"""What every room's tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import pytest

if TYPE_CHECKING:
    from zoo.run import Run

# Two workers of pytest-xdist on two cores: more threads than that only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """With several workers, a dot for one passed test in twenty: the whole suite then fits on a screen."""
    if report.when == "call" and report.passed and config.getoption("numprocesses", None):
        return "passed", "." if crc32(report.nodeid.encode()) % 20 == 0 else "", "PASSED"
    return None


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs of unequal sizes cut from scikit-learn's two photographs: china/ and flower/, 12 images each."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, photo in zip(("china", "flower"), load_sample_images().images, strict=True):
        (root / name).mkdir()
        for number in range(12):
            height, width = rng.integers(60, 200, 2)
            top = rng.integers(0, photo.shape[0] - height)
            left = rng.integers(0, photo.shape[1] - width)
            crop = Image.fromarray(photo[top : top + height, left : left + width])
            crop.save(root / name / f"{number:02d}.jpg", quality=90)
    return root


@pytest.fixture(autouse=True)
def _isolated_folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in a folder and with a cache of its own: no `runs/` in the checkout, nothing in the home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))


@dataclass(frozen=True)
class CliResult:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def zoo(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., CliResult]:
    """Run the program in this process, through the same `main` as the shell does: `zoo("list", "resnet18").out`."""
    import signal

    from zoo import cli

    def run(*args: object) -> CliResult:
        monkeypatch.setattr("sys.argv", ["zoo", *map(str, args)])
        before = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as e:
                cli.main()
        finally:
            signal.signal(signal.SIGTERM, before)
        captured = capsys.readouterr()
        return CliResult(int(e.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """A finished run with random weights, written without training: `make_run("test_vit", ("a", "b"), in_chans=1)`.

    classes: names of the classes, labels or targets of the task.
    """

    def make(
        model: str = "test_resnet",
        classes: tuple[str, ...] = tuple("0123456789"),
        *,
        task: str = "single-label",
        in_chans: int = 3,
        img_size: int | None = None,
        head: str = "linear",
        data: dict[str, Any] | None = None,
        status: str = "finished",
        where: str = "run",
    ) -> Run:
        import torch

        from zoo.models import build, record
        from zoo.recipe import build as build_recipe
        from zoo.recipe import dump
        from zoo.run import Run
        from zoo.tasks import TASKS

        torch.manual_seed(0)
        built = build(model, classes=len(classes), in_chans=in_chans, img_size=img_size, weights="none", head=head)
        run = Run(tmp_path / where)
        run.path.mkdir(parents=True)
        run.write_model(
            {
                "format": 1,
                "model": record(built),
                "task": task,
                "classes": list(classes),
                "preprocess": built.preprocess.to_dict(),
            }
        )
        given = dict(data or {})
        recorded = {key: given.pop(key) for key in ("fingerprint", "train_images", "val_images") if key in given}
        seed = given.pop("seed", 0)
        run.write_recipe(dump(build_recipe({"data": given, "train": {"seed": seed}})))
        run.save_weights(built.module.state_dict())
        best = {"epoch": 2, "monitor": TASKS[task].monitor, "value": 0.5}
        run.update(status=status, epochs=3, epochs_done=2, best=best, data=recorded)
        return run

    return make
