"""The multi-depth head: a linear layer on statistics of every stage's output and on the last features.

Means and standard deviations over the pixels (or tokens) of each stage's output are concatenated with the features that
the normal classifier takes: Head2Toe (Evci et al. 2022, arXiv 2201.03529) without its selection of columns.

The backbone keeps its class and the names of its tensors. Its classifier becomes an `nn.Identity`, and forward hooks
collect the outputs of the stages and pass the vector to `multi_depth.fc`, a plain `nn.Linear`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from zoo.errors import ModelError, first_line
from zoo.models.load_weights import LoadResult, is_under
from zoo.models.model import Depths, Group, Tap

HEAD = "multi_depth.fc"
# Of a deeper model, such as a vision transformer with 24 blocks, 12 stages at equal distances are used.
_MAX_TAPS = 12
# Below it, the standard deviation of a channel is considered to be zero: its gradient would be infinite.
_MIN_VARIANCE = 1e-8
_OTHER_MODEL = "use model.head=linear, or choose another model"


class MultiDepth(nn.Module):
    """The head on the outputs `depths` of a backbone; `attach` connects them.

    fc: linear layer, (N, D) → (N, classes), with the columns `depths.columns`.
    """

    def __init__(self, depths: Depths, classes: int) -> None:
        super().__init__()
        self.depths = depths
        self.fc = nn.Linear(depths.columns[-1].stop, classes)
        # Statistics by number of the tap, of the forward pass in progress.
        self._collected: dict[int, Tensor] = {}

    def attach(self, backbone: nn.Module) -> None:
        """Make `backbone`, whose classifier is an identity, return the outputs of `fc`."""
        backbone.add_module("multi_depth", self)
        backbone.register_forward_pre_hook(self._begin)
        for number, tap in enumerate(self.depths.taps):
            backbone.get_submodule(tap.path).register_forward_hook(partial(self._collect, number))
        backbone.register_forward_hook(self._finish)

    def _begin(self, _: nn.Module, __: Any) -> None:
        self._collected.clear()  # an earlier pass may have been interrupted

    def _collect(self, number: int, _: nn.Module, __: Any, output: Any) -> None:
        tap = self.depths.taps[number]
        self._collected[number] = _statistics(pytree.tree_leaves(output)[tap.leaf], tap)

    def _finish(self, _: nn.Module, __: Any, features: Tensor) -> Tensor:
        # A stage does not run if a module around it returns cached features; the input of `fc` is then cached, too.
        parts = [
            self._collected.pop(number) if number in self._collected else features.new_zeros(len(features), tap.columns)
            for number, tap in enumerate(self.depths.taps)
        ]
        logits: Tensor = self.fc(torch.cat([*parts, features.float()], 1))
        return logits


def _statistics(output: Tensor, tap: Tap) -> Tensor:
    """(N, columns) float32: means, then standard deviations."""
    output = output[:, tap.prefix_tokens :] if tap.prefix_tokens else output
    dims = [dim for dim in range(1, output.ndim) if dim != tap.channel_dim]
    variance, mean = torch.var_mean(output.float(), dims, correction=0)
    std = variance.clamp_min(_MIN_VARIANCE).sqrt()
    return torch.cat([mean, std], 1) if tap.means else std


def replace_head(
    module: nn.Module,
    head: Sequence[str],
    groups: Sequence[Group],
    *,
    name: str,
    classes: int,
    input_size: tuple[int, int, int],
    depths: Depths | None = None,
) -> Depths:
    """Replace the classifier of `module` by a multi-depth head.

    Args:
        module: A classifier without auxiliary heads.
        head: Module paths of its classifier.
        groups: Its groups, stem first, head last.
        name: Name of the model, for messages.
        classes: Number of logits.
        input_size: (C, H, W) of the images.
        depths: Outputs that the head takes, if known; None: found by a forward pass.

    Returns:
        The outputs that the head takes.

    Raises:
        ModelError: The model has no classifier, or its stages have no output that can be pooled.
    """
    if not head:
        raise ModelError(f"{name} has no classifier that the multi-depth head could replace", _OTHER_MODEL)
    if any(isinstance(module.get_submodule(path), nn.ModuleList) for path in head):
        raise ModelError(f"{name} has several classifiers, and the multi-depth head replaces one", _OTHER_MODEL)
    dropout = [path for path in groups[-1].modules if isinstance(module.get_submodule(path), nn.Dropout)]
    for path in (*head, *dropout):
        # timm's ClassifierHead also pools.
        inner = f"{path}.fc" if hasattr(module.get_submodule(path), "global_pool") else path
        module.set_submodule(inner, nn.Identity())
    depths = depths or _find_depths(module, groups, input_size, name)
    device = next(module.parameters()).device
    try:
        MultiDepth(depths, classes).to(device).attach(module)
    except AttributeError as e:  # a stage of a damaged description
        raise ModelError(f"{name} cannot have this multi-depth head: {first_line(e)}", _OTHER_MODEL) from e
    return depths


def load_head(
    module: nn.Module, tensors: Mapping[str, Tensor], result: LoadResult, replaced: Sequence[str]
) -> LoadResult:
    """Load the multi-depth head from the `tensors` of a file if it fits; the result of loading all.

    result: of loading the backbone. replaced: module paths of the classifier that the head has replaced.
    """
    own = {f"{HEAD}.{name}": parameter for name, parameter in module.get_submodule(HEAD).named_parameters()}
    fits = all(name in tensors and tensors[name].shape == own[name].shape for name in own)
    if fits:
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(tensors[name])
    notes = [line for line in result.adapted if not is_under(line.partition(": ")[0], replaced)]
    notes += [] if fits else [f"{name}: new head, {tuple(parameter.shape)}" for name, parameter in own.items()]
    return replace(
        result,
        loaded=result.loaded - len(result.head_loaded) + len(own) * fits,
        adapted=tuple(notes),
        unexpected=tuple(name for name in result.unexpected if name not in own),
        head_loaded=tuple(own) if fits else (),
    )


def _find_depths(module: nn.Module, groups: Sequence[Group], input_size: tuple[int, int, int], name: str) -> Depths:
    """The last output of every stage that can be pooled, and the number of last features."""
    found: dict[str, tuple[str, list[tuple[int, ...]]]] = {}  # group → path, shapes of the leaves without the batch
    images = torch.zeros(2, *input_size, device=next(module.parameters()).device)

    def record(group: str, path: str, _: nn.Module, __: Any, output: Any) -> None:
        leaves = [t if isinstance(t, Tensor) else torch.empty(0) for t in pytree.tree_leaves(output)]
        shapes = [tuple(t.shape[1:]) if len(t) == len(images) and t.is_floating_point() else () for t in leaves]
        if any(map(_is_tap, shapes)):
            found[group] = path, shapes

    hooks = [
        module.get_submodule(path).register_forward_hook(partial(record, group.name, path))
        for group in groups[:-1]
        for path in group.modules
    ]
    training = module.training
    try:
        with torch.no_grad():
            features = module.eval()(images)
    except (AssertionError, RuntimeError, ValueError, IndexError, TypeError) as e:
        raise ModelError(f"{name} does not support a multi-depth head: {first_line(e)}", _OTHER_MODEL) from e
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    if not found or not isinstance(features, Tensor) or features.ndim != 2:
        raise ModelError(f"{name} does not support a multi-depth head: its features have no depth", _OTHER_MODEL)
    taps = [found[group.name] for group in groups[:-1] if group.name in found]
    count = min(len(taps), _MAX_TAPS)
    chosen = [taps[-1 - (i * len(taps)) // count] for i in reversed(range(count))]
    *others, last = _describe_taps(module, chosen)
    # Average pooling of the last map gives its means as the last features.
    pooled = last.channels == features.shape[1] and not last.prefix_tokens
    return Depths((*others, replace(last, means=not pooled)), features.shape[1])


def _is_tap(shape: tuple[int, ...]) -> bool:
    """Whether an output without the batch dimension is a map or tokens; a map of one pixel is already pooled."""
    return len(shape) == 2 or (len(shape) == 3 and (1, 1) not in (shape[:2], shape[1:]))


def _describe_taps(module: nn.Module, outputs: Sequence[tuple[str, list[tuple[int, ...]]]]) -> tuple[Tap, ...]:
    prefix_tokens = int(getattr(module, "num_prefix_tokens", hasattr(module, "class_token")))
    maps = [shape for _, shapes in outputs for shape in shapes if len(shape) == 3]
    # Images are square. (56, 56, 56) is ambiguous: then the other stages decide.
    channels_last = sum(h == w != c for h, w, c in maps) > sum(h == w != c for c, h, w in maps)
    taps = []
    for path, shapes in outputs:
        for leaf, shape in enumerate(shapes):
            if not _is_tap(shape):
                continue
            channel_dim, prefix = 2, prefix_tokens if shape[0] > prefix_tokens else 0
            if len(shape) == 3:
                first, last = shape[1] == shape[2], shape[0] == shape[1]
                channel_dim, prefix = 3 if (last if first != last else channels_last) else 1, 0
            taps.append(Tap(path, leaf, channel_dim, shape[channel_dim - 1], prefix))
    return tuple(taps)
