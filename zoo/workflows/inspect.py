"""`zoo inspect MODEL`: structure and costs of a model before training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.catalog import find_weights
from zoo.catalog.build import count_macs, count_params
from zoo.catalog.refresh import save_costs
from zoo.catalog.signatures import as_paths
from zoo.models import Model, WeightsReport, build, build_on_meta
from zoo.preprocess import Preprocess
from zoo.strategy.freeze import GroupPlan, resolve_plan
from zoo.workflows.inspect_file import TensorSummary, select_tensors, summarise


@dataclass(frozen=True)
class ModelSummary:
    """A model as built for a task.

    Args:
        tags: tags of all published weights of the architecture, the default first.
        tag, hub_id, url, package, license, num_classes: of the pretrained weights that define the preprocessing, loaded
            or not; None if there are none.
        classes: number of logits; 0 for a model that outputs features.
        pool_size: (height, width) of the last feature map.
        params: number of parameters.
        gmacs: multiply-accumulates for one image, in 1e9; None if they cannot be counted.
        groups: layer groups in forward order, with the trainable parameters under the freeze plan `freeze`.
        output_shape: shape of the output for one image.
        tensors: summaries of the requested module; random values if `weights.source` is "none".
    """

    name: str
    source: str
    architecture: str
    tags: tuple[str, ...]
    tag: str | None
    hub_id: str | None
    url: str | None
    package: str | None
    license: str | None
    num_classes: int
    classes: int
    preprocess: Preprocess
    pool_size: tuple[int, ...] | None
    first_conv: tuple[str, ...]
    classifier: tuple[str, ...]
    params: int
    gmacs: float | None
    freeze: str
    groups: tuple[GroupPlan, ...]
    output_shape: tuple[int, ...]
    weights: WeightsReport
    tensors: tuple[TensorSummary, ...] = ()

    @property
    def trainable(self) -> int:
        """Number of trainable parameters under the freeze plan."""
        return sum(g.trainable for g in self.groups)

    def to_dict(self) -> dict[str, Any]:
        """All fields, JSON-able."""
        fields = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items() if k != "preprocess"}
        return {
            **fields,
            **self.preprocess.to_dict(),
            "trainable": self.trainable,
            "groups": [
                {"name": g.name, "modules": list(g.modules), "parameters": g.parameters, "trainable": g.trainable}
                for g in self.groups
            ],
            "weights": self.weights.to_dict(),
            "tensors": [t.to_dict() for t in self.tensors],
        }


def inspect(
    name: str,
    *,
    classes: int | None = None,
    in_chans: int = 3,
    freeze: str = "none",
    weights: str = "none",
    params: str | None = None,
) -> ModelSummary:
    """Structure and costs of the model `name`, and its trainable parameters under the freeze plan `freeze`.

        zoo.inspect("resnet34", classes=10, freeze="backbone").trainable     # 5130

    Args:
        name: model name.
        classes: number of classes of a new head; None: the head of the published weights.
        in_chans: number of image channels.
        freeze: freeze plan, as for `zoo.finetune`.
        weights: "none" needs no network; "default", a tag or a file loads the weights and reports how they fit.
        params: path of a module or tensor to summarise.

    Raises:
        ModelError: unknown model, freeze plan or module.
        WeightsError: the weights cannot be loaded.
    """
    meta_model = build_on_meta(name, classes=classes, in_chans=in_chans)
    plan = resolve_plan(freeze, meta_model.groups, meta_model.module)
    if params is not None:
        _tensors_of(meta_model.module, params)  # report a wrong path before loading weights
    loaded = None
    if weights != "none" or params is not None:
        loaded = build(name, classes=classes, in_chans=in_chans, weights=weights)
    model = loaded or meta_model
    tensors = () if loaded is None or params is None else summarise(_tensors_of(loaded.module, params))
    cfg = model.pretrained_cfg
    entry, _ = find_weights(name)
    published = entry.weights(cfg["tag"]) if cfg.get("tag") else None
    gmacs, output_shape = _forward_on_meta(meta_model, name, classes, in_chans)
    if entry.params is None and classes is None and in_chans == entry.preprocess.channels:
        macs = None if gmacs is None else round(gmacs * 1e9)
        save_costs(entry.name, params=count_params(meta_model.module), macs=macs)
    return ModelSummary(
        name=model.name,
        source=model.source,
        architecture=model.architecture,
        tags=entry.tags,
        tag=cfg.get("tag"),
        hub_id=published.hub_id if published else None,
        url=published.url if published else None,
        package=published.package if published else None,
        license=published.license if published else cfg.get("license"),
        num_classes=int(cfg["num_classes"]),
        classes=model.classes,
        preprocess=model.preprocess,
        pool_size=None if cfg.get("pool_size") is None else tuple(cfg["pool_size"]),
        first_conv=as_paths(cfg.get("first_conv")),
        classifier=model.head,
        params=count_params(model.module),
        gmacs=gmacs,
        freeze=plan.text,
        groups=plan.groups,
        output_shape=output_shape,
        weights=model.weights,
        tensors=tensors,
    )


def _forward_on_meta(
    meta_model: Model, name: str, classes: int | None, in_chans: int
) -> tuple[float | None, tuple[int, ...]]:
    """GMACs and output shape from a forward pass on the meta device, or the shape alone from one on the CPU."""
    shapes: list[tuple[int, ...]] = []
    handle = meta_model.module.register_forward_hook(lambda _module, _inputs, out: shapes.append(tuple(out.shape)))
    try:
        return count_macs(meta_model.module, meta_model.preprocess.input_size) / 1e9, shapes[0]
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        # An operation without meta-device support.
        module = build(name, classes=classes, in_chans=in_chans, weights="none").module.eval()
        with torch.no_grad():
            return None, tuple(module(torch.randn(1, *meta_model.preprocess.input_size)).shape)
    finally:
        handle.remove()


def _tensors_of(module: nn.Module, path: str) -> dict[str, Tensor]:
    """Parameters and buffers of the module at `path`, or the one tensor of that name. Raises ModelError."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return select_tensors(tensors, path, [p for p, _ in module.named_modules() if p], "model")
