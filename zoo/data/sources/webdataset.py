"""WebDataset shards: tars whose members make samples, files of one name up to its first dot that follow each other.

    train-000.tar:  0001.jpg 0001.cls  0002.jpg 0002.cls …

The image is the member with an image's ending; the label stands in .cls, .json or .txt (see `webdataset_labels`). A
shard is listed once (`zoo.data.sources.archive`), and read at any place; `FileDataset.shards` lets an epoch go through
them nearly in order. Format: https://github.com/webdataset/webdataset, "The WebDataset format".
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.console import track
from zoo.data.dataset import BadFile, flips_safe
from zoo.data.decode.read import is_image_name, printable
from zoo.data.file_dataset import FileDataset, OpenedDataset, SourceSplits
from zoo.data.packed_files import PackedFiles
from zoo.data.schema.columns import Columns
from zoo.data.schema.labels import format_list
from zoo.data.sources.archive import open_archive
from zoo.data.sources.members import ArchiveMembers
from zoo.data.sources.scan import is_ignored
from zoo.data.sources.shard_paths import LABEL_EXTENSIONS, ShardSet, find_shards, sample_key
from zoo.data.sources.webdataset_labels import ShardLabels, read_label_cells
from zoo.data.string_table import StringTable
from zoo.data.validate import raise_if_any, verify_files
from zoo.errors import DataError
from zoo.tasks import TaskName, get_task

__all__ = ["open_shards_eval", "open_shards_train"]

_CLASS_FILES = ("classes.txt", "classnames.txt")
_MAX_LABEL_BYTES = 1 << 20


def open_shards_train(
    source: str, val: str | None, *, columns: Columns, task: str, channels: int, skip_unreadable: bool
) -> SourceSplits:
    """The training samples, and the validation samples of `val` or of the shards called so, if there are any.

    Raises DataError: no such shards, samples without image or label (listed with shard and key), one class only, a
    class only in validation.
    """
    shards = find_shards(source)
    reader = _Reader(columns, channels, skip_unreadable)
    found, chosen, why = reader.read(shards.train, shards.name, task)
    if get_task(chosen).has_one_class_per_image and len(found.source.classes) < 2:
        raise DataError(
            f"one class only in {shards.name}: {format_list(found.source.classes)}", "a classifier needs two"
        )
    notes = [f"{shards.name}: {len(shards.train):,} shards; {why}", *found.notes]
    if shards.unused:
        notes.append(f"not used: {len(shards.unused):,} shards of no part, such as {printable(shards.unused[0])}")
    problems = list(found.bad)
    part, files = _val_shards(val) if val is not None else shards.val
    held_out, rule = None, ""
    if files:
        other, _, _ = reader.read(files, part, chosen)
        held_out = other.source
        notes += [f"{part}: {n}" for n in other.notes]
        problems += other.bad
        unknown = [c for c in held_out.classes if c not in set(found.source.classes)]
        if get_task(chosen).has_one_class_per_image and unknown:
            raise DataError(
                f"the {part} shards hold classes without an image for training: {format_list(unknown)}",
                "add training images of them, or leave them out",
            )
        rule = (
            f"as given: {len(found.source):,} images of {len(shards.train):,} shards for training, "
            f"{len(held_out):,} of {len(files):,} ({part}) for validation"
        )
    return SourceSplits(
        name=shards.name,
        task=chosen,
        train=found.source,
        val=held_out,
        rule=rule,
        problems=tuple(problems),
        notes=tuple(notes),
        where=shards.name,
        flips_ok=flips_safe(found.source.classes),
    )


def open_shards_eval(
    source: str, *, columns: Columns, task: TaskName, split: str | None, channels: int, skip_unreadable: bool
) -> OpenedDataset:
    """The samples of the shards of part `split`; if that is None of val (or test), or of all where names tell none."""
    shards = find_shards(source)
    if split is not None:
        files = shards.parts.get(split.lower(), [])
        if not files:
            has = ", ".join(filter(None, shards.parts)) or "no names of parts"
            raise DataError(f"{shards.name} has no shards of {split!r}", f"it has {has}")
    else:
        files = shards.parts.get("") or shards.val[1] or shards.train
    return _Reader(columns, channels, skip_unreadable).read(files, shards.name, task)[0]


def _val_shards(val: str) -> tuple[str, list[str]]:
    shards: ShardSet = find_shards(val)
    part, files = shards.val
    return part or shards.name, files or shards.parts.get("") or shards.train


@dataclass(frozen=True)
class _Reader:
    """How samples are read. columns: `image` the ending of the image where there are several; `labels` the ending of
    the label's member, or fields of its .json."""

    columns: Columns
    channels: int
    skip_unreadable: bool

    def read(self, shards: Sequence[str], where: str, task: str) -> tuple[OpenedDataset, TaskName, str]:
        """(what was found, its task, why that one)."""
        names, numbers, packed = StringTable(), array("q"), list[PackedFiles]()
        bad: list[BadFile] = []
        notes: list[str] = []
        root = os.path.commonpath([os.path.dirname(os.path.abspath(s)) for s in shards])
        root = os.path.relpath(root) if not os.path.isabs(shards[0]) else root
        labels = ShardLabels(where, self._label_names(), _class_names(root))
        for number, path in enumerate(track(shards, "listing shards") if len(shards) > 1 else shards):
            archive = open_archive(path)
            own = os.path.relpath(path, root)
            notes += [n for n in archive.notes if n not in notes]
            bad += [BadFile(os.path.join(path, b.path), b.reason) for b in archive.entries.bad]
            whole = archive.entries.packed(archive.file)
            rows = array("q")
            for key, sample in _samples(archive.entries):
                try:
                    row = self._image(sample)
                    labels.add(self._label(sample, whole, labels))
                except (ValueError, OSError) as e:
                    bad.append(BadFile(os.path.join(path, key), f"{e}" or type(e).__name__))
                    continue
                rows.append(row)
                names.append(os.path.join(own, archive.entries.names[row]))
            packed.append(whole.take(np.array(rows, np.int64)))
            numbers.extend([number] * len(rows))
        if not self.skip_unreadable or not len(names):
            raise_if_any(bad)
        if not len(names):
            raise DataError(f"no samples in {where}", "a sample is an image and its label, such as 1.jpg and 1.cls")
        chosen, why, classes, targets = labels.finish(
            task, self.columns.separator, lambda i: printable(os.path.join(root, names[i]))
        )
        members = PackedFiles.join(packed)
        source = FileDataset(
            name=where,
            root=root,
            classes=classes,
            names=names,
            targets=targets,
            sizes=members.sizes,
            channels=self.channels,
            skip_unreadable=self.skip_unreadable,
            labels_in_names=False,
            packed=members,
            shards=np.array(numbers, np.int64) if len(shards) > 1 else None,
        )
        reasons = verify_files(root, names, members, channels=self.channels)
        damaged = [BadFile(source.where(i), reason) for i, reason in sorted(reasons.items())]
        if not self.skip_unreadable or len(damaged) == len(source):
            raise_if_any(damaged)
        if reasons:
            source = source.take(np.setdiff1d(np.arange(len(source)), list(reasons)))
        return OpenedDataset(source, (*bad, *damaged), (), tuple(notes)), chosen, why

    def _label_names(self) -> tuple[str, ...]:
        return self.columns.labels or ("label",)

    def _image(self, sample: dict[str, int]) -> int:
        """Raises ValueError with the reason if the sample has none, or several."""
        wanted = self.columns.image
        if wanted is not None:
            row = sample.get(wanted.lower().lstrip("."))
            if row is None:
                raise ValueError(f"no .{wanted.lstrip('.')} in this sample but {_extensions(sample)}")
            return row
        found = [extension for extension in sample if is_image_name(f"x.{extension}")]
        if len(found) > 1:
            raise ValueError(f"{len(found)} images in one sample: {_extensions(found)}; name one with --image-column")
        if not found:
            raise ValueError(f"no image in this sample, only {_extensions(sample)}")
        return sample[found[0]]

    def _label(self, sample: dict[str, int], packed: PackedFiles, labels: ShardLabels) -> list[str | list[str]]:
        """Raises ValueError with the reason if the sample has none."""
        requested = self.columns.labels
        fields: tuple[str, ...] = ()
        if len(requested) == 1 and requested[0].lower().lstrip(".") in sample:
            extension = requested[0].lower().lstrip(".")
        else:
            # Fields stand in a .json; without them the best of the endings, alone or behind another (label.txt).
            wanted = ("json",) if requested else LABEL_EXTENSIONS
            known = {e.rpartition(".")[2]: e for e in sorted(sample, reverse=True)}
            extension = next((known[e] for e in wanted if e in known), "")
            fields = requested
        if not extension:
            what = f"no .json with {format_list(requested)}" if requested else "no label (.cls, .json or .txt)"
            raise ValueError(f"{what} in this sample, only {_extensions(sample)}")
        row = sample[extension]
        if packed.sizes[row] > _MAX_LABEL_BYTES:
            raise ValueError(f"its .{extension} holds {packed.sizes[row]:,} bytes: no label")
        return read_label_cells(packed.read_file_bytes(row), extension, fields)


def _samples(entries: ArchiveMembers) -> Iterator[tuple[str, dict[str, int]]]:
    """(key, ending → row) of each run of members with one key. An ending that comes twice stands for its last."""
    key, sample = "", dict[str, int]()
    for row, name in enumerate(entries.names):
        base = name.rpartition("/")[2]
        if is_ignored(base) or base.startswith("__"):
            continue
        own, extension = sample_key(name)
        if own != key and sample:
            yield key, sample
            sample = {}
        key = own
        sample[extension] = row
    if sample:
        yield key, sample


def _extensions(names: Sequence[str] | dict[str, int]) -> str:
    return ", ".join(f".{n}" for n in list(names)[:5])


def _class_names(folder: str) -> tuple[str, ...]:
    """The lines of the file of class names beside the shards, or above them; () if there is none."""
    for name in (os.path.join(folder, f) for f in _CLASS_FILES):
        try:
            with open(name, encoding="utf-8-sig") as f:
                return tuple(line.strip() for line in f if line.strip())
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as e:
            raise DataError(
                f"cannot read the class names in {printable(name)}: {e}", "one name a line, in UTF-8"
            ) from e
    return ()
