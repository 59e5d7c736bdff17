"""What the shells get after Tab, by the protocol that each of their scripts uses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.catalog import search
from zoo.cli.completion import complete_model, complete_model_or_file, complete_recipe
from zoo.recipe import shipped

# Runs the program as a completion script does, and prints on stderr what it imported.
_PROGRAM = """
import sys
from zoo.cli import main
sys.argv = ["zoo"]
try:
    main()
except SystemExit as e:
    code = e.code
heavy = {"torch", "torchvision", "timm", "numpy", "huggingface_hub", "rich", "PIL", "sklearn"}
print(*sorted(heavy & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


def ask(shell: str, line: str, *, action: str = "get-args") -> subprocess.CompletedProcess[str]:
    """The completions of `shell` for the command `line`, the cursor at its end."""
    words = line.split(" ")
    environment = {**os.environ, "_ZOO_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        environment |= {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    else:
        environment |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": action}
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False, env=environment
    )


def offered(shell: str, line: str) -> list[str]:
    done = ask(shell, line)
    assert done.stderr.strip() == "", done.stderr
    text = done.stdout
    if shell == "zsh":
        start, end = "_arguments '*: :((", "))'"
        assert text.startswith(start)
        text = text.strip().removeprefix(start).removesuffix(end)
    return [word.strip('"') for word in text.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("command", ["inspect", "list"])
def test_model_names_in_every_shell(shell: str, command: str) -> None:
    expected = [e.name for e in search("resnet3*", source="timm")]
    assert expected[0] == "resnet32ts"
    assert offered(shell, f"zoo {command} resnet3") == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_tags_after_a_dot(shell: str) -> None:
    assert offered(shell, "zoo inspect resnet34.a") == ["resnet34.a1_in1k", "resnet34.a2_in1k", "resnet34.a3_in1k"]


def test_commands_and_options_are_completed() -> None:
    assert {"inspect", "list", "finetune"} <= set(offered("bash", "zoo "))
    assert "--license" in offered("bash", "zoo list --l")


def test_fish_asks_first_whether_there_are_completions() -> None:
    assert ask("fish", "zoo inspect resnet3", action="is-args").returncode == 0
    assert ask("fish", "zoo inspect xyzzyx", action="is-args").returncode == 1


def test_zsh_falls_back_to_files() -> None:
    assert ask("zsh", "zoo inspect xyzzyx").stdout.strip() == "_files"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_the_script_that_typer_installs(tmp_path: Path) -> None:
    program = tmp_path / "zoo"
    program.write_text(f"#!{sys.executable}\nfrom zoo.cli import main\nmain()\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = subprocess.run(
        ["zoo", "--show-completion", "bash"],
        capture_output=True,
        text=True,
        check=True,
        env={**environment, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    ).stdout
    session = f"{script}\nCOMP_WORDS=(zoo inspect torchvision/alex)\nCOMP_CWORD=2\n_zoo_completion zoo\n"
    session += 'printf "%s\\n" "${COMPREPLY[@]}"\n'
    done = subprocess.run(["bash", "-c", session], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == ["torchvision/alexnet"]


def test_names_with_and_without_their_source() -> None:
    assert complete_model("torchvision/alex") == ["torchvision/alexnet"]
    assert complete_model("alexn") == ["alexnet"]
    assert complete_model("RESNET34") == ["resnet34", "resnet34d"]
    assert complete_model("*resnet") == []
    assert complete_model("no_such_model.") == []
    assert len(complete_model("")) > 1_450


def test_files_and_folders_in_addition_to_names(tmp_path: Path) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    for name in ("resnet34.safetensors", "w.pth", "notes.txt", ".hidden.pth"):
        (tmp_path / name).touch()
    assert complete_model_or_file("resnet34.s") == ["resnet34.safetensors"]
    assert complete_model_or_file("w.") == ["w.pth"]
    assert complete_model_or_file("runs/") == ["runs/a/"]
    assert complete_model_or_file("ru") == ["runs/"]
    assert complete_model_or_file("notes") == complete_model_or_file("absent/x") == []
    assert complete_model_or_file("./.h") == ["./.hidden.pth"]
    assert complete_model_or_file(f"{tmp_path}/w") == [f"{tmp_path}/w.pth"]


def test_recipes(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").touch()
    assert complete_recipe("small") == [*(n for n in shipped() if n.startswith("small")), "small.yaml"]
    assert complete_recipe("head-o") == ["head-only"]
