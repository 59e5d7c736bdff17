"""What an archive lists: its members as columns, and those that are no files."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from zoo.data.dataset import BadFile
from zoo.data.decode.read import describe_non_file
from zoo.data.packed_files import ArchiveFile, PackedFiles
from zoo.data.string_table import StringTable

__all__ = ["ArchiveMembers", "normalize_member_name"]

_MAX_LINKS = 40  # as the system does


def normalize_member_name(name: str) -> str | None:
    """`name` of a member with "/" between its parts and no "." among them; None if it leads out of the archive."""
    if name[1:2] == ":":
        return None
    if name[:1] not in ("/", ".") and "//" not in name and "/." not in name:
        return name.rstrip("/")
    parts = [p for p in name.split("/") if p not in ("", ".")]
    return None if name.startswith("/") or ".." in parts else "/".join(parts)


@dataclass
class ArchiveMembers:
    """names: of the files, "/" between their parts, in the archive's order; the columns are those of `PackedFiles`.

    bad: members that cannot be files of a data set, by name. links: (name, name of what it stands for, as it stands
    in the archive), until `resolve_links` makes files of them. broken: links that lead nowhere.
    """

    names: StringTable = field(default_factory=StringTable)
    offsets: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    methods: array[int] = field(default_factory=lambda: array("B"))
    checksums: array[int] = field(default_factory=lambda: array("I"))
    bad: list[BadFile] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    broken: list[BadFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: str, offset: int, length: int, size: int, method: int, checksum: int = 0) -> None:
        self.names.append(name)
        self.offsets.append(offset)
        self.lengths.append(length)
        self.sizes.append(size)
        self.methods.append(method)
        self.checksums.append(checksum)

    def add_non_file(self, name: str, mode: int) -> None:
        self.bad.append(BadFile(name, describe_non_file(mode)))

    def resolve_links(self) -> None:
        """Make files of the links to files of the archive. What leads elsewhere is broken, a folder too."""
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
                self.broken.append(BadFile(name, f"link to {links[name]}, which is no file of the archive"))
            else:
                self.add(
                    name,
                    self.offsets[row],
                    self.lengths[row],
                    self.sizes[row],
                    self.methods[row],
                    self.checksums[row],
                )
        self.links.clear()

    def packed(self, archive: ArchiveFile, rows: Iterable[int] | None = None) -> PackedFiles:
        """All members, or those of `rows`."""
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
    """Where a chain of links ends; None if it does not."""
    for _ in range(_MAX_LINKS):
        if name not in links:
            return name
        name = links[name]
    return None
