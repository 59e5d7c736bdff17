"""timm's models as catalog entries. Imports timm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.catalog.entries import ModelEntry, Pretrained
from zoo.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build_timm", "read_timm", "renamed_in_timm"]


def read_timm() -> list[ModelEntry]:
    """All architectures of the installed timm, without costs, in timm's (natural) order."""
    import timm

    return [_entry(name) for name in timm.list_models()]


def renamed_in_timm() -> dict[str, str]:
    """Deprecated names → the current name with a tag.

    Without names that have no successor or an invalid one (timm 1.0.31 has two).
    """
    import timm
    from timm.models import get_deprecated_models

    known: Mapping[str, str | None] = get_deprecated_models()
    existing = {*timm.list_models(), *timm.list_models(include_tags=True)}
    return {old: new for old, new in sorted(known.items()) if new in existing}


def build_timm(architecture: str) -> nn.Module:
    """The model with its default head, on the meta device, without weights."""
    import timm
    import torch

    with torch.device("meta"):
        module: nn.Module = timm.create_model(architecture, pretrained=False)
    return module


def _entry(name: str) -> ModelEntry:
    from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg, model_entrypoint

    default: Any = get_pretrained_cfg(name, allow_unregistered=False)
    # In timm's order of tags, the default first.
    tagged = get_arch_pretrained_cfgs(name).values()
    return ModelEntry(
        name=name,
        source="timm",
        architecture=name,
        family=model_entrypoint(name).__module__.rpartition(".")[2],
        params=None,
        macs=None,
        num_classes=default.num_classes,
        preprocess=_preprocess(default),
        pool_size=_tuple(default.pool_size),
        first_conv=_tuple(default.first_conv),
        classifier=_tuple(default.classifier),
        pretrained=tuple(_pretrained(cfg) for cfg in tagged if cfg.has_weights),
    )


def _pretrained(cfg: Any) -> Pretrained:
    return Pretrained(
        tag=cfg.tag or "",
        hub_id=cfg.hf_hub_id or None,
        # timm tries the hub first.
        url=None if cfg.hf_hub_id else cfg.url,
        license=cfg.license,
        num_classes=cfg.num_classes,
        preprocess=_preprocess(cfg),
        pool_size=_tuple(cfg.pool_size),
    )


def _preprocess(cfg: Any) -> Preprocess:
    return Preprocess(
        input_size=tuple(cfg.input_size),
        mean=tuple(cfg.mean),
        std=tuple(cfg.std),
        interpolation=cfg.interpolation,
        crop_pct=cfg.crop_pct,
        crop_mode=cfg.crop_mode,
    )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value
