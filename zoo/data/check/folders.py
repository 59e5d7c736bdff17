"""What the names and the shape of the class folders say."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

from zoo.data.check.findings import Finding, plural
from zoo.data.dataset import SPLIT_NAMES, BadFile
from zoo.data.decode.read import printable
from zoo.data.listing import ClassFolder, Folder

__all__ = ["folder_findings", "name_findings"]

# What file managers, archives and people in a hurry call folders, in the languages of the commonest systems.
_ACCIDENTAL_NAME = re.compile(
    r"(new folder|untitled folder|neuer ordner|nouveau dossier|nueva carpeta|nuova cartella|nova pasta|новая папка"
    r"|新建文件夹|新しいフォルダー?)( ?\(?\d+\)?)?"
    r"|copy( \d+)? of .*|kopie von .*|.* (copy|kopie)( ?\(?\d+\)?)?|.*\(\d+\)"
    r"|te?mp|trash|backups?|to ?delete|unsorted|unlabell?ed|misc|downloads?|images?|img|photos|pictures|data|dataset"
)


def folder_findings(folders: Sequence[Folder]) -> Iterator[Finding]:
    loose = [BadFile(os.path.join(f.path, n), "lies in no class folder") for f in folders for n in f.loose]
    if loose:
        yield Finding(
            "images-outside-classes",
            "error",
            f"{plural(len(loose), 'image')} in no class folder: a training refuses this folder",
            "move them into the folders of their classes",
            files=tuple(loose),
        )
    empty = [os.path.join(f.path, c.name) for f in folders for c in f.classes if not c.images]
    if empty:
        yield Finding(
            "empty-folders",
            "warning",
            f"{plural(len(empty), 'folder')} without any image",
            "fill or remove them: they are no classes, and a model will not know them",
            names=tuple(map(printable, empty)),
        )
    split = [p for f in folders for c in f.classes for p in _inner(f, c) if os.path.basename(p).lower() in SPLIT_NAMES]
    if split:
        yield Finding(
            "parts-inside-classes",
            "warning",
            f"{plural(len(split), 'folder')} named like a part of the data inside a class folder",
            "expected ROOT/train/<class> and ROOT/val/<class>; as it is, both parts are trained on",
            names=tuple(map(printable, split)),
        )
    nested = [
        os.path.join(f.path, c.name)
        for f in folders
        for c in f.classes
        if len(set(c.inner) - {""}) > 1 and not c.inner[""] and not {n.lower() for n in c.inner} & set(SPLIT_NAMES)
    ]
    if nested:
        yield Finding(
            "nested-folders",
            "note",
            f"{plural(len(nested), 'class folder')} holding only folders; their images are one class each",
            "right if they are subjects or days; if they are classes, give the folder above them",
            names=tuple(map(printable, nested)),
        )
    left = [os.path.join(f.path, c.name) for f in folders for c in f.classes if c.checkpoints]
    if left:
        yield Finding(
            "checkpoints",
            "note",
            f".ipynb_checkpoints in {plural(len(left), 'class folder')}",
            "ignored by zoo; other programs take it for images or a class",
            names=tuple(map(printable, left)),
        )


def _inner(folder: Folder, of: ClassFolder) -> list[str]:
    return [os.path.join(folder.path, of.name, name) for name in of.inner if name]


def name_findings(classes: Sequence[str], folders: Sequence[Folder]) -> Iterator[Finding]:
    """classes: the names as a model would have them. folders: as they are on the disk, before Unicode is normalised."""
    odd = [c for c in classes if _ACCIDENTAL_NAME.fullmatch(_plain(c)) or c.strip().lower() in SPLIT_NAMES]
    if odd:
        yield Finding(
            "accidental-names",
            "warning",
            f"{plural(len(odd), 'class', 'classes')} named as if by accident",
            "rename or remove the folder if it is no class",
            names=tuple(map(printable, odd)),
        )
    alike = [group for group in _by_name(classes).values() if len(group) > 1]
    if alike:
        yield Finding(
            "similar-class-names",
            "warning",
            f"{plural(len(alike), 'group')} of classes whose names differ only by case, spaces, plural or Unicode form",
            "put them together if they are the same class",
            names=tuple(" | ".join(repr(printable(n)) for n in group) for group in alike),
        )
    merged = []
    for folder in folders:
        forms: dict[str, list[str]] = defaultdict(list)
        for c in folder.classes:
            forms[unicodedata.normalize("NFC", c.name)].append(c.name)
        merged += [os.path.join(folder.path, name) for name, same in forms.items() if len(same) > 1]
    if merged:
        yield Finding(
            "folders-merged",
            "warning",
            f"{plural(len(merged), 'class', 'classes')} in two folders whose names look the same (Unicode forms)",
            "they are read as one class; move the images into one folder",
            names=tuple(map(printable, merged)),
        )


def _by_name(classes: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        groups[_singular(_plain(name))].append(name)
    return groups


def _plain(name: str) -> str:
    """Case, Unicode form and what stands between words taken away."""
    return re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def _singular(word: str) -> str:
    """English only, and roughly: "boxes", "puppies" and "cats" meet "box", "puppy" and "cat"."""
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word[: -len(ending)] + instead
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
