"""Findings on the names and the structure of class folders."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

from zoo.data.check.findings import Finding, named_finding, plural
from zoo.data.dataset import SPLIT_NAMES, BadFile
from zoo.data.decode.errors import printable
from zoo.data.listing import ClassFolder, Folder

# Default names of file managers, and other names that are usually no classes.
_ACCIDENTAL_NAME = re.compile(
    r"(new folder|untitled folder|neuer ordner|nouveau dossier|nueva carpeta|nuova cartella|nova pasta|новая папка"
    r"|新建文件夹|新しいフォルダー?)( ?\(?\d+\)?)?"
    r"|copy( \d+)? of .*|kopie von .*|.* (copy|kopie)( ?\(?\d+\)?)?|.*\(\d+\)"
    r"|te?mp|trash|backups?|to ?delete|unsorted|unlabell?ed|misc|downloads?|images?|img|photos|pictures|data|dataset"
)


def folder_findings(folders: Sequence[Folder]) -> Iterator[Finding]:
    loose = [BadFile(os.path.join(f.path, n), "not in a class folder") for f in folders for n in f.loose]
    if loose:
        yield Finding(
            "images-outside-classes",
            "error",
            f"{plural(len(loose), 'image')} outside class folders, which stop training",
            "move them into class folders",
            files=tuple(loose),
        )
    every = [(f, c) for f in folders for c in f.classes]
    yield from named_finding(
        "empty-folders",
        "warning",
        [_path(f, c) for f, c in every if not c.images],
        "folder",
        "without images",
        "add images or remove them: they are not used as classes",
    )
    yield from named_finding(
        "splits-inside-classes",
        "warning",
        [os.path.join(_path(f, c), n) for f, c in every for n in c.inner if os.path.basename(n).lower() in SPLIT_NAMES],
        "folder",
        "named like a split inside a class folder",
        "expected ROOT/train/<class> and ROOT/val/<class>; now all images are used for training",
    )
    yield from named_finding(
        "nested-folders",
        "note",
        [_path(f, c) for f, c in every if len(set(c.inner) - {""}) > 1 and not c.inner[""] and not _has_splits(c)],
        "class folder",
        "with subfolders only; all images below form one class",
        "correct if the subfolders are subjects or days; if they are classes, give this folder instead",
    )
    yield from named_finding(
        "checkpoints",
        "note",
        [_path(f, c) for f, c in every if c.checkpoints],
        "class folder",
        "with .ipynb_checkpoints",
        "zoo ignores them; other programs may read them as images",
    )


def _path(folder: Folder, class_folder: ClassFolder) -> str:
    return os.path.join(folder.path, class_folder.name)


def _has_splits(class_folder: ClassFolder) -> bool:
    return not {n.lower() for n in class_folder.inner}.isdisjoint(SPLIT_NAMES)


def name_findings(classes: Sequence[str], folders: Sequence[Folder]) -> Iterator[Finding]:
    """classes: names of the model's classes. folders: folders on disk, before Unicode normalization."""
    odd = [c for c in classes if _ACCIDENTAL_NAME.fullmatch(_plain(c)) or c.strip().lower() in SPLIT_NAMES]
    yield from named_finding(
        "accidental-names",
        "warning",
        odd,
        "class",
        "with an accidental name",
        "rename or remove the folder if it is not a class",
    )
    yield from named_finding(
        "similar-class-names",
        "warning",
        [" | ".join(repr(printable(n)) for n in group) for group in _by_name(classes).values() if len(group) > 1],
        "group",
        "of class names that differ only in case, spaces, plural or Unicode form",
        "merge them if they are the same class",
    )
    merged = []
    for folder in folders:
        forms: dict[str, list[str]] = defaultdict(list)
        for c in folder.classes:
            forms[unicodedata.normalize("NFC", c.name)].append(c.name)
        merged += [os.path.join(folder.path, name) for name, same in forms.items() if len(same) > 1]
    yield from named_finding(
        "folders-merged",
        "warning",
        merged,
        "class",
        "in two folders with the same name in different Unicode forms",
        "zoo reads them as one class; move the images into one folder",
    )


def _by_name(classes: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        groups[_singular(_plain(name))].append(name)
    return groups


def _plain(name: str) -> str:
    """The name without differences of case, Unicode form and word separators."""
    return re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def _singular(word: str) -> str:
    """Approximate English singular: "boxes", "puppies", "cats" -> "box", "puppy", "cat"."""
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word[: -len(ending)] + instead
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
