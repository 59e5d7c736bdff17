"""`zoo fetch`: download weights for later use without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.atomic_io import replace_file
from zoo.catalog import find_weights
from zoo.errors import UsageError, ZooError
from zoo.hub import FetchResult, fetch_hub_file, parse_hub_name, save_hub_file, sha256_of
from zoo.hub.download import TARGET_HINT, write_error
from zoo.models.pretrained import HUB_FILES, fetch_pretrained

SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class FetchedFile:
    """A downloaded file.

    Args:
        model: name as given by the user.
        source: URL, or name on the hub.
        downloaded: whether this call downloaded it; False if it was already there.
    """

    model: str
    path: Path
    bytes: int
    sha256: str
    source: str
    downloaded: bool

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "path": str(self.path)}


@dataclass(frozen=True)
class FailedFetch:
    model: str
    error: ZooError

    def to_dict(self) -> dict[str, Any]:
        return {"model": self.model, "error": self.error.message, "hint": self.error.hint}


def fetch(model: str, to: str | Path | None = None) -> FetchedFile:
    """Download the weights of `model`, if they are not there, and check their hash.

    Args:
        model: model name, with a tag for other weights than the default ("resnet34.a1_in1k"), or
            "hf-hub:owner/name[@revision]".
        to: folder for files that `--weights FILE` accepts on another machine, with their hashes in SHA256SUMS; None:
            the caches of the libraries, where `--weights default` finds them.

    Raises:
        ModelError: no such model.
        WeightsError: the weights cannot be downloaded or written.
    """
    folder = None if to is None else Path(to).expanduser()
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"--to {folder} is a file", "give a folder; it is created if necessary")
    if model.startswith(("hf-hub:", "hf_hub:")):
        return _repository(model, folder)
    entry, tag = find_weights(model)
    if folder is None:
        return _to_fetched_file(model, fetch_pretrained(entry, tag))
    stem = f"{entry.name.replace('/', '-')}.{tag or entry.default_tag}"
    if (existing := _already_fetched(model, folder, lambda name: Path(name).stem == stem)) is not None:
        return existing
    fetched = fetch_pretrained(entry, tag, lambda name: folder / f"{stem}{Path(name).suffix}")
    return _record_checksum(model, fetched, folder)


def fetch_each(models: Sequence[str], to: str | Path | None = None) -> Iterator[FetchedFile | FailedFetch]:
    """`fetch` each model in turn and yield its result; continues after a failure."""
    for model in models:
        try:
            yield fetch(model, to)
        except UsageError:
            raise
        except ZooError as e:
            yield FailedFetch(model, e)


def _repository(model: str, folder: Path | None) -> FetchedFile:
    """Download weights and the config.json with their architecture."""
    name = parse_hub_name(model)
    if folder is None:
        fetch_hub_file(name.repo, ("config.json",), name.revision)
        return _to_fetched_file(model, fetch_hub_file(name.repo, HUB_FILES, name.revision))
    subfolder = name.repo.replace("/", "--") + (f"@{name.revision.replace('/', '-')}" if name.revision else "")
    existing = _already_fetched(model, folder, lambda file: file in [f"{subfolder}/{n}" for n in HUB_FILES])
    if existing and _already_fetched(model, folder, lambda file: file == f"{subfolder}/config.json"):
        return existing
    place = folder / subfolder
    config = save_hub_file(name.repo, ("config.json",), lambda file: place / file, name.revision)
    _record_checksum(model, config, folder)
    weights = save_hub_file(name.repo, HUB_FILES, lambda file: place / file, name.revision)
    return _record_checksum(model, weights, folder)


def _to_fetched_file(model: str, fetched: FetchResult) -> FetchedFile:
    size = fetched.path.stat().st_size
    return FetchedFile(model, fetched.path, size, fetched.sha256, fetched.source, fetched.downloaded)


# --- SHA256SUMS ------------------------------------------------------------------------------------------------------


def _sums(folder: Path) -> dict[str, str]:
    """File name → sha256 from SHA256SUMS in the format of `sha256sum`; damaged lines are ignored."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.split(maxsplit=1) for line in lines)
    return {pair[1].removeprefix("*"): pair[0] for pair in pairs if len(pair) == 2 and len(pair[0]) == 64}


def _already_fetched(model: str, folder: Path, matches: Callable[[str], bool]) -> FetchedFile | None:
    """An existing file whose name matches and whose hash is that of the download."""
    for name, digest in _sums(folder).items():
        path = folder / name
        if matches(name) and path.is_file() and sha256_of(path) == digest:
            return FetchedFile(model, path, path.stat().st_size, digest, str(path), downloaded=False)
    return None


def _record_checksum(model: str, fetched: FetchResult, folder: Path) -> FetchedFile:
    sums = _sums(folder) | {fetched.path.relative_to(folder).as_posix(): fetched.sha256}
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    try:
        replace_file(folder / SUMS, text)
    except OSError as e:
        raise write_error(folder / SUMS, e, TARGET_HINT) from e
    return _to_fetched_file(model, fetched)
