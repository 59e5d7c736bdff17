"""Extract the frozen features of a model and the shift of its batch-norm statistics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.arrays import Indices
from zoo.data import ImageDataset, make_loader
from zoo.data.loader import LoaderOptions
from zoo.errors import ModelError
from zoo.models import Model
from zoo.preprocess import Preprocess
from zoo.strategy.freeze import resolve_plan, set_train_mode
from zoo.strategy.scores import LayerMoments, NormShift, norm_shift
from zoo.training.feature_extractor import FeatureExtractor, find_feature_extractor
from zoo.training.features.dataset import compute, seconds_per_image
from zoo.training.features.head_inputs import head_inputs
from zoo.training.forward_pass import ForwardPass
from zoo.training.inference import Normalize
from zoo.training.module_state import eval_mode
from zoo.training.transfer.bn_adapt import update_bn_stats
from zoo.workflows.finetune.feature_cache import image_keys, open_store

_BATCH = 32
# Number of images to compare batch-norm statistics on if all features are cached.
_SHIFT_IMAGES = 512
# Fraction of the images, and minimum, to estimate the batch-norm statistics of a random network on.
_REESTIMATE_SHARE, _MIN_REESTIMATE = 0.2, 64
_MEMORY = 2 << 30


@dataclass(frozen=True)
class ExtractionSettings:
    """How to run a model over images.

    Args:
        preprocess: Preprocessing of the images.
        device: Device of the model.
        amp_dtype: Autocast type; None for float32.
        workers: Number of loader processes.
        data: Name of the data set, for the listing of the feature cache.
    """

    preprocess: Preprocess
    device: torch.device
    amp_dtype: torch.dtype | None
    workers: int
    data: str


@dataclass(frozen=True)
class ExtractedFeatures:
    """Features of some images.

    Args:
        features: (N, D) input of the usual head for each image.
        depths: (N, D′) input of the multi-depth head, with `features` as its last columns; None for another head.
        shift: Batch-norm shift; None without batch norm or for a random network.
        seconds: Time of a forward pass per image.
        computed: Number of images whose features were computed; the others were cached.
    """

    features: NDArray[np.float32]
    depths: NDArray[np.float32] | None
    shift: NormShift | None
    seconds: float
    computed: int


def extract_features(
    model: Model,
    source: ImageDataset,
    indices: Indices,
    settings: ExtractionSettings,
    *,
    random: bool = False,
    flipped: bool = False,
    measure_shift: bool = True,
) -> ExtractedFeatures:
    """Features of images from the frozen backbone of a model, in evaluation mode.

    Args:
        model: The model.
        source: Images.
        indices: (N,) indices of the images, which give the order of the features.
        settings: How to run the model.
        random: The model has random weights: estimate its batch-norm statistics on a fifth of the images first.
        flipped: Flip the images horizontally.
        measure_shift: Measure the batch-norm shift.

    Raises:
        DataError: An image cannot be read.
        ModelError: The input of the model's head cannot be found.
    """
    preprocess, device, amp_dtype = settings.preprocess, settings.device, settings.amp_dtype
    module = model.module.to(device)
    normalize = (_FlippedNormalize if flipped else Normalize)(preprocess).to(device)
    plan = resolve_plan("backbone", model.groups, module)
    plan.apply(module)

    def batches(some: Indices, workers: int = settings.workers) -> Any:
        return make_loader(
            source, preprocess=preprocess, batch_size=_BATCH, train=False, augment=None, seed=0, workers=workers,
            options=LoaderOptions(indices=some),
        )  # fmt: skip

    if random:
        number = min(max(int(_REESTIMATE_SHARE * len(indices)), _MIN_REESTIMATE), len(indices))
        spread = indices[np.linspace(0, len(indices) - 1, number).astype(np.int64)]
        update_bn_stats(ForwardPass(module, normalize, device, amp_dtype), batches(spread))
    set_train_mode(module, plan)
    sample_batch, _ = next(iter(batches(indices[:3], workers=0)))  # faster than starting processes
    feature_extractor = find_feature_extractor(module, plan.frozen_modules, normalize(sample_batch.to(device)))
    monitor = _BatchNormMonitor(module if measure_shift and not random else None)
    if feature_extractor is None:
        with monitor.recording():
            start = time.perf_counter()
            features = _capture_head_inputs(model, batches(indices), normalize, len(indices), device, amp_dtype)
            seconds = (time.perf_counter() - start) / len(indices)
        return ExtractedFeatures(*_split(model, features), monitor.shift(), seconds, len(indices))

    seconds, example = seconds_per_image(feature_extractor, normalize(sample_batch.to(device)), amp_dtype)
    store = open_store(model, plan, feature_extractor, preprocess, amp_dtype, example.dtype, data=settings.data)
    keys = image_keys(source, indices, "flipped" if flipped else "")
    missing = store.missing(keys)
    with monitor.recording():
        if missing:
            compute(
                feature_extractor, store, batches(indices[missing]), [keys[i] for i in missing], normalize,
                device=device, amp_dtype=amp_dtype,
            )  # fmt: skip
        elif monitor.layers:
            _forward_all(feature_extractor, batches(indices[:_SHIFT_IMAGES]), normalize, monitor, device, amp_dtype)
    rows = store.rows(keys)
    pooled = [_pool_features(rows[list(range(i, min(i + 256, len(keys))))]) for i in range(0, len(keys), 256)]
    return ExtractedFeatures(*_split(model, torch.cat(pooled).numpy()), monitor.shift(), seconds, len(missing))


def _split(model: Model, inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Inputs of the head → inputs of the usual head, and those of the multi-depth head if the model has one."""
    if model.depths is None:
        return inputs, None
    return np.ascontiguousarray(inputs[:, model.depths.columns[-1]]), inputs


class _FlippedNormalize(Normalize):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).flip(3)


def _pool_features(features: Tensor) -> Tensor:
    """(N, D) float32: the mean over pixels or tokens if the head does the pooling."""
    features = features.float()
    if features.ndim == 4:
        return features.mean((2, 3))
    return features.mean(1) if features.ndim == 3 else features.flatten(1)


def _capture_head_inputs(
    model: Model, batches: Any, normalize: Normalize, images: int, device: torch.device, amp_dtype: torch.dtype | None
) -> NDArray[np.float32]:
    """The inputs of the head, for networks that cannot be split into feature extractor and head."""
    module = model.module

    def forward(some: Tensor) -> Any:
        with torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
            return module(normalize(some.to(device)))

    with eval_mode(module):
        layer = module.get_submodule(model.head[0])
        inputs = head_inputs(layer, forward, batches, images=images, memory=_MEMORY, device=device, amp_dtype=amp_dtype)
    if inputs is None or len(inputs[0]) < images:
        raise ModelError(
            f"{model.name}: the input of its head cannot be found",
            "leave it out; `zoo finetune` can still train it",
        )
    return _pool_features(inputs[0]).cpu().numpy()


@torch.no_grad()
def _forward_all(
    feature_extractor: FeatureExtractor,
    batches: Any,
    normalize: Normalize,
    monitor: _BatchNormMonitor,
    device: torch.device,
    amp_dtype: torch.dtype | None,
) -> None:
    for images, _ in batches:
        with torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
            feature_extractor.features(normalize(images.to(device)))


@dataclass
class _BatchNormMonitor:
    """Records the mean and variance of the inputs of all batch-norm layers, per batch."""

    module: nn.Module | None
    layers: list[_BatchNorm] = field(init=False)
    _moments: list[list[tuple[Tensor, Tensor]]] = field(init=False)
    _counts: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        parts = [] if self.module is None else self.module.modules()
        self.layers = [p for p in parts if isinstance(p, _BatchNorm) and p.running_mean is not None]
        self._moments = [[] for _ in self.layers]

    @contextmanager
    def recording(self) -> Iterator[None]:
        hooks = [
            layer.register_forward_pre_hook(lambda _, args, i=i: self._record(i, args[0]))
            for i, layer in enumerate(self.layers)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def _record(self, number: int, inputs: Tensor) -> None:
        others = [d for d in range(inputs.ndim) if d != 1]
        variance, mean = torch.var_mean(inputs.float(), dim=others, correction=0)
        self._moments[number].append((mean, variance))
        if number == 0:
            self._counts.append(len(inputs))

    def shift(self) -> NormShift | None:
        with_moments = [(layer, moments) for layer, moments in zip(self.layers, self._moments, strict=True) if moments]
        # A layer that is called several times per batch is ignored.
        called_once = [(layer, moments) for layer, moments in with_moments if len(moments) == len(self._counts)]
        layers = [
            LayerMoments(
                running_mean=_array(layer.running_mean),
                running_variance=_array(layer.running_var),
                means=np.stack([_array(mean) for mean, _ in moments]),
                variances=np.stack([_array(variance) for _, variance in moments]),
                eps=layer.eps,
            )
            for layer, moments in called_once
        ]
        return norm_shift(layers, self._counts)


def _array(tensor: Tensor | None) -> NDArray[np.float64]:
    assert tensor is not None
    return tensor.detach().double().cpu().numpy()
