"""What `--weights` may say, turned into a file: a tag, `default`, `none`, a hub repository, a folder, a run, a path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from zoo.catalog import ModelEntry
from zoo.errors import DataError, WeightsError, nearest
from zoo.hub import Fetched, fetch_hub_file, parse_hub_name, sha256_of
from zoo.models.hub_config import LARGEST_CONFIG, Described, read_config
from zoo.models.load_weights import ENOUGH, Fit
from zoo.models.pretrained import HUB_FILES, fetch_published, fetch_published_again
from zoo.models.report import NO_WEIGHTS, WeightsReport
from zoo.models.weight_files import SUFFIXES, read_weights
from zoo.run import Run

__all__ = ["Choice", "Loaded", "choose", "read"]


@dataclass(frozen=True)
class Choice:
    """Which weights. Neither `tag` nor `file` is loaded if `load` is not set.

    tag: of the published weights that describe the model. file: other weights, with a head of their own. fetched: where
    `file` came from, if from a hub. described: what lies beside `file` of architecture and images, if anything does;
    it replaces the description by `tag`.
    """

    tag: str | None
    load: bool
    file: Path | None = None
    fetched: Fetched | None = None
    described: Described | None = None


@dataclass(frozen=True)
class Loaded:
    """Tensors as they lie in the file, and the report as far as it can be written before they are fitted."""

    tensors: dict[str, Tensor]
    report: WeightsReport

    def fitted(self, fit: Fit | None) -> WeightsReport:
        assert fit is not None
        return replace(
            self.report, loaded=fit.loaded, adapted=fit.adapted, missing=fit.missing, unexpected=fit.unexpected
        )

    @contextmanager
    def naming_what_fits(self) -> Iterator[None]:
        """Add to the error for another model's weights where they are from, and which architectures they fit."""
        try:
            yield
        except WeightsError as e:
            raise WeightsError(f"{e.message} (from {self.report.source})", _would_fit(self.tensors) or e.hint) from e


def _would_fit(tensors: dict[str, Tensor]) -> str:
    """A hint, empty if no architecture is known to fit."""
    from zoo.models.architectures import architectures_for

    found = architectures_for({name: tuple(t.shape) for name, t in tensors.items()})
    fitting = [name for fit in found if fit.share >= ENOUGH for name in _few(fit.names)]
    if not fitting:
        return ""
    return f"they would fit {', '.join(fitting)}: name that model, or start with --weights none"


def _few(names: tuple[str, ...]) -> list[str]:
    """Of models that nothing in their tensors tells apart, two of timm and one of torchvision."""
    other = [name for name in names if "/" in name]
    return [*[name for name in names if "/" not in name][:2], *other[:1]]


def choose(entry: ModelEntry, named: str | None, weights: str) -> Choice:
    """`named` is the tag that the model's name carries, which `default` then means.

    Raises WeightsError if `weights` is nothing of the kind, if there is no default, if a repository cannot be had, or
    if what is there says that it is another architecture's.
    """
    default = named or entry.default_tag
    if weights == "none":
        return Choice(default, load=False)
    if weights == "default":
        if default is None:
            raise WeightsError(f"{entry.name} has no pretrained weights", "--weights none starts from random ones")
        return Choice(default, load=True)
    if weights.startswith(("hf-hub:", "hf_hub:")):
        return _on_hub(entry, default, weights)
    if weights.startswith("local-dir:"):
        return _in_folder(entry, default, Path(weights.removeprefix("local-dir:")).expanduser(), weights)
    if (known := entry.weights(weights)) is not None:
        return Choice(known.tag, load=True)
    path = Path(weights).expanduser()
    if path.is_dir():
        return _in_run(entry, default, path) if (path / "model.json").is_file() else _in_folder(entry, default, path)
    if path.exists() or weights.endswith(SUFFIXES) or "/" in weights:
        return Choice(default, load=True, file=path)
    close = nearest(weights.lower(), entry.tags, n=6, cutoff=0.0)
    raise WeightsError(
        f"{weights!r} is neither a tag of {entry.name}'s weights nor a file",
        (f"its tags: {', '.join(close)}; " if close else "it has no tags; ")
        + "or default, none, hf-hub:OWNER/NAME, a run, a folder or a file",
    )


def _on_hub(entry: ModelEntry, tag: str | None, weights: str) -> Choice:
    name = parse_hub_name(weights)
    config = fetch_hub_file(name.repo, ("config.json",), name.revision, largest=LARGEST_CONFIG)
    described = read_config(config.path, str(name))
    _require_same(entry, described.source, described.architecture, str(name))
    fetched = fetch_hub_file(name.repo, HUB_FILES, name.revision)
    return Choice(tag, load=True, file=fetched.path, fetched=fetched, described=described)


def _in_folder(entry: ModelEntry, tag: str | None, folder: Path, called: str = "") -> Choice:
    """A folder as timm and `zoo export` write them: config.json beside the weights; without it, the weights alone."""
    file = next((folder / name for name in HUB_FILES if (folder / name).is_file()), None)
    if file is None:
        there = "holds no " + " or ".join(HUB_FILES) if folder.is_dir() else "is no folder"
        raise WeightsError(f"{folder} {there}", "give a run's folder, an exported one, or a file")
    if not (folder / "config.json").exists() and not called:
        return Choice(tag, load=True, file=file)
    described = read_config(folder / "config.json", called or str(folder))
    _require_same(entry, described.source, described.architecture, called or str(folder))
    return Choice(tag, load=True, file=file, described=described)


def _in_run(entry: ModelEntry, tag: str | None, folder: Path) -> Choice:
    """The best weights of a run; its images may have been others than those of the run that begins."""
    run = Run(folder)
    try:
        record = run.model_record()["model"]
    except DataError as e:
        raise WeightsError(e.message, e.hint) from e
    if isinstance(record, dict) and isinstance(record.get("architecture"), str):
        _require_same(entry, str(record.get("source")), record["architecture"], str(folder))
    if not run.weights_file.is_file():
        raise WeightsError(f"{folder} holds no model.safetensors yet: no epoch has ended", "wait for its first epoch")
    return Choice(tag, load=True, file=run.weights_file)


def _require_same(entry: ModelEntry, source: str, architecture: str, where: str) -> None:
    """Raises WeightsError, which names both, if the weights say that they are another model's."""
    theirs = "torchvision" if source == "torchvision" else "timm"  # built-in models are architectures of timm
    ours = "torchvision" if entry.source == "torchvision" else "timm"
    if (theirs, architecture) != (ours, entry.architecture):
        other = f"torchvision/{architecture}" if theirs == "torchvision" else architecture
        raise WeightsError(
            f"{where} holds weights of {other}, not of {entry.name}",
            f"name the model {other}, or take other weights",
        )


def read(entry: ModelEntry, choice: Choice) -> Loaded | None:
    """The tensors of `choice`, fetched if need be; None for random weights. Raises WeightsError."""
    if not choice.load:
        return None
    if choice.file is None:
        return _published(entry, choice.tag)
    if choice.fetched is not None:
        return _loaded(choice.fetched)
    content = read_weights(choice.file)
    return Loaded(
        content.named, replace(NO_WEIGHTS, source=str(choice.file), sha256=sha256_of(choice.file), part=content.part)
    )


def _published(entry: ModelEntry, tag: str | None) -> Loaded:
    fetched = fetch_published(entry, tag)
    try:
        return _loaded(fetched)
    except WeightsError:
        again = fetch_published_again(entry, tag, fetched)
        if again is None:
            raise
        return _loaded(again)


def _loaded(fetched: Fetched) -> Loaded:
    content = read_weights(fetched.path)
    return Loaded(
        content.named,
        replace(
            NO_WEIGHTS,
            source=fetched.source,
            revision=fetched.revision,
            sha256=fetched.sha256,
            part=content.part,
        ),
    )
