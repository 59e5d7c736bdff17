"""Construct modules of timm and torchvision: the options, torch's meta device, and readable errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo.errors import ModelError, first_line
from zoo.models.heads import HEAD_INITS, HEADS
from zoo.models.stems import resolve_stem_rule


@dataclass(frozen=True)
class BuildOptions:
    """The options of `zoo.models.build`. Raises ModelError if a value is invalid for every model."""

    classes: int | None
    in_chans: int
    img_size: int | None
    drop: float | None = None
    drop_path: float | None = None
    pool: str | None = None
    stem: str = "auto"
    head: str = "linear"
    head_init: str = "default"

    def __post_init__(self) -> None:
        if self.classes is not None and self.classes < 1:
            raise ModelError(f"{self.classes} classes", "give at least 1, or leave it out to keep the pretrained head")
        if self.in_chans < 1:
            raise ModelError(f"{self.in_chans} input channels", "give at least 1")
        if self.img_size is not None and self.img_size < 1:
            raise ModelError(f"an image size of {self.img_size} pixels", "give the side in pixels, for example 224")
        for label, value in (("drop", self.drop), ("drop_path", self.drop_path)):
            if value is not None and not 0 <= value < 1:
                raise ModelError(f"{label} is {value}", "give a probability from 0 to below 1")
        if self.pool == "":
            raise ModelError("pool is empty", "give a pooling, such as avg or max, or leave it out")
        if self.head not in HEADS:
            raise ModelError(f"no head {self.head!r}", f"give {' or '.join(HEADS)}")
        if self.head == "multi-depth" and self.drop is not None:
            raise ModelError("the multi-depth head has no dropout", "leave out model.drop")
        if self.head_init not in HEAD_INITS:
            raise ModelError(f"no head initialisation {self.head_init!r}", f"give {' or '.join(HEAD_INITS)}")
        resolve_stem_rule(self.stem, 1 if self.in_chans == 3 else self.in_chans)


# In-place operations of initialisers, without effect on a meta tensor.
_INIT_OPS: set[Any] = {
    *(getattr(Tensor, f"{op}_") for op in ("add", "clamp", "copy", "div", "erfinv", "fill", "mul", "normal", "sub")),
    *(getattr(Tensor, f"{op}_") for op in ("uniform", "zero")),
    *(nn.init.constant_, nn.init.kaiming_uniform_, nn.init.normal_, nn.init.uniform_),
}


class _SkipInit(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func in _INIT_OPS:
            tensor: Tensor = args[0] if args else named["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **named)


@contextmanager
def on_meta_device() -> Iterator[None]:
    """Create parameters on the meta device, without initialisation, which takes two thirds of the time."""
    with torch.device("meta"), _SkipInit():
        yield


@contextmanager
def translate_build_errors(name: str, args: Mapping[str, Any], flags: Mapping[str, str]) -> Iterator[None]:
    """Translate the errors of a constructor with the keywords `args` into ModelError. flags: keyword → option."""
    try:
        yield
    except TypeError as e:
        unknown = next((k for k in args if f"'{k}'" in str(e) and "argument" in str(e)), None)
        if unknown is None:
            raise
        raise ModelError(f"{name} does not support {flags.get(unknown, unknown)}", "leave it out") from e
    except (AssertionError, RuntimeError, ValueError, ZeroDivisionError) as e:
        args_text = ", ".join(f"{k}={v}" for k, v in args.items())
        raise ModelError(
            f"{name} cannot be built with {args_text}: {first_line(e)}", "use its default arguments"
        ) from e
