"""The index for other versions of timm and torchvision than those of the shipped index."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from zoo.cache import cache_folder
from zoo.catalog import find, index_versions, refresh, search
from zoo.catalog import index as index_module
from zoo.catalog.index import FORMAT, INDEX, installed_versions, load_index, shipped_index, use_index
from zoo.catalog.refresh import find_installed, refresh_if_stale
from zoo.errors import ModelError
from zoo.workflows.inspect import inspect

MISSING = ("test_resnet", "torchvision/alexnet")


def forget() -> None:
    shipped_index.cache_clear()
    refresh_if_stale.cache_clear()
    use_index(None)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Path]:
    """A shipped index of old libraries without two of the models."""
    document = json.loads(INDEX.read_text(encoding="utf-8"))
    document["versions"] |= {"timm": "0.9.0", "torchvision": "0.1.0"}
    document["models"] = [m for m in document["models"] if m["name"] not in MISSING]
    path = tmp_path / "index.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    monkeypatch.setattr(index_module, "INDEX", path)
    forget()
    yield path
    monkeypatch.undo()
    forget()


def zoo_list(shipped: Path, *arguments: str) -> tuple[str, list[str]]:
    """Output of `zoo list` with `shipped` as its index, and the heavy modules that it imported."""
    code = (
        "import sys, pathlib\n"
        "from zoo.catalog import index\n"
        f"index.INDEX = pathlib.Path({str(shipped)!r})\n"
        "from zoo.cli import main\n"
        f"sys.argv = ['zoo', 'list', *{list(arguments)!r}]\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'torchvision', 'timm', 'numpy', 'rich', 'huggingface_hub'}\n"
        "print(*sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr.strip().splitlines()[-1:]


def test_versions_are_read_without_importing() -> None:
    expected = {package: version(package).partition("+")[0] for package in ("timm", "torchvision")}
    assert installed_versions() == expected
    code = (
        "import sys; from zoo.catalog.index import installed_versions; installed_versions(); "
        "print({'timm', 'torchvision', 'torch', 'importlib.metadata'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_missing_library_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.catalog.index.find_spec", lambda name: None)
    assert installed_versions() == {}
    monkeypatch.undo()
    monkeypatch.setattr("zoo.catalog.index._LIBRARIES", ("json",))  # a package without a version.py
    assert installed_versions() == {}


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"ZOO_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/zoo"),
        ({}, "~/.cache/zoo"),
    ],
)
def test_location_of_the_cache_folder(
    environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ZOO_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == Path(folder).expanduser()


def test_commands_that_import_timm_rebuild_the_index(old: Path, cache: Path) -> None:
    with pytest.raises(ModelError, match="test_resnet"):
        find("test_resnet")
    assert find_installed("test_resnet")[0].name == "test_resnet"
    assert {k: v for k, v in index_versions().items() if k != "torch"} == installed_versions()
    now = {e.name: e for e in search()}
    assert set(MISSING) <= set(now)
    assert (now["test_resnet"].params, now["test_resnet"].macs) == (None, None)
    assert now["resnet34"].params == 21_797_672
    forget()
    assert find("alexnet").classifier == "classifier.6"  # read from the file, as by another process
    assert [p.name for p in (cache / "catalog").iterdir() if not p.name.startswith(f"index{FORMAT}-zoo-")] == []
    assert len(list((cache / "catalog").iterdir())) == len(list(cache.iterdir())) == 1


def test_zoo_list_reads_the_rebuilt_index_and_never_builds_it(old: Path, cache: Path) -> None:
    before, imported = zoo_list(old, "test_*")
    assert "test_resnet\t" not in before
    assert imported in ([], [""])
    assert not cache.exists()
    refresh_if_stale()
    after, imported = zoo_list(old, "test_resnet")
    assert after == "test_resnet\ttimm\t\t\t3x160x160\t1\n"
    assert imported in ([], [""])


def test_the_rebuilt_index_equals_a_full_build(old: Path, cache: Path) -> None:
    refresh_if_stale()
    made = {name: load_index().record(name) for name in load_index()}
    whole = {m["name"]: m for m in json.loads(INDEX.read_text(encoding="utf-8"))["models"]}
    if all(version(p).startswith(v) for p, v in json.loads(INDEX.read_text(encoding="utf-8"))["versions"].items()):
        assert set(made) == set(whole)
        assert [n for n in whole if made[n] != whole[n]] == list(MISSING)  # without costs


def test_inspecting_a_new_model_stores_its_costs(old: Path, cache: Path) -> None:
    summary = inspect("test_resnet", classes=3)
    assert find("test_resnet").params is None  # not the published head
    summary = inspect("test_resnet")
    forget()
    entry = find("test_resnet")
    assert (entry.params, entry.gmacs) == (summary.params, summary.gmacs)
    assert zoo_list(old, "test_resnet")[0].split("\t")[2] == str(summary.params)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"versions":{},"renamed":{},"models":[]}',
        '{"versions":{"timm":"0.9.0","torchvision":"0.1.0"},"renamed":{},"models":[]}',
        "RECORDS",
        "BYTES",
    ],
)
def test_a_damaged_file_is_rebuilt(text: str, old: Path, cache: Path) -> None:
    refresh_if_stale()
    (path,) = (cache / "catalog").iterdir()
    good = path.read_text(encoding="utf-8")
    if text == "RECORDS":
        document = json.loads(good)
        document["models"][100].pop("params")
        text = json.dumps(document)
    if text == "BYTES":
        path.write_bytes(good.encode()[:200_000] + b"\xff\xfe")
    else:
        path.write_text(text, encoding="utf-8")
    forget()
    assert load_index() is shipped_index()
    refresh_if_stale()  # rebuilt
    assert path.read_text(encoding="utf-8") == good


def test_an_unwritable_cache_is_no_error(old: Path, cache: Path) -> None:
    cache.write_text("a file where the folder would be")
    assert find_installed("test_resnet")[0].name == "test_resnet"  # in this process
    forget()
    assert load_index() is shipped_index()


def test_a_library_with_another_api_is_no_error(old: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AttributeError("timm has no list_models")

    monkeypatch.setattr(refresh, "read_timm", fail)
    refresh_if_stale()
    assert load_index() is shipped_index()
    assert find_installed("resnet34")[0].name == "resnet34"
    assert not cache.exists()


def test_an_index_of_the_installed_versions_is_not_rebuilt(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.catalog.refresh.installed_versions", index_versions)
    monkeypatch.setattr(refresh, "read_timm", lambda: pytest.fail("read although nothing changed"))
    refresh_if_stale.cache_clear()
    refresh_if_stale()
    assert not cache.exists()
