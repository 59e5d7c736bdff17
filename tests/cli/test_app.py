"""The program as a whole: start-up, help, exit codes, pipes."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "imgaug",
    "cv2",
    "huggingface_hub",
    "sklearn",
    "matplotlib",
    "accelerate",
    "PIL",
)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["list", "*densenet*"], ["list", "--help"], ["finetune", "--help"], ["recipes"]],
)
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['zoo', *{arguments!r}]\n"
        "from zoo.cli import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip().splitlines()[-1] == "[]", done.stderr
    assert done.stdout


def test_start_up_imports_no_pydantic() -> None:
    """Only `zoo recipes` needs it among the light commands."""
    code = "import sys, zoo.cli; print('pydantic' in sys.modules, 'zoo.recipe' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, zoo; print([m for m in {HEAVY!r} if m in sys.modules], 'finetune' in dir(zoo))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"


def test_the_api_has_every_name_it_lists() -> None:
    import zoo

    for name in zoo.__all__:
        assert getattr(zoo, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'fintune'"):
        zoo.fintune  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fintune"], "fintune"),
        (["list", "--no-such-flag"], "no-such-flag"),
        (["finetune", "resnet18", "--epochs", "many"], "many"),
    ],
)
def test_parser_errors_are_two_lines(zoo: Callable[..., Any], arguments: list[str], expected: str) -> None:
    done = zoo(*arguments)
    assert done.code == 2
    lines = done.err.strip().splitlines()
    assert lines[0].startswith("error: ")
    assert expected in lines[0]
    assert lines[1].startswith("hint: see `zoo")
    assert len(lines) == 2


def test_every_command_has_help(zoo: Callable[..., Any]) -> None:
    names = ["list", "inspect", "finetune", "evaluate", "predict", "export", "recipes", "demo"]
    overview = zoo("--help").out
    for name in names:
        assert name in overview
        assert zoo(name, "--help").code == 0


def test_python_m_zoo(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "--version"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.startswith("zoo ")


def test_a_closed_pipe_is_no_error() -> None:
    line = f"{sys.executable} -m zoo list | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], check=False, capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
    assert done.returncode == 141  # as of `yes | head -1`


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("arguments", ["list", "recipes", "list zoo_tiny --json"])
def test_a_full_disk_under_stdout_is_reported(arguments: str) -> None:
    command = f"{sys.executable} -m zoo {arguments} > /dev/full"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr == "error: no space left to write the output\nhint: free some disk space\n"


def _begin(tmp_path: Path) -> tuple[subprocess.Popen[str], Path]:
    """A long training in another process, past its first epoch."""
    run = tmp_path / "r"
    process = subprocess.Popen(
        [sys.executable, "-m", "zoo", "finetune", "zoo_tiny", "--freeze", "backbone", "--linear-probe", "off",
         "--epochs", "500", "-o", "r"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    assert process.poll() is None, process.communicate()
    return process, run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_leaves_a_run_that_can_be_resumed(tmp_path: Path, number: signal.Signals) -> None:
    process, run = _begin(tmp_path)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    last = err.strip().splitlines()[-2:]
    assert last[0].startswith("error: interrupted in epoch ")
    assert last[1] == "hint: continue with `zoo finetune --resume r`"
    from zoo.run import Run

    found = Run.open(run)
    assert found.status == "interrupted"
    assert found.checkpoint()[1]["zoo"]
    assert found.weights()
    assert len(found.metrics()) == found.info()["epochs_done"]


def test_a_run_in_use_is_refused_while_its_process_lives(tmp_path: Path, zoo: Callable[..., Any]) -> None:
    process, run = _begin(tmp_path)
    try:
        refused = zoo("finetune", "zoo_tiny", "-o", run)
        assert (refused.code, f"in use by a running zoo (process {process.pid})" in refused.err) == (2, True)
        assert zoo("finetune", "--resume", run).code == 2
    finally:
        process.kill()
        process.communicate()


def test_unreachable_weights_are_an_error_with_alternatives(tmp_path: Path) -> None:
    """Nothing listens on the port: the real client is refused, in a real process."""
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "finetune", "resnet34", "--classes", "10", "--freeze", "backbone"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment, timeout=120,
    )  # fmt: skip
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    tail = done.stderr[done.stderr.index("error: ") :]
    assert "model.safetensors of timm/resnet34.a1_in1k" in tail
    assert "http://127.0.0.1:9 cannot be reached" in tail
    assert "--weights none" in tail
    assert "--weights FILE" in tail
    assert not (tmp_path / "runs").exists()


def test_finetune_and_export_with_weights_from_a_hub(tmp_path: Path) -> None:
    """`zoo finetune resnet34 --classes 10 --freeze backbone`, then export, with the hub on loopback."""
    import timm
    from safetensors.torch import load_file, save

    loopback = runpy.run_path(str(Path(__file__).parent.parent / "hub" / "loopback.py"))
    published = timm.create_model("resnet34", num_classes=1000).state_dict()
    with loopback["LoopbackHub"]() as hub:
        hub.add("timm/resnet34.a1_in1k", "model.safetensors", save(published))
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        for command in (
            "finetune resnet34 --classes 10 --freeze backbone --epochs 1",
            "export runs/resnet34-digits --format safetensors",
        ):
            subprocess.run(
                [sys.executable, "-m", "zoo", *command.split()], check=True, cwd=tmp_path, env=environment, timeout=240
            )
    trained = load_file(tmp_path / "runs" / "resnet34-digits" / "export" / "safetensors" / "model.safetensors")
    assert trained["fc.weight"].shape == (10, 512)
    assert all(v.equal(trained[k]) for k, v in published.items() if not k.startswith("fc."))
