"""Write files atomically, and delay Ctrl-C while files that belong together are written."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError, TrainingError, UsageError, ZooError, translate_write_errors

if TYPE_CHECKING:
    import torch

# What to write to a file: text, bytes, or a function that writes to the path that it is given.
Contents = str | bytes | Callable[[Path], object]


def check_output_path(path: Path, example: str) -> Path:
    """Check before a long run that the file `path` can be written at its end; returns `path`.

    Args:
        example: file name for the error message.

    Raises:
        UsageError: `path` is a folder.
        DataError: the folder of `path` does not exist.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder", f"give the name of a file, such as {example}")
    if not path.absolute().parent.is_dir():
        raise DataError(f"no such folder: {path.absolute().parent}", "create it, or choose another folder")
    return path


def replace_file(path: Path, contents: Contents) -> None:
    """Write a temporary file, flush it to the disk, rename it to `path`. A failure leaves the old file.

    Raises OSError; `atomic_write` translates it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if isinstance(contents, str):
            temporary.write_text(contents, encoding="utf-8")
        elif isinstance(contents, bytes):
            temporary.write_bytes(contents)
        else:
            contents(temporary)
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path, contents: Contents, error: type[ZooError] = TrainingError) -> None:
    """Replace the file `path`, as `replace_file` does. Raises `error` if the disk refuses."""
    with translate_write_errors(path, error):
        replace_file(path, contents)


def write_json(path: Path, value: Any, error: type[ZooError] = TrainingError) -> None:
    atomic_write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", error)


def read_json(path: Path) -> Any:
    """Raises DataError if the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise DataError(f"{path} is missing", "give the directory of a run made by `zoo finetune`") from e
    except (OSError, ValueError) as e:
        raise DataError(f"{path} cannot be read: {e}", "the run is damaged; repeat it with its recipe.yaml") from e


def save_tensors(
    path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str], error: type[ZooError] = TrainingError
) -> None:
    """Write `tensors` as safetensors, atomically. Tensors that share storage are copied."""
    from safetensors.torch import save

    # safetensors' own writer hides the OSError; this costs one copy of the weights in memory.
    atomic_write(path, save(_without_shared_storage(tensors), metadata), error)


def _without_shared_storage(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous CPU tensors without shared storage, which safetensors rejects (CoaT uses modules twice)."""
    own, seen = {}, set()
    for name, tensor in tensors.items():
        copy = tensor.detach().cpu().contiguous()
        if copy.untyped_storage().data_ptr() in seen:
            copy = copy.clone()
        seen.add(copy.untyped_storage().data_ptr())
        own[name] = copy
    return own


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Delay SIGINT and SIGTERM to the end of the block, which writes files that belong together."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda n, _: received.append(n)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise KeyboardInterrupt
