"""The cache of the huggingface_hub client on disk, and the hub's metadata of a file.

    models--OWNER--NAME/blobs/ETAG, snapshots/COMMIT/FILE (a link to the blob), refs/REVISION (the commit)

On a file system without symbolic links the snapshot holds the file itself, and the client does not store its hash. zoo
stores the hash in `.etags/COMMIT/FILE`, which the client ignores.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zoo.atomic_io import replace_file
from zoo.hub.download import write_error
from zoo.hub.hashes import ExpectedHash, expected_hash_from_etag, sha256_of
from zoo.hub.http import require_endpoint

CACHE_HINT = "free some disk space, or set HF_HOME=DIR to use another cache"


@dataclass(frozen=True)
class FetchResult:
    """A file on disk. source: URL, or name on the hub. revision: commit on the hub. downloaded: whether this call
    downloaded it. verified: whether the publisher's hash is known and equal.
    """

    path: Path
    source: str
    revision: str | None
    sha256: str
    downloaded: bool = field(default=False, compare=False)
    verified: bool = field(default=True, compare=False)


@dataclass(frozen=True)
class RemoteFile:
    """The hub's metadata of a file. headers: for the download; with the user's token only if the hub itself has it."""

    name: str
    url: str
    etag: str
    commit: str
    size: int | None
    headers: Mapping[str, str]

    @property
    def expected(self) -> ExpectedHash:
        expected = expected_hash_from_etag(self.etag)
        assert expected is not None
        return expected


class RepoCache:
    """The folder of a repository in the client's cache."""

    def __init__(self, repo: str, revision: str) -> None:
        require_endpoint()
        from huggingface_hub import constants

        self.repo, self.revision = repo, revision
        self.endpoint: str = constants.ENDPOINT
        self.cache = Path(constants.HF_HUB_CACHE)
        self.folder = self.cache / f"models--{repo.replace('/', '--')}"

    def find_cached(self, names: Sequence[str]) -> tuple[str, Path] | None:
        from huggingface_hub import try_to_load_from_cache

        for name in names:
            try:
                cached = try_to_load_from_cache(self.repo, name, cache_dir=self.cache, revision=self.revision)
            except (OSError, UnicodeDecodeError) as e:
                raise write_error(self.folder, e if isinstance(e, OSError) else OSError(str(e)), CACHE_HINT) from e
            if isinstance(cached, str):
                return name, Path(cached)
        return None

    def blob(self, etag: str) -> Path:
        return self.folder / "blobs" / etag

    def lock(self, etag: str) -> Path:
        """The lock file of the client, so that the client and zoo do not download the same file at once."""
        return self.cache / ".locks" / self.folder.name / f"{etag}.lock"

    def pointer(self, commit: str, name: str) -> Path:
        return self.folder / "snapshots" / commit / name

    def _etag_file(self, commit: str, name: str) -> Path:
        """File with the hash, for a snapshot without symbolic links."""
        return self.folder / ".etags" / commit / name

    def commit_of(self, name: str, path: Path) -> str:
        # …/snapshots/COMMIT/NAME
        return path.parts[-1 - len(Path(name).parts)]

    def expected(self, name: str, path: Path) -> ExpectedHash | None:
        """The hash from the name of the blob that the snapshot links to, or from the saved ETag; None without both.

        The blob may itself be a link into a store that repositories share; its target has another name.
        """
        if path.is_symlink():
            return expected_hash_from_etag(os.path.basename(os.readlink(path)))
        try:
            saved_etag = self._etag_file(self.commit_of(name, path), name).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return None
        return expected_hash_from_etag(saved_etag.strip())

    def fetch_result(self, name: str, path: Path, *, downloaded: bool = False, verified: bool = True) -> FetchResult:
        source = f"hf-hub:{self.repo}/{name}"
        return FetchResult(path, source, self.commit_of(name, path), sha256_of(path), downloaded, verified)

    def has_content(self, remote: RemoteFile) -> bool:
        """True if the file is in the cache, as a blob or directly in the snapshot."""
        locations = (self.blob(remote.etag), self.pointer(remote.commit, remote.name))
        return any(path.is_file() and remote.expected.matches(path) for path in locations)

    def link_snapshot(self, remote: RemoteFile) -> Path:
        """Link the snapshot to the blob, and the revision to the commit; returns the path in the snapshot."""
        from huggingface_hub.file_download import are_symlinks_supported

        blob, pointer = self.blob(remote.etag), self.pointer(remote.commit, remote.name)
        pointer.parent.mkdir(parents=True, exist_ok=True)
        if not blob.is_file():
            self.save_etag(remote)  # the file is in the snapshot itself
        elif are_symlinks_supported(self.cache):
            link = pointer.with_name(f".{pointer.name}.{os.getpid()}.tmp")
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(blob, pointer.parent))
            os.replace(link, pointer)
        else:
            os.replace(blob, pointer)
            self.save_etag(remote)
        if self.revision != remote.commit:
            _write(self.folder / "refs" / self.revision, remote.commit)
        return pointer

    def save_etag(self, remote: RemoteFile) -> None:
        _write(self._etag_file(remote.commit, remote.name), remote.etag)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text)
