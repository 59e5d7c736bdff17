"""Name or import path → object, for losses, optimizers, schedules, export formats and others.

    LOSSES = {"cross_entropy": RegistryEntry("torch.nn:CrossEntropyLoss", "softmax and negative log-likelihood")}
    factory = resolve("cross_entropy", LOSSES, "loss")          # a name
    factory = resolve("my_module:MyLoss", LOSSES, "loss")       # the user's own, by import path

Listing a table imports nothing.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import UsageError, did_you_mean, nearest


@dataclass(frozen=True)
class RegistryEntry:
    """path: "module:attribute". defaults: parameters that the user may replace."""

    path: str
    description: str
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        return import_object(self.path)


def import_object(path: str, kind: str = "object") -> Any:
    """Import "module:attribute", both may be dotted. The current folder is searched, as with `python -m`.

    Raises UsageError if the module or the attribute does not exist.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"{kind} {path!r} is not of the form module:attribute", "write for example my_module:MyThing")
    cwd = os.getcwd()
    if cwd not in sys.path:
        sys.path.append(cwd)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as e:
        if e.name and (module_name == e.name or module_name.startswith(e.name + ".")):
            raise UsageError(
                f"{kind} {path!r}: no module named {e.name!r}", "run from the folder that contains it, or install it"
            ) from e
        raise UsageError(f"{kind} {path!r}: importing {module_name} failed: {e}", "install what it imports") from e
    except (ImportError, SyntaxError) as e:
        raise UsageError(f"{kind} {path!r}: importing {module_name} failed: {e}", "fix the module") from e
    for part in attribute.split("."):
        if not hasattr(found, part):
            close = nearest(part, [n for n in dir(found) if not n.startswith("_")])
            hint = did_you_mean(close, f"see dir({module_name})")
            raise UsageError(f"{kind} {path!r}: {module_name} has no {part!r}", hint)
        found = getattr(found, part)
    return found


def resolve(name: str, table: Mapping[str, RegistryEntry], kind: str) -> Any:
    """The object called `name`: an entry of `table`, or an import path (with a colon).

    Raises UsageError with the nearest names if there is none.
    """
    if ":" in name:
        return import_object(name, kind)
    entry = table.get(name)
    if entry is None:
        known = f"known: {', '.join(sorted(table))}; or your own as module:attribute"
        raise UsageError(f"no {kind} named {name!r}", did_you_mean(nearest(name, table), known))
    return entry.load()


def check_params(factory: Any, params: Mapping[str, Any], *, given: Iterable[str] = (), label: str) -> list[str]:
    """Problems of calling `factory(**params)`: unknown and missing names. given: names that the caller supplies."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # some C functions have no signature
        return []
    given = tuple(given)
    known = {
        n: p
        for n, p in signature.parameters.items()
        if p.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }
    accepts_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values())
    problems = []
    for name in params:
        if name in given:
            problems.append(f"{label}.{name} is set by zoo itself")
        elif name not in known and not accepts_any:
            advice = did_you_mean(nearest(name, known, n=1), f"known: {', '.join(known) or 'none'}")
            problems.append(f"{label}.{name} is unknown; {advice}")
    for name, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and name not in params and name not in given:
            problems.append(f"{label}.{name} is required")
    return problems
