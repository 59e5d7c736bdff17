"""Files of weights into a plain dictionary of tensors, without executing anything that they contain."""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import WeightsError

__all__ = ["SUFFIXES", "read_tensors"]

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar")
# Where training scripts keep the model inside a checkpoint; timm's order, which prefers averaged weights.
_WRAPPINGS = ("state_dict_ema", "model_ema", "state_dict", "model", "module")
_PREFIXES = re.compile(r"^(?:module\.|_orig_mod\.)+")  # of nn.DataParallel and torch.compile


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name → tensor, on the CPU; checkpoints are unwrapped and their prefixes removed.

    Raises WeightsError if the file cannot be read, holds anything but tensors and plain values, no tensor, or a number
    that is not finite.
    """
    if not path.is_file():
        raise WeightsError(
            f"no weights file {path}" if not path.exists() else f"{path} is not a file", "look at the path"
        )
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    # Modules keep the versions of their parts beside the tensors; MNASNet's cannot be loaded without.
    inner = _unwrap(content)
    versions = getattr(inner, "_metadata", None)
    tensors = _Tensors(_named(inner))
    if not tensors:
        raise WeightsError(f"{path} holds no tensors", "give a file that holds a model's state_dict")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path} is damaged: {name} holds numbers that are not finite", "use another file")
    if versions is not None and tensors.keys() <= inner.keys():
        tensors._metadata = versions
    return tensors


class _Tensors(dict[str, Tensor]):
    """A dictionary that may carry `_metadata`, as torch's own state dictionaries do."""

    _metadata: Any


def _unwrap(content: Any) -> Mapping[str, Any]:
    for _ in _WRAPPINGS:
        if not isinstance(content, Mapping):
            return {}
        inner = next((content[w] for w in _WRAPPINGS if isinstance(content.get(w), Mapping)), None)
        if inner is None:
            return content
        content = inner
    return content if isinstance(content, Mapping) else {}


def _named(content: Mapping[str, Any]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Tensor):
            found[_PREFIXES.sub("", key)] = value
    return found


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as e:
        raise WeightsError(f"{path} is no safetensors file, or a damaged one: {e}", "fetch or save it again") from e


def _read_pickle(path: Path) -> Any:
    try:
        # timm's training script saves its parsed arguments, which are plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        if _is_code(e):
            raise WeightsError(
                f"{path} is refused: it holds more than tensors, and loading that would execute code from the file",
                "ask its author for a .safetensors file, or for a file with the state_dict alone",
            ) from e
        raise WeightsError(f"{path} is no weights file, or a damaged one", "fetch or save it again") from e
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        UnicodeDecodeError,
    ) as e:
        raise WeightsError(f"{path} is no weights file, or a damaged one", "fetch or save it again") from e


def _is_code(error: pickle.UnpicklingError) -> bool:
    """True if torch refused a name that the pickle wants to import, False if the bytes are no pickle at all."""
    return "GLOBAL" in str(error)
