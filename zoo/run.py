"""The run directory: the whole state of a fine-tuning run. It contains no executable code.

    recipe.yaml         fully resolved; `zoo finetune --recipe RUN` repeats the run
    run.json            status, versions, device, seed, weights with their hash, best epoch
    metrics.jsonl       one line per epoch
    split.txt           validation images, if they were split off; `--split RUN` reuses the split
    model.safetensors   best weights so far
    model.json          architecture, classes and preprocessing, to rebuild the model
    checkpoint/last.safetensors   everything needed to resume, in one file, so that one rename replaces it
    checkpoint/start.safetensors  weights before the first epoch, if a method needs them (L2-SP, WiSE-FT)
    curves.png, confusion.png     plots

Every file is written atomically: a crash leaves the old or the new file.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.atomic_io import atomic_write, read_json, save_tensors, write_json
from zoo.console import finite
from zoo.errors import DataError, TrainingError, UsageError, translate_write_errors

if TYPE_CHECKING:
    import torch

FORMAT = 1


class Run:
    """A run directory. `Run.create` makes a new one, `Run.open` opens an existing one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe_file = path / "recipe.yaml"
        self.info_file = path / "run.json"
        self.metrics_file = path / "metrics.jsonl"
        self.weights_file = path / "model.safetensors"
        self.model_file = path / "model.json"
        self.split_file = path / "split.txt"
        self.checkpoint_file = path / "checkpoint" / "last.safetensors"
        self.start_file = path / "checkpoint" / "start.safetensors"

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def __fspath__(self) -> str:
        return str(self.path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """Raises DataError if `path` is not a run directory."""
        run = cls(Path(path))
        if not run.path.exists():
            raise DataError(
                f"no such run: {run.path}", "give a directory made by `zoo finetune`; by default it is in runs/"
            )
        if not run.info_file.is_file():
            raise DataError(f"{run.path} is not a run: it has no run.json", "give a directory made by `zoo finetune`")
        return run

    @classmethod
    def create(cls, path: Path | None, *, default_name: str) -> Run:
        """Create an empty run directory: `path`, or runs/DEFAULT_NAME with the first free number appended.

        Raises:
            UsageError: `path` is in use.
            TrainingError: the directory cannot be written.
        """
        if path is None:
            return cls(create_unique_folder(Path("runs"), default_name))
        cls.check_free(path)
        with translate_write_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @classmethod
    def check_free(cls, path: Path) -> None:
        """Raises UsageError if `path` cannot be a new run: it is a file, a run or a folder that is not empty."""
        if path.exists() and not path.is_dir():
            raise UsageError(f"output directory {path} is a file", "choose another --output-dir")
        if (path / "run.json").is_file():
            found = cls(path)
            if found.is_alive():
                raise UsageError(
                    f"output directory {path} is in use by a running zoo (process {found.info().get('pid')})",
                    "wait for it, or choose another --output-dir",
                )
            raise UsageError(
                f"output directory {path} already contains a run ({found.status})",
                f"continue it with `zoo finetune --resume {path}`, or choose another --output-dir",
            )
        if path.is_dir() and any(path.iterdir()):
            raise UsageError(f"output directory {path} is in use: it is not empty", "choose another --output-dir")

    # --- run.json ---

    def info(self) -> dict[str, Any]:
        info = read_json(self.info_file)
        if not isinstance(info, dict):
            raise DataError(f"{self.info_file} is damaged", "repeat the run with its recipe.yaml")
        return info

    def update(self, **changes: Any) -> None:
        """Set the keys `changes` in run.json."""
        info = self.info() if self.info_file.exists() else {"format": FORMAT}
        write_json(self.info_file, finite(info | changes))

    @property
    def status(self) -> str:
        """ "running" | "finished" | "interrupted" | "failed" """
        return str(self.info().get("status", "unknown"))

    def is_alive(self) -> bool:
        """True if the process of the run is still running on this machine."""
        info = self.info()
        pid = info.get("pid")
        if info.get("status") != "running" or not isinstance(pid, int) or info.get("host") != os.uname().nodename:
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it runs under another user
            pass
        return True

    # --- metrics.jsonl ---

    def metrics(self) -> list[dict[str, Any]]:
        """One dictionary per epoch, in order; empty before the end of the first epoch."""
        if not self.metrics_file.exists():
            return []
        return [json.loads(line) for line in self.metrics_file.read_text(encoding="utf-8").splitlines() if line.strip()]

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(finite(row)) + "\n" for row in rows)
        atomic_write(self.metrics_file, text)

    # --- model.json, model.safetensors ---

    def model_record(self) -> dict[str, Any]:
        """model.json: {"format", "model", "task", "classes", "preprocess"}. Raises DataError if missing or damaged."""
        record = read_json(self.model_file)
        if not isinstance(record, dict) or not {"model", "classes", "preprocess"} <= set(record):
            raise DataError(f"{self.model_file} is damaged", "repeat the run with its recipe.yaml")
        return record

    def write_recipe(self, text: str) -> None:
        atomic_write(self.recipe_file, text)

    def write_split(self, text: str) -> None:
        atomic_write(self.split_file, text)

    def write_model(self, record: dict[str, Any]) -> None:
        write_json(self.model_file, record)

    def save_weights(self, tensors: dict[str, torch.Tensor]) -> None:
        save_tensors(self.weights_file, tensors, {"format": "pt"})

    def save_checkpoint(self, tensors: dict[str, torch.Tensor], values: dict[str, str]) -> None:
        self._save_in_subfolder(self.checkpoint_file, tensors, values)

    def save_start(self, tensors: dict[str, torch.Tensor]) -> None:
        self._save_in_subfolder(self.start_file, tensors, {"format": "pt"})

    def _save_in_subfolder(self, path: Path, tensors: dict[str, torch.Tensor], values: dict[str, str]) -> None:
        with translate_write_errors(path):
            path.parent.mkdir(exist_ok=True)
        save_tensors(path, tensors, values)

    def weights(self) -> dict[str, torch.Tensor]:
        """The best weights, on the CPU. Raises DataError if the file is missing or damaged."""
        unfinished = f"no epoch has ended yet: continue with `zoo finetune --resume {self.path}`"
        return self._read(self.weights_file, unfinished)[0]

    def checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """Tensors and metadata of the last checkpoint."""
        return self._read(self.checkpoint_file, "start the run again from its recipe.yaml")

    def start(self) -> dict[str, torch.Tensor]:
        """The weights before the first epoch, on the CPU."""
        return self._read(self.start_file, "start the run again from its recipe.yaml")[0]

    def _read(self, path: Path, advice: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise DataError(f"{path} is missing", advice)
        try:
            with safe_open(str(path), framework="pt") as f:
                return {k: f.get_tensor(k) for k in f.keys()}, dict(f.metadata() or {})  # noqa: SIM118 - not a dict
        except (SafetensorError, OSError) as e:
            raise DataError(f"{path} is damaged: {e}", "repeat the run with --recipe RUN/recipe.yaml") from e


class InMemoryRun(Run):
    """The run in a process of rank > 0: keeps the values in memory and writes nothing."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._info: dict[str, Any] = {}
        self._rows: list[dict[str, Any]] = []

    @classmethod
    def of(cls, run: Run) -> InMemoryRun:
        """A copy of the state of `run`."""
        copy = cls(run.path)
        copy._info, copy._rows = run.info(), run.metrics()
        return copy

    def info(self) -> dict[str, Any]:
        return self._info

    def update(self, **changes: Any) -> None:
        self._info = self._info | changes

    def metrics(self) -> list[dict[str, Any]]:
        return list(self._rows)

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        self._rows = list(rows)

    def _skip(self, *_: Any, **__: Any) -> None:
        pass

    write_recipe = write_split = write_model = save_weights = save_checkpoint = save_start = _skip


def create_unique_folder(parent: Path, name: str) -> Path:
    """Create parent/NAME, or NAME-2, NAME-3, …; safe if several processes do so at once."""
    with translate_write_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            with translate_write_errors(path):
                path.mkdir()
            return path
        except TrainingError as e:
            if not isinstance(e.__cause__, FileExistsError):
                raise
            number += 1


def timestamp() -> str:
    """The local time as ISO 8601 with UTC offset, in seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
