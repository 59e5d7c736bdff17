"""Apache Arrow columns as cells, for Parquet files and Hugging Face data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.data.schema.cells import NESTED, to_cell


@dataclass(frozen=True)
class ArrowColumns:
    """The columns of a schema."""

    header: tuple[str, ...]  # names of all columns, without pandas' index columns
    images: frozenset[str]  # columns of images: bytes, or Hugging Face structs of bytes and path
    nested: frozenset[str]  # columns that can be neither image nor label
    names: Mapping[str, Sequence[str]]  # column -> class names of its integers

    @staticmethod
    def of(schema: Any, features: Mapping[str, Any]) -> ArrowColumns:
        """schema: a pyarrow.Schema. features: Hugging Face's description of the columns (`Features.to_dict`), or {}."""
        header = tuple(name for name in schema.names if not name.startswith("__index_level_"))
        images, nested, names = set(), set(), {}
        for name in header:
            kind = schema.field(name).type
            if _is_bytes(kind) or _is_image_struct(kind):
                images.add(name)
            elif not _is_plain(kind):
                nested.add(name)
            found = _class_names(features.get(name))
            if found:
                names[name] = found
        return ArrowColumns(header, frozenset(images), frozenset(nested), names)

    @property
    def readable(self) -> list[str]:
        """The columns to read; the others are large or useless."""
        return [n for n in self.header if n not in self.images and n not in self.nested]

    def cells(self, table: Any, images: Sequence[str]) -> list[Sequence[str]]:
        """The cells of every column. table: a pyarrow table of the `readable` columns. images: image name per row."""
        columns: list[Sequence[str]] = []
        for name in self.header:
            if name in self.images:
                columns.append(images)
            elif name in self.nested:
                columns.append([NESTED] * len(images))
            else:
                values = table.column(name).to_pylist()
                columns.append([to_cell(self._named(name, v)) for v in values])
        return columns

    def _named(self, column: str, value: Any) -> Any:
        names = self.names.get(column)
        if names is None or value is None:
            return value
        if isinstance(value, list):
            return [self._named(column, v) for v in value]
        if not 0 <= value < len(names):  # -1: no label
            return None
        return names[value]


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_image_struct(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind)) and any(field.name == "bytes" and _is_bytes(field.type) for field in kind)


def _is_plain(kind: Any) -> bool:
    """Whether the values are text, numbers, or lists of them."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = kind.value_type
    if types.is_dictionary(kind):
        kind = kind.value_type
    return not (types.is_nested(kind) or _is_bytes(kind))


def _class_names(feature: Any) -> Sequence[str] | None:
    """Class names of a ClassLabel, or of a list of ClassLabel."""
    if isinstance(feature, list) and feature:
        feature = feature[0]
    if isinstance(feature, Mapping):
        if feature.get("_type") == "ClassLabel":
            return feature.get("names")
        return _class_names(feature.get("feature"))
    return None
