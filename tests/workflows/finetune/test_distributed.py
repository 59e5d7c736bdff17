"""Two processes on one machine, over gloo: the weights equal those of one with twice the batch, and one writes."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

import zoo
from zoo.data import data_config, make_loader, open_data
from zoo.data.loader import LoaderOptions
from zoo.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from zoo.run import Run

if TYPE_CHECKING:
    from tests.conftest import CliResult

_SCRIPT = Path(__file__).with_name("two_processes.py")
_TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("two_processes", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RECIPES: dict[str, dict[str, Any]] = _script().RECIPES


@pytest.fixture(scope="module")
def two_processes(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes under torchrun have left their runs and output."""
    out = tmp_path_factory.mktemp("two")
    done = subprocess.run(
        [*_TORCHRUN, str(_SCRIPT), str(small), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ZOO_CACHE": str(out / "cache")},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def results(two_processes: Path) -> list[dict[str, Any]]:
    return [json.loads((two_processes / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_give_the_weights_of_one_with_twice_the_batch(
    two_processes: Path, small: Path, name: str
) -> None:
    options = dict(RECIPES[name])
    settings = {k: v for k, v in options.pop("settings", {}).items() if k != "execution.parallel"}
    alone = zoo.finetune(
        data=small, progress=False, settings=settings, **{**options, "batch_size": 2 * options["batch_size"]}
    )
    two = Run.open(two_processes / name.replace(" ", "-"))
    ours, theirs = two.checkpoint()[0], alone.checkpoint()[0]
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        torch.testing.assert_close(ours[key], tensor, rtol=1e-5, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")
    for mine, other in zip(two.metrics(), alone.metrics(), strict=True):
        assert mine["val_top1"] == other["val_top1"]
        assert mine["val_loss"] == pytest.approx(other["val_loss"], rel=1e-4)
        assert mine["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
        assert mine["train_top1"] == pytest.approx(other["train_top1"], abs=1e-6)
    assert two.info()["processes"] == 2
    assert two.status == "finished"
    torch.testing.assert_close(two.weights(), alone.weights(), rtol=1e-4, atol=1e-4)


def test_only_the_first_process_writes(results: list[dict[str, Any]]) -> None:
    assert {results[0][name] for name in RECIPES} == {"Run"}
    assert {results[1][name] for name in RECIPES} == {"InMemoryRun"}


def test_an_error_of_one_process_is_raised_in_all(results: list[dict[str, Any]]) -> None:
    assert [s["errors"] for s in results] == ["DataError: broken.jpg cannot be read"] * 2


def test_every_image_has_the_same_weight_in_any_number_of_processes(results: list[dict[str, Any]]) -> None:
    # (images passed through, images that count, factor): 3 and 1 images, then none and 2.
    assert results[0]["factors"] == [[3, 3, 1.5], [2, 0, 0.0]]
    assert results[1]["factors"] == [[1, 1, 0.5], [2, 2, 2.0]]


def test_communication_between_processes(results: list[dict[str, Any]]) -> None:
    for each in results:
        assert each["gathered"] == [[[1.0] * 3] * 2, [0, 1], "of 0", [0, 1, 1], [3], [1.0, 1.0]]


def test_the_shares_of_a_loader_are_the_batches_of_one(small: Path) -> None:
    data = open_data(data_config(str(small)), seed=0)
    preprocess = Preprocess((3, 16, 16), IMAGENET_MEAN, IMAGENET_STD, "bilinear", 1.0)

    def indices(train: bool, size: int, share: tuple[int, int]) -> list[list[int]]:
        loader = make_loader(
            data.train,
            preprocess=preprocess,
            batch_size=size,
            train=train,
            augment=None,
            seed=5,
            workers=0,
            options=LoaderOptions(part=share),
        )
        loader.set_epoch(3)
        return list(loader.indices())

    for of, size in ((2, 7), (3, 5), (4, 9)):
        whole = indices(True, size * of, (0, 1))
        parts = [indices(True, size, (which, of)) for which in range(of)]
        assert {len(p) for p in parts} <= {len(whole), len(whole) - 1}
        assert list(chain(*whole)) == list(chain(*(p[step] for step in range(len(parts[0])) for p in parts)))
        for step in range(len(parts[0])):
            sizes = {len(p[step]) for p in parts}
            assert max(sizes) - min(sizes) <= 1
            assert min(sizes) >= 2
        evaluated = [i for which in range(of) for batch in indices(False, size, (which, of)) for i in batch]
        assert evaluated == list(range(len(data.train)))


@pytest.fixture
def command(small: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `zoo ARGUMENTS` in a session of its own; what is left of it at the end is killed."""
    started = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "zoo", *arguments],
            cwd=tmp_path, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        process.communicate()


def test_ctrl_c_stops_both_processes_and_the_resumed_run_equals_an_unbroken_one(
    small: Path, tmp_path: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    options = ["finetune", "zoo_tiny", "--data", str(small), "--epochs", "6", "--no-amp", "--processes", "2"]
    unbroken = command(*options, "-o", "unbroken")
    out, err = unbroken.communicate(timeout=120)
    assert unbroken.returncode == 0, err
    assert out.splitlines() == ["unbroken"]
    assert err.count("epoch 3/6") == 1

    broken = command(*options, "-o", "broken")
    assert broken.stderr is not None
    for line in broken.stderr:
        if line.startswith("epoch 2/6"):
            break
    os.killpg(broken.pid, signal.SIGINT)
    _, err = broken.communicate(timeout=60)
    assert broken.returncode == 130
    assert "error: interrupted in epoch" in err
    assert "Traceback" not in err
    run = Run.open(tmp_path / "broken")
    assert run.status == "interrupted"
    assert 2 <= run.info()["epochs_done"] < 6

    resumed = command("finetune", "--resume", "broken", "--processes", "2")
    _, err = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, err
    one, other = (load_file(tmp_path / name / "checkpoint" / "last.safetensors") for name in ("broken", "unbroken"))
    assert all(torch.equal(one[key], other[key]) for key in other)


def test_a_process_that_is_killed_ends_the_training_with_a_message(
    small: Path, tmp_path: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    training = command("finetune", "zoo_tiny", "--data", str(small), "--epochs", "500", "--processes", "2", "-o", "run")
    assert training.stderr is not None
    for line in training.stderr:
        if line.startswith("epoch 1/"):
            break
    children = subprocess.run(["pgrep", "-P", str(training.pid)], capture_output=True, text=True, check=True).stdout
    os.kill(max(map(int, children.split())), signal.SIGKILL)
    begun = time.monotonic()
    _, err = training.communicate(timeout=60)
    assert time.monotonic() - begun < 40
    assert training.returncode == 5
    assert "error: rank 0 lost contact with the other processes" in err
    assert "Traceback" not in err
    assert Run.open(tmp_path / "run").status == "failed"


def test_an_error_is_reported_once(command: Callable[..., subprocess.Popen[str]]) -> None:
    failed = command("finetune", "zoo_tiny", "--data", "nowhere", "--processes", "2")
    out, err = failed.communicate(timeout=60)
    assert failed.returncode == 3
    assert not out
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "hint"]
    assert "no such path: nowhere" in err


def test_another_number_of_processes_than_the_launcher_s_is_an_error(
    zoo: Callable[..., CliResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    from zoo.errors import UsageError
    from zoo.training.launch import is_launched

    with pytest.raises(UsageError, match="a launcher has started 3"):
        is_launched(2)
    with pytest.raises(UsageError, match="--processes 0"):
        is_launched(0)
    assert is_launched(3)


@pytest.mark.parametrize(
    ("setting", "word"),
    [("execution.parallel=fsdp", "fsdp shards the tensors"), ("execution.sync_batch_norm=true", "CUDA devices only")],
)
def test_settings_that_exclude_each_other_are_errors(zoo: Callable[..., CliResult], setting: str, word: str) -> None:
    if "sync" in setting and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    refused = zoo("finetune", "zoo_tiny", "--model-ema", "--set", setting, "--dry-run")
    assert refused.code == 2
    assert word in refused.err
