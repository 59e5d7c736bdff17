from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from zoo.catalog import find
from zoo.workflows.list_models import list_models, search_models


def zoo_list(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zoo", "list", *arguments], capture_output=True, text=True, check=False
    )


def lines(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_a_pipe_gets_exact_tab_separated_lines_and_nothing_on_stderr() -> None:
    done = zoo_list("*densenet*")
    rows = lines(done)
    assert done.stderr == ""
    assert [row[0] for row in rows] == list_models("*densenet*")
    entry = find("densenet121")
    assert ["densenet121", "timm", str(entry.params), str(entry.gmacs), "3x224x224", str(len(entry.pretrained))] in rows
    assert all(len(row) == 6 for row in rows)


def test_quiet_gives_names_only() -> None:
    done = zoo_list("resnet*", "-q", "--source", "torchvision")
    assert done.stdout.splitlines() == list_models("resnet*", source="torchvision")


def test_options_reach_the_search() -> None:
    rows = lines(zoo_list("*vit*", "--pretrained", "--max-params", "25M", "--sort", "-params", "--limit", "4"))
    assert len(rows) == 4
    params = [int(row[2]) for row in rows]
    assert params == sorted(params, reverse=True)
    assert params[0] <= 25_000_000
    assert all(int(row[5]) > 0 for row in rows)


def test_json_is_the_whole_entry() -> None:
    done = zoo_list("resnet34", "--json")
    shown = json.loads(done.stdout)
    assert [m["name"] for m in shown] == ["resnet34", "torchvision/resnet34"]
    assert shown[0] == json.loads(json.dumps(find("resnet34").to_dict()))
    assert shown[0]["pretrained"][0]["hub_id"].startswith("timm/resnet34.")


def test_a_part_of_a_name_is_widened_with_a_note() -> None:
    done = zoo_list("densenet", "-q")
    assert done.stdout.splitlines() == list_models("*densenet*")
    assert "*densenet*" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["*resnet43*"], "no model matches '*resnet43*'", "resnet34"),
        (["xyzzyxyzzy"], "no model matches 'xyzzyxyzzy'", "zoo list shows every model"),
        (["torchvision"], "no model matches 'torchvision'", "--source torchvision"),
        (["vgg16", "--max-params", "1k"], "none of the 2 models matching 'vgg16'", "--max-params"),
        (["--sort", "foo"], "cannot sort by 'foo'", "name, params, gmacs, input, tags"),
        (["--source", "keras"], "no source named 'keras'", "timm, torchvision, builtin"),
        (["--limit", "0"], "0", "at least 1"),
        (["--max-params", "abc"], "'abc' is not a number of parameters", "25M"),
        (["--family", "resnest50"], "no family matches 'resnest50'", "resnest"),
        (["--license", "gpl"], "no license matches 'gpl'", "apache-2.0"),
        (["--input", "2x2"], "'2x2' is not a size", "160-256"),
        (["--max-gmacs", "-1"], "max_gmacs is -1", "above 0"),
        (
            ["vgg16", "--tags", "--input", "99"],
            "sets of weights matching 'vgg16' passes all filters",
            "remove --input",
        ),
    ],
)
def test_bad_input_is_explained_with_exit_code_2(arguments: list[str], message: str, hint: str) -> None:
    done = zoo_list(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


def test_every_filter_reaches_the_search() -> None:
    arguments = ["--family", "vision_transformer", "--license", "apache", "--min-params", "5M", "--max-gmacs", "5"]
    rows = lines(zoo_list(*arguments, "--input", "200-256"))
    wanted = search_models(family="vision_transformer", license="apache", min_params="5M", max_gmacs=5, input="200-256")
    assert [row[0] for row in rows] == [e.name for e in wanted]
    assert len(rows) > 3
    assert lines(zoo_list("--input", "-64", "-q")) == [[n] for n in list_models(input="-64")]


def test_tags_are_one_line_each() -> None:
    rows = lines(zoo_list("resnet34", "--tags"))
    entry = find("resnet34")
    default = entry.weights()
    assert default is not None
    assert rows[0] == ["resnet34.a1_in1k", "apache-2.0", "3x224x224", str(entry.params), "timm/resnet34.a1_in1k"]
    assert [row[0] for row in rows] == list_models("resnet34", tags=True)
    last = rows[-1]
    assert last[:3] == ["torchvision/resnet34.IMAGENET1K_V1", "", "3x224x224"]
    assert last[4].startswith("https://download.pytorch.org/models/resnet34-")
    assert zoo_list("resnet34", "--tags", "-q").stdout.splitlines() == [row[0] for row in rows]


def test_tags_as_json_and_filtered_one_by_one() -> None:
    shown = json.loads(zoo_list("convnext_tiny", "--tags", "--input", "384", "--json").stdout)
    assert [s["name"] for s in shown] == list_models("convnext_tiny", tags=True, input=384)
    assert all(s["input_size"] == [3, 384, 384] and s["model"] == "convnext_tiny" for s in shown)
    assert {"license", "hub_id", "url", "params", "num_classes", "mean", "family", "source"} <= set(shown[0])


def test_a_pipe_closed_early_is_no_error() -> None:
    command = f'"{sys.executable}" -m zoo list | head -1'
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("columns", "titles"),
    [(110, ["name", "license", "input", "params", "from"]), (77, ["name", "license", "input", "params"])],
)
def test_a_terminal_gets_tags_that_fit(
    columns: int,
    titles: list[str],
    zoo: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zoo.console.is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    result = zoo("list", "resnet34", "--tags")
    rows = result.out.splitlines()
    assert next(row for row in rows if "license" in row).split() == titles
    assert max(map(len, rows)) <= columns
    assert f"{len(list_models('resnet34', tags=True))} sets of weights" in result.err


@pytest.mark.parametrize(("columns", "left_out"), [(90, []), (72, ["source"]), (45, ["source", "weights", "input"])])
def test_a_terminal_gets_a_table_that_fits(columns: int, left_out: list[str]) -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "zoo", "list", "densenet121"]
    with os.fdopen(leader, "rb", buffering=0) as screen:
        process = subprocess.Popen(command, stdout=follower, stderr=subprocess.PIPE, env=environment)
        os.close(follower)
        shown = b""
        try:
            while chunk := screen.read(65536):
                shown += chunk
        except OSError:  # Linux reports the end of a pseudo-terminal as an input/output error
            pass
        assert process.wait() == 0
        assert process.stderr is not None
        assert b"2 models" in process.stderr.read()
        process.stderr.close()
    rows = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).split("\r\n")
    titles = next(row for row in rows if "params" in row).split()
    assert titles == [t for t in ("name", "source", "params", "GMACs", "input", "weights") if t not in left_out]
    shown_model = next(row for row in rows if row.strip().startswith("densenet121")).split()
    assert shown_model[:2] == ["densenet121", "7.98" if "source" in left_out else "timm"]
    assert ("3x224x224" in shown_model) == ("input" not in left_out)
    assert max(map(len, rows)) <= columns


def test_listing_imports_no_model_library() -> None:
    code = (
        "import sys\n"
        "from zoo.cli import main\n"
        "sys.argv = ['zoo', 'list', '*densenet*']\n"
        "try:\n    main()\n"
        "except SystemExit as e:\n    assert not e.code, e.code\n"
        "heavy = {'torch', 'torchvision', 'timm', 'numpy', 'imgaug', 'huggingface_hub', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "[]"
