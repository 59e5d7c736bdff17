"""WebDataset shards: tars of samples. A sample is a run of members with one name up to the first dot.

    train-000.tar:  0001.jpg 0001.cls  0002.jpg 0002.cls …

The image is the member with the extension of an image; the label is in .cls, .json or .txt (`webdataset_labels`). A
shard is listed once (`zoo.data.sources.archive`), then members are read in any order; `FileDataset.shards` lets an
epoch read them nearly sequentially. Format: https://github.com/webdataset/webdataset, "The WebDataset format".
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.console import track
from zoo.data.dataset import BadFile, StringTable, flips_safe
from zoo.data.decode.errors import is_image_name, printable
from zoo.data.file_dataset import FileDataset, OpenedFiles
from zoo.data.packed_files import PackedFiles
from zoo.data.schema.labels import format_list
from zoo.data.sources.archive import open_archive
from zoo.data.sources.members import ArchiveMembers
from zoo.data.sources.scan import is_ignored
from zoo.data.sources.shard_paths import LABEL_EXTENSIONS, find_shards, is_webdataset, sample_key
from zoo.data.sources.source import (
    EvalImages,
    OpenOptions,
    Source,
    SourceSplits,
    describe_given_splits,
    require_known_classes,
    require_two_classes,
)
from zoo.data.sources.webdataset_labels import ShardLabels, read_label_cells
from zoo.data.validate import raise_if_any, verify_dataset
from zoo.errors import DataError, UsageError
from zoo.tasks import TaskName, get_task

_CLASS_FILES = ("classes.txt", "classnames.txt")
_MAX_LABEL_BYTES = 1 << 20


class WebDatasetSource(Source):
    """A pattern of shards, a folder of tars, or one tar of samples."""

    def matches(self, source: str) -> bool:
        return is_webdataset(source)

    def open_train(self, source: str, val: str | None, options: OpenOptions) -> SourceSplits:
        if options.columns.group is not None:
            raise UsageError(f"{printable(source)} has no column of groups", "omit --group-column")
        shards = find_shards(source)
        reader = _Reader(options)
        found, chosen, why = reader.read(shards.train, shards.name, options.task)
        one_class_each = get_task(chosen).has_one_class_per_image
        if one_class_each:
            require_two_classes(found.source, shards.name)
        notes = [f"{shards.name}: {len(shards.train):,} shards; {why}", *found.notes]
        if shards.unused:
            notes.append(f"not used: {len(shards.unused):,} shards of no split, such as {printable(shards.unused[0])}")
        problems = list(found.bad)
        split, files = _val_shards(val) if val is not None else shards.val
        held_out, rule = None, ""
        if files:
            other, _, _ = reader.read(files, split, chosen)
            held_out = other.source
            notes += [f"{split}: {n}" for n in other.notes]
            problems += other.bad
            if one_class_each:
                require_known_classes(held_out, found.source, f"the {split} shards have")
            train_where, val_where = f"in {len(shards.train):,} shards", f"in {len(files):,} shards ({split})"
            rule = describe_given_splits(found.source, train_where, held_out, val_where)
        return SourceSplits(
            name=shards.name,
            where=shards.name,
            task=chosen,
            train=found.source,
            val=held_out,
            rule=rule,
            problems=tuple(problems),
            notes=tuple(notes),
            flips_ok=flips_safe(found.source.classes),
        )

    def open_eval(self, source: str, split: str | None, classes: tuple[str, ...], options: OpenOptions) -> EvalImages:
        shards = find_shards(source)
        if split is not None:
            files = shards.splits.get(split.lower(), [])
            if not files:
                has = ", ".join(filter(None, shards.splits)) or "no names of splits"
                raise DataError(f"{shards.name} has no shards of {split!r}", f"it has {has}")
        else:
            files = shards.splits.get("") or shards.val[1] or shards.train
        found = _Reader(options).read(files, shards.name, options.task)[0]
        return EvalImages(found.source, found.problems)


def _val_shards(val: str) -> tuple[str, list[str]]:
    shards = find_shards(val)
    split, files = shards.val
    return split or shards.name, files or shards.splits.get("") or shards.train


@dataclass(frozen=True)
class _Reader:
    """Reads samples. options.columns: `image` is the extension of the image if a sample has several; `labels` is the
    extension of the label's member, or fields of its .json."""

    options: OpenOptions

    def read(self, shards: Sequence[str], where: str, task: str) -> tuple[OpenedFiles, TaskName, str]:
        """(the samples, the task, a sentence on why this task)."""
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
        if not self.options.skip_unreadable or not len(names):
            raise_if_any(bad)
        if not len(names):
            raise DataError(f"no samples in {where}", "a sample is an image and its label, for example 1.jpg and 1.cls")
        chosen, why, classes, targets = labels.finish(
            task, self.options.columns.separator, lambda i: printable(os.path.join(root, names[i]))
        )
        members = PackedFiles.join(packed)
        source = FileDataset(
            name=where,
            root=root,
            classes=classes,
            names=names,
            targets=targets,
            sizes=members.sizes,
            channels=self.options.channels,
            skip_unreadable=self.options.skip_unreadable,
            labels_in_names=False,
            packed=members,
            shards=np.array(numbers, np.int64) if len(shards) > 1 else None,
        )
        readable, damaged = verify_dataset(source)
        if not self.options.skip_unreadable or not len(readable):
            raise_if_any(damaged)
        return OpenedFiles(readable, (*bad, *damaged), (), tuple(notes)), chosen, why

    def _label_names(self) -> tuple[str, ...]:
        return self.options.columns.labels or ("label",)

    def _image(self, sample: dict[str, int]) -> int:
        """The row of the image. Raises ValueError if the sample has none, or several."""
        wanted = self.options.columns.image
        if wanted is not None:
            row = sample.get(wanted.lower().lstrip("."))
            if row is None:
                raise ValueError(f"no .{wanted.lstrip('.')} in this sample, only {_extensions(sample)}")
            return row
        found = [extension for extension in sample if is_image_name(f"x.{extension}")]
        if len(found) > 1:
            raise ValueError(f"{len(found)} images in one sample: {_extensions(found)}; name one with --image-column")
        if not found:
            raise ValueError(f"no image in this sample, only {_extensions(sample)}")
        return sample[found[0]]

    def _label(self, sample: dict[str, int], packed: PackedFiles, labels: ShardLabels) -> list[str | list[str]]:
        """The cells of the label. Raises ValueError if the sample has none."""
        requested = self.options.columns.labels
        fields: tuple[str, ...] = ()
        if len(requested) == 1 and requested[0].lower().lstrip(".") in sample:
            extension = requested[0].lower().lstrip(".")
        else:
            # Fields are in a .json. Without fields: the best extension, alone or after another one (label.txt).
            wanted = ("json",) if requested else LABEL_EXTENSIONS
            known = {e.rpartition(".")[2]: e for e in sorted(sample, reverse=True)}
            extension = next((known[e] for e in wanted if e in known), "")
            fields = requested
        if not extension:
            what = f"no .json with {format_list(requested)}" if requested else "no label (.cls, .json or .txt)"
            raise ValueError(f"{what} in this sample, only {_extensions(sample)}")
        row = sample[extension]
        if packed.sizes[row] > _MAX_LABEL_BYTES:
            raise ValueError(f"its .{extension} has {packed.sizes[row]:,} bytes, too many for a label")
        return read_label_cells(packed.read_file_bytes(row), extension, fields)


def _samples(entries: ArchiveMembers) -> Iterator[tuple[str, dict[str, int]]]:
    """(key, extension -> row) of each run of members with one key. Of a repeated extension the last member is used."""
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
    """The lines of the file of class names in `folder`; () if there is none."""
    for name in (os.path.join(folder, f) for f in _CLASS_FILES):
        try:
            with open(name, encoding="utf-8-sig") as f:
                return tuple(line.strip() for line in f if line.strip())
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as e:
            raise DataError(
                f"cannot read the class names in {printable(name)}: {e}", "write one name per line, in UTF-8"
            ) from e
    return ()
