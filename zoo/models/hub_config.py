"""The config.json beside somebody else's weights: which architecture they are for, and what their images look like.

timm believes every word of it, and takes the memory that it asks for. Here each field is looked at first; what
describes files, code or other places is dropped; numbers have bounds; and the model is built on the meta device, where
it costs nothing, before memory is taken for it.

    described = read_config(path, "hf-hub:timm/resnet18.a1_in1k")
    described.architecture, described.args, described.cfg
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import WeightsError

__all__ = ["LARGEST_CONFIG", "Described", "read_config"]

# 21,843 class names with descriptions, the most that timm's repositories hold, are 3 MB.
LARGEST_CONFIG = 20_000_000
# Four times those of ImageNet-21k's classes, and more than any published vocabulary of images.
_MOST_CLASSES = 1_000_000
_LONGEST_SIDE = 4096  # of an image in pixels; timm's largest is 1,024
_MOST_CHANNELS = 256  # of an image
_DEEPEST = 1000  # blocks; timm's deepest has 200
_LARGEST_NUMBER = 100_000  # of any other argument: widths, heads
_LONGEST_LIST = 64
_MOST_PARAMETERS = 10_000_000_000  # twice those of timm's largest, eva02_enormous
# Arguments of timm.create_model that name files, places or code, or do not describe the structure.
_RESERVED = frozenset(
    [
        *("model_name", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict"),
        *("pretrained_filter_fn", "checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit", "device"),
        *("features_only", "feature_cfg", "out_indices", "weights", "progress", "dtype", "kwargs_filter"),
    ]
)


@dataclass(frozen=True)
class Described:
    """source: "timm" or "torchvision". args: keyword arguments of the architecture. cfg: fields of timm's default_cfg
    that replace those of the model's own description. where: what the user called it."""

    where: str
    source: str
    architecture: str
    args: dict[str, Any]
    cfg: dict[str, Any]


def read_config(path: Path, where: str) -> Described:
    """Raises WeightsError, which names `where`, if it is damaged, or describes no model of timm or torchvision, or one
    that is beyond the bounds or beyond this machine's memory."""
    values = _json(path, where)
    source = "torchvision" if values.get("library") == "torchvision" else "timm"
    architecture = values.get("architecture")
    if not isinstance(architecture, str):
        other = values.get("architectures") or values.get("model_type")
        known = f" (it is for {_shown(other)})" if other else ""
        raise _bad(where, f"names no architecture of timm{known}")
    cfg = _cfg(values, where)
    args = _arguments(values.get("model_args"), where)
    classes = cfg.get("num_classes")
    if classes is not None:
        args["num_classes"] = classes
    channels = args.pop("in_chans", None)
    if channels is not None and "input_size" not in cfg:
        _whole(channels, 1, _MOST_CHANNELS, "in_chans", where)
    described = Described(where, source, architecture, args, cfg)
    _weigh(described, channels if channels is not None else cfg.get("input_size", (3,))[0])
    return described


def _bad(where: str, what: str) -> WeightsError:
    return WeightsError(f"config.json of {where} {what}", "give the weights alone with --weights FILE, or take others")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _json(path: Path, where: str) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise _bad(where, f"has {path.stat().st_size:,} bytes")
        values = json.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError as e:
        raise _bad(where, "is missing") from e
    except (OSError, ValueError, RecursionError) as e:
        line = (str(e).splitlines() or [""])[0][:100]
        raise _bad(where, f"cannot be read: {line}") from e
    if not isinstance(values, dict):
        raise _bad(where, "is no JSON object")
    return values


# --- fields ----------------------------------------------------------------------------------------------------------


def _cfg(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields that describe images and head. timm's older repositories keep them at the top."""
    inner = values.get("pretrained_cfg", values.get("preprocess", values))
    if not isinstance(inner, dict):
        raise _bad(where, f"says pretrained_cfg = {_shown(inner)}, not an object")
    cfg: dict[str, Any] = {}
    for key, check in _FIELDS.items():
        value = inner.get(key)
        if value is not None:
            cfg[key] = check(value, key, where)
    for key in ("num_classes", "first_conv", "classifier"):
        if values.get(key) is not None:
            cfg[key] = _FIELDS[key](values[key], key, where)
    size = cfg.get("input_size")
    for key in ("mean", "std"):
        if key in cfg and size is not None and len(cfg[key]) not in (1, size[0]):
            raise _bad(where, f"says {key} = {_shown(cfg[key])} for {size[0]} channels")
    return cfg


def _whole(value: object, least: int, most: int, key: str, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _bad(where, f"says {key} = {_shown(value)}, not a whole number between {least} and {most:,}")
    return value


def _classes(value: object, key: str, where: str) -> int:
    return _whole(value, 0, _MOST_CLASSES, key, where)


def _size(value: object, key: str, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != 3:
        raise _bad(where, f"says {key} = {_shown(value)}, not channels, height and width")
    bounds = (_MOST_CHANNELS, _LONGEST_SIDE, _LONGEST_SIDE)
    return tuple(_whole(v, 1, most, key, where) for v, most in zip(value, bounds, strict=True))


def _pool(value: object, key: str, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != 2:
        raise _bad(where, f"says {key} = {_shown(value)}, not height and width")
    return tuple(_whole(v, 1, _LONGEST_SIDE, key, where) for v in value)


def _statistics(value: object, key: str, where: str) -> tuple[float, ...]:
    listed = value if isinstance(value, list) and len(value) <= _MOST_CHANNELS else []
    numbers = [v for v in listed if isinstance(v, int | float) and not isinstance(v, bool)]
    least = 1e-6 if key == "std" else -1e6  # images are divided by it
    if not numbers or len(numbers) < len(listed) or not all(math.isfinite(v) and least <= v <= 1e6 for v in numbers):
        raise _bad(where, f"says {key} = {_shown(value)}, not a number for each channel")
    return tuple(float(v) for v in numbers)


def _share(value: object, key: str, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.01 <= value <= 10:
        raise _bad(where, f"says {key} = {_shown(value)}, not a share of the image")
    return float(value)


def _one_of(*known: str) -> Callable[[object, str, str], str]:
    def check(value: object, key: str, where: str) -> str:
        if not isinstance(value, str) or value not in known:
            raise _bad(where, f"says {key} = {_shown(value)}, not one of {', '.join(known)}")
        return value

    return check


def _paths(value: object, key: str, where: str) -> str | list[str]:
    listed = value if isinstance(value, list) else [value]
    if len(listed) > _LONGEST_LIST or not all(isinstance(v, str) and len(v) < 200 for v in listed):
        raise _bad(where, f"says {key} = {_shown(value)}, not names of modules")
    return value if isinstance(value, str) else [str(v) for v in listed]


def _flag(value: object, key: str, where: str) -> bool:
    if not isinstance(value, bool):
        raise _bad(where, f"says {key} = {_shown(value)}, not true or false")
    return value


def _text(value: object, key: str, where: str) -> str:
    if not isinstance(value, str) or len(value) > 500:
        raise _bad(where, f"says {key} = {_shown(value)}, not a text")
    return value


_FIELDS: dict[str, Callable[[object, str, str], Any]] = {
    "input_size": _size,
    "num_classes": _classes,
    "mean": _statistics,
    "std": _statistics,
    "interpolation": _one_of("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos", "random"),
    "crop_pct": _share,
    "crop_mode": _one_of("center", "squash", "border"),
    "pool_size": _pool,
    "fixed_input_size": _flag,
    "first_conv": _paths,
    "classifier": _paths,
    "license": _text,
}


def _arguments(values: object, where: str) -> dict[str, Any]:
    """`model_args`: plain numbers and names only."""
    if values is None:
        return {}
    if not isinstance(values, dict) or len(values) > _LONGEST_LIST:
        raise _bad(where, f"says model_args = {_shown(values)}, not an object of arguments")
    for key, value in values.items():
        if key in _RESERVED or key.startswith("_") or not key.isidentifier():
            raise _bad(where, f"gives the argument {key!r}, which does not describe a model")
        parts = value if isinstance(value, list) else [value]
        if len(parts) > _LONGEST_LIST:
            raise _bad(where, f"says {key} = {_shown(value)}, too long a list")
        for part in parts:
            _plain(part, key, where)
        whole = [p for p in parts if isinstance(p, int) and not isinstance(p, bool)]
        if any(word in key for word in ("depth", "layer", "block", "repeat")) and sum(whole) > _DEEPEST:
            raise _bad(where, f"says {key} = {_shown(value)}: more than {_DEEPEST} blocks")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _plain(value: object, key: str, where: str) -> None:
    if key == "num_classes":
        _classes(value, key, where)
        return
    if value is None or isinstance(value, bool) or (isinstance(value, str) and len(value) <= 100):
        return
    most = _LONGEST_SIDE if "size" in key and "img" in key else _LARGEST_NUMBER
    if isinstance(value, int | float) and math.isfinite(value) and abs(value) <= most:
        return
    raise _bad(where, f"says {key} = {_shown(value)}, not a plain value of at most {most:,}")


# --- size ------------------------------------------------------------------------------------------------------------


def _weigh(described: Described, channels: int) -> None:
    """Build it without memory. Raises WeightsError if the library cannot, or if it would not fit into the machine's."""
    where = described.where
    said = ", ".join(f"{k}={_shown(v)}" for k, v in described.args.items())
    try:
        module = _torchvision(described) if described.source == "torchvision" else _timm(described, channels)
    except (
        *(TypeError, ValueError, RuntimeError, AssertionError, LookupError, AttributeError),
        *(ArithmeticError, NotImplementedError, MemoryError, RecursionError),
    ) as e:
        line = (str(e).strip().splitlines() or [type(e).__name__])[0][:160]
        raise _bad(where, f"describes what {described.architecture} cannot be ({said}): {line}") from e
    tensors = [*module.parameters(), *module.buffers()]
    numbers = sum(t.numel() for t in tensors)
    needed, memory = sum(t.numel() * t.element_size() for t in tensors), _memory()
    if numbers > _MOST_PARAMETERS or needed > memory:
        raise _bad(
            where,
            f"describes a model of {numbers / 1e9:,.1f} billion numbers ({said}): "
            + (f"{needed / 1e9:,.0f} GB, of {memory / 1e9:,.0f} GB here" if needed > memory else "that is refused"),
        )


def _timm(described: Described, channels: int) -> Any:
    import timm

    from zoo.models.meta_init import on_meta_device

    if not timm.is_model(described.architecture):
        raise _bad(
            described.where,
            f"names {_shown(described.architecture)}, which the installed timm {timm.__version__} does not know",
        )
    with on_meta_device():
        return timm.create_model(described.architecture, pretrained=False, in_chans=channels, **described.args)


def _torchvision(described: Described) -> Any:
    import torch
    from torchvision import models

    if described.architecture not in models.list_models(module=models):
        raise _bad(described.where, f"names {_shown(described.architecture)}, which torchvision does not know")
    # RegNet's constructor computes with its numbers, which the meta device has not.
    with torch.device("cpu" if described.architecture.startswith("regnet") else "meta"):
        return models.get_model(described.architecture, weights=None, **described.args)


def _memory() -> int:
    """Bytes of this machine's memory."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 1 << 62  # a system that does not say: the other bound remains
