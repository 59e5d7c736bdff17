"""Models of timm, and the built-in ones, which are timm architectures."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import timm
from timm.models import _builder, load_pretrained
from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys

from zoo.catalog.packages import PACKAGES
from zoo.catalog.signatures import as_paths
from zoo.errors import ModelError, WeightsError, first_line
from zoo.models.construct import BuildOptions, translate_build_errors
from zoo.models.heads import AUXILIARY_HEADS
from zoo.models.load_weights import LoadResult, is_under, load_matching
from zoo.models.pos_embed import resample_pos_embed
from zoo.models.stems import adapt_stems, extend_statistics
from zoo.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

_FLAGS = {"img_size": "--img-size", "drop_rate": "--drop", "drop_path_rate": "--drop-path", "global_pool": "--pool"}
_lock = threading.Lock()


def pretrained_cfg_of(architecture: str, tag: str | None) -> dict[str, Any]:
    """timm's default_cfg of the weights `tag` (None: of the architecture), JSON-serialisable."""
    described = f"{architecture}.{tag}" if tag else architecture
    package = PACKAGES.get(described)
    known = f"{architecture}.{package.like}" if package is not None else described
    try:
        cfg = timm.models.get_pretrained_cfg(known, allow_unregistered=False)
    except RuntimeError:  # an unknown tag
        cfg = None
    if cfg is None:
        raise ModelError(f"the installed timm {timm.__version__} does not have {described}", "install a newer timm")
    plain: dict[str, Any] = cfg.to_dict()  # type: ignore[no-untyped-call]
    if package is not None:
        plain |= {"tag": package.tag, "url": "", "hf_hub_id": None, "license": package.license}
    return plain


def arguments(cfg: Mapping[str, Any], options: BuildOptions) -> dict[str, Any]:
    """Keyword arguments of `timm.create_model`; those that are None are left out."""
    auxiliary = AUXILIARY_HEADS.get(("timm", str(cfg["architecture"])))
    side = options.img_size or int(cfg["input_size"][1])
    given = {
        "num_classes": options.classes,
        # Other architectures accept images of any size and do not have the argument.
        "img_size": options.img_size if cfg.get("fixed_input_size") else None,
        "drop_rate": options.drop,
        "drop_path_rate": options.drop_path,
        "global_pool": options.pool,
        "aux_logits": True if auxiliary is not None and side >= auxiliary.side else None,
    }
    return {"in_chans": options.in_chans, **{k: v for k, v in given.items() if v is not None}}


def create(
    architecture: str,
    cfg: Mapping[str, Any],
    args: Mapping[str, Any],
    *,
    name: str,
    state: Mapping[str, Tensor] | None = None,
    stem: str = "auto",
) -> tuple[nn.Module, LoadResult | None]:
    """The module, on torch's default device, and the result of loading `state`.

    timm's filter for the architecture and timm's adaptation of the head are applied to `state`; `stem` is the rule for
    the first convolution. Raises ModelError for an unsupported argument, WeightsError if `state` does not fit.
    """
    if not timm.is_model(architecture):
        raise ModelError(f"the installed timm {timm.__version__} has no model {architecture!r}", "install a newer timm")
    results: list[LoadResult] = []

    def load(
        model: nn.Module,
        *,
        pretrained_cfg: dict[str, Any],
        num_classes: int,
        in_chans: int,
        filter_fn: Callable[..., dict[str, Tensor]] | None,
        strict: bool,
        cache_dir: str | None,
    ) -> None:
        assert state is not None
        tensors = _apply_filter(model, dict(state), filter_fn, name)
        notes = [
            f"{k}: resampled, {tuple(state[k].shape)} -> {tuple(t.shape)}"
            for k, t in tensors.items()
            if k in state and state[k].shape != t.shape
        ]
        results.append(
            _load_adapted(
                model, tensors, dict(pretrained_cfg), requested=(num_classes, in_chans),
                img_size=args.get("img_size"), notes=notes, name=name, stem=stem,
            )
        )  # fmt: skip

    with (
        _timm_log_errors_only(),
        _replaced_load_pretrained(load if state is not None else None),
        translate_build_errors(name, args, _FLAGS),
    ):
        module: nn.Module = timm.create_model(
            architecture, pretrained=state is not None, pretrained_cfg=_tuples(cfg), **_tuples(args)
        )
    module.train()
    return module, results[0] if results else None


@contextmanager
def _replaced_load_pretrained(load: Callable[..., None] | None) -> Iterator[None]:
    """Replace timm's function that loads weights: it receives the architecture's filter and only logs the result."""
    if load is None:
        yield
        return
    with _lock:
        original = _builder.load_pretrained
        _builder.load_pretrained = load
        try:
            yield
        finally:
            _builder.load_pretrained = original


def _load_adapted(
    model: nn.Module,
    tensors: dict[str, Tensor],
    cfg: dict[str, Any],
    *,
    requested: tuple[int, int],
    img_size: int | None,
    notes: list[str],
    name: str,
    stem: str,
) -> LoadResult:
    """Adapt stem and head of `tensors` to the `requested` (classes, channels) and load them."""
    num_classes, in_chans = requested
    notes = notes + _resampled(model, tensors)
    shapes = {k: tuple(t.shape) for k, t in tensors.items()}
    auxiliary = AUXILIARY_HEADS.get(("timm", str(cfg.get("architecture"))))
    auxiliary_heads = auxiliary.heads if auxiliary is not None else ()
    head = (*head_of(model, cfg), *(f"{h}.fc" for h in auxiliary_heads))
    for path in (h for h in auxiliary_heads if getattr(model, h) is None):  # the images are too small
        for key in [k for k in tensors if is_under(k, [path])]:
            del tensors[key]
        notes.append(f"{path}: auxiliary heads left out")
    # Stem and head of the file may differ from those of the published weights.
    adapt_stems(model, tensors, as_paths(cfg.get("first_conv")), in_chans, stem)
    cfg["input_size"] = (in_chans, *cfg["input_size"][1:])
    file_classes = next(
        (shapes[f"{p}.weight"][0] for p in as_paths(cfg.get("classifier")) if f"{p}.weight" in shapes), None
    )
    if file_classes is not None and file_classes != cfg["num_classes"] + (cfg.get("label_offset") or 0):
        cfg |= {"num_classes": file_classes, "label_offset": 0}
    results: list[LoadResult] = []

    def load_adapted(adapted: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> _IncompatibleKeys:
        del model.load_state_dict  # restores the method of the class
        changed = [(k, tuple(t.shape)) for k, t in adapted.items() if tuple(t.shape) != shapes[k]]
        what = {k: "head without background class" if is_under(k, head) else "stem" for k, _ in changed}
        change_notes = [f"{k}: {what[k]}, {shapes[k]} -> {shape}" for k, shape in changed]
        if img_size is not None:
            _require_img_size(model, adapted, head, img_size, name)
        results.append(
            load_matching(model, adapted, head, adapted=[*notes, *change_notes], file_head_shapes=shapes, name=name)
        )
        return _IncompatibleKeys([], [])

    model.load_state_dict = load_adapted  # type: ignore[method-assign, assignment]
    try:
        load_pretrained(model, {**cfg, "state_dict": tensors}, num_classes=num_classes, in_chans=in_chans, strict=False)
    except (AssertionError, RuntimeError, ValueError, KeyError) as e:
        raise WeightsError(f"the weights do not fit {name}: {first_line(e)}", "use the model that they are for") from e
    finally:
        model.__dict__.pop("load_state_dict", None)
    return results[0]


def _resampled(model: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Resize the position embeddings that timm's filters did not resize; one note for each."""
    notes = []
    for key, own in model.state_dict().items():
        original = tensors.get(key)
        if original is None or original.shape == own.shape:
            continue
        if (resized := resample_pos_embed(key, original, own)) is not None:
            tensors[key] = resized
            notes.append(f"{key}: resampled, {tuple(original.shape)} -> {tuple(own.shape)}")
    return notes


def _require_img_size(
    model: nn.Module, tensors: Mapping[str, Tensor], head: tuple[str, ...], img_size: int, name: str
) -> None:
    """Raises ModelError if the tensors fit the model except for some that depend on the image size."""
    own = {k: t.shape for k, t in model.state_dict().items() if not is_under(k, head)}
    mismatched = [k for k, t in tensors.items() if k in own and own[k] != t.shape]
    if mismatched and len(own.keys() & tensors.keys()) > 0.9 * len(own) and len(mismatched) < len(own) / 2:
        raise ModelError(
            f"{name}: the weights cannot be adapted to images of {img_size} pixels: "
            f"{mismatched[0]} {tuple(tensors[mismatched[0]].shape)} -> {tuple(own[mismatched[0]])}",
            "leave out --img-size, or use --weights none",
        )


def _apply_filter(
    model: nn.Module, state: dict[str, Tensor], filter_fn: Callable[..., dict[str, Tensor]] | None, name: str
) -> dict[str, Tensor]:
    """`state` with the names and shapes of the architecture."""
    if filter_fn is None:
        return state
    try:
        # As timm does: with the model, or without if the filter does not take it.
        try:
            return dict(filter_fn(state, model))
        except TypeError:
            return dict(filter_fn(state))
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise WeightsError(
            f"the weights do not fit {name}: timm's filter fails ({type(e).__name__}: {first_line(e)})",
            "use the model that they are for",
        ) from e


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as tuples, which JSON does not have but timm compares with."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


@contextmanager
def _timm_log_errors_only() -> Iterator[None]:
    """Hide timm's log lines about adapted weights, which are in the report."""
    logger = logging.getLogger("timm")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def head_of(module: nn.Module, cfg: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths of the classifier's modules, from the model and from its default_cfg (for volo)."""
    get = getattr(module, "get_classifier", None)
    named = get() if get is not None else None
    requested = tuple(named) if isinstance(named, tuple | list) and not isinstance(named, nn.Module) else (named,)
    described = as_paths(cfg.get("classifier"))
    paths = [
        path
        for path, part in module.named_modules()
        if path and (path in described or any(part is w for w in requested))
    ]
    with_tensors = [p for p in paths if next(module.get_submodule(p).parameters(), None) is not None]
    return tuple(p for p in with_tensors if not any(p.startswith(f"{q}.") for q in with_tensors))


def preprocess_of(cfg: Mapping[str, Any], in_chans: int, img_size: int | None, stem: str = "auto") -> Preprocess:
    """The preprocessing of the weights for `in_chans` channels (by the rule `stem`) and `img_size`."""
    _, height, width = cfg["input_size"]
    interpolation = cfg.get("interpolation") or "bicubic"
    return Preprocess(
        input_size=(in_chans, img_size or int(height), img_size or int(width)),
        mean=extend_statistics(tuple(cfg.get("mean") or IMAGENET_MEAN), in_chans, stem),
        std=extend_statistics(tuple(cfg.get("std") or IMAGENET_STD), in_chans, stem),
        interpolation="bilinear" if interpolation == "random" else interpolation,
        crop_pct=float(cfg.get("crop_pct") or 0.875),
        crop_mode=cfg.get("crop_mode") or "center",
    )
