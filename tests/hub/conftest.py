"""A loopback hub for the real clients, with empty caches."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

_LOOPBACK = runpy.run_path(str(Path(__file__).with_name("loopback.py")))


@pytest.fixture(autouse=True)
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the timeouts in this process; other tests run the program with the real timeouts."""
    for module in ("http", "metadata"):
        monkeypatch.setattr(f"zoo.hub.{module}.CONNECT_TIMEOUT", 0.3)
    monkeypatch.setattr("zoo.hub.download.READ_TIMEOUT", 0.8)


@pytest.fixture
def silent() -> int:
    """The answer of a server that accepts connections and never answers."""
    return _LOOPBACK["SILENT"]


@pytest.fixture
def commit() -> str:
    """The commit of every repository of the loopback hub."""
    return _LOOPBACK["COMMIT"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache (the client reads HF_HOME at import)."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    return tmp_path / "hf"


@pytest.fixture
def point_at(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Any:
    """`point_at(url)`: as HF_ENDPOINT=url before the client is imported."""

    def point(url: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return point


@pytest.fixture
def hub(point_at: Any) -> Iterator[Any]:
    with _LOOPBACK["LoopbackHub"]() as server:
        point_at(server.url)
        yield server


@pytest.fixture
def second_hub() -> Iterator[Any]:
    """Another server, on another port."""
    with _LOOPBACK["LoopbackHub"]() as server:
        yield server
