"""Image file extensions, and the errors of files that cannot be decoded."""

from __future__ import annotations

import os
import stat
import struct
import tokenize
import zlib

from PIL import Image

from zoo.errors import DataError

# Extensions of image files: what Pillow reads without further libraries, and NumPy arrays.
EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".npy"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".tga", ".jp2"}
)

# What the decoders raise on damaged files: SyntaxError is Pillow's for PNG, TokenError NumPy's for the header of .npy.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    tokenize.TokenError,
    zlib.error,
    Image.DecompressionBombError,
)


class UnsupportedPixels(ValueError):
    """An intact file whose values cannot be converted to the requested pixels."""


class UnreadableImage(DataError):
    """The file at `path` cannot be read as an image, for the given `reason`."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot read {printable(path)}: {reason}", "replace or remove the file")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[str, str]]:
        return UnreadableImage, (self.path, self.reason)


def printable(path: str) -> str:
    """`path` with invalid UTF-8 bytes as replacement characters."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def describe_non_file(mode: int) -> str:
    """The kind of a path that is not a regular file: opening a FIFO or device could block forever."""
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return f"not a file but {kinds.get(stat.S_IFMT(mode), 'something else')}"


def describe_content(start: bytes) -> str:
    """The kind of a file that is not an image, from its first bytes."""
    start = start.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<svg")):
        return "not an image: the file holds " + ("SVG or XML" if start.startswith((b"<?xml", b"<svg")) else "HTML")
    if start.startswith(b"version https://git-lfs"):
        return "not an image: a Git LFS pointer (run git lfs pull)"
    return "not an image that Pillow can identify"


def error_reason(error: BaseException) -> str:
    """The error message for an exception of a decoder."""
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, a possible decompression bomb"
    if isinstance(error, UnsupportedPixels):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error) or type(error).__name__
    return "truncated file" if "truncated" in text.lower() else f"damaged file ({text})"
