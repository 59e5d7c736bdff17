"""What a user is told when weights cannot be had."""

from __future__ import annotations

import re

from zoo.hub.http import Unreachable

__all__ = ["NO_WEIGHTS_HINT", "alternatives_hint", "first_line", "root_cause"]

NO_WEIGHTS_HINT = "or start with --weights none"


def alternatives_hint(mirror: str = "") -> str:
    """The ways past a server that cannot be used; `mirror` names a variable that names another one."""
    other = f"; {mirror}=URL names a mirror" if mirror else ""
    return f"take the file from another machine (zoo fetch) with --weights FILE, {NO_WEIGHTS_HINT}{other}"


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def root_cause(error: BaseException) -> str:
    """The innermost cause in one line: what the system said, not what the layers above made of it."""
    if isinstance(error, Unreachable):
        return str(error)
    seen: BaseException = error
    while (cause := seen.__cause__ or seen.__context__) is not None:
        seen = cause
    if isinstance(seen, OSError) and seen.strerror:
        return seen.strerror[:160]
    return re.sub(r"^\[Errno -?\d+\] ", "", first_line(seen if str(seen) else error))
