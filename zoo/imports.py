"""Importing what is large, sooner."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["gc_paused"]


@contextmanager
def gc_paused() -> Iterator[None]:
    """Without looking for garbage meanwhile: torch, torchvision and timm make a million objects that all stay, and
    going through them again and again takes a tenth of the time that importing them takes."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
