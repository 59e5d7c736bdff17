"""Export formats: a trained model as files that run without zoo. FORMATS is the table, with one file per format.

A format is a function `(spec: ExportSpec, folder: Path) -> Usage`. It writes its files into the empty `folder`, loads
them again with the target library alone, and raises ExportError if the logits differ. `zoo.formats.folder` adds the
files that every format has (labels.txt, preprocess.json, README.md, export.json) and renames the folder. To add a
format, write such a function and add its name to FORMATS; `zoo export --format` and its help read the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.registry import RegistryEntry

__all__ = ["FORMATS", "suggested_format"]

# Name, as for `zoo export --format` → function.
FORMATS: dict[str, RegistryEntry] = {
    "safetensors": RegistryEntry("zoo.formats.safetensors:write", "weights and config.json, for timm (or torchvision)"),
    "torch-export": RegistryEntry("zoo.formats.torch_export:write", "the traced model in one file, for torch alone"),
}


def suggested_format(model: Mapping[str, Any]) -> str:
    """The first format that can hold the model. model: its record in model.json."""
    return "torch-export" if "depths" in model else "safetensors"
