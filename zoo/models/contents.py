"""All that a file of weights holds, to show it; `weight_files.read_tensors` is for loading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.errors import WeightsError
from zoo.models import weight_files

__all__ = ["Contents", "read_contents"]

_MAX_TEXT = 60  # characters of a text


@dataclass(frozen=True)
class Contents:
    """tensors: by name, on the CPU, as `weight_files.read_tensors` names them. wrapping: keys under which they lie.
    prefix: what was taken off all names. others: key → kind of what lies beside the tensors on the way to them.
    metadata: of a safetensors header.
    """

    tensors: dict[str, Tensor]
    wrapping: tuple[str, ...]
    prefix: str
    others: dict[str, str]
    metadata: dict[str, str]


def read_contents(path: Path) -> Contents:
    """What is in the file; numbers that are not finite are not looked for. Executes nothing.

    Raises WeightsError if the file is not there, cannot be read, holds code, or holds no tensor.
    """
    if not path.is_file():
        raise WeightsError(
            f"no weights file {path}" if not path.exists() else f"{path} is not a file", "look at the path"
        )
    metadata: dict[str, str] = {}
    content: Any
    if path.suffix == ".safetensors":
        content, metadata = weight_files.read_safetensors(path), _header_metadata(path)
    else:
        content = weight_files.read_pickle(path)
    inner, _ = weight_files.unwrap(content)
    tensors = weight_files.named_tensors(inner, path)
    if not tensors:
        raise WeightsError(f"{path} holds no tensors", "give a file that holds a model's state_dict")
    wrapping = _path_to(inner, content) or ()
    return Contents(tensors, wrapping, _prefix(inner, tensors), _others(content, wrapping), metadata)


def _header_metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as f:
        return dict(f.metadata() or {})


def _path_to(target: object, content: object) -> tuple[str, ...] | None:
    """Keys that lead from `content` to `target` itself, None if it is not inside; a pickle may hold itself."""
    pending: list[tuple[tuple[str, ...], object]] = [((), content)]
    seen: set[int] = set()
    while pending:
        path, found = pending.pop()
        if found is target:
            return path
        if isinstance(found, Mapping) and id(found) not in seen:
            seen.add(id(found))
            inside = [((*path, str(k)), v) for k, v in found.items() if isinstance(v, Mapping)]
            pending += reversed(inside)
    return None


def _prefix(inner: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """What the names in the file begin with, and those of `tensors` do not."""
    names = (key for key, value in inner.items() if isinstance(key, str) and isinstance(value, Tensor))
    full, short = next(zip(names, tensors, strict=False))
    return full.removesuffix(short)


def _others(content: object, wrapping: tuple[str, ...]) -> dict[str, str]:
    """What lies beside the tensors, at each level of the wrapping and among them."""
    found: dict[str, str] = {}
    for depth in range(len(wrapping) + 1):
        if not isinstance(content, Mapping):
            break
        inside = wrapping[depth] if depth < len(wrapping) else None
        for key, value in content.items():
            if key != inside and not (inside is None and isinstance(value, Tensor)):
                found[".".join((*wrapping[:depth], str(key)))] = _describe_value(value)
        content = content[inside] if inside is not None else None
    return found


def _describe_value(value: object) -> str:
    """A plain value as it is, anything larger by its type and length."""
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, str):
        return repr(value if len(value) <= _MAX_TEXT else f"{value[:_MAX_TEXT]}…")
    if isinstance(value, Tensor):
        return f"tensor of {'x'.join(map(str, value.shape)) or 'one number'}"
    if isinstance(value, Mapping | list | tuple):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
