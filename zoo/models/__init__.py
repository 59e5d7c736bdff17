"""A name becomes a module that is ready for the task: source, weights, input stem, head and groups.

    model = build("resnet34", classes=10, in_chans=1)     # pretrained, a new head, the first convolution adapted
    model.groups                                          # stem, stage1 … stage4, head
    again = rebuild(record(model))                        # the same structure from JSON, without weights

Names are looked up on first use, so that importing `zoo.models.builtin` costs neither torch nor timm.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.models.factory import build, build_on_meta, rebuild, record, without_auxiliary
    from zoo.models.load_weights import load_strict
    from zoo.models.model import Group, Model, WeightsReport

__all__ = [
    "Group",
    "Model",
    "WeightsReport",
    "build",
    "build_on_meta",
    "load_strict",
    "rebuild",
    "record",
    "without_auxiliary",
]

_LAZY_IMPORTS = {
    "Group": "zoo.models.model",
    "Model": "zoo.models.model",
    "WeightsReport": "zoo.models.model",
    "build": "zoo.models.factory",
    "load_strict": "zoo.models.load_weights",
    "rebuild": "zoo.models.factory",
    "record": "zoo.models.factory",
    "build_on_meta": "zoo.models.factory",
    "without_auxiliary": "zoo.models.factory",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY_IMPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from zoo.hub.endpoint import require_endpoint

    require_endpoint()  # timm imports the hub's client, which breaks off where it cannot parse it
    return getattr(import_module(_LAZY_IMPORTS[name]), name)
