"""The table of sources: complete, light to import, extensible."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from zoo.data import data_config, open_data, open_eval
from zoo.data.open import open_listing
from zoo.data.sources.digits import Digits
from zoo.data.sources.registry import SOURCES, SourceEntry, describe_sources
from zoo.data.sources.source import EvalImages, OpenOptions, Source, SourceSplits
from zoo.options import OPTIONS


class Numbers(Source):
    """The digits under another name."""

    def matches(self, source: str) -> bool:
        return source.startswith("numbers:")

    def open_train(self, source: str, val: str | None, options: OpenOptions) -> SourceSplits:
        return SourceSplits(source, source, options.class_task, Digits(options.channels, options.class_task))

    def open_eval(self, source: str, split: str | None, classes: tuple[str, ...], options: OpenOptions) -> EvalImages:
        return EvalImages(Digits(options.channels, options.class_task))


def test_every_entry_is_a_source() -> None:
    for name, entry in SOURCES.items():
        assert isinstance(entry.load()(), Source), name


def test_help_and_hints_name_every_kind() -> None:
    for entry in SOURCES.values():
        assert entry.description in describe_sources()
    assert describe_sources() in OPTIONS["data"].help


def test_the_table_is_light() -> None:
    code = "import sys, zoo.data.sources.registry; print([m for m in ('numpy', 'PIL', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_added_kind_is_opened_evaluated_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "my_sources", SimpleNamespace(Numbers=Numbers))
    monkeypatch.setitem(SOURCES, "numbers", SourceEntry("my_sources:Numbers", "numbers:NAME"))
    data = open_data(data_config("numbers:any", val_fraction=0.5))
    assert len(data.train) + len(data.val) == 1797
    source, problems = open_eval(data_config("numbers:any"), data.classes)
    assert (len(source), problems) == (1797, ())
    assert [s.name for s in open_listing(data_config("numbers:any")).splits] == ["all"]
    assert describe_sources().endswith("or numbers:NAME")
