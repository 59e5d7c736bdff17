"""The output of a network's frozen layers, computed once, and the rest of the network trained on it.

The network is not rewritten or traced: its own forward pass runs, in which the frozen modules return zeros of the right
shape, and the cached features replace the output of the last one, or the input of the first trained layer (after
pooling that is much smaller). `find_feature_extractor` compares outputs and gradients with those of the whole network,
and returns None where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from zoo.training.module_state import eval_mode

# What a forward pass may raise if its control flow depends on values that are zeros now.
_FORWARD_ERRORS = (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError)


class _FeaturesReached(Exception):
    """Ends the forward pass once the features are computed; not an error."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value


@dataclass(frozen=True)
class _RowShape:
    """Stands for a batched tensor; shape: without the batch dimension."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class FeatureExtractor:
    """The frozen modules at the beginning of a network.

    outputs: their return values by path, with `_RowShape` in place of tensors. end: path of the module whose output (or
    input, if `before`) the features are. shape: of the features of an image. image: (C, H, W). last: whether the output
    of the module `end` is the network's output, so that only this module has to run.
    """

    module: nn.Module
    outputs: dict[str, Any]
    end: str
    before: bool
    shape: tuple[int, ...]
    image: tuple[int, int, int]
    last: bool = False

    @property
    def numbers(self) -> int:
        """Values per image."""
        return int(torch.Size(self.shape).numel())

    def to_dict(self) -> dict[str, Any] | None:
        """JSON-able, or None if a module returns more than one batched tensor."""
        if not all(isinstance(given, _RowShape) for given in self.outputs.values()):
            return None
        outputs = [[path, list(given.shape)] for path, given in self.outputs.items()]
        return {
            "outputs": outputs, "end": self.end, "before": self.before, "shape": list(self.shape), "image": self.image,
            "last": self.last,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, module: nn.Module, values: dict[str, Any]) -> FeatureExtractor:
        """From `to_dict` of a network of the same structure. Raises KeyError, TypeError or ValueError."""
        outputs = {path: _RowShape(tuple(shape)) for path, shape in values["outputs"]}
        channels, height, width = values["image"]
        shape, image = tuple(values["shape"]), (channels, height, width)
        return cls(module, outputs, values["end"], values["before"], shape, image, bool(values["last"]))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features (n, *shape) of normalized images (n, C, H, W). The caller chooses autocast and the module's mode."""
        end = self.module.get_submodule(self.end)

        def stop_at_input(_: nn.Module, args: tuple[Any, ...]) -> None:
            raise _FeaturesReached(args[0])

        def stop_at_output(_: nn.Module, __: Any, output: Any) -> None:
            raise _FeaturesReached(_batched_tensor(output, len(images)))

        hook = (
            end.register_forward_pre_hook(stop_at_input) if self.before else end.register_forward_hook(stop_at_output)
        )
        try:
            self.module(images)
        except _FeaturesReached as reached:
            return reached.value
        finally:
            hook.remove()
        raise RuntimeError(f"the forward pass no longer calls {self.end}")

    def forward_head(
        self, features: Tensor, module: nn.Module | None = None, *, wrapped_model: Callable[[Tensor], Any] | None = None
    ) -> Any:
        """The network's output for features (n, *shape), with gradients for the trained layers.

        module: a copy of the network, such as a moving average. wrapped_model: the DDP wrapper to call instead.
        """
        module = module or self.module
        if self.last and wrapped_model is None:
            return module.get_submodule(self.end)(features)
        with self._replaced_forwards(module, features):
            return (wrapped_model or module)(features.new_zeros(()).expand(len(features), *self.image))

    @contextmanager
    def _replaced_forwards(self, module: nn.Module, features: Tensor) -> Iterator[None]:
        zero = features.new_zeros(())
        patched = []
        try:
            for path, given in self.outputs.items():
                submodule = module.get_submodule(path)
                value = _fill_outputs(given, features if path == self.end else None, zero, len(features))
                # An instance attribute is found before the method of the class.
                object.__setattr__(submodule, "forward", lambda *_, value=value, **__: value)
                patched.append(submodule)
            if self.before:
                submodule = module.get_submodule(self.end)
                own = submodule.forward
                object.__setattr__(submodule, "forward", lambda *_, **__: own(features))
                patched.append(submodule)
            yield
        finally:
            for submodule in patched:
                object.__delattr__(submodule, "forward")


def find_feature_extractor(module: nn.Module, frozen_modules: Sequence[str], images: Tensor) -> FeatureExtractor | None:
    """The frozen layers before the first trained one, or None.

    None if no frozen layer comes first, if the trained part needs more than one batched tensor (skip connections), or
    if there is dropout in the frozen part. Of two possible boundaries, the one with smaller features is chosen. Modes,
    buffers and the random state are restored; gradients are not touched.

    module: in training mode, its frozen parts in evaluation mode. frozen_modules: paths of the largest modules without
    trainable parameters. images: normalized (n, C, H, W), three or more, for the comparison.
    """
    outputs, entry, single_layer = _trace(module, frozen_modules, images)
    if not outputs:
        return None
    image = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3]))
    last = next(reversed(outputs))
    rows = [leaf for leaf in pytree.tree_leaves(outputs[last]) if isinstance(leaf, _RowShape)]
    candidates = []
    if len(rows) == 1:
        candidates.append(FeatureExtractor(module, outputs, last, before=False, shape=rows[0].shape, image=image))
    if entry is not None:
        # At equal size, the input of a layer that takes a vector is better: that layer may be all that has to run.
        first = len(entry[1]) == 1
        own = FeatureExtractor(module, outputs, entry[0], before=True, shape=entry[1], image=image, last=single_layer)
        candidates.insert(0 if first else 1, own)
    return next((p for p in sorted(candidates, key=lambda p: p.numbers) if _is_equivalent(p, images)), None)


def _trace(
    module: nn.Module, frozen: Sequence[str], images: Tensor
) -> tuple[dict[str, Any], tuple[str, tuple[int, ...]] | None, bool]:
    """The outputs of the frozen modules in call order; path and input shape of the first trained layer (None if it
    takes anything but one batched tensor); and whether that layer's output is the network's."""
    frozen_outputs: list[tuple[str, Any]] = []
    entries: list[tuple[str, Any, Any]] = []
    given: dict[str, Any] = {}
    hooks = [
        module.get_submodule(path).register_forward_hook(
            lambda _, __, output, path=path: frozen_outputs.append((path, output))
        )
        for path in frozen
    ]
    for path, submodule in module.named_modules():
        if next(submodule.children(), None) is None and any(
            p.requires_grad for p in submodule.parameters(recurse=False)
        ):
            hooks.append(
                submodule.register_forward_pre_hook(
                    lambda _, args, named, path=path: entries.append((path, args, named)), with_kwargs=True
                )
            )
            hooks.append(submodule.register_forward_hook(lambda _, __, output, path=path: given.update({path: output})))
    try:
        with eval_mode(module), torch.enable_grad():
            model_output = module(images)
    finally:
        for hook in hooks:
            hook.remove()
    outputs: dict[str, Any] = {}
    for path, output in frozen_outputs:
        tensors = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
        if any(t.requires_grad for t in tensors):
            break  # frozen, but after a trained layer
        if not any(_is_batched(t, len(images)) for t in tensors):
            continue  # a table of positions
        if path in outputs:
            return {}, None, False  # called twice, with different outputs
        outputs[path] = pytree.tree_map_only(
            Tensor, lambda t: _RowShape(tuple(t.shape[1:])) if _is_batched(t, len(images)) else t.detach(), output
        )
    if not entries:
        return outputs, None, False
    return outputs, _entry(*entries[0], len(images)), len(entries) == 1 and given[entries[0][0]] is model_output


def _entry(path: str, args: tuple[Any, ...], named: Any, images: int) -> tuple[str, tuple[int, ...]] | None:
    if len(args) != 1 or named or not isinstance(args[0], Tensor):
        return None
    usable = _is_batched(args[0], images) and not args[0].requires_grad
    return (path, tuple(args[0].shape[1:])) if usable else None


def _fill_outputs(given: Any, features: Tensor | None, zero: Tensor, images: int) -> Any:
    """`given` with `features`, or with zeros (which take no memory) if None, in place of its batched tensors."""

    def fill(rows: _RowShape) -> Tensor:
        return zero.expand(images, *rows.shape) if features is None else features

    return pytree.tree_map_only(_RowShape, fill, given)


def _is_batched(tensor: Tensor, images: int) -> bool:
    return tensor.ndim > 1 and len(tensor) == images


def _batched_tensor(output: Any, images: int) -> Tensor:
    found: Tensor = next(
        leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor) and _is_batched(leaf, images)
    )
    return found


def _is_equivalent(feature_extractor: FeatureExtractor, images: Tensor) -> bool:
    """Whether outputs and gradients equal the whole network's (up to float32 rounding), and features are not random."""
    module = feature_extractor.module
    trainable = [p for p in module.parameters() if p.requires_grad]
    buffers = [(b, b.clone()) for b in module.buffers()]
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            in_training = feature_extractor.features(images)
        with eval_mode(module), torch.enable_grad():
            features = feature_extractor.features(images)
            if not torch.equal(features, in_training):
                return False
            full_output, split_output = module(images), feature_extractor.forward_head(features)
            if not isinstance(full_output, Tensor) or not isinstance(split_output, Tensor):
                return False
            if not _close(split_output, full_output):
                return False
            first, second = _gradients(full_output, trainable), _gradients(split_output, trainable)
    except _FORWARD_ERRORS:
        return False  # the forward pass depends on values
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
    return all(_close(a, b) for a, b in zip(first, second, strict=True))


def _gradients(output: Tensor, trainable: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(output.float().square().sum(), trainable, allow_unused=True)


def _close(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    if one.shape != other.shape:
        return False
    scale = float(other.detach().abs().max()) if other.numel() else 0.0
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5 * scale + 1e-12)
