"""A trained model → files that run without zoo. One table of formats, one file each.

A format is a function `(Subject, folder: Path) -> Usage`: it writes its own files into `folder` (empty, and renamed to
its final name later), loads them again as a stranger would, and raises ExportError if the logits differ.
`zoo.formats.folder` adds what every format has (labels.txt, preprocess.json, README.md, export.json) and puts the
folder in its place.
"""

from __future__ import annotations

from zoo.registry import RegistryEntry

__all__ = ["FORMATS"]

FORMATS: dict[str, RegistryEntry] = {
    "safetensors": RegistryEntry("zoo.formats.safetensors:write", "weights and config.json, for timm (or torchvision)"),
}
