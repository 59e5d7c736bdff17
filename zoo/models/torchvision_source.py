"""torchvision's classification models."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision import models

from zoo.errors import ModelError
from zoo.models.construct import BuildOptions, translate_build_errors
from zoo.models.heads import AUXILIARY_HEADS
from zoo.models.load_weights import LoadResult, is_under, load_matching
from zoo.models.stems import adapt_kernel, first_convolution, replace_first_convolution
from zoo.preprocess import IMAGENET_MEAN, IMAGENET_STD

# Name of the image size in constructors; other architectures accept images of any size.
_SIZE_ARGUMENT = {"vision_transformer": "image_size", "maxvit": "input_size"}
_FLAGS = {"dropout": "--drop", "drop_rate": "--drop", "stochastic_depth_prob": "--drop-path"}
_AUXILIARY_HEADS = ("aux1", "aux2", "AuxLogits")


def pretrained_cfg_of(architecture: str, tag: str | None) -> dict[str, Any]:
    """A description of the weights `tag` (None: the default ones) in the format of timm's default_cfg."""
    if architecture not in models.list_models(module=models):
        raise ModelError(
            f"the installed torchvision {torchvision.__version__} has no model {architecture!r}",
            "install a newer torchvision",
        )
    enum = models.get_model_weights(architecture)
    weights = enum[tag] if tag else getattr(enum, "DEFAULT", None)
    cfg: dict[str, Any] = {"architecture": architecture, "num_classes": 1000, "pool_size": None}
    size, resize, mean, std, interpolation = 224, 256, IMAGENET_MEAN, IMAGENET_STD, "bilinear"
    if weights is not None:
        transform = weights.transforms()
        size, resize = transform.crop_size[0], transform.resize_size[0]
        mean, std, interpolation = tuple(transform.mean), tuple(transform.std), transform.interpolation.value
        cfg |= {"tag": weights.name, "url": weights.url, "num_classes": len(weights.meta["categories"])}
    if _family(architecture) in ("googlenet", "inception"):
        # With weights, torchvision's modules replace the normalisation by (x - 0.5) / 0.5. Doing that here gives the
        # same logits for any number of channels.
        mean = std = (0.5, 0.5, 0.5)
    return cfg | {
        "input_size": (3, size, size),
        "fixed_input_size": _family(architecture) in _SIZE_ARGUMENT,
        "crop_pct": size / resize,
        "crop_mode": "center",
        "interpolation": interpolation,
        "mean": mean,
        "std": std,
    }


def _family(architecture: str) -> str:
    module = inspect.getmodule(models.get_model_builder(architecture))
    assert module is not None
    return module.__name__.rpartition(".")[2]


def arguments(architecture: str, cfg: Mapping[str, Any], options: BuildOptions, name: str) -> dict[str, Any]:
    """Keyword arguments of torchvision's constructor. Raises ModelError for an unsupported option."""
    if options.pool is not None:
        raise ModelError(f"{name} does not support --pool", "leave it out; many models of timm support it")
    family = _family(architecture)
    args: dict[str, Any] = {"num_classes": cfg["num_classes"] if options.classes is None else options.classes}
    side = options.img_size or cfg["input_size"][-1]
    if family in _SIZE_ARGUMENT:  # always set: it differs between weights of one architecture
        args[_SIZE_ARGUMENT[family]] = [side, side] if family == "maxvit" else side
    if options.drop is not None:
        args["drop_rate" if family == "densenet" else "dropout"] = options.drop
    if options.drop_path is not None:
        args["stochastic_depth_prob"] = options.drop_path
    if (auxiliary := AUXILIARY_HEADS.get(("torchvision", architecture))) is not None:
        args |= {"aux_logits": side >= auxiliary.side, "init_weights": True}
    return args


def create(
    architecture: str,
    args: Mapping[str, Any],
    in_chans: int,
    *,
    name: str,
    state: Mapping[str, Tensor] | None = None,
    stem: str = "auto",
) -> tuple[nn.Module, LoadResult | None]:
    """The module, on torch's default device, and the result of loading `state`.

    Raises ModelError for an unsupported argument, WeightsError if `state` does not fit.
    """
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in args.items()}
    with translate_build_errors(name, args, _FLAGS), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # googlenet's, about init_weights
        module: nn.Module = models.get_model(architecture, weights=None, **given)
    if in_chans != 3:
        replace_first_convolution(module, in_chans)
    module.train()
    return module, None if state is None else _load_adapted(module, dict(state), in_chans, name, stem)


def _load_adapted(module: nn.Module, state: dict[str, Tensor], in_chans: int, name: str, rule: str) -> LoadResult:
    # The last layers of the auxiliary heads are replaced with the classifier.
    head = (*head_of(module), *(f"{h}.{last}" for h in _AUXILIARY_HEADS for last in ("fc", "fc2")))
    own = module.state_dict()
    state = {_current_name(k): t for k, t in state.items()} if isinstance(module, models.DenseNet) else state
    shapes = {k: tuple(t.shape) for k, t in state.items()}
    notes = []
    if extra := [k for k in state if is_under(k, _AUXILIARY_HEADS) and k not in own]:
        notes.append(f"{', '.join(sorted({k.partition('.')[0] for k in extra}))}: auxiliary heads left out")
        state = {k: t for k, t in state.items() if k not in extra}
    stem = f"{first_convolution(module)}.weight"
    if stem in state and state[stem].ndim == 4 and state[stem].shape[1] != in_chans:
        state[stem] = adapt_kernel(state[stem], in_chans, rule)
        notes.append(f"{stem}: stem, {shapes[stem]} -> {tuple(state[stem].shape)}")
    positions = "encoder.pos_embedding"
    if (
        isinstance(module, models.VisionTransformer)
        and positions in state
        and shapes[positions] != own[positions].shape
    ):
        state[positions] = _resample(state[positions], own[positions])
        notes.append(f"{positions}: resampled, {shapes[positions]} -> {tuple(state[positions].shape)}")
    return load_matching(module, state, head, adapted=notes, file_head_shapes=shapes, name=name)


# torchvision's weights of 2017 have names such as "norm.1" in dense layers, which are now "norm1".
_DENSE = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))$")


def _current_name(key: str) -> str:
    match = _DENSE.match(key)
    return match.group(1) + match.group(2) if match else key


def _resample(positions: Tensor, like: Tensor) -> Tensor:
    """(1, 1 + h·h, D) → the shape of `like`, bicubic, as in torchvision's `interpolate_embeddings`."""
    if positions.ndim != 3 or positions.shape[-1] != like.shape[-1]:
        return positions
    token, grid = positions[:, :1], positions[:, 1:]
    side, target_side = int(grid.shape[1] ** 0.5), int((like.shape[1] - 1) ** 0.5)
    if side * side != grid.shape[1]:
        return positions
    square = grid.permute(0, 2, 1).reshape(1, -1, side, side)
    square = torch.nn.functional.interpolate(square, size=target_side, mode="bicubic", align_corners=True)
    return torch.cat([token, square.reshape(1, -1, target_side * target_side).permute(0, 2, 1)], dim=1)


def head_of(module: nn.Module) -> tuple[str, ...]:
    """Path of the classifier, the last linear layer or convolution in torchvision's models."""
    layers = [path for path, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    return (layers[-1],)
