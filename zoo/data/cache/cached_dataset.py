"""Images that are decoded once: a source whose pictures lie beside it, as small as its views allow.

What is kept is a view of each image: either the one that a loader asks for each time, bit for bit, or the whole,
reduced as far as random crops leave room (`zoo.augment.reduced`). A reduced image takes the place of the image: crops
are drawn from it, whether it was kept or has just been decoded, so that pixels do not depend on what the disk holds.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import PIL
import torch
from numpy.typing import NDArray

from zoo.augment.build import Augment
from zoo.augment.fit import Fit
from zoo.augment.reduced import SPARE, Reduced
from zoo.augment.resize import look
from zoo.augment.view import View
from zoo.cache import cache_folder
from zoo.data.cache.image_store import Decoded, ImageStore
from zoo.data.dataset import ImageSource, Subset, Targets, Wrapped
from zoo.data.decode.intensity import Extent
from zoo.data.decode.read import Choose, UnreadableImage
from zoo.data.file_dataset import FileSource
from zoo.data.file_identity import file_keys
from zoo.data.string_table import StringTable
from zoo.dist_env import cores
from zoo.preprocess import Levels, Preprocess

__all__ = ["CachedSource", "Kept", "fill", "image_keys", "images_folder", "kept_view", "open_images"]

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]
Keys = NDArray[np.uint64]

# Another version of the rules by which a file becomes pixels here.
_VERSION = 1


def kept_view(preprocess: Preprocess, augment: object) -> Fit | Reduced | None:
    """What is kept of images for this augmentation, None: for the evaluation view. None if nothing can be: a function
    of the caller's own sees whole images."""
    if augment is None:
        return Fit(preprocess)
    if not isinstance(augment, Augment):
        return None
    crops = augment.pipeline.crops
    return Fit(preprocess) if crops is None else Reduced(preprocess, crops)


class Kept(Protocol):
    """Images by their number in a source: `zoo.data.cache.image_store.KeptImages`."""

    def get(self, index: int) -> tuple[Pixels, tuple[int, int]] | None: ...


@dataclass(frozen=True)
class CachedSource(Wrapped):
    """`source` with `kept` images of `view` in the place of decoding; what is not kept is decoded, to the same pixels.

    With a `Fit`, other views than it are read from `source`. With a `Reduced`, all are views of the reduced image.
    """

    view: Fit | Reduced
    kept: Kept

    @property
    def targets(self) -> Targets:
        return self.source.targets

    @property
    def shards(self) -> Indices | None:
        return self.source.shards  # the order of an epoch is that without the cache

    @property
    def groups(self) -> Indices | None:
        return self.source.groups

    @property
    def names(self) -> StringTable:
        return self.source.names

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int, choose: Choose | None = None) -> Pixels:
        if isinstance(self.view, Reduced):
            found = self.kept.get(index)
            pixels = found[0] if found else self.source.read(index, lambda height, width: self.view)
            return pixels if choose is None else _see(choose(*pixels.shape[:2]), pixels)
        found = self.kept.get(index) if choose is not None else None
        if found is None or choose is None:
            return self.source.read(index, choose)
        pixels, whole = found
        wanted = choose(*whole)
        return pixels if wanted == self.view else self.source.read(index, lambda height, width: wanted)

    def level_range(self, index: int) -> Extent:
        return self.source.level_range(index)

    def with_levels(self, levels: Levels) -> ImageSource:
        """The images themselves: what is kept was read by another rule."""
        return self.source.with_levels(levels)

    def raw(self, index: int) -> bytes:
        return self.source.raw(index)

    def where(self, index: int) -> str:
        return self.source.where(index)

    def fingerprint(self) -> str:
        return self.source.fingerprint()


def _see(view: View, pixels: Pixels) -> Pixels:
    window = view.window(*pixels.shape[:2]) if pixels.shape[2] in (1, 3) else None
    return view.apply(pixels) if window is None else look(pixels, window)


# --- the store -------------------------------------------------------------------------------------------------------


def images_folder() -> Path:
    return cache_folder() / "images"


def image_keys(source: ImageSource, view: Fit | Reduced) -> Keys | None:
    """(n, 2) keys of `view` of the files as they are now, by path, size and time of change; another rule is another key
    and 0 that of a file that is gone. None where there are no files."""
    files = _file_keys(source)
    if files is None:
        return None
    seen: dict[str, Any] = {
        "version": _VERSION,
        "channels": source.channels,
        "preprocess": view.preprocess.to_dict(),
        "reduced": [asdict(view.crops), SPARE] if isinstance(view, Reduced) else None,
        "libraries": [PIL.__version__, torch.__version__, torch.backends.cpu.get_cpu_capability()],
    }
    digest = hashlib.blake2b(json.dumps(seen, sort_keys=True).encode(), digest_size=16).digest()
    mixed: Keys = np.where(files.any(axis=1, keepdims=True), files ^ np.frombuffer(digest, "<u8"), 0).astype(np.uint64)
    return mixed


def _file_keys(source: ImageSource) -> Keys | None:
    if isinstance(source, Subset):
        if isinstance(source.source, FileSource):
            return file_keys(source.source.take(source.indices))
        inner = _file_keys(source.source)
        return None if inner is None else inner[source.indices]
    return file_keys(source) if isinstance(source, FileSource) else None


def open_images(where: str, name: str) -> ImageStore:
    """The store of the data set at `where`, a path or a name; `name` is what people call it."""
    digest = hashlib.blake2b(where.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()
    return ImageStore(images_folder() / digest, {"model": "(images)", "end": "decoded", "data": name})


def fill(store: ImageStore, source: ImageSource, view: View, keys: Keys, places: Sequence[int], *, most: int) -> int:
    """Decode the images at `places` by a thread a core and keep them, up to so many bytes; the bytes written.

    What cannot be read is left out: reading it for a batch says why. Raises OSError if the disk refuses.
    """

    def decode(place: int) -> Decoded | None:
        whole = (0, 0)

        def choose(height: int, width: int) -> View:
            nonlocal whole
            whole = height, width
            return view

        try:
            pixels = source.read(place, choose)
        except UnreadableImage:
            return None
        return Decoded(keys[place], pixels, whole)

    def ahead(pool: ThreadPoolExecutor) -> Iterator[Decoded]:
        left = iter(places)
        waiting: deque[Future[Decoded | None]] = deque()
        while True:
            waiting.extend(pool.submit(decode, p) for p in islice(left, 4 * cores() - len(waiting)))
            if not waiting:
                return
            done = waiting.popleft().result()
            if done is not None:
                yield done

    with ThreadPoolExecutor(cores()) as pool:
        return store.fill(ahead(pool), most=most)
