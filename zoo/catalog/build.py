"""Build the shipped index from the installed timm and torchvision:  python -m zoo.catalog.build

Takes about ten minutes, nearly all of it counting multiply-accumulates; costs already counted with the same versions
are taken from the existing index unless --recount is given. Models that cannot be counted keep null costs, and the
reason goes to stderr. The same versions give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalog.costs import count_macs, count_params, why_uncountable
from zoo.catalog.entries import ModelEntry, from_record, to_record
from zoo.catalog.index import FORMAT, INDEX, natural_key
from zoo.catalog.read_builtin import BuiltinSpec, build_builtin, read_builtin
from zoo.catalog.read_timm import build_timm, read_timm, renamed_in_timm
from zoo.catalog.read_torchvision import build_torchvision, read_torchvision
from zoo.components import import_object

if TYPE_CHECKING:
    from torch import nn

__all__ = ["count_costs", "known_costs", "main", "render", "write_index"]

# Costs change with the library that defines the model and with torch, which counts.
_COUNTED_WITH = {"timm": ("timm", "torch"), "torchvision": ("torchvision", "torch")}

Costs = tuple[int | None, int | None]


def count_costs(entry: ModelEntry, module: nn.Module) -> tuple[ModelEntry, str]:
    """`entry` with the costs of `module`, which is its model, and why one is missing ("" if none is).

    Moves `module` to the meta device.
    """
    params = count_params(module)
    try:
        return replace(entry, params=params, macs=count_macs(module, entry.input_size)), ""
    # A forward fails in as many ways as there are models, and one of 1,450 must not end the build.
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError, AttributeError, KeyError) as e:
        return replace(entry, params=params), why_uncountable(e)


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
    """Replace `path` at once: a reader sees the old index or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def known_costs(path: Path, versions: Mapping[str, str]) -> dict[str, Costs]:
    """Name → (params, macs) from the index at `path`, of the libraries whose versions have not changed since."""
    if not path.exists():
        return {}
    old = json.loads(path.read_text(encoding="utf-8"))
    same = {
        source
        for source, packages in _COUNTED_WITH.items()
        if all(old["versions"].get(p) == versions[p] for p in packages)
    }
    found = (from_record(r) for r in old["models"] if r["source"] in same)
    return {e.name: (e.params, e.macs) for e in found if e.macs is not None}


def _counted(
    entries: Sequence[ModelEntry], build: Callable[[ModelEntry], nn.Module], known: Mapping[str, Costs]
) -> Iterator[ModelEntry]:
    started, counts = time.monotonic(), 0
    for number, entry in enumerate(entries, 1):
        if entry.name in known:
            params, macs = known[entry.name]
            yield replace(entry, params=params, macs=macs)
        else:
            counted, reason = count_costs(entry, build(entry))
            yield counted
            if reason:
                print(f"not counted: {entry.name}: {reason}", file=sys.stderr, flush=True)
            counts += 1
            if counts % 50 == 0:
                passed = time.monotonic() - started
                print(f"{entry.source}: {number} of {len(entries)}, {passed:.0f} s", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m zoo.catalog.build", description=__doc__)
    parser.add_argument("--output", type=Path, default=INDEX, help="the index file (default: the shipped one)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth model, to try the builder")
    parser.add_argument("--recount", action="store_true", help="count all costs again")
    parser.add_argument(
        "--builtin",
        default="zoo.models.builtin:BUILTIN",
        metavar="MODULE:TABLE",
        help="the project's own models (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.every < 1:
        parser.error("--every takes 1 or more")
    if options.every > 1 and options.output == INDEX:
        parser.error("--every leaves models out: give another --output than the shipped index")
    # Models warn about their own construction in many ways; none of it concerns the index.
    warnings.simplefilter("ignore")

    versions = {package: version(package) for package in ("timm", "torch", "torchvision")}
    known = {} if options.recount else known_costs(options.output, versions)
    table: Mapping[str, BuiltinSpec] = import_object(options.builtin, "table of built-in models")
    entries = [
        *_counted(read_timm()[:: options.every], lambda e: build_timm(e.architecture), known),
        *_counted(
            read_torchvision()[:: options.every],
            lambda e: build_torchvision(e.architecture, e.preprocess.height),
            known,
        ),
        *(count_costs(e, build_builtin(table[e.name]))[0] for e in read_builtin(table)),
    ]
    text = render(entries, versions=versions, renamed=renamed_in_timm())
    write_index(options.output, text)
    print(f"{options.output}: {len(entries)} models, {len(text.encode()):,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
