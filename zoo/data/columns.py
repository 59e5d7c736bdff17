"""Which columns of a table hold the image, its labels and its part, and what task the labels make.

What the user names is taken. The rest is found by the rules in `choose` and `decide`, or refused with the names of the
columns in question: a wrong guess would train on the wrong thing in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zoo.data.decode import is_image_name
from zoo.data.labels import listed, number, truth
from zoo.data.source import PARTS
from zoo.data.text_table import TextTable
from zoo.errors import DataError, UsageError, nearest
from zoo.tasks import TaskName

__all__ = ["UNNAMED", "Columns", "Facts", "Roles", "choose", "decide", "survey"]

_FILE = ("file", "filename", "file_name", "filepath", "file_path", "path")
_IMAGE = ("image", "images", "image_path", "imagepath", "img", "img_path", "image_name", "image_file", *_FILE)
_CLASS = ("label", "labels", "class", "classes", "class_name", "class_id", "category", "categories")
_LABEL = (*_CLASS, "target", "targets", "tag", "tags")
_SPLIT = ("split", "subset", "partition", "set")

# Different values of a column that are counted; a column with more holds no classes unless the user says so.
_MANY = 10_000
_FEW = 100

_SEPARATOR = "--label-separator {}"


@dataclass(frozen=True)
class Columns:
    """What the user says of a table: the columns' names, and the text that separates several labels in a cell."""

    image: str | None = None
    labels: tuple[str, ...] = ()
    separator: str | None = None
    split: str | None = None


UNNAMED = Columns()


@dataclass
class Facts:
    """What a column holds. values: its different texts, None beyond `_MANY`; the counts are of different texts too,
    but `empty` counts cells."""

    name: str
    values: set[str] | None = field(default_factory=set)
    images: int = 0
    fractions: int = 0
    wholes: int = 0
    texts: int = 0
    truths: int = 0
    commas: int = 0  # numbers but for their decimal comma
    empty: int = 0

    def see(self, cells: Sequence[str]) -> None:
        self.empty += cells.count("")
        new = set(cells) - {""} if self.values is None else set(cells) - self.values - {""}
        for text in new:
            value = number(text)
            self.images += is_image_name(text)
            self.truths += truth(text) is not None
            if value is None:
                self.texts += 1
                self.commas += "," in text and number(text.replace(",", ".", 1)) is not None
            elif value.is_integer():
                self.wholes += 1
            else:
                self.fractions += 1
        if self.values is not None:
            self.values |= new
            if len(self.values) > _MANY:
                self.values = None

    @property
    def filled(self) -> bool:
        return self.wholes + self.fractions + self.texts > 0

    @property
    def is_binary(self) -> bool:
        """Nothing but 0 and 1, or true and false."""
        return self.filled and self.truths == self.wholes + self.fractions + self.texts

    @property
    def is_fractions(self) -> bool:
        """Numbers with decimals; a few texts such as NA among them are mistakes, not classes."""
        return self.fractions > self.texts

    @property
    def is_numbers(self) -> bool:
        return self.is_fractions or (self.wholes > 0 and self.texts == 0)


def survey(table: TextTable) -> tuple[list[Facts], int]:
    """(facts of every column, number of rows), from reading the whole table once."""
    facts = [Facts(name) for name in table.header]
    rows = 0
    for lines, columns in table.blocks():
        rows += len(lines)
        for fact, cells in zip(facts, columns, strict=True):
            fact.see(cells)
    return facts, rows


@dataclass(frozen=True)
class Roles:
    """Numbers of the columns; `split` is None if the table does not tell parts apart."""

    image: int
    labels: tuple[int, ...]
    split: int | None


def choose(
    facts: Sequence[Facts],
    columns: Columns,
    *,
    table: str,
    task: str = "auto",
    classes: tuple[str, ...] | None = None,
) -> Roles:
    """The columns of the table called `table`; `classes` are a model's, whose names label columns may bear.

    The image: the column named so by habit (`image`, `file`, `path` …), of several the first that holds image names;
    else the first that holds nothing but names of images. The part: a column called split, subset, partition or set
    that holds only names of parts (train, val …). The labels: the model's own columns; else the one called by habit
    (`label`, `class`, `target`, `tags` …); else the one that is left; else all that are left, if they hold nothing but
    0 and 1, or nothing but numbers with decimals (numbers of any kind under the task regression). Columns without a
    name (an index) or without any value are never chosen. Raises DataError if nothing or too much fits, UsageError if
    a named column does not exist.
    """
    if columns.separator == "":
        raise UsageError("the label separator is empty", f"give for example {_SEPARATOR.format(repr('|'))}")
    place = {fact.name: i for i, fact in enumerate(facts)}
    named = [n for n in (columns.image, *columns.labels, columns.split) if n is not None]
    for name in named:
        if name not in place:
            close = nearest(name, place)
            known = ", ".join(map(repr, place))
            raise UsageError(
                f"{table} has no column {name!r}", f"did you mean {close[0]!r}?" if close else f"it has {known}"
            )
        if named.count(name) > 1:
            raise UsageError(f"column {name!r} of {table} is named for two purposes", "name each column once")
    free = [f for f in facts if f.name and not f.name.startswith("Unnamed:") and f.filled and f.name not in named]
    image = columns.image or _image(free, table)
    free = [f for f in free if f.name != image]
    split = columns.split or _split(free)
    free = [f for f in free if f.name != split]
    labels = columns.labels or _labels(free, table, task, classes)
    return Roles(place[image], tuple(place[n] for n in labels), None if split is None else place[split])


def _image(free: Sequence[Facts], table: str) -> str:
    by_name = {f.name.lower(): f for f in reversed(free)}
    usual = [by_name[n] for n in _IMAGE if n in by_name]
    found = next((f for f in usual if f.images), None) or next(iter(usual), None)
    found = found or next((f for f in free if f.images == f.texts > 0 and not f.wholes + f.fractions), None)
    if found is None:
        raise DataError(
            f"no column of {table} looks like paths of images: {_listed([f.name for f in free])}",
            "name it with --image-column NAME",
        )
    return found.name


def _split(free: Sequence[Facts]) -> str | None:
    for fact in free:
        known = fact.values is not None and {v.lower() for v in fact.values} <= set(PARTS)
        if fact.name.lower() in _SPLIT and known:
            return fact.name
    return None


def _labels(free: Sequence[Facts], table: str, task: str, classes: tuple[str, ...] | None) -> tuple[str, ...]:
    names = [f.name for f in free]
    if classes and task != "single-label" and set(classes) <= set(names):
        return classes
    usual = [n for n in names if n.lower() in _LABEL]
    if len(usual) == 1 or len(free) == 1:
        return tuple(usual or names)
    if not free:
        raise DataError(f"{table} has no column of labels beside the images", "add one, or see --label-column")
    if not usual:
        binary = task in ("auto", "multi-label") and all(f.is_binary for f in free)
        decimals = task == "auto" and all(f.is_fractions for f in free)
        if binary or decimals or (task == "regression" and all(f.is_numbers for f in free)):
            return tuple(names)
    raise DataError(
        f"{len(usual or free)} columns of {table} may hold the label: {_listed(usual or names)}",
        "name it with --label-column NAME (again for several), and the images' with --image-column NAME",
    )


def _listed(names: Sequence[str]) -> str:
    return listed([repr(n) for n in names]) or "none has any text"


def decide(
    labels: Sequence[Facts], rows: int, columns: Columns, *, table: str, task: str = "auto"
) -> tuple[TaskName, str]:
    """(task, a sentence that says why) for label columns in a table of `rows` rows. `task` other than "auto" is taken.

    auto: a separator, or several columns of 0 and 1, are multi-label; numbers with decimals, or several columns of
    numbers, are regression; text is single-label. Whole numbers in one column are classes if there are at most 100
    different ones (10,000 if the column is called label, class or category) and two rows or more for each on average;
    else regression. Raises DataError if the columns cannot serve the task, or no task fits several columns.
    """
    names = " and ".join(repr(f.name) for f in labels) if len(labels) < 3 else f"{len(labels)} columns"
    chosen, why = _infer(labels, rows, columns, names) if task == "auto" else (task, "as asked")
    empty = [f.name for f in labels if not f.filled]
    if empty:
        raise DataError(f"column {empty[0]!r} of {table} holds no label at all", "fill it, or name another")
    commas = next((f for f in labels if 2 * f.commas > f.texts + f.wholes), None)
    if commas is not None and columns.separator is None:
        raise DataError(
            f"column {commas.name!r} of {table} holds numbers with a decimal comma, such as {_some(commas)}",
            "write them with a point",
        )
    if chosen == "regression":
        texts = [f for f in labels if f.texts >= f.wholes + f.fractions]  # fewer are mistakes, to be named line by line
        if texts:
            raise DataError(
                f"column {texts[0].name!r} of {table} does not hold numbers but {_some(texts[0])}: no regression",
                "name the columns of numbers with --label-column, or choose another --task",
            )
        if columns.separator is not None:
            raise UsageError(
                "a label separator and the task regression exclude each other", "give several --label-column instead"
            )
        return "regression", f"regression, {why}"
    if chosen == "multi-label":
        if len(labels) > 1 and columns.separator is not None:
            raise UsageError("a label separator goes with one label column", f"it is one of {names}")
        other = [f for f in labels if not f.truths]
        if len(labels) > 1 and other:
            raise DataError(
                f"column {other[0].name!r} of {table} does not hold 0 and 1 but {_some(other[0])}: no label of a "
                "multi-label task",
                "leave it out of --label-column, or name one column and the separator inside its cells",
            )
        return "multi-label", f"multi-label, {why}"
    if chosen == "single-label":
        if len(labels) > 1:
            raise DataError(
                f"{names} of {table} are several columns, and a single-label task has one",
                "name one --label-column, or choose --task multi-label or regression",
            )
        if columns.separator is not None:
            raise UsageError("a label separator makes several labels", "leave it out, or choose --task multi-label")
        return "single-label", f"single-label, {why}"
    raise DataError(
        f"{names} of {table} hold {why}: no task fits them",
        "name one --label-column, several of 0 and 1 (multi-label), or several of numbers (regression)",
    )


def _infer(labels: Sequence[Facts], rows: int, columns: Columns, names: str) -> tuple[str, str]:
    if columns.separator is not None:
        return "multi-label", f"as a label separator is given ({columns.separator!r})"
    if len(labels) > 1:
        if all(f.is_binary for f in labels):
            return "multi-label", f"as {names} hold 0 and 1 only"
        if all(f.is_numbers for f in labels):
            return "regression", f"as {names} hold numbers"
        return "", "neither 0 and 1 only nor numbers only"
    (column,) = labels
    if column.is_fractions:
        return "regression", f"as {names} holds numbers with decimals"
    if column.texts:
        return "single-label", f"as {names} holds text{_several(column)}"
    most = _MANY if column.name.lower() in _CLASS else _FEW
    different = None if column.values is None else len(column.values)
    if different is not None and different <= most and rows >= 2 * different:
        return "single-label", f"as {names} holds {different:,} different whole numbers in {rows:,} rows"
    count = f"more than {_MANY:,}" if different is None else f"{different:,}"
    return "regression", f"as {names} holds {count} different whole numbers in {rows:,} rows"


def _several(fact: Facts) -> str:
    """A word of warning if most of the texts look like several labels each."""
    values = fact.values or ()
    mark = next((m for m in "|;," if 2 * sum(m in v for v in values) > len(values)), "")
    advice = f"if those are several labels: {_SEPARATOR.format(repr(mark))}"
    return f" (most of it with {mark!r} inside; {advice})" if mark else ""


def _some(fact: Facts) -> str:
    texts = sorted(v for v in fact.values or () if number(v) is None) or sorted(fact.values or ())
    return ", ".join(map(repr, texts[:3])) or "other text"
