"""The word list of `make lint`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "check_words.py"


def check(*files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, files)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("# nothing is written, lest a run starts twice", "lest"),
        ("is_kept = True", "kept"),
        ('log("Foretold and foretells")', "foretells"),
        ("it loads 300 images a second", "images a second"),
    ],
)
def test_a_retired_word_is_found_with_its_line_and_replacement(tmp_path: Path, line: str, word: str) -> None:
    file = tmp_path / "planted.py"
    file.write_text(f"first = 1\n{line}\n")
    result = check(file)
    assert result.returncode == 1
    assert result.stdout.startswith(f"planted.py:2: {word!r}: write ")


def test_names_of_tests_are_checked_but_not_the_rest_of_their_files(tmp_path: Path) -> None:
    file = tmp_path / "test_planted.py"
    file.write_text("kept = 1\n\n\ndef test_it_is_kept():\n    def test_images_a_second():\n        assert 'lest'\n")
    lines = check(file).stdout.splitlines()
    assert [line.partition(": write ")[0] for line in lines] == [
        "test_planted.py:4: 'kept'",
        "test_planted.py:5: 'images_a_second'",
    ]


def test_words_that_only_contain_a_retired_word_pass(tmp_path: Path) -> None:
    file = tmp_path / "planted.py"
    file.write_text("recommend = molest = charm = 'journalist'\n")
    assert check(file).returncode == 0


def test_the_repository_has_no_retired_words() -> None:
    result = check()
    assert result.returncode == 0, result.stdout
