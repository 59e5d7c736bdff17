"""The exceptions of zoo with their exit codes. Every failure that a user can cause or meet is one of these.

    ZooError                  1    (base class; raised itself only for a bug)
    ├── UsageError            2    a flag, a name or a recipe is wrong
    │   └── RecipeError       2    one or more recipe fields are wrong, all listed
    ├── DataError             3    images, folders, labels
    ├── ModelError            4    architecture, groups, freezing plan
    │   └── WeightsError      4    weights cannot be found, reached, trusted or fitted
    ├── TrainingError         5    the run itself: NaN loss, disk full
    └── ExportError           6    a run cannot be exported in the format
    Interrupted             130    Ctrl-C or SIGTERM

Only `zoo.cli` catches them: it prints `error: MESSAGE` and `hint: HINT` on stderr and exits with the code.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path


class ZooError(Exception):
    """Base class.

    Args:
        message: what is wrong, with the value; one line.
        hint: what to try next; "" for none.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(ZooError):
    exit_code = 2


class RecipeError(UsageError):
    """Wrong fields of a recipe, all in one error.

    Args:
        problems: one line per wrong field.
        where: name of the recipe.
        valid_part: the recipe without the wrong fields, for further checks; None if there is none.
    """

    def __init__(
        self, problems: Sequence[str], hint: str = "", *, where: str = "recipe", valid_part: object | None = None
    ) -> None:
        self.problems = tuple(problems)
        self.valid_part = valid_part
        if len(self.problems) == 1:
            message = f"{where}: {self.problems[0]}"
        else:
            listed = "".join(f"\n  - {p}" for p in self.problems)
            message = f"{where}: {len(self.problems)} problems{listed}"
        super().__init__(message, hint)


class _MultipleErrors(ZooError):
    """Several errors found before training; the exit code is that of the first."""

    def __init__(self, problems: Sequence[ZooError]) -> None:
        lines = []
        for problem in problems:
            parts = problem.problems if isinstance(problem, RecipeError) else (problem.message,)
            lines += [f"\n  - {part.replace(chr(10), chr(10) + '    ')}" for part in parts]
        super().__init__(
            f"{len(lines)} problems{''.join(lines)}", "; ".join(dict.fromkeys(p.hint for p in problems if p.hint))
        )
        self.exit_code = problems[0].exit_code


def combine(problems: Sequence[ZooError]) -> ZooError:
    """One error with all of `problems`; the problem itself if there is only one."""
    return problems[0] if len(problems) == 1 else _MultipleErrors(problems)


class DataError(ZooError):
    exit_code = 3


class ModelError(ZooError):
    exit_code = 4


class WeightsError(ModelError):
    pass


class TrainingError(ZooError):
    exit_code = 5


class ExportError(ZooError):
    exit_code = 6


class Interrupted(ZooError):
    exit_code = 130


def nearest(name: str, known: Iterable[str], *, n: int = 3, cutoff: float = 0.5) -> list[str]:
    """The up to `n` names in `known` most similar to `name`, best first; names that contain `name` count as similar.

    cutoff: minimum similarity from 0 to 1, as for `difflib.get_close_matches`.
    """
    names = list(known)
    close = get_close_matches(name.lower(), names, n=n, cutoff=cutoff)
    inside = [k for k in names if len(name) >= 3 and name.lower() in k.lower() and k not in close]
    return (close + sorted(inside, key=len))[:n]


def did_you_mean(close: Iterable[str], otherwise: str = "", *, more: str = "") -> str:
    """A hint with the names `close`, or `otherwise` if there are none; `more` follows in both cases."""
    names = " or ".join(close)
    return f"{f'did you mean {names}?' if names else otherwise} {more}".strip()


def first_line(error: BaseException, length: int = 160) -> str:
    """The first line of the message, at most `length` characters; the name of the class if there is no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:length]


_NO_SPACE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def no_space(error: OSError) -> bool:
    """True if the disk is full, or a quota or the maximum file size is reached."""
    return error.errno in _NO_SPACE_ERRNOS


@contextmanager
def translate_write_errors(path: Path, error: type[ZooError] = TrainingError) -> Iterator[None]:
    """Translate an OSError while writing `path` into `error`."""
    try:
        yield
    except OSError as e:
        if no_space(e):
            raise error(f"no space left to write {path}", "free some disk space or choose another --output-dir") from e
        if isinstance(e, PermissionError) or e.errno == errno.EROFS:
            raise error(f"cannot write {path}: permission denied", "choose another --output-dir") from e
        raise error(f"cannot write {path}: {e.strerror or e}", "choose another --output-dir") from e
