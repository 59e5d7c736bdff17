"""The config.json of a hub repository or exported folder: architecture and preprocessing of its weights.

timm trusts all of its content. Here every field is checked and bounded, fields about files, code or other locations are
dropped, and the size of the model is computed on the meta device before memory is used.

    config = read_config(path, "hf-hub:timm/resnet18.a1_in1k")
    config.architecture, config.args, config.cfg
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import WeightsError, first_line

# 21,843 class names with descriptions, the most in timm's repositories, are 3 MB.
MAX_CONFIG_BYTES = 20_000_000
# Far above ImageNet-21k's 21,843 classes.
_MAX_CLASSES = 1_000_000
_MAX_SIDE = 4096  # of an image in pixels; timm's largest is 1,024
_MAX_CHANNELS = 256  # of an image
_MAX_DEPTH = 1000  # blocks; timm's deepest has 200
_MAX_NUMBER = 100_000  # of any other argument: widths, heads
_MAX_LIST_LENGTH = 64
_MAX_PARAMETERS = 10_000_000_000  # twice those of timm's largest, eva02_enormous
# Arguments of timm.create_model about files, locations or code, or not about the structure.
_RESERVED = frozenset(
    [
        *("model_name", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict"),
        *("pretrained_filter_fn", "checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit", "device"),
        *("features_only", "feature_cfg", "out_indices", "weights", "progress", "dtype", "kwargs_filter"),
    ]
)


@dataclass(frozen=True)
class HubConfig:
    """A checked config.json. origin: name that the user gave. source: "timm" or "torchvision". args: keyword arguments
    of the architecture. cfg: fields of timm's default_cfg that replace those of the model.
    """

    origin: str
    source: str
    architecture: str
    args: dict[str, Any]
    cfg: dict[str, Any]


def read_config(path: Path, origin: str) -> HubConfig:
    """Read and check a config.json; `origin` names it in messages.

    Raises:
        WeightsError: It is damaged, not about a model of timm or torchvision, or the model is too large.
    """
    values = _json(path, origin)
    source = "torchvision" if values.get("library") == "torchvision" else "timm"
    architecture = values.get("architecture")
    if not isinstance(architecture, str):
        other = values.get("architectures") or values.get("model_type")
        known = f" (it is for {_shorten(other)})" if other else ""
        raise _config_error(origin, f"has no architecture of timm{known}")
    cfg = _cfg(values, origin)
    args = _arguments(values.get("model_args"), origin)
    classes = cfg.get("num_classes")
    if classes is not None:
        args["num_classes"] = classes
    channels = args.pop("in_chans", None)
    if channels is not None and "input_size" not in cfg:
        _check_integer(channels, 1, _MAX_CHANNELS, "in_chans", origin)
    config = HubConfig(origin, source, architecture, args, cfg)
    _check_size(config, channels if channels is not None else cfg.get("input_size", (3,))[0])
    return config


def _config_error(origin: str, what: str) -> WeightsError:
    return WeightsError(
        f"config.json of {origin} {what}", "give only the file with --weights FILE, or use other weights"
    )


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _json(path: Path, origin: str) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise _config_error(origin, f"has {path.stat().st_size:,} bytes")
        values = json.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError as e:
        raise _config_error(origin, "is missing") from e
    except (OSError, ValueError, RecursionError) as e:
        raise _config_error(origin, f"cannot be read: {first_line(e, 100)}") from e
    if not isinstance(values, dict):
        raise _config_error(origin, "is not a JSON object")
    return values


# --- fields ----------------------------------------------------------------------------------------------------------


def _cfg(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The fields about preprocessing and head; at the top level in older repositories of timm."""
    inner = values.get("pretrained_cfg", values.get("preprocess", values))
    if not isinstance(inner, dict):
        raise _config_error(origin, f"has pretrained_cfg = {_shorten(inner)}, not an object")
    cfg: dict[str, Any] = {}
    for key, check in _FIELDS.items():
        value = inner.get(key)
        if value is not None:
            cfg[key] = check(value, key, origin)
    for key in ("num_classes", "first_conv", "classifier"):
        if values.get(key) is not None:
            cfg[key] = _FIELDS[key](values[key], key, origin)
    size = cfg.get("input_size")
    for key in ("mean", "std"):
        if key in cfg and size is not None and len(cfg[key]) not in (1, size[0]):
            raise _config_error(origin, f"has {key} = {_shorten(cfg[key])} for {size[0]} channels")
    return cfg


def _check_integer(value: object, minimum: int, maximum: int, key: str, origin: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise _config_error(origin, f"has {key} = {_shorten(value)}, not an integer from {minimum} to {maximum:,}")
    return value


def _check_num_classes(value: object, key: str, origin: str) -> int:
    return _check_integer(value, 0, _MAX_CLASSES, key, origin)


def _check_input_size(value: object, key: str, origin: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != 3:
        raise _config_error(origin, f"has {key} = {_shorten(value)}, not channels, height and width")
    bounds = (_MAX_CHANNELS, _MAX_SIDE, _MAX_SIDE)
    return tuple(_check_integer(v, 1, maximum, key, origin) for v, maximum in zip(value, bounds, strict=True))


def _check_pool_size(value: object, key: str, origin: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != 2:
        raise _config_error(origin, f"has {key} = {_shorten(value)}, not height and width")
    return tuple(_check_integer(v, 1, _MAX_SIDE, key, origin) for v in value)


def _check_statistics(value: object, key: str, origin: str) -> tuple[float, ...]:
    items = value if isinstance(value, list) and len(value) <= _MAX_CHANNELS else []
    numbers = [v for v in items if isinstance(v, int | float) and not isinstance(v, bool)]
    minimum = 1e-6 if key == "std" else -1e6  # images are divided by it
    if not numbers or len(numbers) < len(items) or not all(math.isfinite(v) and minimum <= v <= 1e6 for v in numbers):
        raise _config_error(origin, f"has {key} = {_shorten(value)}, not a number for each channel")
    return tuple(float(v) for v in numbers)


def _check_fraction(value: object, key: str, origin: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.01 <= value <= 10:
        raise _config_error(origin, f"has {key} = {_shorten(value)}, not a crop ratio from 0.01 to 10")
    return float(value)


def _one_of(*known: str) -> Callable[[object, str, str], str]:
    def check(value: object, key: str, origin: str) -> str:
        if not isinstance(value, str) or value not in known:
            raise _config_error(origin, f"has {key} = {_shorten(value)}, not one of {', '.join(known)}")
        return value

    return check


def _check_paths(value: object, key: str, origin: str) -> str | list[str]:
    items = value if isinstance(value, list) else [value]
    if len(items) > _MAX_LIST_LENGTH or not all(isinstance(v, str) and len(v) < 200 for v in items):
        raise _config_error(origin, f"has {key} = {_shorten(value)}, not module names")
    return value if isinstance(value, str) else [str(v) for v in items]


def _check_bool(value: object, key: str, origin: str) -> bool:
    if not isinstance(value, bool):
        raise _config_error(origin, f"has {key} = {_shorten(value)}, not true or false")
    return value


def _check_text(value: object, key: str, origin: str) -> str:
    if not isinstance(value, str) or len(value) > 500:
        raise _config_error(origin, f"has {key} = {_shorten(value)}, not a text")
    return value


_FIELDS: dict[str, Callable[[object, str, str], Any]] = {
    "input_size": _check_input_size,
    "num_classes": _check_num_classes,
    "mean": _check_statistics,
    "std": _check_statistics,
    "interpolation": _one_of("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos", "random"),
    "crop_pct": _check_fraction,
    "crop_mode": _one_of("center", "squash", "border"),
    "pool_size": _check_pool_size,
    "fixed_input_size": _check_bool,
    "first_conv": _check_paths,
    "classifier": _check_paths,
    "license": _check_text,
}


def _arguments(values: object, origin: str) -> dict[str, Any]:
    """`model_args`: numbers and short strings only."""
    if values is None:
        return {}
    if not isinstance(values, dict) or len(values) > _MAX_LIST_LENGTH:
        raise _config_error(origin, f"has model_args = {_shorten(values)}, not an object of arguments")
    for key, value in values.items():
        if key in _RESERVED or key.startswith("_") or not key.isidentifier():
            raise _config_error(origin, f"has the argument {key!r}, which is not allowed")
        parts = value if isinstance(value, list) else [value]
        if len(parts) > _MAX_LIST_LENGTH:
            raise _config_error(origin, f"has {key} = {_shorten(value)}, too long a list")
        for part in parts:
            _check_plain(part, key, origin)
        whole = [p for p in parts if isinstance(p, int) and not isinstance(p, bool)]
        if any(word in key for word in ("depth", "layer", "block", "repeat")) and sum(whole) > _MAX_DEPTH:
            raise _config_error(origin, f"has {key} = {_shorten(value)}: more than {_MAX_DEPTH} blocks")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _check_plain(value: object, key: str, origin: str) -> None:
    if key == "num_classes":
        _check_num_classes(value, key, origin)
        return
    if value is None or isinstance(value, bool) or (isinstance(value, str) and len(value) <= 100):
        return
    maximum = _MAX_SIDE if "size" in key and "img" in key else _MAX_NUMBER
    if not (isinstance(value, int | float) and math.isfinite(value) and abs(value) <= maximum):
        raise _config_error(origin, f"has {key} = {_shorten(value)}, not a plain value of at most {maximum:,}")


# --- size ------------------------------------------------------------------------------------------------------------


def _check_size(config: HubConfig, channels: int) -> None:
    """Build the model on the meta device. Raises WeightsError if that fails, or if the model needs too much memory."""
    origin = config.origin
    args_text = ", ".join(f"{k}={_shorten(v)}" for k, v in config.args.items())
    try:
        module = _torchvision(config) if config.source == "torchvision" else _timm(config, channels)
    except (
        *(TypeError, ValueError, RuntimeError, AssertionError, LookupError, AttributeError),
        *(ArithmeticError, NotImplementedError, MemoryError, RecursionError),
    ) as e:
        raise _config_error(
            origin, f"has arguments that {config.architecture} does not support ({args_text}): {first_line(e)}"
        ) from e
    tensors = [*module.parameters(), *module.buffers()]
    numbers = sum(t.numel() for t in tensors)
    needed, memory = sum(t.numel() * t.element_size() for t in tensors), _total_memory()
    if numbers > _MAX_PARAMETERS or needed > memory:
        raise _config_error(
            origin,
            f"describes a model with {numbers / 1e9:,.1f} billion parameters ({args_text}): "
            + (f"it needs {needed / 1e9:,.0f} of {memory / 1e9:,.0f} GB of memory" if needed > memory else "too many"),
        )


def _timm(config: HubConfig, channels: int) -> Any:
    import timm

    from zoo.models.construct import on_meta_device

    if not timm.is_model(config.architecture):
        raise _config_error(
            config.origin,
            f"names {_shorten(config.architecture)}, which the installed timm {timm.__version__} does not have",
        )
    with on_meta_device():
        return timm.create_model(config.architecture, pretrained=False, in_chans=channels, **config.args)


def _torchvision(config: HubConfig) -> Any:
    import torch
    from torchvision import models

    if config.architecture not in models.list_models(module=models):
        raise _config_error(
            config.origin, f"names {_shorten(config.architecture)}, which the installed torchvision does not have"
        )
    # RegNet's constructor computes with tensor values, which meta tensors do not have.
    with torch.device("cpu" if config.architecture.startswith("regnet") else "meta"):
        return models.get_model(config.architecture, weights=None, **config.args)


def _total_memory() -> int:
    """Physical memory in bytes."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 1 << 62  # unknown on this system
