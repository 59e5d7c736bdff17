"""WebDataset shards: tars whose members make samples, files of one name up to its first dot that follow each other.

    train-000.tar:  0001.jpg 0001.cls  0002.jpg 0002.cls …

The image is the member with an image's ending; the label stands in .cls, .json or .txt (see `webdataset_labels`). A
shard is listed once (`zoo.data.sources.archive`), and read at any place; `FileSource.shards` lets an epoch go through
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
from zoo.data.decode.read import is_image_name, shown
from zoo.data.file_dataset import FileSource, Found, Parts
from zoo.data.packed_files import Packed
from zoo.data.schema.columns import Columns
from zoo.data.schema.labels import listed
from zoo.data.sources.archive import open_archive
from zoo.data.sources.members import Entries
from zoo.data.sources.scan import is_ignored
from zoo.data.sources.shard_paths import LABEL_ENDINGS, ShardSet, find_shards, sample_key
from zoo.data.sources.webdataset_labels import Labels, cells_of
from zoo.data.string_table import StringTable
from zoo.data.validate import refuse, verify_files
from zoo.errors import DataError
from zoo.tasks import TaskName

__all__ = ["shard_eval", "shard_parts"]

_CLASS_FILES = ("classes.txt", "classnames.txt")
_LARGEST_LABEL = 1 << 20


def shard_parts(
    source: str, val: str | None, *, columns: Columns, task: str, channels: int, skip_unreadable: bool
) -> Parts:
    """The training samples, and the validation samples of `val` or of the shards called so, if there are any.

    Raises DataError: no such shards, samples without image or label (listed with shard and key), one class only, a
    class only in validation.
    """
    shards = find_shards(source)
    reader = _Reader(columns, channels, skip_unreadable)
    found, chosen, why = reader.read(shards.train, shards.name, task)
    if chosen == "single-label" and len(found.source.classes) < 2:
        raise DataError(f"one class only in {shards.name}: {listed(found.source.classes)}", "a classifier needs two")
    notes = [f"{shards.name}: {len(shards.train):,} shards; {why}", *found.notes]
    if shards.unused:
        notes.append(f"not used: {len(shards.unused):,} shards of no part, such as {shown(shards.unused[0])}")
    problems = list(found.bad)
    part, files = _validation(val) if val is not None else shards.val
    held_out, rule = None, ""
    if files:
        other, _, _ = reader.read(files, part, chosen)
        held_out = other.source
        notes += [f"{part}: {n}" for n in other.notes]
        problems += other.bad
        unknown = [c for c in held_out.classes if c not in set(found.source.classes)]
        if chosen == "single-label" and unknown:
            raise DataError(
                f"the {part} shards hold classes without an image for training: {listed(unknown)}",
                "add training images of them, or leave them out",
            )
        rule = (
            f"as given: {len(found.source):,} images of {len(shards.train):,} shards for training, "
            f"{len(held_out):,} of {len(files):,} ({part}) for validation"
        )
    return Parts(
        name=shards.name,
        task=chosen,
        train=found.source,
        val=held_out,
        rule=rule,
        problems=tuple(problems),
        notes=tuple(notes),
        where=shards.name,
        mirrors=flips_safe(found.source.classes),
    )


def shard_eval(
    source: str, *, columns: Columns, task: TaskName, split: str | None, channels: int, skip_unreadable: bool
) -> Found:
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


def _validation(val: str) -> tuple[str, list[str]]:
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

    def read(self, shards: Sequence[str], where: str, task: str) -> tuple[Found, TaskName, str]:
        """(what was found, its task, why that one)."""
        names, numbers, packed = StringTable(), array("q"), list[Packed]()
        bad: list[BadFile] = []
        notes: list[str] = []
        root = os.path.commonpath([os.path.dirname(os.path.abspath(s)) for s in shards])
        root = os.path.relpath(root) if not os.path.isabs(shards[0]) else root
        labels = Labels(where, self._label_names(), _class_names(root))
        for number, path in enumerate(track(shards, "listing shards") if len(shards) > 1 else shards):
            archive = open_archive(path)
            own = os.path.relpath(path, root)
            notes += [n for n in archive.said if n not in notes]
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
            refuse(bad)
        if not len(names):
            raise DataError(f"no samples in {where}", "a sample is an image and its label, such as 1.jpg and 1.cls")
        chosen, why, classes, targets = labels.finish(
            task, self.columns.separator, lambda i: shown(os.path.join(root, names[i]))
        )
        members = Packed.join(packed)
        source = FileSource(
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
            refuse(damaged)
        if reasons:
            source = source.take(np.setdiff1d(np.arange(len(source)), list(reasons)))
        return Found(source, (*bad, *damaged), (), tuple(notes)), chosen, why

    def _label_names(self) -> tuple[str, ...]:
        return self.columns.labels or ("label",)

    def _image(self, sample: dict[str, int]) -> int:
        """Raises ValueError with the reason if the sample has none, or several."""
        wanted = self.columns.image
        if wanted is not None:
            row = sample.get(wanted.lower().lstrip("."))
            if row is None:
                raise ValueError(f"no .{wanted.lstrip('.')} in this sample but {_endings(sample)}")
            return row
        found = [ending for ending in sample if is_image_name(f"x.{ending}")]
        if len(found) > 1:
            raise ValueError(f"{len(found)} images in one sample: {_endings(found)}; name one with --image-column")
        if not found:
            raise ValueError(f"no image in this sample, only {_endings(sample)}")
        return sample[found[0]]

    def _label(self, sample: dict[str, int], packed: Packed, labels: Labels) -> list[str | list[str]]:
        """Raises ValueError with the reason if the sample has none."""
        asked = self.columns.labels
        fields: tuple[str, ...] = ()
        if len(asked) == 1 and asked[0].lower().lstrip(".") in sample:
            ending = asked[0].lower().lstrip(".")
        else:
            # Fields stand in a .json; without them the best of the endings, alone or behind another (label.txt).
            wanted = ("json",) if asked else LABEL_ENDINGS
            known = {e.rpartition(".")[2]: e for e in sorted(sample, reverse=True)}
            ending = next((known[e] for e in wanted if e in known), "")
            fields = asked
        if not ending:
            what = f"no .json with {listed(asked)}" if asked else "no label (.cls, .json or .txt)"
            raise ValueError(f"{what} in this sample, only {_endings(sample)}")
        row = sample[ending]
        if packed.sizes[row] > _LARGEST_LABEL:
            raise ValueError(f"its .{ending} holds {packed.sizes[row]:,} bytes: no label")
        return cells_of(packed.raw(row), ending, fields)


def _samples(entries: Entries) -> Iterator[tuple[str, dict[str, int]]]:
    """(key, ending → row) of each run of members with one key. An ending that comes twice stands for its last."""
    key, sample = "", dict[str, int]()
    for row, name in enumerate(entries.names):
        base = name.rpartition("/")[2]
        if is_ignored(base) or base.startswith("__"):
            continue
        own, ending = sample_key(name)
        if own != key and sample:
            yield key, sample
            sample = {}
        key = own
        sample[ending] = row
    if sample:
        yield key, sample


def _endings(names: Sequence[str] | dict[str, int]) -> str:
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
            raise DataError(f"cannot read the class names in {shown(name)}: {e}", "one name a line, in UTF-8") from e
    return ()
