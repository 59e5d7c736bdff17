"""Signatures of the state dicts of all architectures, in a hundred bytes each, to find the model of given weights.

Each tensor is hashed by name and shape. A signature has the number of hashes, their sum, and the `SKETCH_SIZE` smallest
ones. An equal sum means the same architecture; the smallest hashes are a random sample to estimate the similarity of
two sets (MinHash; Broder 1997, "On the resemblance and containment of documents").

The classifier and the channels of the first convolution depend on the task and are not compared. Neither are auxiliary
heads, which only training uses, and num_batches_tracked, which old files lack.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from struct import pack, unpack
from typing import Any

from zoo.catalog.entries import ModelEntry
from zoo.catalog.index import load_index

SIGNATURES = Path(__file__).with_name("signatures.json")
FORMAT = 1

# Hashes per signature. With 24 hashes and without the sum, the right architecture was among the best 17 for all of 150
# tested models with another head and other channels, and among the best 3 for 138 of them.
SKETCH_SIZE = 24

_COUNTERS = "num_batches_tracked"
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # of GoogLeNet and Inception v3, in both libraries
_MASK = 2**64 - 1

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Signature:
    """tensors: number. hash_sum: sum of the hashes, 64 bits. min_hashes: upper 32 bits of the `SKETCH_SIZE` smallest
    hashes, ascending.
    """

    tensors: int
    hash_sum: int
    min_hashes: tuple[int, ...]

    @property
    def max_hash(self) -> int:
        """The signature has all hashes of the architecture up to this value."""
        return self.min_hashes[-1] if self.tensors > SKETCH_SIZE else 2**32


@dataclass(frozen=True)
class SignatureMatch:
    """names: architectures with this structure. exact: whether all tensors are equal, without head and channels. share:
    estimated Jaccard similarity (common tensors / tensors of either side).
    """

    names: tuple[str, ...]
    exact: bool
    share: float


def as_paths(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Module paths of an entry as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value or ())


def backbone_shapes(shapes: Shapes, heads: tuple[str, ...], stems: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """`shapes` without the tensors under `heads`, auxiliary heads, the input channels of `stems` and batch counters."""
    under, stem_weights = (*_AUXILIARY, *(f"{path}." for path in heads)), {f"{path}.weight" for path in stems}
    return {
        name: (shape[0], 0, *shape[2:]) if name in stem_weights and len(shape) > 1 else tuple(shape)
        for name, shape in shapes.items()
        if not name.startswith(under) and not name.endswith(_COUNTERS)
    }


@lru_cache(maxsize=1 << 16)
def _hash(name: str, shape: tuple[int, ...]) -> int:
    return int.from_bytes(blake2b(f"{name} {shape}".encode(), digest_size=8).digest(), "big")


def signature(shapes: Shapes, entry: ModelEntry) -> Signature:
    """The signature of a state dict with these shapes and the architecture of `entry`."""
    hashes = [
        _hash(*item) for item in backbone_shapes(shapes, as_paths(entry.classifier), as_paths(entry.first_conv)).items()
    ]
    return Signature(len(hashes), sum(hashes) & _MASK, tuple(sorted(h >> 32 for h in hashes)[:SKETCH_SIZE]))


def most_similar_structures(shapes: Shapes, n: int) -> list[SignatureMatch]:
    """The up to `n` structures most similar to a state dict of these shapes, best first."""
    index, known = load_index(), _shipped()
    hashes_by_layers: dict[object, tuple[int, list[int]]] = {}
    structures: dict[tuple[object, int], list[str]] = {}
    found: dict[tuple[object, int], tuple[bool, float]] = {}
    for name in index:
        if name not in known:
            continue  # a model of a newer library
        entry, known_signature = index[name], known[name]
        task_layers = as_paths(entry.classifier), as_paths(entry.first_conv)
        if task_layers not in hashes_by_layers:
            hashes = [_hash(*item) for item in backbone_shapes(shapes, *task_layers).items()]
            hashes_by_layers[task_layers] = sum(hashes) & _MASK, sorted(h >> 32 for h in hashes)
        hash_sum, sorted_hashes = hashes_by_layers[task_layers]
        structure = task_layers, known_signature.hash_sum
        structures.setdefault(structure, []).append(name)
        if structure not in found:
            in_range = set(sorted_hashes[: bisect_right(sorted_hashes, known_signature.max_hash)])
            num_shared = len(in_range.intersection(known_signature.min_hashes))
            found[structure] = (
                hash_sum == known_signature.hash_sum,
                num_shared / max(1, len(in_range.union(known_signature.min_hashes))),
            )
    best = sorted((s for s, (exact, share) in found.items() if exact or share), key=lambda s: found[s], reverse=True)
    return [SignatureMatch(tuple(structures[s]), *found[s]) for s in best[:n]]


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Signature]:
    return read_signatures(SIGNATURES)[1]


def read_signatures(path: Path) -> tuple[dict[str, str], dict[str, Signature]]:
    """Versions of the libraries, and signatures by model name."""
    document = json.loads(path.read_text(encoding="utf-8"))
    made: dict[str, Signature] = {}
    for names, tensors, hash_sum, packed in document["structures"]:
        raw = b64decode(packed)
        one = Signature(tensors, int(hash_sum, 16), unpack(f">{len(raw) // 4}I", raw))
        made |= dict.fromkeys(names, one)
    return document["versions"], made


def render_signatures(signatures: Mapping[str, Signature], versions: Mapping[str, str]) -> str:
    """The file as text: a JSON document with one structure per line, and the names of its architectures."""
    structures: dict[Signature, list[str]] = {}
    for name, one in signatures.items():
        structures.setdefault(one, []).append(name)

    def row(one: Signature, names: list[str]) -> list[Any]:
        packed = b64encode(pack(f">{len(one.min_hashes)}I", *one.min_hashes)).decode()
        return [names, one.tensors, f"{one.hash_sum:016x}", packed]

    lines = [json.dumps(row(one, names), separators=(",", ":")) for one, names in structures.items()]
    head = json.dumps(dict(sorted(versions.items())), separators=(",", ":"))
    return f'{{"format":{FORMAT},\n"versions":{head},\n"structures":[\n' + ",\n".join(lines) + "\n]}\n"
