"""Resolve and read `--weights`: `default`, `none`, a tag, a hub repository, a folder, a run or a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from zoo.catalog import ModelEntry
from zoo.errors import DataError, WeightsError, nearest
from zoo.hub import FetchResult, fetch_hub_file, parse_hub_name, sha256_of
from zoo.models.hub_config import MAX_CONFIG_BYTES, HubConfig, read_config
from zoo.models.load_weights import MIN_MATCHING_SHARE, LoadResult
from zoo.models.model import WeightsReport
from zoo.models.pretrained import HUB_FILES, default_tag, fetch_pretrained, refetch_pretrained
from zoo.models.weight_files import SUFFIXES, read_weights
from zoo.run import Run


@dataclass(frozen=True)
class WeightsChoice:
    """The weights to load. tag: tag of the published weights that describe the model. load: False for random weights.
    file: weights file, if not the published one. fetched: download of `file`, if it is from a hub. config: config.json
    of `file`, if it has one; it replaces the description by `tag`.
    """

    tag: str | None
    load: bool
    file: Path | None = None
    fetched: FetchResult | None = None
    config: HubConfig | None = None


@dataclass(frozen=True)
class LoadedWeights:
    """The tensors of a file, and the report before they are loaded into a model."""

    tensors: dict[str, Tensor]
    report: WeightsReport

    def report_for(self, load_result: LoadResult | None) -> WeightsReport:
        assert load_result is not None
        return replace(
            self.report,
            loaded=load_result.loaded,
            adapted=load_result.adapted,
            missing=load_result.missing,
            unexpected=load_result.unexpected,
        )

    @contextmanager
    def suggesting_architectures(self) -> Iterator[None]:
        """Add the origin of the weights, and the architectures they fit, to the error for weights of another model."""
        try:
            yield
        except WeightsError as e:
            raise WeightsError(
                f"{e.message} (from {self.report.source})", _matching_architectures_hint(self.tensors) or e.hint
            ) from e


def _matching_architectures_hint(tensors: dict[str, Tensor]) -> str:
    """A hint; empty if no known architecture fits."""
    from zoo.models.architectures import architectures_for

    found = architectures_for({name: tuple(t.shape) for name, t in tensors.items()})
    matching = [name for match in found if match.share >= MIN_MATCHING_SHARE for name in _sample_names(match.names)]
    if not matching:
        return ""
    return f"they fit {', '.join(matching)}: use that model, or random weights with --weights none"


def _sample_names(names: tuple[str, ...]) -> list[str]:
    """Of models with identical tensors, two of timm and one of torchvision."""
    other = [name for name in names if "/" in name]
    return [*[name for name in names if "/" not in name][:2], *other[:1]]


def choose(entry: ModelEntry, named: str | None, weights: str) -> WeightsChoice:
    """Resolve `weights`, the value of `--weights`. named: tag in the model's name, which becomes the default.

    Raises WeightsError if `weights` is unknown, unavailable or for another architecture, or if there is no default.
    """
    default = named or default_tag(entry)
    if weights == "none":
        return WeightsChoice(default, load=False)
    if weights == "default":
        if default is None:
            raise WeightsError(f"{entry.name} has no pretrained weights", "use --weights none for random weights")
        return WeightsChoice(default, load=True)
    if weights.startswith(("hf-hub:", "hf_hub:")):
        return _from_hub(entry, default, weights)
    if weights.startswith("local-dir:"):
        return _from_folder(entry, default, Path(weights.removeprefix("local-dir:")).expanduser(), weights)
    if (known := entry.weights(weights)) is not None:
        return WeightsChoice(known.tag, load=True)
    path = Path(weights).expanduser()
    if path.is_dir():
        return (
            _from_run(entry, default, path) if (path / "model.json").is_file() else _from_folder(entry, default, path)
        )
    if path.exists() or weights.endswith(SUFFIXES) or "/" in weights:
        return WeightsChoice(default, load=True, file=path)
    close = nearest(weights.lower(), entry.tags, n=6, cutoff=0.0)
    raise WeightsError(
        f"{weights!r} is neither a tag of {entry.name}'s weights nor a file",
        (f"its tags: {', '.join(close)}; " if close else "it has no tags; ")
        + "or default, none, hf-hub:OWNER/NAME, a run, a folder or a file",
    )


def _from_hub(entry: ModelEntry, tag: str | None, weights: str) -> WeightsChoice:
    name = parse_hub_name(weights)
    config_file = fetch_hub_file(name.repo, ("config.json",), name.revision, max_bytes=MAX_CONFIG_BYTES)
    config = read_config(config_file.path, str(name))
    _require_same(entry, config.source, config.architecture, str(name))
    fetched = fetch_hub_file(name.repo, HUB_FILES, name.revision)
    return WeightsChoice(tag, load=True, file=fetched.path, fetched=fetched, config=config)


def _from_folder(entry: ModelEntry, tag: str | None, folder: Path, display_name: str = "") -> WeightsChoice:
    """A folder of timm or `zoo export`: weights, and config.json if there is one."""
    file = next((folder / name for name in HUB_FILES if (folder / name).is_file()), None)
    if file is None:
        there = "has no " + " or ".join(HUB_FILES) if folder.is_dir() else "is not a folder"
        raise WeightsError(f"{folder} {there}", "give the folder of a run or export, or a file")
    if not (folder / "config.json").exists() and not display_name:
        return WeightsChoice(tag, load=True, file=file)
    config = read_config(folder / "config.json", display_name or str(folder))
    _require_same(entry, config.source, config.architecture, display_name or str(folder))
    return WeightsChoice(tag, load=True, file=file, config=config)


def _from_run(entry: ModelEntry, tag: str | None, folder: Path) -> WeightsChoice:
    """The best weights of a run; the preprocessing of that run is not used."""
    run = Run(folder)
    try:
        record = run.model_record()["model"]
    except DataError as e:
        raise WeightsError(e.message, e.hint) from e
    if isinstance(record, dict) and isinstance(record.get("architecture"), str):
        _require_same(entry, str(record.get("source")), record["architecture"], str(folder))
    if not run.weights_file.is_file():
        raise WeightsError(f"{folder} has no model.safetensors yet", "wait until its first epoch ends")
    return WeightsChoice(tag, load=True, file=run.weights_file)


def _require_same(entry: ModelEntry, source: str, architecture: str, where: str) -> None:
    """Raises WeightsError if the weights are for another architecture."""
    weights_library = "torchvision" if source == "torchvision" else "timm"  # built-in models are architectures of timm
    model_library = "torchvision" if entry.source == "torchvision" else "timm"
    if (weights_library, architecture) != (model_library, entry.architecture):
        other = f"torchvision/{architecture}" if weights_library == "torchvision" else architecture
        raise WeightsError(
            f"{where} has weights of {other}, not of {entry.name}", f"use the model {other}, or other weights"
        )


def read(entry: ModelEntry, choice: WeightsChoice) -> LoadedWeights | None:
    """The tensors of `choice`, downloaded if necessary; None for random weights. Raises WeightsError."""
    if not choice.load:
        return None
    if choice.file is None:
        return _read_pretrained(entry, choice.tag)
    return _read_file(choice.file, choice.fetched)


def _read_pretrained(entry: ModelEntry, tag: str | None) -> LoadedWeights:
    fetched = fetch_pretrained(entry, tag)
    try:
        return _read_file(fetched.path, fetched, tag)
    except WeightsError:
        again = refetch_pretrained(entry, tag, fetched)
        if again is None:
            raise
        return _read_file(again.path, again, tag)


def _read_file(path: Path, fetched: FetchResult | None, tag: str | None = None) -> LoadedWeights:
    """tag: of published weights; None for those of the user."""
    content = read_weights(path)
    origin = fetched or FetchResult(path, str(path), None, sha256_of(path))
    report = WeightsReport(origin.source, origin.revision, origin.sha256, part=content.part, tag=tag)
    return LoadedWeights(content.named, report)
