"""The format `torch-export`: the traced forward pass with its weights in one file, for torch without a model library.

It holds every model that torch can trace, also heads that timm and torchvision do not have.
"""

from __future__ import annotations

from pathlib import Path

import torch

from zoo.errors import ExportError, first_line, translate_write_errors
from zoo.formats.preprocess_code import prediction_code
from zoo.formats.spec import ExportSpec, Usage, check_logits, sample_batch

_FILE = "model.pt2"


def write(spec: ExportSpec, folder: Path) -> Usage:
    """Write model.pt2 for batches of any size, and check it with torch alone.

    Raises ExportError if torch cannot trace the model, if the file cannot be written, or if it gives other logits.
    """
    images = sample_batch(spec.preprocess)
    # torch 2.7 refuses a named dimension for vision transformers of timm.
    batch = {0: torch.export.Dim.DYNAMIC}
    try:
        program = torch.export.export(spec.model.module, (images,), dynamic_shapes=(batch,), strict=False)
    except (AssertionError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise ExportError(
            f"torch cannot trace {spec.model.name}: {first_line(e)}", "export it with --format safetensors"
        ) from e
    with translate_write_errors(folder / _FILE, ExportError):
        torch.export.save(program, folder / _FILE)
    check_logits(spec, torch.export.load(folder / _FILE).module(), "the exported model, loaded with torch,")
    code = prediction_code(
        spec.preprocess, spec.task, imports=(), build=f'model = torch.export.load("{_FILE}").module()'
    )
    return Usage("torch", code, f'import torch; torch.export.load(folder + "/{_FILE}").module()')
