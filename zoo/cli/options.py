"""Values of flags that are a number or the word auto."""

from __future__ import annotations

from zoo.errors import UsageError

__all__ = ["number_or_auto"]


def number_or_auto(flag: str, text: str | None, *, least: int) -> int | str | None:
    """What was typed behind `flag`: a number, auto, or None if nothing was. Raises UsageError for anything else."""
    if text is None or text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{flag} {text!r} is neither a number nor auto", f"give {least} or more, or auto") from None
