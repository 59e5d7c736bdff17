"""Is a file what its publisher says that it is?"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ExpectedHash", "expected_hash_from_etag", "expected_hash_from_name", "sha256_of"]

# torch.hub's convention: resnet34-b627a593.pth begins with the first digits of its sha256.
_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")
_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class ExpectedHash:
    """hex_prefix: of the file's sha256, or the first of them; if `is_git_blob`: of its sha1 as a blob of git."""

    hex_prefix: str
    is_git_blob: bool = False

    def matches(self, path: Path) -> bool:
        if self.is_git_blob:
            return _digest(path, b"blob %d\0" % path.stat().st_size, "sha1") == self.hex_prefix
        return sha256_of(path).startswith(self.hex_prefix)

    def __str__(self) -> str:
        return f"{self.hex_prefix[:12]}…" if len(self.hex_prefix) > 12 else self.hex_prefix


def expected_hash_from_etag(etag: str | None) -> ExpectedHash | None:
    """The hub names large files by their sha256 and small ones as git does; None for anything else."""
    if etag is None or not _ETAG.fullmatch(etag):
        return None
    return ExpectedHash(etag, is_git_blob=len(etag) == 40)


def expected_hash_from_name(name: str) -> ExpectedHash | None:
    found = _IN_NAME.search(name)
    return ExpectedHash(found[1]) if found else None


def sha256_of(path: Path) -> str:
    """Hex digest of the file's bytes. About 1.3 GB/s (measured on the development machine)."""
    return _digest(path, b"", "sha256")


def _digest(path: Path, start: bytes, kind: str) -> str:
    digest = hashlib.new(kind, start)
    with path.open("rb") as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
