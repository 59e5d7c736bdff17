"""Input and result of an export format, and the check of the logits."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.errors import ExportError
from zoo.models import Model
from zoo.preprocess import Preprocess
from zoo.tasks import TaskName

# Maximum difference of the logits, relative to their standard deviation. The largest measured over 33 architectures was
# 5e-6, and users of 1e-5 reported failures.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class ExportSpec:
    """A model to export.

    Args:
        model: trained model, fp32, on the CPU, in eval mode.
        classes: names of the classes, labels or targets, in the order of the outputs.
        preprocess: preprocessing of the model.
        title: title of the model card.
        license: license of the pretrained weights; None if unknown.
        facts: further lines of the model card, label → text.
        task: name of the task.
    """

    model: Model
    classes: tuple[str, ...]
    preprocess: Preprocess
    title: str
    license: str | None
    facts: dict[str, str] = field(default_factory=dict)
    task: TaskName = "single-label"


@dataclass(frozen=True)
class Usage:
    """How to use the exported files.

    Args:
        library: library that loads the files, as named on the Hugging Face hub.
        code: Python code that predicts image.jpg, run inside the folder.
        load: one line of Python that loads the files from the variable `folder`.
    """

    library: str
    code: str
    load: str

    def command(self, folder: Path) -> str:
        """A shell command that loads the files."""
        return f"python -c {shlex.quote(f'folder = {json.dumps(str(folder))}; {self.load}')}"


def sample_batch(preprocess: Preprocess) -> Tensor:
    """(2, C, H, W) float32 images of standard normal noise, the same on every call.

    Two images, because tracing exporters may treat a batch size of 1 as constant.
    """
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, *preprocess.input_size, generator=generator)


@torch.inference_mode()
def check_logits(spec: ExportSpec, loaded: nn.Module | Callable[[Tensor], Tensor], what: str) -> None:
    """Compare the logits of `loaded`, which takes normalized images (N, C, H, W), with those of the model.

    Raises:
        ExportError: they differ by more than TOLERANCE.
    """
    images = sample_batch(spec.preprocess)
    own, loaded_logits = spec.model.module(images), loaded(images)
    if own.shape != loaded_logits.shape:
        shapes = f"{tuple(loaded_logits.shape)}, the model {tuple(own.shape)}"
        raise ExportError(f"{what} gives logits {shapes}", "the run is not affected; please report it")
    spread = float(own.std()) or 1.0
    worst = float((own - loaded_logits).abs().max())
    # Regression outputs such as years are much larger than their spread: allow for rounding.
    rounding = 8 * torch.finfo(own.dtype).eps * float(own.abs().max())
    if not worst <= TOLERANCE * spread + rounding:  # NaN is a difference, too
        raise ExportError(
            f"{what} gives other logits: they differ by {worst:.3g}, their standard deviation is {spread:.3g}",
            "no export was written; the run is not affected",
        )
