"""Read weights files as dictionaries of tensors, without executing code from them."""

from __future__ import annotations

import argparse
import json
import pickle
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import WeightsError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt")
# Keys of the model in a checkpoint, in timm's order, which prefers averaged weights. The last two are from
# self-supervised training (I-JEPA, DINO).
_EMA_KEYS = ("state_dict_ema", "model_ema")
_WRAPPER_KEYS = (*_EMA_KEYS, "state_dict", "model", "module", "encoder", "teacher")
_PREFIXES = re.compile(r"^(?:module\.|_orig_mod\.)+")  # of nn.DataParallel and torch.compile
_COMMON_PREFIXES = ("model.", "net.")  # of Lightning modules, which have the model as an attribute
# The limit of the safetensors library; a header has about 100 bytes per tensor.
_MAX_HEADER_BYTES = 100_000_000
# torch.save does not compress: a file that grows by more than this was not written by it.
_MAX_EXPANSION, _EXPANSION_SLACK = 1.1, 1_000_000
# Errors of torch.load for a damaged file.
_DAMAGED = (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, MemoryError)


@dataclass(frozen=True)
class WeightTensors:
    """The tensors of a file, on the CPU, without the prefixes of wrappers. part: the set of weights that was used, if
    the file has several; else "".
    """

    named: dict[str, Tensor]
    part: str


def read_weights(path: Path) -> WeightTensors:
    """Read a file; checkpoints are unwrapped, averaged weights preferred, prefixes removed.

    Raises:
        WeightsError: The file cannot be read, is damaged, contains code, no tensor, or non-finite numbers (infinite
            scalars are allowed).
    """
    inner, keys = unwrap(read_file(path))
    # Versions of the modules, which MNASNet needs.
    versions = getattr(inner, "_metadata", None)
    tensors = _Versioned(named_tensors(inner, path))
    if not tensors:
        raise WeightsError(f"{path} has no tensors", "give a file with a model's state_dict")
    for name, tensor in tensors.items():
        # A scalar may be infinite (Gemma's clip limits); nothing may be NaN.
        bound = tensor.ndim == 0 and bool(torch.isinf(tensor))
        if (tensor.is_floating_point() or tensor.is_complex()) and not bool(torch.isfinite(tensor).all()) and not bound:
            raise WeightsError(f"{path} is damaged: {name} has non-finite numbers", "use another file")
    if versions is not None and tensors.keys() <= inner.keys():
        tensors._metadata = versions
    averaged = [key for key in keys if key in _EMA_KEYS]
    return WeightTensors(tensors, f"its averaged weights ({averaged[-1]})" if averaged else "")


class _Versioned(dict[str, Tensor]):
    """A dictionary with the attribute `_metadata`, as torch's state dicts have."""

    _metadata: Any


def unwrap(content: Any) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The innermost dictionary, and the keys that lead to it."""
    keys: tuple[str, ...] = ()
    while isinstance(content, Mapping) and len(keys) < len(_WRAPPER_KEYS):  # a pickle may contain itself
        key = next((k for k in _WRAPPER_KEYS if isinstance(content.get(k), Mapping) and content[k]), None)
        if key is None:
            break
        keys, content = (*keys, key), content[key]
    return (content, keys) if isinstance(content, Mapping) else ({}, ())


def named_tensors(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The tensors of `content`, without the prefixes of wrappers. Raises WeightsError if names are not unique then."""
    found: dict[str, Tensor] = {}
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Tensor):
            name = _PREFIXES.sub("", key)
            if name in found:
                raise WeightsError(f"{path} has {name} twice", "use a file with one model's state_dict")
            found[name] = value
    for common in _COMMON_PREFIXES:
        if found and all(name.startswith(common) for name in found):
            found = {_PREFIXES.sub("", name.removeprefix(common)): tensor for name, tensor in found.items()}
    return found


def read_file(path: Path) -> Any:
    """The content of a file. Raises WeightsError if it is missing, damaged or has code in it."""
    if not path.is_file():
        raise WeightsError(
            f"no weights file {path}" if not path.exists() else f"{path} is not a file", "check the path"
        )
    return read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises WeightsError if it is damaged or differs from its header."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    hint = "download or save it again"
    try:
        header_names = _names_in_header(path)
        tensors: dict[str, Tensor] = load_file(path)
    except WeightsError:
        raise
    except (SafetensorError, OSError, ValueError, RuntimeError, RecursionError, KeyError, AttributeError) as e:
        raise WeightsError(f"{path} is damaged or not a safetensors file: {e}", hint) from e
    if sorted(header_names) != sorted(tensors):
        raise WeightsError(
            f"{path} is damaged: its header lists {len(header_names)} tensors, but it has {len(tensors)}", hint
        )
    return tensors


def _names_in_header(path: Path) -> list[str]:
    """Tensor names in the header. The library silently keeps the last of equal ones."""
    with path.open("rb") as f:
        length = int.from_bytes(f.read(8), "little")
        if length > min(_MAX_HEADER_BYTES, path.stat().st_size - 8):
            raise ValueError("the header is longer than the file" if length <= _MAX_HEADER_BYTES else "no such header")
        header = f.read(length)

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(pairs)
        if len(seen) < len(pairs):
            duplicate = Counter(k for k, _ in pairs).most_common(1)[0][0]
            raise WeightsError(f"{path} is damaged: its header lists {duplicate!r} twice", "use another file")
        return seen

    names = json.loads(header.decode("utf-8"), object_pairs_hook=unique_keys)
    if not isinstance(names, dict):
        raise ValueError("the header is not a JSON object")
    return [n for n in names if n != "__metadata__"]


def _read_pickle(path: Path) -> Any:
    """Read a file of torch.save without executing code. Raises WeightsError if it is damaged or has code in it."""
    damaged = WeightsError(f"{path} is damaged or not a weights file", "download or save it again")
    try:
        _refuse_zip_bomb(path)
        # timm's training script also saves its parsed arguments.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's, about formats that it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise (_code_error(path) if "GLOBAL" in str(e) else damaged) from e
    except (*_DAMAGED, zipfile.BadZipFile) as e:
        raise (_code_error(path) if "TorchScript" in str(e) else damaged) from e


def _refuse_zip_bomb(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    packed = path.stat().st_size
    if unpacked > packed * _MAX_EXPANSION + _EXPANSION_SLACK:
        raise WeightsError(
            f"{path} is refused: it would expand from {packed:,} to {unpacked:,} bytes",
            "save it again with torch.save, or as .safetensors",
        )


def _code_error(path: Path) -> WeightsError:
    """The error for a pickle that imports names, without torch's advice to load it anyway."""
    return WeightsError(
        f"{path} is refused: loading it would execute code from the file",
        "ask its author for a .safetensors file, or a file with only the state_dict",
    )
