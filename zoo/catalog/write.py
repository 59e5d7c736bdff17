"""The index as text, and a file replaced at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo.catalog.entries import ModelEntry, to_record
from zoo.catalog.index import FORMAT, natural_key
from zoo.files import replace_file

__all__ = ["render", "write_index"]


def render(entries: Iterable[ModelEntry], *, versions: Mapping[str, str], renamed: Mapping[str, str]) -> str:
    """The index as text: one JSON document with a model a line, so that a rebuild shows as a readable difference."""

    def compact(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    ordered = sorted(entries, key=lambda e: natural_key(e.name))
    names = [e.name for e in ordered]
    if len(set(names)) < len(names):
        raise ValueError(f"names are not unique: {sorted(n for n in set(names) if names.count(n) > 1)}")
    head = {"format": FORMAT, "versions": dict(sorted(versions.items())), "renamed": dict(sorted(renamed.items()))}
    lines = [f'"{key}":{compact(value)},\n' for key, value in head.items()]
    return "{" + "".join(lines) + '"models":[\n' + ",\n".join(compact(to_record(e)) for e in ordered) + "\n]}\n"


def write_index(path: Path, text: str) -> None:
    """Replace `path` at once: a reader sees the old index or the new one. Raises OSError."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    replace_file(path, write)
