"""The format that the next command of a run names."""

from __future__ import annotations

from zoo.formats import FORMATS, suggested_format
from zoo.models import build, record


def test_the_suggested_format_can_hold_the_model() -> None:
    assert suggested_format(record(build("zoo_tiny", classes=3))) == "safetensors"
    assert suggested_format(record(build("zoo_tiny", classes=3, head="multi-depth"))) == "torch-export"
    assert {"safetensors", "torch-export"} <= set(FORMATS)
