"""Files that a folder of images may really hold. Loaded by path (`runpy.run_path`), as tests are no package."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

# name → part of the reason that must be given. Those below have an image's name but hold no readable image.
UNREADABLE = {
    "empty.jpg": "zero bytes",
    "page.JPG": "HTML",
    "half.jpg": "truncated",
    "half.png": "",
    "nonsense.webp": "cannot identify|can identify",
    "pipe.jpg": "FIFO",
    "folder.png": "directory",
    "nan.tif": "floating point",
    "bomb.png": "bomb",
}
LINKS = {"broken.jpg": "broken", "loop.jpg": "loop"}
# name → (height, width) after orientation. All of these must be read.
READABLE = {
    "dot.png": (1, 1),
    "strip.png": (10, 3000),
    "cmyk.jpg": (20, 30),
    "palette.png": (20, 30),
    "grey16.png": (20, 30),
    "float.tif": (20, 30),
    "turned.jpg": (30, 20),
    "moving.gif": (20, 30),
    "name with spaces, ümläut 漢字.Jpeg": (20, 30),
}


def make_hostile(folder: Path) -> None:
    """Write every file named above into `folder`, an existing directory."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    small = Image.fromarray(np.tile(np.arange(0, 240, 8, dtype=np.uint8)[None, :, None], (20, 1, 3)))

    (folder / "empty.jpg").touch()
    (folder / "page.JPG").write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")
    for ending, kind in (("jpg", "JPEG"), ("png", "PNG")):
        buffer = io.BytesIO()
        noise.save(buffer, kind)
        (folder / f"half.{ending}").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    (folder / "nonsense.webp").write_bytes(bytes(range(200)))
    os.mkfifo(folder / "pipe.jpg")
    (folder / "folder.png").mkdir()
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(folder / "nan.tif")
    bomb = io.BytesIO()
    Image.new("1", (8, 8)).save(bomb, "PNG")
    head = bytearray(bomb.getvalue())
    head[16:24] = (20_000).to_bytes(4, "big") * 2  # 400 megapixels, as the header says
    head[29:33] = _crc(bytes(head[12:29]))
    (folder / "bomb.png").write_bytes(head)

    (folder / "broken.jpg").symlink_to(folder / "gone.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")

    Image.new("RGB", (1, 1), (10, 20, 30)).save(folder / "dot.png")
    Image.new("RGB", (3000, 10), (10, 20, 30)).save(folder / "strip.png")
    small.convert("CMYK").save(folder / "cmyk.jpg")
    palette = Image.new("P", (30, 20), 0)
    palette.putpalette([200, 0, 0, 0, 0, 200])
    palette.paste(1, (0, 0, 15, 20))
    palette.save(folder / "palette.png", transparency=0)
    Image.fromarray(np.tile(np.linspace(0, 65535, 30).astype(np.uint16), (20, 1))).save(folder / "grey16.png")
    Image.fromarray(np.tile(np.linspace(0, 1, 30, dtype=np.float32), (20, 1))).save(folder / "float.tif")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    small.save(folder / "turned.jpg", exif=exif)
    small.save(folder / "moving.gif", save_all=True, append_images=[noise.resize((30, 20))])
    small.save(folder / "name with spaces, ümläut 漢字.Jpeg", "JPEG")


def _crc(data: bytes) -> bytes:
    import zlib

    return zlib.crc32(data).to_bytes(4, "big")
