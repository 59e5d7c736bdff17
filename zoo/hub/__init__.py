"""Download weights from the Hugging Face hub and from URLs, with a cache and hash checks."""

from __future__ import annotations

from zoo.hub.cache_layout import FetchResult
from zoo.hub.hashes import sha256_of
from zoo.hub.huggingface import copy_file, fetch_hub_file, is_cached, save_hub_file
from zoo.hub.metadata import HubName, parse_hub_name
from zoo.hub.url import fetch_url, save_url, torch_cache

__all__ = [
    "FetchResult",
    "HubName",
    "copy_file",
    "fetch_hub_file",
    "fetch_url",
    "is_cached",
    "parse_hub_name",
    "save_hub_file",
    "save_url",
    "sha256_of",
    "torch_cache",
]
