"""The members of an archive as columns."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from zoo.data.dataset import BadFile, StringTable
from zoo.data.decode.errors import describe_non_file
from zoo.data.packed_files import ArchiveFile, PackedFiles

_MAX_LINKS = 40  # as Linux


def normalize_member_name(name: str) -> str | None:
    """`name` of a member without "." and empty parts; None if it points outside the archive."""
    if name[1:2] == ":":
        return None
    if name[:1] not in ("/", ".") and "//" not in name and "/." not in name:
        return name.rstrip("/")
    parts = [p for p in name.split("/") if p not in ("", ".")]
    return None if name.startswith("/") or ".." in parts else "/".join(parts)


@dataclass
class ArchiveMembers:
    """The files of an archive, in its order. The columns are as in `PackedFiles`."""

    names: StringTable = field(default_factory=StringTable)  # paths in the archive, separated by "/"
    offsets: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    methods: array[int] = field(default_factory=lambda: array("B"))
    checksums: array[int] = field(default_factory=lambda: array("I"))
    bad: list[BadFile] = field(default_factory=list)  # members that are no usable files
    # (name, name of its target), until `resolve_links` turns them into files
    links: list[tuple[str, str]] = field(default_factory=list)
    broken: list[BadFile] = field(default_factory=list)  # links without a target in the archive
    notes: list[str] = field(default_factory=list)  # what was ignored or assumed

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: str, offset: int, length: int, size: int, method: int, checksum: int = 0) -> None:
        self.names.append(name)
        self.offsets.append(offset)
        self.lengths.append(length)
        self.sizes.append(size)
        self.methods.append(method)
        self.checksums.append(checksum)

    def add_row(self, name: str, other: ArchiveMembers, row: int) -> None:
        """Add the member `row` of `other` under another name."""
        columns = (other.offsets, other.lengths, other.sizes, other.methods, other.checksums)
        self.add(name, *(column[row] for column in columns))

    def add_non_file(self, name: str, mode: int) -> None:
        self.bad.append(BadFile(name, describe_non_file(mode)))

    def resolve_links(self) -> None:
        """Turn links to files of the archive into files. Other links, also to folders, are broken."""
        if not self.links:
            return
        links = dict(self.links)
        ends = {name: _link_target(name, links) for name in links}
        wanted = {end for end in ends.values() if end is not None}
        row_of = {name: i for i, name in enumerate(self.names) if name in wanted}
        for name, end in ends.items():
            row = row_of.get(end or "")
            if end is None:
                self.broken.append(BadFile(name, "looping link in the archive"))
            elif row is None:
                self.broken.append(BadFile(name, f"link to {links[name]}, which is not a file of the archive"))
            else:
                self.add_row(name, self, row)
        self.links.clear()

    def packed(self, archive: ArchiveFile, rows: Iterable[int] | None = None) -> PackedFiles:
        """All members, or the members `rows`."""
        chosen = np.arange(len(self)) if rows is None else np.fromiter(rows, np.int64)
        return PackedFiles(
            archives=(archive,),
            archive=np.zeros(len(chosen), np.int32),
            offsets=np.asarray(self.offsets)[chosen],
            lengths=np.asarray(self.lengths)[chosen],
            sizes=np.asarray(self.sizes)[chosen],
            methods=np.asarray(self.methods)[chosen],
            checksums=np.asarray(self.checksums)[chosen],
        )


def _link_target(name: str, links: dict[str, str]) -> str | None:
    """The end of a chain of links; None for a loop."""
    for _ in range(_MAX_LINKS):
        if name not in links:
            return name
        name = links[name]
    return None
