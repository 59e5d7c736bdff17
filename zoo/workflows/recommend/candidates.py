"""The candidates of `zoo recommend`: model names, `MODEL=WEIGHTS`, and runs or exports, which record their model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.catalog.index import find_weights
from zoo.catalog.packages import PACKAGES
from zoo.errors import WeightsError
from zoo.models.architectures import architectures_for
from zoo.models.contents import read_contents
from zoo.models.hub_config import read_config
from zoo.models.pretrained import HUB_FILES
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.workflows.inspect_file import is_weights_path

# Candidates if the user names none: several families and kinds of pretraining, small enough for a CPU (ours).
_DEFAULT_MODELS = (
    "resnet18", "resnet50", "mobilenetv3_large_100", "efficientnet_b0", "convnext_tiny", "convnextv2_nano",
    "vit_small_patch16_224", "deit3_small_patch16_224", "swin_tiny_patch4_window7_224", "zoo_tiny",
)  # fmt: skip


@dataclass(frozen=True)
class CandidateModel:
    """A pretrained model to compare.

    Args:
        name: The candidate as the user wrote it.
        model: Name of the model in the catalog.
        weights: Value of `--weights`; None for that of the other options.
    """

    name: str
    model: str
    weights: str | None = None

    def recipe(self, base: Recipe) -> Recipe:
        """`base` with this model and its weights."""
        weights = {} if self.weights is None else {"weights": self.weights}
        return base.model_copy(update={"model": base.model.model_copy(update={"name": self.model, **weights})})


def default_models() -> tuple[str, ...]:
    """Ten common models, and those whose weights an installed package contains."""
    installed = (package.architecture for package in PACKAGES.values() if package.find_file() is not None)
    return (*_DEFAULT_MODELS, *installed)


def parse_candidates(given: Sequence[str | Path]) -> list[CandidateModel]:
    """The candidates, without duplicates; the default ones if none are given.

    Args:
        given: Names from `zoo list`, `MODEL=WEIGHTS` (a file, a run, a tag: any value of `--weights`), run directories,
            and exported folders or their model.safetensors.

    Raises:
        ModelError: There is no such model.
        WeightsError: A file does not record its model.
        DataError: A run is damaged.
    """
    return [_parse(text) for text in dict.fromkeys(map(str, given or default_models()))]


def _parse(text: str) -> CandidateModel:
    model, equals, weights = text.partition("=")
    if equals and not Path(text).exists():
        find_weights(model)
        if not weights:
            raise WeightsError(f"{text} names no weights", f"write {model}=FILE, or {model} for the default weights")
        return CandidateModel(text, model, weights)
    if is_weights_path(text):
        return _from_path(text, Path(text).expanduser())
    find_weights(text)
    return CandidateModel(text, text)


def _from_path(text: str, path: Path) -> CandidateModel:
    """A run or an exported folder, or the weights file inside of one."""
    folder = path.parent if path.name in HUB_FILES and path.is_file() else path
    if (folder / "model.json").is_file():
        record = Run(folder).model_record()["model"]
        if isinstance(record, dict) and isinstance(record.get("name"), str):
            return CandidateModel(text, record["name"], str(folder))
    elif (folder / "config.json").is_file():
        config = read_config(folder / "config.json", text)
        name = f"torchvision/{config.architecture}" if config.source == "torchvision" else config.architecture
        return CandidateModel(text, name, str(folder))
    raise WeightsError(f"{text} does not record the model that it is for", f"write {_fitting_model(path)}={text}")


def _fitting_model(path: Path) -> str:
    """A model that the file fits, or MODEL. Raises WeightsError if the file cannot be read."""
    shapes = {name: tuple(tensor.shape) for name, tensor in read_contents(path).tensors.items()}
    found = architectures_for(shapes, 1)
    return found[0].names[0] if found and found[0].exact else "MODEL"
