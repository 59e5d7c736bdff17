"""Report of the weights that were loaded into a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["NO_WEIGHTS", "WeightsReport"]

# "conv1.weight: stem, (64, 3, 7, 7) -> (64, 1, 7, 7)": name, what was done, the shapes before and after.
_CHANGE = re.compile(
    r"(?P<what>new head|stem|resampled|head)[^()]*\((?P<before>[\d, ]*)\)(?: -> \((?P<after>[\d, ]*)\))?"
)


@dataclass(frozen=True)
class WeightsReport:
    """The weights that were loaded into a model.

    Args:
        source: "none", "hf-hub:owner/name/file", a URL, "builtin:name" or a path.
        revision: Commit in the hub; None if there is none.
        sha256: Hash of the file.
        loaded: Number of tensors that were loaded.
        adapted: One line for each tensor that was changed to fit or replaced (head, stem, position embeddings).
        missing: Tensors of the model that keep their random values.
        unexpected: Tensors of the file that the model does not have.
        part: The set of weights that was used, if the file has several; else "".
    """

    source: str
    revision: str | None = None
    sha256: str | None = None
    loaded: int = 0
    adapted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    part: str = ""

    @property
    def head_is_new(self) -> bool:
        """Whether the classifier has random values although other weights were loaded."""
        return any(line.partition(": ")[2].startswith("new head") for line in self.adapted)

    def summary(self) -> str:
        """One line: "218 tensors loaded, head replaced (1000 -> 10 classes), first convolution adapted 3 -> 1 channels;
        0 missing, 0 unexpected".
        """
        if self.source == "none":
            return "random weights"
        phrases = [f"{self.loaded} tensors loaded" + (f" from {self.part}" if self.part else "")]
        changes = [found for line in self.adapted if (found := _CHANGE.search(line.partition(": ")[2])) is not None]
        phrases += _describe_changes(changes)
        return f"{', '.join(phrases)}; {len(self.missing)} missing, {len(self.unexpected)} unexpected"

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "revision": self.revision,
            "sha256": self.sha256,
            "part": self.part,
            "loaded": self.loaded,
            "adapted": list(self.adapted),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WeightsReport:
        return cls(
            source=str(values["source"]),
            revision=values.get("revision"),
            sha256=values.get("sha256"),
            part=str(values.get("part", "")),
            loaded=int(values.get("loaded", 0)),
            adapted=tuple(values.get("adapted", ())),
            missing=tuple(values.get("missing", ())),
            unexpected=tuple(values.get("unexpected", ())),
        )


def _describe_changes(changes: list[re.Match[str]]) -> list[str]:
    phrases = []
    heads = [c for c in changes if c["what"] == "new head"]
    stems = [c for c in changes if c["what"] == "stem" and c["after"]]
    if heads:
        # The first dimension of weight and bias is the number of classes, in linear layers and convolutions.
        first = heads[0]
        if first["after"] is None:
            phrases.append(f"new head ({_numbers(first['before'])[0]} classes)")
        else:
            phrases.append(f"head replaced ({_numbers(first['before'])[0]} -> {_numbers(first['after'])[0]} classes)")
    if stems:
        before, after = _numbers(stems[0]["before"]), _numbers(stems[0]["after"])
        # (out, channels, height, width); a stem that folds pixels into channels has several per image channel.
        pair = f" {before[1]} -> {after[1]} channels" if len(before) > 1 and len(after) > 1 else ""
        phrases.append(f"first convolution adapted{pair}")
    if resampled := sum(c["what"] == "resampled" for c in changes):
        phrases.append(f"{resampled} position embedding{'s' if resampled > 1 else ''} resampled")
    return phrases


def _numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)] or [0]


NO_WEIGHTS = WeightsReport("none")
