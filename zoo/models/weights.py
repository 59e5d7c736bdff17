"""What `--weights` may say, turned into a file: a tag, `default`, `none`, a path, a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from zoo.catalog import ModelEntry
from zoo.errors import WeightsError, nearest
from zoo.hub.download import Fetched, fetch_hub_file, fetch_url, sha256_of
from zoo.models.files import SUFFIXES, read_tensors
from zoo.models.fit import Fit
from zoo.models.model import NO_WEIGHTS, WeightsReport

__all__ = ["Choice", "Loaded", "choose", "read"]


@dataclass(frozen=True)
class Choice:
    """tag: of the published weights that describe the model, loaded or not. file: the user's own. Neither: random."""

    tag: str | None
    load: bool
    file: Path | None = None


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


def choose(entry: ModelEntry, named: str | None, weights: str) -> Choice:
    """`named` is the tag that the model's name carries, which `default` then means.

    Raises WeightsError if `weights` is neither a tag of the model nor a file, or if there is no default.
    """
    default = named or entry.default_tag
    if weights == "none":
        return Choice(default, load=False)
    if weights == "default":
        if default is None:
            raise WeightsError(f"{entry.name} has no pretrained weights", "--weights none starts from random ones")
        return Choice(default, load=True)
    if (known := entry.weights(weights)) is not None:
        return Choice(known.tag, load=True)
    path = Path(weights).expanduser()
    if path.exists() or weights.endswith(SUFFIXES) or "/" in weights:
        return Choice(default, load=True, file=_file_in(path))
    close = nearest(weights.lower(), entry.tags, n=6, cutoff=0.0)
    raise WeightsError(
        f"{weights!r} is neither a tag of {entry.name}'s weights nor a file",
        (f"its tags: {', '.join(close)}; " if close else "it has no tags; ") + "or none, or a path",
    )


def _file_in(path: Path) -> Path:
    """The weights of a run or of an exported folder, if `path` is one."""
    if not path.is_dir():
        return path
    inside = path / "model.safetensors"
    if not inside.is_file():
        raise WeightsError(f"{path} holds no model.safetensors", "give a run's folder or a file")
    return inside


def read(entry: ModelEntry, choice: Choice) -> Loaded | None:
    """The tensors of `choice`, fetched if need be; None for random weights. Raises WeightsError."""
    if not choice.load:
        return None
    if choice.file is not None:
        tensors = read_tensors(choice.file)
        return Loaded(tensors, WeightsReport(str(choice.file), sha256=sha256_of(choice.file)))
    fetched = _builtin(entry) if entry.source == "builtin" else _published(entry, choice.tag)
    return Loaded(
        read_tensors(fetched.path),
        replace(NO_WEIGHTS, source=fetched.source, revision=fetched.revision, sha256=fetched.sha256),
    )


def _builtin(entry: ModelEntry) -> Fetched:
    from zoo.models.builtin import BUILTIN, weights_path

    path = weights_path(entry.name)
    digest = sha256_of(path) if path.is_file() else ""
    if digest != BUILTIN[entry.name].sha256:
        raise WeightsError(f"{path} is missing or damaged", "install zoo again")
    return Fetched(path, f"builtin:{entry.name}", None, digest)


def _published(entry: ModelEntry, tag: str | None) -> Fetched:
    published = entry.weights(tag)
    assert published is not None
    if published.hub_id:
        repo, _, revision = published.hub_id.partition("@")
        return fetch_hub_file(repo, _names_on_hub(entry, tag), revision or None)
    if not published.url:
        raise WeightsError(f"nobody says where the weights {tag} of {entry.name} are", "give a file: --weights FILE")
    from torch.hub import get_dir

    return fetch_url(published.url, Path(get_dir()) / "checkpoints")


def _names_on_hub(entry: ModelEntry, tag: str | None) -> tuple[str, ...]:
    """File names to look for, timm's preference: safetensors before pickles."""
    import timm

    cfg = timm.models.get_pretrained_cfg(f"{entry.architecture}.{tag}" if tag else entry.architecture)
    own: str | None = cfg.hf_hub_filename if cfg is not None else None
    if own is None:
        return ("model.safetensors", "pytorch_model.bin")
    return (f"{own.removesuffix('.bin')}.safetensors", own) if own.endswith(".bin") else (own,)
