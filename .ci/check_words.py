"""Report words that this project does not use (.ci/words.txt) in the package, benchmarks, documentation and recipes.

In files test_*.py only the names of the tests are checked.

python .ci/check_words.py            # the repository
python .ci/check_words.py FILE...    # these files
"""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / ".ci" / "words.txt"
CHECKED = (
    "*.md",
    "benchmarks/**/*.md",
    "benchmarks/**/*.py",
    "docs/**/*.md",
    "examples/*.py",
    "recipes/*.yaml",
    "tests/**/test_*.py",
    "zoo/**/*.py",
    "zoo/**/*.yaml",
)
TEST_NAME = re.compile(r"\s*(async )?def test_")


def read_list(text: str) -> tuple[dict[re.Pattern[str], str], list[tuple[str, re.Pattern[str]]]]:
    """Retired words with their replacements, and exceptions as (glob of files, expression in the line)."""
    words, exceptions = {}, []
    for line in text.splitlines():
        if line.startswith("except "):
            files, expression, reason = re.split(r": ", line.removeprefix("except "), maxsplit=2)
            assert reason, line
            exceptions.append((files, re.compile(expression)))
        elif line and not line.startswith("#"):
            expression, replacement = line.split(" => ")
            expression = expression.replace(" ", "[ _]")
            words[re.compile(rf"(?<![A-Za-z])(?:{expression})(?![A-Za-z])", re.IGNORECASE)] = replacement
    return words, exceptions


def find(paths: list[Path]) -> list[str]:
    """One line per retired word in `paths`: file:line, the word, and what to write instead."""
    words, exceptions = read_list(LIST.read_text(encoding="utf-8"))
    found = []
    for path in paths:
        name = path.resolve().relative_to(ROOT).as_posix() if path.resolve().is_relative_to(ROOT) else path.name
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if path.name.startswith("test_") and not TEST_NAME.match(line):
                continue
            if any(fnmatch(name, files) and expression.search(line) for files, expression in exceptions):
                continue
            for word, replacement in words.items():
                if match := word.search(line):
                    found.append(f"{name}:{number}: {match[0]!r}: write {replacement}")
    return found


def main() -> None:
    paths = [Path(a) for a in sys.argv[1:]] or sorted({p for glob in CHECKED for p in ROOT.glob(glob)})
    found = find(paths)
    print("\n".join(found) or f"no retired words in {len(paths)} files")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
