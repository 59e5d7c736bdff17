"""pyproject.toml declares every distribution that zoo imports, and no other."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import zoo
from zoo.catalog.packages import PACKAGES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # a dependency of pytest

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
# Package → distribution, where the two have different names.
NAMES = {"PIL": "pillow", "cv2": "opencv-python", "ruamel": "ruamel-yaml", "sklearn": "scikit-learn"}
# Not maintained: zoo says how to install it where an augmentation needs it.
UNDECLARED = {"imagecorruptions"}
# torch imports setuptools and does not declare it; of packages of weights only a file is read.
NOT_IMPORTED = {"setuptools", *(package.distribution for package in PACKAGES.values())}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Modules that import statements and `import_module("...")` name anywhere in a file, functions included."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
            case ast.Call(func=ast.Attribute(attr="import_module") | ast.Name("import_module"), args=[ast.Constant(m)]):
                yield m


def imported_distributions() -> set[str]:
    files = Path(zoo.__file__).parent.rglob("*.py")
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in files)
    packages = {module.partition(".")[0] for tree in trees for module in imported_modules(tree)}
    return {NAMES.get(package, normalized(package)) for package in packages - {*sys.stdlib_module_names, "zoo"}}


def declared_distributions() -> set[str]:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = (lines for name, lines in project["optional-dependencies"].items() if name not in ("test", "dev"))
    requirements = [*project["dependencies"], *(line for lines in extras for line in lines)]
    return {normalized(re.split(r"[^\w.-]", requirement)[0]) for requirement in requirements}


def test_every_distribution_that_zoo_imports_is_declared() -> None:
    assert imported_distributions() - UNDECLARED == declared_distributions() - NOT_IMPORTED
