"""What an export is made of, and what it says of itself. Plain values, the same for every format."""

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

__all__ = ["ExportSpec", "Usage", "check_logits", "sample_batch"]

# Largest difference of two fp32 runs of one model, as a share of the spread of its logits; measured over 33
# architectures the worst export stayed below 5e-6, and users found a bound of 1e-5 too tight.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class ExportSpec:
    """model.module: trained, fp32, on the CPU, in eval mode. classes: names of the classes, labels or targets, in the
    order of the outputs.

    license: of the weights that it started from, None if not known. facts: lines for the README, label → text.
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
    """library: what loads the files, as Hugging Face's hub calls it. code: Python that predicts image.jpg with them,
    run inside the folder. load: one line of Python that loads them, the name `folder` standing for the folder."""

    library: str
    code: str
    load: str

    def command(self, folder: Path) -> str:
        """A shell command that shows that the files load."""
        return f"python -c {shlex.quote(f'folder = {json.dumps(str(folder))}; {self.load}')}"


def sample_batch(preprocess: Preprocess) -> Tensor:
    """(2, C, H, W) float32, normally distributed as normalised pixels roughly are; the same on every call.

    Two images: with one, an exporter may take the batch for a constant.
    """
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, *preprocess.input_size, generator=generator)


@torch.inference_mode()
def check_logits(spec: ExportSpec, loaded: nn.Module | Callable[[Tensor], Tensor], what: str) -> None:
    """Raises ExportError unless `loaded`, called with normalised images (N, C, H, W), gives the model's own logits."""
    images = sample_batch(spec.preprocess)
    own, loaded_logits = spec.model.module(images), loaded(images)
    if own.shape != loaded_logits.shape:
        shapes = f"{tuple(loaded_logits.shape)}, the model {tuple(own.shape)}"
        raise ExportError(f"{what} gives logits {shapes}", "this is a bug of zoo; the run is unharmed")
    spread = float(own.std()) or 1.0
    worst = float((own - loaded_logits).abs().max())
    # Numbers such as years are far larger than their spread: they may differ in their last bits, too.
    rounding = 8 * torch.finfo(own.dtype).eps * float(own.abs().max())
    if not worst <= TOLERANCE * spread + rounding:  # NaN is a difference, too
        raise ExportError(
            f"{what} gives other logits than the model: they differ by {worst:.3g}, their spread is {spread:.3g}",
            "the export was not written; the run is unharmed",
        )
