"""The built-in models as catalog entries, for the builder of the index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from zoo.catalog.entries import ModelEntry, Pretrained
from zoo.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BuiltinSpec", "build_builtin", "read_builtin"]


class BuiltinSpec(Protocol):
    """The fields of an entry of `zoo.models.builtin.BUILTIN` that the catalog reads; it does not import zoo.models."""

    @property
    def name(self) -> str: ...
    @property
    def architecture(self) -> str: ...
    @property
    def model_args(self) -> dict[str, Any]: ...
    @property
    def pretrained_cfg(self) -> dict[str, Any]: ...


def read_builtin(table: Mapping[str, BuiltinSpec]) -> list[ModelEntry]:
    """The entries of `table`, without costs. Their weights are files in the package: no hub_id, no url."""
    return [_entry(spec) for spec in table.values()]


def build_builtin(spec: BuiltinSpec) -> nn.Module:
    """The model with its published head, on the meta device."""
    import timm
    import torch

    with torch.device("meta"):
        module: nn.Module = timm.create_model(
            spec.architecture, num_classes=spec.pretrained_cfg["num_classes"], **spec.model_args
        )
    return module


def _entry(spec: BuiltinSpec) -> ModelEntry:
    cfg = spec.pretrained_cfg
    size = cfg["input_size"]
    preprocess = Preprocess(
        input_size=(size[0], size[1], size[2]),
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        interpolation=cfg["interpolation"],
        crop_pct=cfg["crop_pct"],
        crop_mode=cfg.get("crop_mode", "center"),
    )
    pool_size = tuple(cfg["pool_size"])
    return ModelEntry(
        name=spec.name,
        source="builtin",
        architecture=spec.architecture,
        family="builtin",
        params=None,
        macs=None,
        num_classes=cfg["num_classes"],
        preprocess=preprocess,
        pool_size=pool_size,
        first_conv=cfg["first_conv"],
        classifier=cfg["classifier"],
        pretrained=(
            Pretrained(
                tag=cfg["tag"],
                hub_id=None,
                url=None,
                license=cfg["license"],
                num_classes=cfg["num_classes"],
                preprocess=preprocess,
                pool_size=pool_size,
            ),
        ),
    )
