"""Problematic files as found in real folders of images. Loaded by path (`runpy.run_path`); tests are no package."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import tifffile
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
    "nan.npy": "not finite",
    "infinite.npy": "not finite",
    "negative.npy": "negative",
    "complex.npy": "complex128",
    "objects.npy": "Python objects",
    "fields.npy": "type",
    "flat.npy": "shape",
    "five-axes.npy": "shape",
    "no-rows.npy": "shape",
    "half.npy": "truncated",
    "huge.npy": "truncated",
    "page.npy": "HTML",
    "half-many.tif": "truncated",
    "nan-many.tif": "not finite",
    "nonsense.tif": "TIFF page",
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
    "plane.npy": (20, 30),
    "last.npy": (20, 30),
    "first.npy": (20, 30),
    "fortran.npy": (20, 30),
    "mask.npy": (20, 30),
    "pages.tif": (20, 30),
    "colour16.tif": (20, 30),
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

    _write_arrays(folder)
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


def _write_arrays(folder: Path) -> None:
    rng = np.random.default_rng(1)
    image = rng.random((20, 30, 3), dtype=np.float32)
    for name, value in (("nan", np.nan), ("infinite", np.inf), ("negative", -0.5)):
        bad = image.copy()
        bad[3, 4, 1] = value
        np.save(folder / f"{name}.npy", bad)
    np.save(folder / "complex.npy", image.astype(np.complex128))
    np.save(folder / "objects.npy", np.array([[{}, 1], [2, 3]], dtype=object), allow_pickle=True)
    np.save(folder / "fields.npy", np.zeros((4, 4), dtype=[("red", "u1"), ("green", "u1")]))
    np.save(folder / "flat.npy", np.zeros(12, np.uint8))
    np.save(folder / "five-axes.npy", np.zeros((2, 2, 2, 2, 2), np.uint8))
    np.save(folder / "no-rows.npy", np.zeros((0, 30, 3), np.uint8))
    whole = (folder / "negative.npy").read_bytes()
    (folder / "half.npy").write_bytes(whole[: len(whole) // 2])
    with (folder / "huge.npy").open("wb") as f:
        np.lib.format.write_array_header_1_0(
            f, {"descr": "|u1", "fortran_order": False, "shape": (2 * 10**9, 10**9, 3)}
        )
        f.write(bytes(100))
    (folder / "page.npy").write_text("<html>404</html>")

    np.save(folder / "plane.npy", image[:, :, 0])
    np.save(folder / "last.npy", (image * 255).astype(np.uint8))
    np.save(folder / "first.npy", (image * 65535).astype(">u2").transpose(2, 0, 1))
    np.save(folder / "fortran.npy", np.asfortranarray(image.astype(np.float64)))
    np.save(folder / "mask.npy", image[:, :, 0] > 0.5)
    pages = [Image.fromarray((image[:, :, c] * 255).astype(np.uint8)) for c in range(3)]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    tifffile.imwrite(folder / "colour16.tif", (image * 65535).astype(np.uint16), photometric="rgb")
    many = np.concatenate([image, image[:, :, :2]], axis=2)
    tifffile.imwrite(folder / "half-many.tif", many, photometric="minisblack", planarconfig="contig")
    whole = (folder / "half-many.tif").read_bytes()
    (folder / "half-many.tif").write_bytes(whole[: len(whole) // 2])
    image[0, 0, 2] = np.nan
    tifffile.imwrite(folder / "nan-many.tif", image, photometric="rgb")
    (folder / "nonsense.tif").write_bytes(b"II*\0" + (8).to_bytes(4, "little") + bytes(40))  # a page of no tags


def _crc(data: bytes) -> bytes:
    import zlib

    return zlib.crc32(data).to_bytes(4, "big")
