"""What must hold of every model's structure, and one small model of every family to try things out on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zoo.catalog.index import load_index
from zoo.models import Model, build_on_meta
from zoo.models.heads import AUXILIARY_HEADS, output_layers
from zoo.strategy.freeze import resolve_plan


@pytest.fixture(scope="session")
def check_structure() -> Callable[..., Model]:
    """(name, **options of `build_on_meta`) → the model, after asserting head, groups and the plan `backbone`."""
    return _check


def _check(name: str, *, classes: int, in_chans: int, **options: Any) -> Model:
    model = build_on_meta(name, classes=classes, in_chans=in_chans, **options)
    parameters = [n for n, _ in model.module.named_parameters()]
    buffers = [n for n, _ in model.module.named_buffers()]

    assert (model.classes, model.preprocess.channels) == (classes, in_chans)
    assert len(model.preprocess.mean) == len(model.preprocess.std) == in_chans
    assert model.head
    for path in model.head:
        assert list(output_layers(model.module, [path], classes)), f"{path} has no layer with {classes} outputs"

    assert sorted(n for g in model.groups for n in g.parameters) == sorted(parameters)
    assert sorted(n for g in model.groups for n in g.buffers) == sorted(buffers)
    assert [g.name for g in model.groups] == ["stem", *(f"stage{i}" for i in range(1, len(model.groups) - 1)), "head"]
    assert all(g.parameters for g in model.groups)
    for group in model.groups:  # its modules hold its tensors and no others
        inside = {n for n in (*parameters, *buffers) if n.startswith(tuple(f"{m}." for m in group.modules))}
        assert inside <= {*group.parameters, *group.buffers}

    head = {p for p in parameters if p.startswith(tuple(f"{path}." for path in model.head))}
    assert set(model.groups[-1].parameters) == head
    assert set(parameters) - resolve_plan("backbone", model.groups, model.module).frozen == head
    assert (model.auxiliary is not None) == ((model.source, model.architecture) in AUXILIARY_HEADS)
    return model


# Most take images of 32 pixels; these need more.
_SIDES = {
    "csatv2": 64,
    "inception_v3": 96,
    "inception_v4": 96,
    "inception_resnet_v2": 96,
    "torchvision/inception_v3": 96,
    # of a fixed size
    "crossvit_tiny_240": None,
    "efficientformer_l1": None,
    "halonet_h1": None,
    "torchvision/maxvit_t": None,
}


@pytest.fixture(scope="session")
def small_models() -> list[str]:
    """Of every module of timm and torchvision the member with the fewest parameters, if under 60 million, in order."""
    index = load_index()
    smallest: dict[tuple[str, str], str] = {}
    for name in index:
        entry = index[name]
        if entry.params is None or entry.source == "builtin" or name.endswith("_enc"):
            continue
        key = (entry.source, entry.family)
        if key not in smallest or entry.params < (index[smallest[key]].params or 0):
            smallest[key] = name
    sizes = {name: index[name].params or 0 for name in smallest.values()}
    return sorted((n for n in sizes if sizes[n] < 60e6), key=lambda n: sizes[n])


@pytest.fixture(scope="session")
def side_of() -> Callable[[str], int | None]:
    """Name of one of `small_models` → pixels to build it for: as few as it takes, None for its own."""
    return lambda name: _SIDES.get(name, 32)
