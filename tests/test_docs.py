"""The documentation agrees with the code: commands parse, recipes load, links resolve, lines are short."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import zoo as api
from zoo.cli import app
from zoo.recipe import Recipe, build, parse_assignments
from zoo.recipe.files import parse_yaml

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture(params=PAGES, ids=IDS)
def page(request: pytest.FixtureRequest) -> Path:
    return request.param  # type: ignore[no-any-return]


def lines(text: str) -> Iterator[tuple[bool, str]]:
    """(whether it is code, line) for each line of Markdown."""
    fenced = False
    for line in text.splitlines():
        fence = line.lstrip().startswith("```")
        fenced ^= fence
        yield fenced or fence or line.startswith("    "), line


def commands(text: str) -> Iterator[list[str]]:
    """The words of each zoo command in code blocks and inline code, without `zoo`."""
    parts: dict[bool, list[str]] = {True: [], False: []}
    for is_code, line in lines(text):
        parts[is_code].append(line)
    code = "\n".join(parts[True]).replace("\\\n", " ")
    found = re.findall(r"^(?: *|.*(?:-m|&&|; do) )zoo ([a-z].*)", code, re.MULTILINE)
    found += re.findall(r"`zoo ([a-z][^`]*)`", "\n".join(parts[False]).replace("\n", " "))
    for words in (shlex.split(line, comments=True) for line in found):
        end = next((i for i, word in enumerate(words) if word in ("|", "&&") or word.endswith(";")), None)
        last = [] if end is None or words[end] in ("|", "&&") else [words[end][:-1]]
        yield [*words[:end], *last]


def test_every_command_and_its_options_exist(page: Path) -> None:
    for words in commands(page.read_text(encoding="utf-8")):
        assert words[0] in COMMANDS, words
        command = COMMANDS[words[0]]
        known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
        assert {word.split("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)} <= known, words


def test_every_command_in_a_code_block_parses(page: Path) -> None:
    text = "\n".join(line for is_code, line in lines(page.read_text(encoding="utf-8")) if is_code)
    if page.parent.name == "reference":
        return  # its code blocks are usage lines
    for words in commands("```\n" + text.replace("```", "").replace("$i", "1") + "\n```"):
        context = COMMANDS[words[0]].make_context(words[0], words[1:])
        build({}, parse_assignments(context.params.get("settings") or []))


def test_recipes_in_pages_are_valid(page: Path) -> None:
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        values = parse_yaml(block, str(page))
        if set(values) <= set(Recipe.model_fields):
            build(values)


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).strip().lower()).replace(" ", "-")


def test_every_relative_link_resolves(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, link


def test_lines_are_at_most_100_wide_outside_tables_and_code(page: Path) -> None:
    wide = [
        line
        for is_code, line in lines(page.read_text(encoding="utf-8"))
        if len(line) > 100 and not is_code and not line.startswith("|") and " " in line.strip(" -")
    ]
    assert not wide


def test_files_that_pages_name_exist(page: Path) -> None:
    for name in re.findall(r"`((?:zoo|tests|benchmarks|examples|recipes)/[\w./-]+)`", page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), name


def test_every_public_name_is_documented() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert not [name for name in api.__all__ if not re.search(rf"(?<!\w){name}(?!\w)", text)]


def test_every_page_is_linked_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = [str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md")]
    assert not [name for name in pages if f"({name})" not in text]


def test_the_readme_lists_the_layers_that_the_linter_checks() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r'type = "layers"\nlayers = \[\n(.*?)\n\]', project, re.DOTALL)
    assert block is not None
    layers = [
        "    " + line.strip().strip('",').replace("zoo.", "").replace(" | ", " · ") for line in block[1].splitlines()
    ]
    assert "\n".join(layers) in (ROOT / "README.md").read_text(encoding="utf-8")
