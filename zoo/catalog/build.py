"""Build the shipped index and signatures from the installed timm and torchvision:  python -m zoo.catalog.build

Takes about ten minutes, mostly to count multiply-accumulates. Counts of the same versions are reused from the existing
files unless --recount is given. Models that cannot be counted have null costs; stderr gets the reason. The output is
deterministic.

MACs are half of the FLOPs of `torch.utils.flop_counter.FlopCounterMode`: convolutions, matrix products and attention
(both of its products), not norms, activations or pooling, as in papers that state GMACs. ResNet-50 has 4.09 GMACs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.atomic_io import replace_file
from zoo.catalog.entries import ModelEntry, from_record, to_record
from zoo.catalog.index import FORMAT, INDEX, natural_key
from zoo.catalog.read_timm import BuiltinSpec, build_builtin, build_timm, read_builtin, read_timm, renamed_in_timm
from zoo.catalog.read_torchvision import build_torchvision, read_torchvision
from zoo.catalog.signatures import SIGNATURES, Signature, read_signatures, render_signatures, signature
from zoo.errors import first_line
from zoo.registry import import_object

if TYPE_CHECKING:
    from torch import nn


def render(entries: Iterable[ModelEntry], *, versions: Mapping[str, str], renamed: Mapping[str, str]) -> str:
    """The index as text: a JSON document with one model per line, for readable diffs."""

    def compact(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    ordered = sorted(entries, key=lambda e: natural_key(e.name))
    names = [e.name for e in ordered]
    if len(set(names)) < len(names):
        raise ValueError(f"names are not unique: {sorted(n for n in set(names) if names.count(n) > 1)}")
    head = {"format": FORMAT, "versions": dict(sorted(versions.items())), "renamed": dict(sorted(renamed.items()))}
    lines = [f'"{key}":{compact(value)},\n' for key, value in head.items()]
    return "{" + "".join(lines) + '"models":[\n' + ",\n".join(compact(to_record(e)) for e in ordered) + "\n]}\n"


# Libraries whose version changes the costs: the one that defines the model, and torch, which counts.
_COUNTED_WITH = {"timm": ("timm", "torch"), "torchvision": ("torchvision", "torch")}

Costs = tuple[int | None, int | None]


def count_params(module: nn.Module) -> int:
    """Number of parameters, shared ones counted once; buffers such as batch-norm statistics are not parameters."""
    return sum(p.numel() for p in module.parameters())


def count_macs(module: nn.Module, input_size: tuple[int, int, int]) -> int:
    """Multiply-accumulates for one image of `input_size` (C, H, W) in evaluation mode.

    Moves `module` to the meta device, and raises what its forward pass raises there.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    module.eval().to("meta")
    # Gradients stay enabled: without them some models (pit) and torch's fused attention use operations that the meta
    # device or the counter does not support.
    counter = FlopCounterMode(display=False)
    with counter:
        module(torch.empty(1, *input_size, device="meta"))
    return int(counter.get_total_flops()) // 2


def count_costs(entry: ModelEntry, module: nn.Module) -> tuple[ModelEntry, str]:
    """`entry` with the costs of its model `module`, and the reason if one is missing ("" if none is).

    Moves `module` to the meta device.
    """
    params = count_params(module)
    try:
        return replace(entry, params=params, macs=count_macs(module, entry.input_size)), ""
    # A forward pass on the meta device may fail in many ways; one of 1,450 models must not end the build.
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError, AttributeError, KeyError) as e:
        return replace(entry, params=params), f"{type(e).__name__}: {first_line(e)}"


def known_costs(path: Path, versions: Mapping[str, str]) -> dict[str, Costs]:
    """Name → (params, macs) from the index at `path`, for libraries of unchanged versions."""
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


def known_signatures(path: Path, versions: Mapping[str, str], sources: Mapping[str, str]) -> dict[str, Signature]:
    """Name → signature from the file at `path`, for libraries of unchanged versions; never for built-in models."""
    if not path.exists():
        return {}
    before, signatures = read_signatures(path)
    return {
        name: one
        for name, one in signatures.items()
        if (library := sources.get(name)) in _COUNTED_WITH and before.get(library) == versions[library]
    }


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name → shape in the state dict of `module`."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _with_costs(
    entries: Sequence[ModelEntry],
    build: Callable[[ModelEntry], nn.Module],
    known: Mapping[str, Costs],
    signatures: dict[str, Signature],
) -> Iterator[ModelEntry]:
    """Yield `entries` with their costs; adds missing signatures to `signatures`."""
    started, counts = time.monotonic(), 0
    for number, entry in enumerate(entries, 1):
        if entry.name in known and entry.name in signatures:
            params, macs = known[entry.name]
            yield replace(entry, params=params, macs=macs)
            continue
        module = build(entry)
        signatures[entry.name] = signature(shapes_of(module), entry)
        if entry.name in known:
            params, macs = known[entry.name]
            yield replace(entry, params=params, macs=macs)
        else:
            counted, reason = count_costs(entry, module)
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
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth model, to test the builder")
    parser.add_argument("--recount", action="store_true", help="count all costs again")
    parser.add_argument(
        "--builtin",
        default="zoo.models.builtin:BUILTIN",
        metavar="MODULE:TABLE",
        help="table of built-in models (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.every < 1:
        parser.error("--every takes 1 or more")
    if options.every > 1 and options.output == INDEX:
        parser.error("--every leaves models out: give another --output than the shipped index")
    # Warnings of model constructors do not concern the index.
    warnings.simplefilter("ignore")

    versions = {package: version(package) for package in ("timm", "torch", "torchvision")}
    signatures_path = options.output.with_name(SIGNATURES.name)
    table: Mapping[str, BuiltinSpec] = import_object(options.builtin, "table of built-in models")
    read = [
        (read_timm()[:: options.every], lambda e: build_timm(e.architecture)),
        (read_torchvision()[:: options.every], lambda e: build_torchvision(e.architecture, e.preprocess.height)),
        (read_builtin(table), lambda e: build_builtin(table[e.name])),
    ]
    sources = {e.name: e.source for entries, _ in read for e in entries}
    known = {} if options.recount else known_costs(options.output, versions)
    signatures = {} if options.recount else known_signatures(signatures_path, versions, sources)
    entries = [entry for some, build in read for entry in _with_costs(some, build, known, signatures)]
    text = render(entries, versions=versions, renamed=renamed_in_timm())
    replace_file(options.output, text)
    ordered = {e.name: signatures[e.name] for e in sorted(entries, key=lambda e: natural_key(e.name))}
    replace_file(signatures_path, render_signatures(ordered, versions))
    print(f"{options.output}: {len(entries)} models, {len(text.encode()):,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
