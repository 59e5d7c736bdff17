"""The classification data sets of torchvision and the arguments of their splits. Importing it imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from zoo.errors import UsageError, did_you_mean, nearest

_PREFIX = "torchvision:"


@dataclass(frozen=True)
class TorchvisionSet:
    """A data set of torchvision."""

    splits: Mapping[str, Mapping[str, Any]]  # split -> arguments of torchvision's class; "" for a set without splits
    # (argument, values) that a user may choose, the default first; a single number allows any number
    variant: tuple[str, tuple[str | int, ...]] | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    flips_ok: bool = True  # whether a horizontal flip keeps the label
    manual_download: str = ""  # page with the files, if torchvision cannot download them


def _splits(**splits: str) -> Mapping[str, Mapping[str, Any]]:
    return MappingProxyType({name: {"split": split} for name, split in splits.items()})


_TRAIN = MappingProxyType({"train": {"train": True}, "test": {"train": False}})
_TRAIN_TEST = _splits(train="train", test="test")
_TRAIN_VAL = _splits(train="train", val="val")
_ALL_THREE = _splits(train="train", val="val", test="test")
_WHOLE: Mapping[str, Mapping[str, Any]] = MappingProxyType({"": {}})

SETS: Mapping[str, TorchvisionSet] = MappingProxyType(
    {
        "CIFAR10": TorchvisionSet(_TRAIN),
        "CIFAR100": TorchvisionSet(_TRAIN),
        "CLEVRClassification": TorchvisionSet(_TRAIN_VAL),
        "Caltech101": TorchvisionSet(_WHOLE),
        "Caltech256": TorchvisionSet(_WHOLE),
        "Country211": TorchvisionSet(_splits(train="train", val="valid", test="test")),
        "DTD": TorchvisionSet(_ALL_THREE, ("partition", tuple(range(1, 11)))),
        "EMNIST": TorchvisionSet(
            _TRAIN, ("split", ("balanced", "byclass", "bymerge", "letters", "digits", "mnist")), flips_ok=False
        ),
        "EuroSAT": TorchvisionSet(_WHOLE),
        "FER2013": TorchvisionSet(_TRAIN_TEST, manual_download="https://www.kaggle.com/datasets/msambare/fer2013"),
        "FGVCAircraft": TorchvisionSet(_ALL_THREE, ("annotation_level", ("variant", "family", "manufacturer"))),
        "FakeData": TorchvisionSet(_WHOLE, ("size", (1000,))),
        "FashionMNIST": TorchvisionSet(_TRAIN),
        "Flowers102": TorchvisionSet(_ALL_THREE),
        "Food101": TorchvisionSet(_TRAIN_TEST),
        "GTSRB": TorchvisionSet(_TRAIN_TEST, flips_ok=False),
        "ImageNet": TorchvisionSet(_TRAIN_VAL, manual_download="https://image-net.org/challenges/LSVRC/2012/"),
        "Imagenette": TorchvisionSet(_TRAIN_VAL, ("size", ("full", "320px", "160px"))),
        "KMNIST": TorchvisionSet(_TRAIN, flips_ok=False),
        "MNIST": TorchvisionSet(_TRAIN, flips_ok=False),
        "OxfordIIITPet": TorchvisionSet(_splits(train="trainval", test="test")),
        "PCAM": TorchvisionSet(_ALL_THREE),
        "Places365": TorchvisionSet(_splits(train="train-standard", val="val"), fixed={"small": True}),
        "QMNIST": TorchvisionSet(_TRAIN, flips_ok=False),
        "RenderedSST2": TorchvisionSet(_ALL_THREE, flips_ok=False),
        "SEMEION": TorchvisionSet(_WHOLE, flips_ok=False),
        "STL10": TorchvisionSet(_TRAIN_TEST),
        "SUN397": TorchvisionSet(_WHOLE),
        "SVHN": TorchvisionSet(_TRAIN_TEST, flips_ok=False),
        "StanfordCars": TorchvisionSet(_TRAIN_TEST, manual_download="https://github.com/pytorch/vision/issues/7545"),
        "USPS": TorchvisionSet(_TRAIN, flips_ok=False),
    }
)


def is_torchvision_name(source: str) -> bool:
    return source.startswith(_PREFIX)


def find_set(source: str) -> tuple[str, TorchvisionSet, Mapping[str, Any]]:
    """(name of torchvision's class, the set, further arguments) of "torchvision:NAME" or "torchvision:NAME:VARIANT".

    Raises UsageError for unknown names, with the nearest one.
    """
    given, _, chosen = source.removeprefix(_PREFIX).partition(":")
    name = next((n for n in SETS if n.lower() == given.lower()), None)
    if name is None:
        close = [_PREFIX + n for c in nearest(given, [n.lower() for n in SETS], n=1) for n in SETS if n.lower() == c]
        hint = did_you_mean(close, f"known: {', '.join(SETS)}")
        raise UsageError(f"{source}: torchvision has no classification data set {given!r}", hint)
    found = SETS[name]
    extra = dict(found.fixed)
    if found.variant is not None:
        argument, values = found.variant
        value: str | int = int(chosen) if chosen.isdecimal() else chosen or values[0]
        any_number = len(values) == 1 and isinstance(value, int) and value > 0
        if value not in values and not any_number:
            known = ", ".join(map(str, values)) if len(values) > 1 else "a positive number"
            raise UsageError(f"{source}: no {argument} {chosen!r}", f"known: {known}")
        extra[argument] = value
    elif chosen:
        raise UsageError(f"{source}: {name} has no variants", f"omit {chosen!r}")
    return name, found, extra
