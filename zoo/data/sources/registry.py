"""The kinds of data sources: what `--data` accepts.

Opening for training, opening for evaluation, `zoo check` and the help of `--data` all read this table. Importing it
imports neither numpy nor torch. To add a kind: a subclass of `zoo.data.sources.source.Source`, one entry here, one
test.
"""

from __future__ import annotations

from dataclasses import dataclass

from zoo.registry import RegistryEntry


@dataclass(frozen=True)
class SourceEntry(RegistryEntry):
    """One kind of data source.

    Args:
        path: "module:Class" of a `Source` without constructor arguments.
        description: a noun phrase for help texts and hints.
        has_columns: whether the options of columns (`--label-column` …) apply.
    """

    has_columns: bool = False


def _entry(path: str, description: str, *, has_columns: bool = False) -> SourceEntry:
    return SourceEntry(f"zoo.data.sources.{path}", description, has_columns=has_columns)


# The last entry that matches is taken: an added kind has priority over the built-in ones.
SOURCES: dict[str, SourceEntry] = {
    "folder": _entry("folder:FolderSource", "a folder with one subfolder per class"),
    "archive": _entry("folder:ArchiveSource", "a .zip or .tar archive of one"),
    "table_folder": _entry("table_folder:TableFolderSource", "a folder with a table of its images", has_columns=True),
    "table": _entry(
        "table_folder:TableSource", "a table (.csv, .tsv, .jsonl, .parquet), a list of files (.txt)", has_columns=True
    ),
    "webdataset": _entry("webdataset:WebDatasetSource", "WebDataset shards", has_columns=True),
    "huggingface": _entry("huggingface:HuggingFaceSource", "hf:NAME", has_columns=True),
    "torchvision": _entry("torchvision:TorchvisionSource", "torchvision:NAME"),
    "digits": _entry("digits:DigitsSource", "digits"),
}


def describe_sources() -> str:
    """All kinds as one phrase: "a folder with one subfolder per class, …, torchvision:NAME or digits"."""
    *first, last = (entry.description for entry in SOURCES.values())
    return f"{', '.join(first)} or {last}"
