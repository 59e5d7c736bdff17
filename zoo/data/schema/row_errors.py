"""Errors in the rows of a table, collected by kind with their line numbers."""

from __future__ import annotations

from zoo.errors import DataError

__all__ = ["RowErrors"]

_MAX_LISTED = 10


class RowErrors:
    """The errors in a table, raised together: each kind with its first lines. unit: word for a row."""

    def __init__(self, where: str, hint: str, unit: str = "line") -> None:
        self._where, self._hint, self._unit = where, hint, unit
        self._kinds: dict[str, tuple[str, list[int], int]] = {}

    def add(self, what: str, line: int, example: str = "") -> None:
        """Add an error of the kind `what`. example: the wrong value; the first one of the kind is shown."""
        first, lines, count = self._kinds.get(what, (example, [], 0))
        if count < _MAX_LISTED:
            lines.append(line)
        self._kinds[what] = (first, lines, count + 1)

    def raise_if_any(self) -> None:
        """Raise DataError if there are errors."""
        if not self._kinds:
            return
        texts = []
        for what, (example, lines, count) in self._kinds.items():
            numbers = ", ".join(f"{n}" for n in lines) + (f", … ({count:,} in all)" if count > len(lines) else "")
            texts.append(f"{what}{example and f', such as {example!r}'}: {self._unit}{'s' * (count > 1)} {numbers}")
        listed = texts[0] if len(texts) == 1 else "".join(f"\n  {t}" for t in texts)
        raise DataError(f"{self._where}: {listed}", self._hint)
