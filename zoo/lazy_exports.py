"""Packages whose public names are imported on first use, so that importing the package costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_exports"]


def lazy_exports(
    package: str, exports: Mapping[str, str], *, before_import: Callable[[], None] | None = None
) -> Callable[[str], Any]:
    """The `__getattr__` of `package`. exports: public name → module. before_import: called before each import."""

    def getattr_(name: str) -> Any:
        if name not in exports:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if before_import is not None:
            before_import()
        return getattr(import_module(exports[name]), name)

    return getattr_
