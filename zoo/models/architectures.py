"""Find the architectures of a state dict, by the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from zoo.catalog import ModelEntry, find
from zoo.catalog.read_timm import build_builtin, build_timm
from zoo.catalog.read_torchvision import build_torchvision
from zoo.catalog.signatures import as_paths, backbone_shapes, most_similar_structures

# Number of structures with the most similar signatures that are built and compared.
_MAX_CANDIDATES = 12


@dataclass(frozen=True)
class ArchitectureMatch:
    """How well a state dict fits a structure; classifier and input channels may differ.

    Args:
        names: Models of the catalog with this structure, whose tensors have the same names and shapes.
        share: Fraction of all tensors, of file and model, that have the same name and shape in both.
        equal: Number of these tensors.
        differing: "name: shape in the file, shape in the model".
        missing: Tensors of the model that the file does not have.
        unexpected: Tensors of the file that the model does not have.
        classes: Number of classes of the classifier in the file; None if it has none.
        in_chans: Image channels of the first convolution in the file; None if it has none.
    """

    names: tuple[str, ...]
    share: float
    equal: int
    differing: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    classes: int | None
    in_chans: int | None

    @property
    def exact(self) -> bool:
        """Whether at most the classifier and the channels differ."""
        return not (self.differing or self.missing or self.unexpected)

    def to_dict(self) -> dict[str, Any]:
        """All fields, JSON-serialisable."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}


def architectures_for(shapes: Mapping[str, tuple[int, ...]], n: int = 3) -> list[ArchitectureMatch]:
    """The structures of the catalog that fit best, best first.

        architectures_for({k: tuple(t.shape) for k, t in state.items()})[0].names
        # ('resnet34', 'torchvision/resnet34')

    Candidates are found by the signatures that zoo ships; the best are built on the meta device and compared.

    Args:
        shapes: Name → shape of the tensors.
        n: Maximum number of structures; only those that share a tensor are returned.
    """
    candidates = most_similar_structures(shapes, max(_MAX_CANDIDATES, n))
    if candidates and candidates[0].exact:
        candidates = candidates[: n + 2]  # the signature is identical: the others are only similar
    found: list[ArchitectureMatch] = []
    for candidate in candidates:
        module = _build_on_meta(find(candidate.names[0]))
        if module is not None:
            found.append(_compare(shapes, candidate.names, module))
    found.sort(key=lambda match: -match.share)
    return [match for match in found if match.equal][:n]


def _build_on_meta(entry: ModelEntry) -> nn.Module | None:
    """The model on the meta device; None if the installed library does not have it."""
    try:
        if entry.source == "builtin":
            from zoo.models.builtin import BUILTIN

            return build_builtin(BUILTIN[entry.name])
        if entry.source == "torchvision":
            return build_torchvision(entry.architecture, entry.preprocess.height)
        return build_timm(entry.architecture)
    except (RuntimeError, ValueError, TypeError, KeyError):
        return None


def _compare(shapes: Mapping[str, tuple[int, ...]], names: tuple[str, ...], module: nn.Module) -> ArchitectureMatch:
    entry = find(names[0])
    heads, stems = as_paths(entry.classifier), as_paths(entry.first_conv)
    model_shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    in_file, in_model = backbone_shapes(shapes, heads, stems), backbone_shapes(model_shapes, heads, stems)
    equal = [name for name, shape in in_file.items() if in_model.get(name) == shape]
    rows = (shapes[f"{p}.weight"][0] for p in heads if len(shapes.get(f"{p}.weight", ())) > 1)
    return ArchitectureMatch(
        names=names,
        share=len(equal) / max(1, len(in_file.keys() | in_model.keys())),
        equal=len(equal),
        differing=tuple(
            f"{name}: {tuple(shapes[name])} in the file, {model_shapes[name]} in the model"
            for name, shape in in_model.items()
            if name in in_file and in_file[name] != shape
        ),
        missing=tuple(name for name in in_model if name not in in_file),
        unexpected=tuple(name for name in in_file if name not in in_model),
        classes=next(rows, None),
        in_chans=_channels(shapes, model_shapes, stems, entry.preprocess.channels),
    )


def _channels(
    in_file: Mapping[str, tuple[int, ...]],
    in_model: Mapping[str, tuple[int, ...]],
    stems: tuple[str, ...],
    model_channels: int,
) -> int | None:
    """Image channels of the file, from the ratio of filter channels to image channels in the model."""
    for path in stems:
        one, other = in_file.get(f"{path}.weight", ()), in_model.get(f"{path}.weight", ())
        if len(one) > 1 and len(one) == len(other):
            return one[1] * model_channels // other[1]
    return None
