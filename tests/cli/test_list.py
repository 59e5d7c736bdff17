from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

import pytest

from zoo.catalog import find
from zoo.workflows.list_models import list_models


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


def test_a_part_of_a_name_is_widened_aloud() -> None:
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
    ],
)
def test_bad_input_is_explained_with_exit_code_2(arguments: list[str], message: str, hint: str) -> None:
    done = zoo_list(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_stops_early_is_no_error() -> None:
    command = f'"{sys.executable}" -m zoo list | head -1'
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


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
        "from zoo.__main__ import main\n"
        "sys.argv = ['zoo', 'list', '*densenet*']\n"
        "try:\n    main()\n"
        "except SystemExit as e:\n    assert not e.code, e.code\n"
        "heavy = {'torch', 'torchvision', 'timm', 'numpy', 'imgaug', 'huggingface_hub', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "[]"
