"""`zoo fetch`: weights for later, when there is no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.catalog import find_weights
from zoo.errors import UsageError, ZooError
from zoo.hub import Fetched, fetch_hub_file, parse_hub_name, save_hub_file
from zoo.hub.download import unwritable
from zoo.models.pretrained import HUB_FILES, fetch_published, save_published

__all__ = ["FetchedFile", "NotFetched", "fetch", "fetch_each"]

SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class FetchedFile:
    """model: as it was asked for. weights: what `--weights` takes for it. downloaded: now; False if it was there."""

    model: str
    path: Path
    bytes: int
    sha256: str
    source: str
    downloaded: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "path": str(self.path),
            "bytes": self.bytes,
            "sha256": self.sha256,
            "source": self.source,
            "downloaded": self.downloaded,
        }


@dataclass(frozen=True)
class NotFetched:
    model: str
    error: ZooError

    def to_dict(self) -> dict[str, Any]:
        return {"model": self.model, "error": self.error.message, "hint": self.error.hint}


def fetch(model: str, to: str | Path | None = None) -> FetchedFile:
    """Have the weights of `model` on this machine, checked; what is there already is not downloaded.

    model: a name of the catalog, with a tag for other than its default weights ("resnet34.a1_in1k"), or
    "hf-hub:owner/name[@revision]". to: a folder for files that `--weights` takes on another machine, with their hashes
    in SHA256SUMS; the libraries' own caches if None, where `--weights default` finds them. Raises ModelError if there
    is no such model, WeightsError if the weights cannot be had or written.
    """
    folder = None if to is None else Path(to).expanduser()
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"--to {folder} is a file", "give a folder, which is made if it is not there")
    if model.startswith(("hf-hub:", "hf_hub:")):
        return _repository(model, folder)
    entry, tag = find_weights(model)
    if folder is None:
        return _said(model, fetch_published(entry, tag))
    stem = f"{entry.name.replace('/', '-')}.{tag or entry.default_tag}"
    if (kept := _kept(model, folder, lambda name: Path(name).stem == stem)) is not None:
        return kept
    fetched = save_published(entry, tag, lambda name: folder / f"{stem}{Path(name).suffix}")
    return _noted(model, fetched, folder)


def fetch_each(models: Sequence[str], to: str | Path | None = None) -> Iterator[FetchedFile | NotFetched]:
    """`fetch` one after the other, each as soon as it is done; a failure does not keep the next from being tried."""
    for model in models:
        try:
            yield fetch(model, to)
        except UsageError:
            raise
        except ZooError as e:
            yield NotFetched(model, e)


def _repository(model: str, folder: Path | None) -> FetchedFile:
    """Weights and the config.json that says which architecture they are for."""
    name = parse_hub_name(model)
    if folder is None:
        fetch_hub_file(name.repo, ("config.json",), name.revision)
        return _said(model, fetch_hub_file(name.repo, HUB_FILES, name.revision))
    inside = name.repo.replace("/", "--") + (f"@{name.revision.replace('/', '-')}" if name.revision else "")
    there = _kept(model, folder, lambda file: file == f"{inside}/config.json")
    if there is not None:
        kept = _kept(model, folder, lambda file: file in [f"{inside}/{n}" for n in HUB_FILES])
        if kept is not None:
            return kept

    def target(file: str) -> Path:
        assert folder is not None
        return folder / inside / file

    config = save_hub_file(name.repo, ("config.json",), target, name.revision)
    _noted(model, config, folder)
    return _noted(model, save_hub_file(name.repo, HUB_FILES, target, name.revision), folder)


def _said(model: str, fetched: Fetched) -> FetchedFile:
    size = fetched.path.stat().st_size
    return FetchedFile(model, fetched.path, size, fetched.sha256, fetched.source, fetched.downloaded)


# --- SHA256SUMS ------------------------------------------------------------------------------------------------------


def _sums(folder: Path) -> dict[str, str]:
    """Name in the folder → sha256, as `sha256sum` writes and checks them; damaged lines count as none."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.split(maxsplit=1) for line in lines)
    return {pair[1].removeprefix("*"): pair[0] for pair in pairs if len(pair) == 2 and len(pair[0]) == 64}


def _kept(model: str, folder: Path, is_it: Callable[[str], bool]) -> FetchedFile | None:
    """The file that is there with the hash that it had when it was fetched."""
    from zoo.hub import sha256_of

    for name, digest in _sums(folder).items():
        path = folder / name
        if is_it(name) and path.is_file() and sha256_of(path) == digest:
            return FetchedFile(model, path, path.stat().st_size, digest, str(path), downloaded=False)
    return None


def _noted(model: str, fetched: Fetched, folder: Path) -> FetchedFile:
    sums = _sums(folder) | {fetched.path.relative_to(folder).as_posix(): fetched.sha256}
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    temporary = folder / f".{SUMS}.tmp"
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(folder / SUMS)
    except OSError as e:
        raise unwritable(folder / SUMS, e, "free some disk space, or choose another --to DIR") from e
    return _said(model, fetched)
