"""Build a `Model` from its name, or from the record of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zoo.catalog import ModelEntry
from zoo.catalog.refresh import find_installed as find_weights
from zoo.catalog.signatures import as_paths
from zoo.errors import ModelError, first_line
from zoo.models import timm_source, weights
from zoo.models.construct import BuildOptions, on_meta_device
from zoo.models.groups import partition
from zoo.models.heads import AUXILIARY_HEADS, attach_auxiliary_heads, zero_init_head
from zoo.models.hub_config import HubConfig
from zoo.models.load_weights import LoadResult, load_strict
from zoo.models.model import Depths, Model, WeightsReport
from zoo.models.multi_depth import HEAD, load_head, replace_head
from zoo.models.pretrained import default_tag
from zoo.preprocess import Preprocess


def build(
    name: str,
    *,
    classes: int | None = None,
    in_chans: int = 3,
    img_size: int | None = None,
    weights: str = "default",
    drop: float | None = None,
    drop_path: float | None = None,
    pool: str | None = None,
    stem: str = "auto",
    head: str = "linear",
    head_init: str = "default",
) -> Model:
    """Build a model of the catalog on the CPU.

    Args:
        name: Name from `zoo list`.
        classes: Number of logits. A new head, initialised by the library with torch's global generator, replaces a
            pretrained head of another size. None keeps the pretrained head.
        in_chans: Number of image channels, C.
        img_size: Side of square images in pixels; position embeddings are resampled. None: the size of the weights.
        weights: "default", "none", a tag, a file (.safetensors, .pth, .pt, .bin), a run or a hub repository.
        drop: Probability of dropout before the head.
        drop_path: Probability of stochastic depth in the last block.
        pool: Pooling before the head, timm's `global_pool` (avg, max, avgmax, catavgmax, token, map …).
        stem: Rule to adapt the first convolution to `in_chans`, see `zoo.models.stems`.
        head: "linear", the classifier of the architecture, or "multi-depth", see `zoo.models.multi_depth`.
        head_init: "default", or "zero" for a new head of zeros.

    Raises:
        ModelError: There is no such model, or it does not support an option.
        WeightsError: The weights cannot be loaded or do not fit.
    """
    options = BuildOptions(classes, in_chans, img_size, drop, drop_path, pool, stem, head, head_init)
    entry, tag = find_weights(name)
    return _build(entry, tag, weights, options)


def _build(entry: ModelEntry, tag: str | None, weights_name: str, options: BuildOptions) -> Model:
    choice = weights.choose(entry, tag, weights_name)
    loaded = weights.read(entry, choice)
    if loaded is not None and choice.file is not None and options.classes is None:
        options = replace(options, classes=_classes_in(loaded.tensors, entry))
    spec = _make_spec(entry, choice.tag, options, choice.config)
    load_result = None
    if loaded is None:
        model, _ = spec.make(None)
    else:
        with loaded.suggesting_architectures():
            model, load_result = spec.make(loaded.tensors, stem=options.stem)
        model = replace(model, weights=loaded.report_for(load_result))
    _check_model(model, options)
    if options.head_init == "zero":
        zero_init_head(
            model.module, model.head, model.classes, load_result.head_loaded if load_result is not None else ()
        )
    return model


def build_on_meta(
    name: str,
    *,
    classes: int | None = None,
    in_chans: int = 3,
    img_size: int | None = None,
    drop: float | None = None,
    drop_path: float | None = None,
    pool: str | None = None,
    head: str = "linear",
) -> Model:
    """As `build` with weights "none", but on the meta device: shapes, names and groups without memory."""
    options = BuildOptions(classes, in_chans, img_size, drop, drop_path, pool, head=head)
    entry, tag = find_weights(name)
    spec = _make_spec(entry, tag or default_tag(entry), options)
    with on_meta_device() if spec.on_meta else nullcontext():
        model, _ = spec.make(None)
    model.module.to("meta")
    _check_model(model, options)
    return model


def record(model: Model) -> dict[str, Any]:
    """Describe the structure of a model as JSON, for `rebuild`."""
    values: dict[str, Any] = {
        "name": model.name,
        "source": model.source,
        "architecture": model.architecture,
        "args": model.args,
        "classes": model.classes,
        "preprocess": model.preprocess.to_dict(),
        "pretrained_cfg": model.pretrained_cfg,
        "weights": model.weights.to_dict(),
        **({"depths": model.depths.to_dict()} if model.depths is not None else {}),
    }
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def rebuild(values: Mapping[str, Any]) -> Model:
    """Build the structure that `record` described, with random weights; the `state_dict` then loads strictly.

    Raises:
        ModelError: `values` is not such a description.
    """
    try:
        spec = _ModelSpec(
            name=str(values["name"]),
            source=str(values["source"]),
            architecture=str(values["architecture"]),
            cfg=dict(values["pretrained_cfg"]),
            args=dict(values["args"]),
            preprocess=Preprocess.from_dict(values["preprocess"]),
            multi_depth="depths" in values,
            depths=Depths.from_dict(values["depths"]) if "depths" in values else None,
        )
        report = WeightsReport.from_dict(values["weights"])
    except (KeyError, TypeError, ValueError) as e:
        raise ModelError(f"the model description is damaged ({type(e).__name__}: {e})", "use another run") from e
    if spec.source not in ("timm", "torchvision", "builtin"):
        raise ModelError(
            f"the model description has the unknown source {spec.source!r}", "was it written by a newer zoo?"
        )
    try:
        model, _ = spec.make(None)
    except TypeError as e:  # an argument that the installed library does not have
        raise ModelError(f"the model description is damaged: {e}", "was it written with a newer library?") from e
    return replace(model, weights=report)


def without_auxiliary(model: Model) -> Model:
    """The model without auxiliary heads, for export; `model` itself if it has none."""
    if model.auxiliary is None:
        return model
    values = record(model)
    inference_model = rebuild({**values, "args": {**values["args"], "aux_logits": False}})
    own = inference_model.module.state_dict()
    load_strict(inference_model.module, {k: t for k, t in model.module.state_dict().items() if k in own})
    inference_model.module.train(model.module.training)
    return inference_model


@dataclass(frozen=True)
class _ModelSpec:
    """The arguments to construct a module. depths: input of the multi-depth head, if it is known already."""

    name: str
    source: str
    architecture: str
    cfg: dict[str, Any]
    args: dict[str, Any]
    preprocess: Preprocess
    multi_depth: bool = False
    depths: Depths | None = None

    @property
    def on_meta(self) -> bool:
        """Whether it can be constructed on the meta device; not if the constructor computes with tensors."""
        return not (self.source == "torchvision" and self.architecture.startswith("regnet"))

    def make(self, tensors: Mapping[str, Tensor] | None, *, stem: str = "auto") -> tuple[Model, LoadResult | None]:
        """The model, and the result of loading `tensors`; `stem`: rule for the first convolution."""
        if self.source == "torchvision":
            from zoo.models import torchvision_source

            module, load_result = torchvision_source.create(
                self.architecture, self.args, self.preprocess.channels, name=self.name, state=tensors, stem=stem
            )
            head = torchvision_source.head_of(module)
        else:
            module, load_result = timm_source.create(
                self.architecture, self.cfg, self.args, name=self.name, state=tensors, stem=stem
            )
            head = timm_source.head_of(module, self.cfg)
        auxiliary = AUXILIARY_HEADS.get((self.source, self.architecture)) if self.args.get("aux_logits") else None
        if auxiliary is not None:
            attach_auxiliary_heads(module, auxiliary)
        classes = int(self.args.get("num_classes", self.cfg["num_classes"])) if head else 0
        depths = None
        if self.multi_depth:
            groups = partition(module, head, self.source)
            depths = replace_head(
                module, head, groups, name=self.name, classes=classes, input_size=self.preprocess.input_size,
                depths=self.depths,
            )  # fmt: skip
            if load_result is not None and tensors is not None:
                load_result = load_head(module, tensors, load_result, head)
            head = (HEAD,)
        model = Model(
            module=module,
            name=self.name,
            source=self.source,
            architecture=self.architecture,
            args=self.args,
            classes=classes,
            preprocess=self.preprocess,
            groups=partition(module, head, self.source),
            head=head,
            pretrained_cfg=self.cfg,
            weights=WeightsReport("none"),
            auxiliary=auxiliary.weight if auxiliary is not None else None,
            depths=depths,
        )
        return model, load_result


def _make_spec(
    entry: ModelEntry, tag: str | None, options: BuildOptions, config: HubConfig | None = None
) -> _ModelSpec:
    """`config`: config.json of the user's weights, which overrides the description of the tag."""
    overrides: tuple[dict[str, Any], dict[str, Any]] = ({}, {}) if config is None else (config.cfg, config.args)
    if entry.source == "torchvision":
        from zoo.models import torchvision_source

        cfg = torchvision_source.pretrained_cfg_of(entry.architecture, tag) | overrides[0]
        args = overrides[1] | torchvision_source.arguments(entry.architecture, cfg, options, entry.name)
        cfg |= {"first_conv": entry.first_conv, "classifier": entry.classifier}
    else:
        builtin_args: dict[str, Any] = {}
        if entry.source == "builtin":
            from zoo.models.builtin import BUILTIN

            spec = BUILTIN[entry.name]
            cfg, builtin_args = {"architecture": spec.architecture, **spec.pretrained_cfg}, spec.model_args
        else:
            cfg = timm_source.pretrained_cfg_of(entry.architecture, tag)
        cfg |= overrides[0]
        args = builtin_args | overrides[1] | timm_source.arguments(cfg, options)
    preprocess = timm_source.preprocess_of(cfg, options.in_chans, options.img_size, options.stem)
    multi_depth = options.head == "multi-depth"
    if multi_depth and "aux_logits" in args:
        args["aux_logits"] = False
    return _ModelSpec(entry.name, entry.source, entry.architecture, cfg, args, preprocess, multi_depth)


def _classes_in(tensors: Mapping[str, Tensor], entry: ModelEntry) -> int | None:
    """Number of classes of the classifier in a file; None if it has none."""
    paths = as_paths(entry.classifier)
    return next((int(tensors[f"{p}.weight"].shape[0]) for p in paths if f"{p}.weight" in tensors), None)


class _StopForward(Exception):
    """Ends a forward pass after the stem: the rest does not depend on the channels."""


def _check_model(model: Model, options: BuildOptions) -> None:
    """Check the classifier, and with a forward pass the size, pooling and channels. Raises ModelError."""
    if options.classes is not None and not model.head:
        raise ModelError(
            f"{model.name} is an encoder and cannot have a classifier", "choose another model, see zoo list"
        )
    if options.img_size is not None or options.pool is not None:
        logits = _test_forward(model)
        if options.pool is not None and model.classes and tuple(logits.shape) != (1, model.classes):
            raise ModelError(f"{model.name} does not support the pooling {options.pool}", "leave it out")
    elif options.in_chans != 3:
        after_stem = {p for group in model.groups[1:] for p in group.parameters}
        hooks = [
            part.register_forward_pre_hook(_stop_forward)
            for path, part in model.module.named_modules()
            if any(f"{path}.{name}" in after_stem for name, _ in part.named_parameters(recurse=False))
        ]
        try:
            _test_forward(model)
        except _StopForward:
            pass
        finally:
            for hook in hooks:
                hook.remove()


def _stop_forward(*_: Any) -> None:
    raise _StopForward


def _test_forward(model: Model) -> Tensor:
    """The output for one image. Raises ModelError if the model does not support its size or channels."""
    module, (channels, height, width) = model.module, model.preprocess.input_size
    device = next(module.parameters()).device
    module.eval()
    try:
        with torch.no_grad():
            logits: Tensor = module(torch.zeros(1, channels, height, width, device=device))
    except (AssertionError, RuntimeError, ValueError, IndexError, ZeroDivisionError) as e:
        default_size = model.pretrained_cfg["input_size"]
        raise ModelError(
            f"{model.name} cannot take images of {channels} x {height} x {width} ({first_line(e)})",
            f"its default is {' x '.join(str(n) for n in default_size)} (channels, height, width)",
        ) from e
    finally:
        module.train()
    return logits
