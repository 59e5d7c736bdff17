"""Name → `Model`, ready for a task; and the same structure again from a run's record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zoo.catalog import ModelEntry, find_weights
from zoo.errors import ModelError
from zoo.models import timm_source, weights
from zoo.models.fit import Fit
from zoo.models.groups import partition
from zoo.models.model import Model, WeightsReport
from zoo.preprocess import Preprocess

__all__ = ["build", "rebuild", "record", "skeleton"]


@dataclass(frozen=True)
class _Wish:
    classes: int | None
    in_chans: int
    img_size: int | None
    drop: float | None
    drop_path: float | None

    @property
    def unusual(self) -> bool:
        """True if the images are not those that every model takes; that is then tried out."""
        return self.img_size is not None or self.in_chans != 3

    def __post_init__(self) -> None:
        """Raises ModelError for what no model can be."""
        if self.classes is not None and self.classes < 1:
            raise ModelError(
                f"{self.classes} classes", "give at least 1, or leave it out to keep the head of the weights"
            )
        if self.in_chans < 1:
            raise ModelError(f"{self.in_chans} input channels", "give at least 1")
        if self.img_size is not None and self.img_size < 1:
            raise ModelError(f"an image size of {self.img_size} pixels", "give the side in pixels, for example 224")
        for label, value in (("drop", self.drop), ("drop_path", self.drop_path)):
            if value is not None and not 0 <= value < 1:
                raise ModelError(f"{label} is {value}", "a probability lies between 0 and 1")


def build(
    name: str,
    *,
    classes: int | None = None,
    in_chans: int = 3,
    img_size: int | None = None,
    weights: str = "default",
    drop: float | None = None,
    drop_path: float | None = None,
) -> Model:
    """The model called `name` in the catalog, on the CPU, for images of `in_chans` channels.

    classes: a head of so many logits, drawn anew from torch's global generator unless the weights' own has that many
    (the initialisation is the library's); None keeps the weights' head. img_size: side in pixels of square images;
    positions are resampled where the architecture has them. weights: "default", "none", a tag, a file (.safetensors,
    .pth, .pt, .bin) or a run's folder. drop: probability of dropout before the head; drop_path: of leaving out the last
    block.

    Raises ModelError if there is no such model or it cannot be built so; WeightsError if the weights cannot be had or
    do not fit.
    """
    wish = _Wish(classes, in_chans, img_size, drop, drop_path)
    entry, tag = find_weights(name)
    return _build(entry, tag, weights, wish)


def _build(entry: ModelEntry, tag: str | None, wanted: str, wish: _Wish) -> Model:
    choice = weights.choose(entry, tag, wanted)
    loaded = weights.read(entry, choice)
    if loaded is not None and choice.file is not None and wish.classes is None:
        wish = replace(wish, classes=_classes_in(loaded.tensors, entry))
    model, fit = _plan(entry, choice.tag, wish).make(loaded.tensors if loaded is not None else None)
    if wish.unusual:
        _try(model)
    return model if loaded is None else replace(model, weights=loaded.fitted(fit))


def skeleton(
    name: str,
    *,
    classes: int | None = None,
    in_chans: int = 3,
    img_size: int | None = None,
    drop: float | None = None,
    drop_path: float | None = None,
) -> Model:
    """As `build` with weights "none", but on the meta device: shapes, names and groups, without memory or time."""
    wish = _Wish(classes, in_chans, img_size, drop, drop_path)
    entry, tag = find_weights(name)
    plan = _plan(entry, tag or entry.default_tag, wish)
    if not plan.on_meta:
        model, _ = plan.make(None)
        model.module.to("meta")
    else:
        with torch.device("meta"):
            model, _ = plan.make(None)
    if wish.unusual:
        _try(model)
    return model


def record(model: Model) -> dict[str, Any]:
    """JSON-able; `rebuild` makes the same structure of it, so that the module's `state_dict` loads strictly."""
    values: dict[str, Any] = {
        "name": model.name,
        "source": model.source,
        "architecture": model.architecture,
        "args": model.args,
        "classes": model.classes,
        "preprocess": model.preprocess.to_dict(),
        "pretrained_cfg": model.pretrained_cfg,
        "weights": model.weights.to_dict(),
    }
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def rebuild(values: Mapping[str, Any]) -> Model:
    """The structure that `record` described, with random weights. Raises ModelError if it is not such a record."""
    try:
        plan = _Plan(
            name=str(values["name"]),
            source=str(values["source"]),
            architecture=str(values["architecture"]),
            cfg=dict(values["pretrained_cfg"]),
            args=dict(values["args"]),
            preprocess=Preprocess.from_dict(values["preprocess"]),
        )
        report = WeightsReport.from_dict(values["weights"])
    except (KeyError, TypeError, ValueError) as e:
        raise ModelError(f"the description of the model is damaged ({type(e).__name__}: {e})", "use another run") from e
    if plan.source not in ("timm", "torchvision", "builtin"):
        raise ModelError(f"the description names an unknown source {plan.source!r}", "was it written by a newer zoo?")
    try:
        model, _ = plan.make(None)
    except TypeError as e:  # a field of the description that the installed library does not know
        raise ModelError(f"the description of the model is damaged: {e}", "was it written with a newer library?") from e
    return replace(model, weights=report)


@dataclass(frozen=True)
class _Plan:
    """All that a library needs to make one module."""

    name: str
    source: str
    architecture: str
    cfg: dict[str, Any]
    args: dict[str, Any]
    preprocess: Preprocess

    @property
    def on_meta(self) -> bool:
        """False if the constructor computes with tensors, which the meta device cannot."""
        return not (self.source == "torchvision" and self.architecture.startswith("regnet"))

    def make(self, tensors: Mapping[str, Tensor] | None) -> tuple[Model, Fit | None]:
        """The model, filled from `tensors` if there are any, and how they fitted."""
        if self.source == "torchvision":
            from zoo.models import torchvision_source

            module, fit = torchvision_source.create(
                self.architecture, self.args, self.preprocess.channels, name=self.name, state=tensors
            )
            head = torchvision_source.head_of(module)
        else:
            module, fit = timm_source.create(self.architecture, self.cfg, self.args, name=self.name, state=tensors)
            head = timm_source.head_of(module, self.cfg)
        model = Model(
            module=module,
            name=self.name,
            source=self.source,
            architecture=self.architecture,
            args=self.args,
            classes=int(self.args.get("num_classes", self.cfg["num_classes"])) if head else 0,
            preprocess=self.preprocess,
            groups=partition(module, head, self.source),
            head=head,
            pretrained_cfg=self.cfg,
            weights=WeightsReport("none"),
        )
        return model, fit


def _plan(entry: ModelEntry, tag: str | None, wish: _Wish) -> _Plan:
    options: dict[str, Any] = {
        "classes": wish.classes,
        "img_size": wish.img_size,
        "drop": wish.drop,
        "drop_path": wish.drop_path,
    }
    if entry.source == "torchvision":
        from zoo.models import torchvision_source

        cfg = torchvision_source.published(entry.architecture, tag)
        args = torchvision_source.arguments(entry.architecture, cfg, **options)
        cfg |= {"first_conv": entry.first_conv, "classifier": entry.classifier}
    else:
        built_in: dict[str, Any] = {}
        if entry.source == "builtin":
            from zoo.models.builtin import BUILTIN

            spec = BUILTIN[entry.name]
            cfg, built_in = {"architecture": spec.architecture, **spec.pretrained_cfg}, spec.model_args
        else:
            cfg = timm_source.published(entry.architecture, tag)
        args = built_in | timm_source.arguments(cfg, in_chans=wish.in_chans, **options)
    preprocess = timm_source.preprocess_of(cfg, wish.in_chans, wish.img_size)
    return _Plan(entry.name, entry.source, entry.architecture, cfg, args, preprocess)


def _classes_in(tensors: Mapping[str, Tensor], entry: ModelEntry) -> int | None:
    """Logits of the classifier in a user's file, None if it has none under the model's own name."""
    paths = (entry.classifier,) if isinstance(entry.classifier, str) else entry.classifier or ()
    return next((int(tensors[f"{p}.weight"].shape[0]) for p in paths if f"{p}.weight" in tensors), None)


def _try(model: Model) -> None:
    """Run one image of the model's size through it. Raises ModelError if it cannot take it."""
    module, (channels, height, width) = model.module, model.preprocess.input_size
    device = next(module.parameters()).device
    module.eval()
    try:
        with torch.no_grad():
            module(torch.zeros(1, channels, height, width, device=device))
    except (AssertionError, RuntimeError, ValueError, IndexError, ZeroDivisionError) as e:
        usual = model.pretrained_cfg["input_size"]
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise ModelError(
            f"{model.name} cannot take images of {channels} x {height} x {width} ({reason[:160]})",
            f"its own size is {' x '.join(str(n) for n in usual)} (channels, height, width)",
        ) from e
    finally:
        module.train()
