"""What `zoo demo` needs: image files of the digits, and an installed package of weights."""

from __future__ import annotations

from pathlib import Path

from zoo.catalog.packages import INSTALL_HINT, PACKAGES
from zoo.errors import WeightsError, translate_write_errors


def require_package(model: str) -> None:
    """Raises WeightsError if the package with the weights `model`, a name in PACKAGES, is not installed."""
    package = PACKAGES[model]
    if package.find_file() is None:
        raise WeightsError(f"the package {package.distribution} is not installed", INSTALL_HINT)


def write_images(folder: Path, count: int, *, seed: int = 0) -> list[str]:
    """Write `count` validation digits of different classes as PNG files, such as digit-3.png; return their paths."""
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
