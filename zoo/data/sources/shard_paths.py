"""The files of a WebDataset: a pattern "train-{000..099}.tar", a folder of tars, or one tar."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from zoo.data.dataset import SPLIT_NAMES, TRAIN_SPLIT_NAMES, VAL_SPLIT_NAMES
from zoo.data.decode.errors import is_image_name, printable
from zoo.data.packed_files import ArchiveFile
from zoo.data.sources.archive import is_archive_name
from zoo.data.sources.scan import is_ignored, list_entries, split_in_path
from zoo.data.sources.source import is_remote
from zoo.data.sources.tar import list_tar, uncompressed_tar
from zoo.errors import DataError, UsageError

# Extensions of a sample's label, best first.
LABEL_EXTENSIONS = ("cls", "json", "txt")

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MAX_SHARDS = 100_000  # a typing error in a pattern could mean billions
_PROBED_MEMBERS = 64  # members that are read to tell a tar of samples from one of class folders


@dataclass(frozen=True)
class ShardSet:
    """The shards of a data set."""

    name: str
    splits: dict[str, list[str]]  # split ("train", "val" …) -> shards; "" if the names contain no split
    unused: tuple[str, ...] = ()  # shards without a split, if others have one

    def of(self, names: tuple[str, ...]) -> tuple[str, list[str]]:
        """(the first of the splits `names` that exists, its shards), or ("", [])."""
        return next(((n, self.splits[n]) for n in names if n in self.splits), ("", []))

    @property
    def train(self) -> list[str]:
        """The shards to train on. Raises DataError if there are splits, but none for training."""
        shards = self.splits.get("") or self.of(TRAIN_SPLIT_NAMES)[1]
        if not shards:
            raise DataError(
                f"{self.name} has shards of {', '.join(sorted(self.splits))} but none of train",
                "name the training shards, for example 'train-{000..009}.tar'",
            )
        return shards

    @property
    def val(self) -> tuple[str, list[str]]:
        return self.of(VAL_SPLIT_NAMES)


def is_webdataset(source: str) -> bool:
    """True for a pattern of tars, a folder of tars without images or class folders, and a tar of samples.

    A sample is a group of files with one name, of which one is an image and one is its label.
    """
    if is_remote(source):
        return False
    path = os.path.expanduser(source)
    if not os.path.exists(path):
        return bool(_BRACES.search(path) or glob.has_magic(path)) and _is_tar(re.sub(r"\{[^{}]*\}|\*", "", path))
    if os.path.isdir(path):
        return bool(_tars_in_folder(path)) and not _has_images(path)
    return _is_tar(path) and _contains_samples(path)


def find_shards(source: str) -> ShardSet:
    """The shards of `source`, sorted. Raises DataError if some or all of a pattern do not exist."""
    path = os.path.expanduser(source)
    if os.path.isdir(path):
        found = _tars_in_folder(path)
        by_split: dict[str, list[str]] = {}
        for shard in found:
            by_split.setdefault(split_in_path(os.path.relpath(shard, path)), []).append(shard)
        unused = tuple(by_split.pop("", ())) if len(by_split) > 1 else ()
        return ShardSet(os.path.basename(os.path.abspath(path)), by_split, unused)
    if os.path.exists(path):
        return ShardSet(sample_key(os.path.basename(path))[0], {"": [path]})
    names = sorted({n for p in _expand_braces(path) for n in (glob.glob(p) if glob.has_magic(p) else [p])})
    if not names:
        raise DataError(f"no shards match {printable(source)}", "check the pattern, for example 'train-*.tar'")
    missing = [n for n in names if not os.path.exists(n)]
    if missing:
        raise DataError(
            f"missing shards of {printable(source)}: {len(missing):,} of {len(names):,}, "
            f"such as {printable(missing[0])}",
            "a pattern counts from the first to the last shard, as in 'train-{000..009}.tar'",
        )
    folder = os.path.basename(os.path.dirname(os.path.abspath(names[0])))
    return ShardSet(folder, {"": names})


def sample_key(name: str) -> tuple[str, str]:
    """(key, extension) of a member: its path up to the first dot of the file name, and the rest in lower case."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()


def _expand_braces(pattern: str) -> Iterator[str]:
    """All names of a pattern with braces, {000..009} or {a,b}. Raises UsageError for empty or huge ranges."""
    names = [pattern]
    while any(_BRACES.search(n) for n in names):
        match = _BRACES.search(names[0])
        if match is None:
            break
        numbers = _RANGE.fullmatch(match[1])
        if numbers:
            first, last = int(numbers[1]), int(numbers[2])
            if last < first or (last - first + 1) * len(names) > _MAX_SHARDS:
                raise UsageError(
                    f"{{{match[1]}}} is a range of {last - first + 1:,} shards",
                    "give the numbers of the first and the last shard",
                )
            inner = [f"{i:0{len(numbers[1])}d}" for i in range(first, last + 1)]
        else:
            inner = match[1].split(",")
        names = [n.replace(match[0], i, 1) for n in names for i in inner]
    yield from names


def _is_tar(path: str) -> bool:
    return is_archive_name(path) and not path.lower().endswith(".zip")


def _tars_in_folder(path: str) -> list[str]:
    """The tars directly in a folder, and in its subfolders named like splits."""
    entries = list_entries(path)
    for entry in [e for e in entries if e.name.lower() in SPLIT_NAMES and e.is_dir()]:
        entries += list_entries(entry.path)
    return sorted(e.path for e in entries if _is_tar(e.name) and not is_ignored(e.name) and e.is_file())


def _has_images(path: str) -> bool:
    """Whether the folder or a subfolder contains images: then its tars are not the data set."""
    with os.scandir(path) as entries:
        for entry in entries:
            if is_image_name(entry.name):
                return True
            if entry.is_dir() and not is_ignored(entry.name):
                with os.scandir(entry.path) as inner:
                    if any(is_image_name(e.name) or (e.is_dir() and entry.name.lower() in SPLIT_NAMES) for e in inner):
                        return True
    return False


def _contains_samples(path: str) -> bool:
    """Whether the first members are samples. Raises DataError if it is no tar."""
    plain, _ = uncompressed_tar(path)
    try:
        file = ArchiveFile.of(plain)
        names = list(list_tar(file, _PROBED_MEMBERS).names) if file.size else []
    except OSError as e:
        raise DataError(f"cannot read {printable(path)}: {(e.strerror or str(e)).lower()}") from e
    extensions: dict[str, set[str]] = {}
    for name in names:
        key, extension = sample_key(name)
        extensions.setdefault(key, set()).add(extension.rpartition(".")[2])
    return any(
        "cls" in found or (found & set(LABEL_EXTENSIONS) and any(is_image_name(f"x.{e}") for e in found))
        for found in extensions.values()
    )
