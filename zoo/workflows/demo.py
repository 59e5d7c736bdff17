"""Images for `zoo demo`: held-out digits as files, as a user would have them."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import translate_write_errors

__all__ = ["write_images"]


def write_images(folder: Path, count: int, *, seed: int = 0) -> list[str]:
    """Write `count` digits of different classes from the part that seed `seed` holds out, as PNG; return their paths.

    The file's name says what it shows: digit-3.png.
    """
    from PIL import Image

    from zoo.data import open_data
    from zoo.data.config import DataConfig

    held_out = open_data(DataConfig(source="digits"), seed=seed).val
    paths: list[str] = []
    with translate_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for digit in range(count):
        wanted = digit * 10 // count
        index = next(i for i, target in enumerate(held_out.targets) if target == wanted)
        path = folder / f"digit-{wanted}.png"
        with translate_write_errors(path):
            Image.fromarray(held_out.read(index)).save(path)
        paths.append(str(path))
    return paths
