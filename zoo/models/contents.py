"""The contents of a weights file, for display; `weight_files.read_weights` loads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.errors import WeightsError
from zoo.models import weight_files

_MAX_TEXT = 60  # characters of a text


@dataclass(frozen=True)
class Contents:
    """Contents of a weights file. wrapping: keys that lead to the tensors. prefix: prefix that was removed from all
    names. others: key → description of the other values. metadata: of a safetensors header.
    """

    tensors: dict[str, Tensor]
    wrapping: tuple[str, ...]
    prefix: str
    others: dict[str, str]
    metadata: dict[str, str]


def read_contents(path: Path) -> Contents:
    """The contents of a file, without a check for non-finite numbers. Executes no code.

    Raises WeightsError if the file is missing, cannot be read, or has code or no tensor in it.
    """
    content = weight_files.read_file(path)
    metadata = _header_metadata(path) if path.suffix == ".safetensors" else {}
    inner, wrapping = weight_files.unwrap(content)
    tensors = weight_files.named_tensors(inner, path)
    if not tensors:
        raise WeightsError(f"{path} has no tensors", "give a file with a model's state_dict")
    return Contents(tensors, wrapping, _prefix(inner, tensors), _others(content, wrapping), metadata)


def _header_metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as f:
        return dict(f.metadata() or {})


def _prefix(inner: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """The prefix of the names in the file that was removed in `tensors`."""
    names = (key for key, value in inner.items() if isinstance(key, str) and isinstance(value, Tensor))
    full, short = next(zip(names, tensors, strict=False))
    return full.removesuffix(short)


def _others(content: object, wrapping: tuple[str, ...]) -> dict[str, str]:
    """The values that are not tensors, at each level of the wrapping."""
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
    """A simple value, or the type and length of a larger one."""
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, str):
        return repr(value if len(value) <= _MAX_TEXT else f"{value[:_MAX_TEXT]}…")
    if isinstance(value, Tensor):
        return f"tensor of {'x'.join(map(str, value.shape)) or 'one number'}"
    if isinstance(value, Mapping | list | tuple):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
