from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from zoo.atomic_io import replace_file
from zoo.catalog import find, search
from zoo.catalog.build import count_costs, known_costs, known_signatures, render, shapes_of
from zoo.catalog.entries import ModelEntry
from zoo.catalog.index import FORMAT, Index, natural_key, shipped_index
from zoo.catalog.packages import PACKAGES
from zoo.catalog.read_timm import build_builtin, build_timm, read_builtin, read_timm, renamed_in_timm
from zoo.catalog.read_torchvision import build_torchvision, read_torchvision, torchvision_entry
from zoo.catalog.refresh import refresh_if_stale
from zoo.catalog.signatures import SIGNATURES, read_signatures, render_signatures, signature
from zoo.models.builtin import BUILTIN

VERSIONS = {"timm": "1.0", "torch": "2.0", "torchvision": "0.20"}


def shipped(name: str, *packages: str) -> ModelEntry:
    """The entry of the shipped index; skips the test if it was built from other versions of `packages`."""
    for package in packages:
        built_from = shipped_index().versions[package]
        if version(package).partition("+")[0] != built_from:
            pytest.skip(f"the shipped index was built from {package} {built_from}")
    return shipped_index()[name]


def without_costs(entries: list) -> list:
    return [replace(e, params=None, macs=None) for e in entries]


def test_the_index_equals_the_installed_timm() -> None:
    import timm

    refresh_if_stale()
    entries = {e.name: e for e in search("*", source="timm")}
    assert set(entries) == set(timm.list_models())
    assert without_costs([entries[e.name] for e in read_timm()]) == read_timm()
    tagged = {f"{e.name}.{p.tag}" for e in entries.values() for p in e.pretrained}
    assert tagged == {*timm.list_pretrained(), *PACKAGES}
    assert {e.name for e in search("*densenet*", source="timm")} == set(timm.list_models("*densenet*"))


def test_deprecated_timm_names_have_valid_successors() -> None:
    refresh_if_stale()
    for old, new in renamed_in_timm().items():
        assert find(old).name == new.partition(".")[0]


def test_the_index_equals_the_installed_torchvision() -> None:
    from torchvision import models

    refresh_if_stale()
    entries = {e.architecture: e for e in search("*", source="torchvision")}
    assert set(entries) == set(models.list_models(module=models))
    known = {e.architecture: e for e in entries.values()}
    assert without_costs(list(entries.values())) == sorted(read_torchvision(known), key=lambda e: natural_key(e.name))
    for name in [*entries][::5]:  # where the layers are is seen by building: a sample is enough here
        assert torchvision_entry(name) == replace(entries[name], params=None, macs=None)


def test_models_whose_constructors_compute_take_no_memory() -> None:
    module = build_torchvision("regnet_y_128gf", 224)
    assert {p.device.type for p in module.parameters()} == {"meta"}
    assert sum(p.numel() for p in module.parameters()) == 644_812_894  # torchvision's documentation


def test_the_index_equals_the_table_of_built_in_models() -> None:
    assert without_costs(search("*", source="builtin")) == read_builtin(BUILTIN)
    for entry in search("*", source="builtin"):
        assert count_costs(entry, build_builtin(BUILTIN[entry.name])) == (entry, "")


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "pit_ti_224", "deit_tiny_distilled_patch16_224"])
def test_costs_of_timm_models_can_be_counted_again(name: str) -> None:
    entry = shipped(name, "timm", "torch")
    assert count_costs(replace(entry, params=None, macs=None), build_timm(name)) == (entry, "")


@pytest.mark.parametrize("name", ["squeezenet1_1", "regnet_x_400mf", "googlenet", "vit_h_14"])
def test_costs_of_torchvision_models_can_be_counted_again(name: str) -> None:
    entry = shipped(f"torchvision/{name}", "torchvision", "torch")
    module = build_torchvision(name, entry.preprocess.height)
    assert count_costs(replace(entry, params=None, macs=None), module) == (entry, "")


def test_macs_of_a_convolution() -> None:
    from torch import nn

    from zoo.catalog.build import count_macs, count_params

    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 5))
    assert count_params(module) == 3 * 8 * 9 + 8 + 128 * 5 + 5
    assert count_macs(module, (3, 4, 4)) == 3 * 8 * 9 * 16 + 128 * 5


def test_a_model_without_countable_macs_has_parameters_and_a_reason() -> None:
    from torch import nn

    class Refuses(nn.Linear):
        def forward(self, x: object) -> None:  # type: ignore[override]
            raise RuntimeError("no meta kernel\nsecond line")

    counted, reason = count_costs(find("resnet18"), Refuses(2, 3))
    assert counted.params == 9
    assert reason == "RuntimeError: no meta kernel"


def test_the_text_does_not_depend_on_the_input_order() -> None:
    entries = [find(n) for n in ("resnet101", "zoo_tiny", "torchvision/resnet18", "resnet18")]
    text = render(entries, versions=VERSIONS, renamed={"b": "x.y", "a": "x.z"})
    assert text == render(entries[::-1], versions=dict(reversed(VERSIONS.items())), renamed={"a": "x.z", "b": "x.y"})
    assert json.loads(text)["format"] == FORMAT
    assert list(Index(text)) == ["resnet18", "resnet101", "torchvision/resnet18", "zoo_tiny"]
    assert [Index(text)[n] for n in Index(text)] == [find(n) for n in Index(text)]


def test_duplicate_names_are_refused() -> None:
    with pytest.raises(ValueError, match="resnet18"):
        render([find("resnet18")] * 2, versions=VERSIONS, renamed={})


def test_costs_are_reused_for_the_same_versions_only(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    assert known_costs(path, VERSIONS) == {}
    entries = [find("resnet18"), find("torchvision/resnet18"), replace(find("resnet34"), macs=None)]
    replace_file(path, render(entries, versions=VERSIONS, renamed={}))
    resnet18 = find("resnet18")
    assert known_costs(path, VERSIONS)["resnet18"] == (resnet18.params, resnet18.macs)
    assert set(known_costs(path, VERSIONS)) == {"resnet18", "torchvision/resnet18"}
    assert set(known_costs(path, {**VERSIONS, "timm": "1.1"})) == {"torchvision/resnet18"}
    assert known_costs(path, {**VERSIONS, "torch": "2.1"}) == {}


@pytest.mark.parametrize("name", ["resnet34", "vit_tiny_patch16_224", "torchvision/squeezenet1_1"])
def test_signatures_are_reproducible(name: str) -> None:
    entry = shipped(name, "timm", "torchvision")
    if entry.source == "torchvision":
        module = build_torchvision(entry.architecture, entry.preprocess.height)
    else:
        module = build_timm(name)
    assert signature(shapes_of(module), entry) == read_signatures(SIGNATURES)[1][entry.name]


def test_every_model_of_the_shipped_index_has_a_signature_of_the_same_versions() -> None:
    versions, signatures = read_signatures(SIGNATURES)
    assert versions == shipped_index().versions
    assert set(signatures) == set(shipped_index())
    assert render_signatures(signatures, versions) == SIGNATURES.read_text(encoding="utf-8")
    assert SIGNATURES.stat().st_size < 400_000


def test_signatures_are_reused_for_the_same_versions_only(tmp_path: Path) -> None:
    path = tmp_path / "signatures.json"
    sources = {"resnet18": "timm", "torchvision/resnet18": "torchvision", "zoo_tiny": "builtin"}
    assert known_signatures(path, VERSIONS, sources) == {}
    all_of_them = read_signatures(SIGNATURES)[1]
    replace_file(path, render_signatures({name: all_of_them[name] for name in sources}, VERSIONS))
    assert set(known_signatures(path, VERSIONS, sources)) == {"resnet18", "torchvision/resnet18"}
    assert set(known_signatures(path, {**VERSIONS, "timm": "1.1"}, sources)) == {"torchvision/resnet18"}


def test_writing_the_index_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    replace_file(path, "one")
    replace_file(path, "two")
    assert path.read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["index.json"]
