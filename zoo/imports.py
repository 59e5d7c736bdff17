"""Faster imports: packages that import their names on first use, and large libraries."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause garbage collection: importing torch, torchvision and timm creates a million objects that all stay alive,
    and scanning them takes a tenth of the import time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def lazy_exports(
    package: str, exports: Mapping[str, Sequence[str]], *, before_import: Callable[[], None] | None = None
) -> Callable[[str], Any]:
    """The `__getattr__` of `package`, which imports a public name on first use.

    exports: module → its public names. before_import: called before each import.
    """
    modules = {name: module for module, names in exports.items() for name in names}

    def getattr_(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if before_import is not None:
            before_import()
        with gc_paused():
            return getattr(import_module(modules[name]), name)

    return getattr_
