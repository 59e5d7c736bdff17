"""The models of timm, and the built-in ones, which are timm architectures, as catalog entries. Imports timm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from zoo.catalog.entries import ModelEntry, Pretrained
from zoo.catalog.packages import PACKAGES
from zoo.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import nn


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


def read_timm() -> list[ModelEntry]:
    """All architectures of the installed timm, without costs, in timm's (natural) order."""
    import timm

    return [_timm_entry(name) for name in timm.list_models()]


def renamed_in_timm() -> dict[str, str]:
    """Deprecated names → the current name with a tag.

    Without names that have no successor or an invalid one (timm 1.0.31 has two).
    """
    import timm
    from timm.models import get_deprecated_models

    known: Mapping[str, str | None] = get_deprecated_models()
    existing = {*timm.list_models(), *timm.list_models(include_tags=True)}
    return {old: new for old, new in sorted(known.items()) if new in existing}


def read_builtin(table: Mapping[str, BuiltinSpec]) -> list[ModelEntry]:
    """The entries of `table`, without costs. Their weights are files in the package: no hub_id, no url."""
    from timm.models import PretrainedCfg

    found = []
    for spec in table.values():
        cfg = PretrainedCfg(**spec.pretrained_cfg)
        found.append(_entry(spec.name, "builtin", spec.architecture, "builtin", cfg, [cfg]))
    return found


def build_timm(architecture: str, **args: Any) -> nn.Module:
    """The model, by default with its default head, on the meta device, without weights."""
    import timm
    import torch

    with torch.device("meta"):
        module: nn.Module = timm.create_model(architecture, pretrained=False, **args)
    return module


def build_builtin(spec: BuiltinSpec) -> nn.Module:
    """The model with its published head, on the meta device."""
    return build_timm(spec.architecture, num_classes=spec.pretrained_cfg["num_classes"], **spec.model_args)


def _timm_entry(name: str) -> ModelEntry:
    from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg, model_entrypoint

    default = get_pretrained_cfg(name, allow_unregistered=False)
    # In timm's order of tags, the default first.
    tagged = [cfg for cfg in get_arch_pretrained_cfgs(name).values() if cfg.has_weights]
    entry = _entry(name, "timm", name, model_entrypoint(name).__module__.rpartition(".")[2], default, tagged)
    return replace(entry, pretrained=(*entry.pretrained, *_packaged(entry)))


def _packaged(entry: ModelEntry) -> Iterator[Pretrained]:
    """The weights of the model that packages of the Python package index contain."""
    for package in PACKAGES.values():
        if package.architecture == entry.architecture and (like := entry.weights(package.like)) is not None:
            yield replace(
                like, tag=package.tag, hub_id=None, url=None, license=package.license, package=package.distribution
            )


def _entry(name: str, source: str, architecture: str, family: str, default: Any, tagged: Iterable[Any]) -> ModelEntry:
    """The entry of a model with the configuration `default` and the configurations `tagged` of its weights."""
    return ModelEntry(
        name=name,
        source=source,
        architecture=architecture,
        family=family,
        params=None,
        macs=None,
        num_classes=default.num_classes,
        preprocess=_preprocess(default),
        pool_size=_tuple(default.pool_size),
        first_conv=_tuple(default.first_conv),
        classifier=_tuple(default.classifier),
        pretrained=tuple(_pretrained(cfg) for cfg in tagged),
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
