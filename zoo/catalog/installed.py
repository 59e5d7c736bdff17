"""The cached index for installed libraries of other versions than the shipped index.

The file name contains everything that the index depends on. Finding it imports neither library: their versions are read
from a line of their own files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from zoo.cache import kind_folder
from zoo.version import __version__

__all__ = ["index_cache_file", "installed_versions", "same_versions"]

# The libraries of the names and configurations. The costs also depend slightly on torch.
_LIBRARIES = ("timm", "torchvision")
_VERSION = re.compile(r"""^__version__\s*(?::\s*str\s*)?=\s*['"]([^'"]+)['"]""", re.MULTILINE)


def installed_versions() -> dict[str, str]:
    """Library → version without a build label such as +cu130; without libraries of unknown version."""
    found = {package: _version_in_file(package) for package in _LIBRARIES}
    return {package: version for package, version in found.items() if version is not None}


def _version_in_file(package: str) -> str | None:
    """The version in the package's version.py, in a tenth of the time of importlib.metadata."""
    try:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations if spec else None) or ():
            stated = _VERSION.search(Path(folder, "version.py").read_text(encoding="utf-8"))
            if stated:
                return stated[1].partition("+")[0]
    except (OSError, ValueError, ImportError):
        pass  # not installed, or in an unusual way: use the shipped index
    return None


def same_versions(index: Mapping[str, str], installed: Mapping[str, str]) -> bool:
    """True if an index of the versions `index` is valid for the `installed` versions."""
    return all(index.get(package) == version for package, version in installed.items())


def index_cache_file(installed: Mapping[str, str], format_number: int) -> Path:
    """The cache file of the index: one file per combination of versions."""
    parts = [f"{package}-{version}" for package, version in sorted(installed.items())]
    name = "-".join([f"index{format_number}-zoo-{__version__}", *parts])
    return kind_folder("catalog") / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.json"
