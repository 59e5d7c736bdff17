"""Weights from the Hugging Face hub and from plain URLs: found in the cache, fetched, checked."""

from __future__ import annotations

from zoo.hub.hashes import sha256_of
from zoo.hub.hub_ask import HubName, parse_hub_name
from zoo.hub.hub_cache import Fetched
from zoo.hub.hub_file import copy, fetch_hub_file, save_hub_file
from zoo.hub.url_file import fetch_url, save_url, torch_cache

__all__ = [
    "Fetched",
    "HubName",
    "copy",
    "fetch_hub_file",
    "fetch_url",
    "parse_hub_name",
    "save_hub_file",
    "save_url",
    "sha256_of",
    "torch_cache",
]
