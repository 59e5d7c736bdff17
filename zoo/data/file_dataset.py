"""Labelled images in files: the result of reading folders, archives, tables and shards."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices, Pixels
from zoo.data.dataset import BadFile, StringTable, Targets
from zoo.data.decode.errors import UnreadableImage, describe_non_file
from zoo.data.decode.intensity import DTYPE_RANGE, IntensityStats
from zoo.data.decode.multichannel import ChooseView
from zoo.data.decode.read import check_bytes, check_image, intensity_stats, read_bytes, read_image
from zoo.data.packed_files import BadMember, StoredImages
from zoo.preprocess import IntensityRange


@dataclass(frozen=True)
class ImageFiles:
    """The images at `names` (N,), relative to `root`. packed: their storage, row by row, if they are not files."""

    root: str
    names: StringTable
    packed: StoredImages | None = None

    def __len__(self) -> int:
        return len(self.names)

    def where(self, index: int) -> str:
        """The path; of a member of an archive "photos.zip/cat/1.jpg"."""
        return os.path.join(self.root, self.names[index])

    def read_file_bytes(self, index: int) -> bytes:
        """The encoded image. Raises UnreadableImage."""
        if self.packed is None:
            return _read_file(self.where(index))
        try:
            return self.packed.read_file_bytes(index)
        except (BadMember, OSError) as e:
            raise UnreadableImage(self.where(index), _error_text(e)) from e

    def read_header(self, index: int, max_bytes: int) -> bytes:
        """The first bytes; b"" if it cannot be read."""
        try:
            if self.packed is None:
                return _read_start(self.where(index), max_bytes)
            return self.packed.read_header(index, max_bytes)
        except (BadMember, OSError):
            return b""

    def read(
        self, index: int, channels: int, choose_view: ChooseView | None, intensity_range: IntensityRange
    ) -> Pixels:
        if self.packed is None:
            return read_image(self.where(index), channels, choose_view, intensity_range)
        return read_bytes(self.read_file_bytes(index), self.where(index), channels, choose_view, intensity_range)

    def check(self, index: int, *, decode: bool, channels: int | None = None) -> str:
        """Why the image is unreadable, or "". decode: decode it, else read the header only. channels: input channels of
        the model, if known."""
        if self.packed is None:
            return check_image(self.where(index), decode=decode, channels=channels)
        try:
            return check_bytes(self.read_file_bytes(index), self.where(index), decode=decode, channels=channels)
        except UnreadableImage as e:
            return e.reason


def _read_start(path: str, max_bytes: int) -> bytes:
    """The first bytes of a file, without blocking on a FIFO or device. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        return os.read(descriptor, max_bytes)
    finally:
        os.close(descriptor)


def _read_file(path: str) -> bytes:
    """Raises UnreadableImage, for anything but a regular file before it is opened: a FIFO would block."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise UnreadableImage(path, describe_non_file(mode))
        with open(path, "rb", buffering=0) as f:
            return f.read()
    except OSError as e:
        raise UnreadableImage(path, _error_text(e)) from e


def _error_text(error: Exception) -> str:
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)


@dataclass(frozen=True)
class FileDataset:
    """Labelled images in files or other storage (an `ImageDataset`).

    Args:
        name: name of the data set.
        root: folder to which `names` are relative.
        classes: names of the classes, labels or target columns.
        names: (N,) paths.
        targets: (N,) int64 or (N, K) float32.
        sizes: (N,) sizes in bytes.
        channels: channels of the decoded images.
        skip_unreadable: drop files that turn out to be unreadable in training.
        labels_in_names: the path contains the label, as in class folders; else the targets are part of the fingerprint.
        in_memory: as `ImageDataset.in_memory`.
        packed: storage of the images, row by row, if they are not files.
        shards: (N,) shard of each image.
        groups: (N,) group of each image.
        intensity_range: how images of more than 8 bits are scaled.
    """

    name: str
    root: str
    classes: tuple[str, ...]
    names: StringTable
    targets: Targets
    sizes: Indices
    channels: int
    skip_unreadable: bool
    labels_in_names: bool
    in_memory: bool = False
    packed: StoredImages | None = None
    shards: Indices | None = None
    groups: Indices | None = None
    intensity_range: IntensityRange = DTYPE_RANGE

    @property
    def files(self) -> ImageFiles:
        return ImageFiles(self.root, self.names, self.packed)

    def __len__(self) -> int:
        return len(self.targets)

    def read(self, index: int, choose_view: ChooseView | None = None) -> Pixels:
        return self.files.read(index, self.channels, choose_view, self.intensity_range)

    def intensity_stats(self, index: int) -> IntensityStats:
        try:
            where = self.where(index)
            return intensity_stats(where if self.packed is None else self.read_file_bytes(index), where)
        except UnreadableImage:
            return IntensityStats()

    def with_intensity_range(self, intensity_range: IntensityRange) -> FileDataset:
        return replace(self, intensity_range=intensity_range)

    def read_file_bytes(self, index: int) -> bytes:
        return self.files.read_file_bytes(index)

    def where(self, index: int) -> str:
        return self.files.where(index)

    def take(self, rows: Indices) -> FileDataset:
        """The images of these rows, without the others: small enough to send to another process."""
        return replace(
            self,
            names=self.names.take(rows),
            targets=self.targets[rows],
            sizes=self.sizes[rows],
            packed=None if self.packed is None else self.packed.take(rows),
            shards=None if self.shards is None else self.shards[rows],
            groups=None if self.groups is None else self.groups[rows],
        )

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for block in self.names.blocks():
            digest.update(block)
        digest.update(self.sizes.astype("<i8").tobytes())
        if not self.labels_in_names:
            digest.update("\0".join(self.classes).encode())
            digest.update(self.targets.astype("<i8" if self.targets.ndim == 1 else "<f4").tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class OpenedFiles:
    """The images of a folder, table or set of shards after reading."""

    source: FileDataset
    bad: tuple[BadFile, ...]
    links: tuple[BadFile, ...]
    notes: tuple[str, ...]  # what was ignored or assumed

    @property
    def problems(self) -> tuple[BadFile, ...]:
        return (*self.bad, *self.links)


def relabel(source: FileDataset, classes: tuple[str, ...]) -> FileDataset:
    """`source` with targets that refer to `classes`, a superset of its own. Labels that it lacks are 0."""
    if classes == source.classes:
        return source
    index = {name: i for i, name in enumerate(classes)}
    indices = np.array([index[c] for c in source.classes], dtype=np.int64)
    targets: Targets
    if source.targets.ndim == 1:
        targets = indices[source.targets]
    else:
        targets = np.zeros((len(source), len(classes)), np.float32)
        targets[:, indices] = source.targets
    return replace(source, classes=classes, targets=targets)


def file_keys(source: FileDataset) -> NDArray[np.uint64]:
    """(n, 2) identities of the files as they are now; 0 for those that are gone."""
    keys = np.zeros((len(source), 2), dtype=np.uint64)
    root = os.path.abspath(source.root)
    for i, name in enumerate(source.names):
        path = os.path.join(root, name)
        if source.packed is None:
            try:
                info = os.stat(path)
            except OSError:
                continue
            size, content_version = info.st_size, info.st_mtime_ns
        else:
            size, content_version = int(source.sizes[i]), source.packed.content_version(i)
        identity = b"%d %d " % (size, content_version) + os.fsencode(path)
        keys[i] = np.frombuffer(hashlib.blake2b(identity, digest_size=16).digest(), dtype="<u8")
    return keys
