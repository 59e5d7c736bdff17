"""Models: architecture, weights, input stem, head and parameter groups.

    model = build("resnet34", classes=10, in_chans=1)     # pretrained weights, new head, adapted first convolution
    model.groups                                          # stem, stage1 … stage4, head
    again = rebuild(record(model))                        # the same structure from JSON, without weights

Names are imported on first use, so that `zoo.models.builtin` imports neither torch nor timm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.imports import lazy_exports

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


def _require_endpoint() -> None:
    """Check HF_ENDPOINT before timm imports huggingface_hub, which fails on an invalid address."""
    from zoo.hub.http import require_endpoint

    require_endpoint()


__getattr__ = lazy_exports(
    __name__,
    {
        "zoo.models.factory": ("build", "build_on_meta", "rebuild", "record", "without_auxiliary"),
        "zoo.models.load_weights": ("load_strict",),
        "zoo.models.model": ("Group", "Model", "WeightsReport"),
    },
    before_import=_require_endpoint,
)
