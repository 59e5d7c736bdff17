"""Call the constructors of timm and torchvision: on torch's meta device, and with readable errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo.errors import ModelError, first_line

__all__ = ["on_meta_device", "translate_build_errors"]

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
    """Translate the errors of a constructor into ModelError.

    Args:
        name: Name of the model.
        args: Keyword arguments of the constructor.
        flags: Argument -> command-line flag.
    """
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
