"""The shape of the package: no import circles, small folders, files and functions, tests where the code is."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
ZOO = ROOT / "zoo"
FILES = sorted(ZOO.rglob("*.py"))

LARGEST_FOLDER = 20
LONGEST_FILE = 350
LONGEST_FUNCTION = 80
MOST_PARAMETERS = 8


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


def imported(path: Path) -> set[str]:
    """Modules of zoo that `path` imports anywhere: at the top, inside functions, under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "zoo":
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
    return found - {module_name(path)}


def find_circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other (strongly connected components of more than one; Tarjan 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for other in graph[module]:
            if other not in number:
                visit(other)
            if other in stack:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == number[module]:
            at = stack.index(module)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                found.append(sorted(group))

    for module in graph:
        if module not in number:
            visit(module)
    return found


def functions() -> list[tuple[str, ast.FunctionDef]]:
    return [
        (f"{module_name(path)}.{node.name}", node)
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef)
    ]


def count_parameters(function: ast.FunctionDef) -> int:
    """Named parameters, without self and cls."""
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def test_the_search_for_circles_finds_them() -> None:
    assert find_circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}) == [["a", "b", "c"]]
    assert find_circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: imported(path) & MODULES.keys() for name, path in MODULES.items()}
    assert find_circles(graph) == []


def test_no_folder_holds_too_many_files() -> None:
    counts = Counter(path.parent.relative_to(ROOT).as_posix() for path in FILES)
    assert {folder: n for folder, n in counts.items() if n > LARGEST_FOLDER} == {}


def test_no_file_is_too_long() -> None:
    lengths = {module_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: n for name, n in lengths.items() if n > LONGEST_FILE} == {}


def test_no_function_is_too_long() -> None:
    lengths = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in functions()}
    assert {name: n for name, n in lengths.items() if n > LONGEST_FUNCTION} == {}


def test_only_public_functions_have_many_parameters() -> None:
    """Commands and the Python API name their options; so do augmentations, whose parameters a recipe sets."""
    import zoo
    from zoo.augment import AUGMENTATIONS
    from zoo.models import build

    api = [build, *(getattr(zoo, name) for name in zoo.__all__)]
    public = {f"{f.__module__}.{f.__name__}" for f in api if callable(f)}
    set_by_recipes = {f"{entry.path.split(':')[0]}.__init__" for entry in AUGMENTATIONS.values()}
    many = {name for name, node in functions() if count_parameters(node) > MOST_PARAMETERS}
    assert {name for name in many if not name.startswith("zoo.cli.")} - public - set_by_recipes == set()


def test_every_folder_of_tests_is_a_folder_of_the_package() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert [str(f) for f in folders if not (ZOO / f).is_dir()] == []
