"""Parts of the error messages about weights that cannot be downloaded."""

from __future__ import annotations

import re

from zoo.hub.http import Unreachable

__all__ = ["NO_WEIGHTS_HINT", "alternatives_hint", "first_line", "root_cause"]

NO_WEIGHTS_HINT = "or start with --weights none"


def alternatives_hint(variable: str = "") -> str:
    """What to do without the server. variable: environment variable with the URL of a mirror server."""
    other = f"; or set {variable}=URL to use a mirror" if variable else ""
    return f"download the file on another machine (zoo fetch) and use --weights FILE, {NO_WEIGHTS_HINT}{other}"


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def root_cause(error: BaseException) -> str:
    """The message of the innermost exception, in one line."""
    if isinstance(error, Unreachable):
        return str(error)
    seen: BaseException = error
    while (cause := seen.__cause__ or seen.__context__) is not None:
        seen = cause
    if isinstance(seen, OSError) and seen.strerror:
        return seen.strerror[:160]
    return re.sub(r"^\[Errno -?\d+\] ", "", first_line(seen if str(seen) else error))
