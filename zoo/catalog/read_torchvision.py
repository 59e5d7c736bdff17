"""torchvision's classification models as catalog entries. Imports torchvision.

Detection, segmentation, video and quantized models are in other modules of torchvision and are not listed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from zoo.catalog.entries import ModelEntry, Pretrained
from zoo.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

if TYPE_CHECKING:
    from torch import nn

# torchvision states a license only for these weights, as a link to the text of CC BY-NC 4.0.
_LICENSES = {"https://github.com/facebookresearch/SWAG/blob/main/LICENSE": "cc-by-nc-4.0"}

# Preset of torchvision's ImageClassification transform, for architectures without weights.
_PRESET = Preprocess((3, 224, 224), IMAGENET_MEAN, IMAGENET_STD, interpolation="bilinear", crop_pct=224 / 256)


def read_torchvision(known: Mapping[str, ModelEntry] | None = None) -> list[ModelEntry]:
    """All classification models of the installed torchvision, without costs.

    known: architecture → earlier entry, whose layer names are reused. Others are built to find theirs, in 0.1 s each.
    """
    from torchvision import models

    return [torchvision_entry(name, (known or {}).get(name)) for name in models.list_models(module=models)]


def build_torchvision(architecture: str, image_size: int) -> nn.Module:
    """The model without weights and without auxiliary heads.

    image_size: height and width in pixels, for the position embeddings of vision transformers.
    """
    from torchvision import models

    options: dict[str, Any] = {"weights": None}
    if architecture in ("googlenet", "inception_v3"):
        # init_weights=False avoids a slow initialization and its warning.
        options |= {"aux_logits": False, "init_weights": False}
    if architecture.startswith("vit_"):
        options["image_size"] = image_size
    with _parameters_on_meta():
        module: nn.Module = models.get_model(architecture, **options)
    return module


def _parameters_on_meta() -> Any:
    """As `torch.device("meta")`, but only for empty, zeros, ones and full.

    RegNet's constructor computes tensors and reads their values, which is impossible on the meta device.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    tensor_factories = (torch.empty, torch.zeros, torch.ones, torch.full)

    class OnMeta(TorchFunctionMode):
        def __torch_function__(
            self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            options = kwargs or {}
            if func in tensor_factories and options.get("device") is None:
                options = {**options, "device": "meta"}
            return func(*args, **options)

    return OnMeta()


def torchvision_entry(architecture: str, known: ModelEntry | None = None) -> ModelEntry:
    """One model, without costs. Without `known` it is built to find its first convolution and classifier."""
    from torchvision import models

    weights = models.get_model_weights(architecture)
    # The default, which torchvision loads for weights="DEFAULT", comes first.
    members = sorted(weights, key=lambda w: (w is not weights.DEFAULT, w.name)) if len(weights) else []
    pretrained = tuple(_pretrained(w) for w in members)
    preprocess = pretrained[0].preprocess if pretrained else _PRESET
    if known is not None:
        layers = known.num_classes, known.first_conv, known.classifier
    else:
        layers = _layers(architecture, preprocess.height)
    return ModelEntry(
        name=f"torchvision/{architecture}",
        source="torchvision",
        architecture=architecture,
        family=inspect.unwrap(models.get_model_builder(architecture)).__module__.rpartition(".")[2],
        params=None,
        macs=None,
        num_classes=layers[0],
        preprocess=preprocess,
        pool_size=None,
        first_conv=layers[1],
        classifier=layers[2],
        pretrained=pretrained,
    )


_Paths = str | tuple[str, ...] | None


def _layers(architecture: str, image_size: int) -> tuple[int, _Paths, _Paths]:
    """Number of classes, path of the first convolution, path of the classifier."""
    from torch import nn

    layers = [
        (path, layer)
        for path, layer in build_torchvision(architecture, image_size).named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    # torchvision registers its modules in forward order: the last layer with weights is the classifier.
    path, last = layers[-1]
    classes = last.out_channels if isinstance(last, nn.Conv2d) else last.out_features
    return classes, next(p for p, layer in layers if isinstance(layer, nn.Conv2d)), path


def _pretrained(weights: Any) -> Pretrained:
    """The entry of a member of a torchvision weights enum."""
    transform = weights.transforms()
    crop, resize = transform.crop_size[0], transform.resize_size[0]
    stated = weights.meta.get("license")
    return Pretrained(
        tag=weights.name,
        hub_id=None,
        url=weights.url,
        license=_LICENSES.get(stated, stated),
        # IMAGENET1K_FEATURES of vgg16 has no categories and no usable classifier.
        num_classes=len(weights.meta["categories"] or ()),
        preprocess=Preprocess(
            input_size=(3, crop, crop),
            mean=tuple(transform.mean),
            std=tuple(transform.std),
            interpolation=transform.interpolation.value,
            crop_pct=crop / resize,
        ),
        pool_size=None,
    )
