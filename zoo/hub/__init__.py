"""Weights from the Hugging Face hub and from plain URLs: found in the cache, fetched, checked."""

from __future__ import annotations

from zoo.hub.download import Fetched, fetch_hub_file, fetch_url

__all__ = ["Fetched", "fetch_hub_file", "fetch_url"]
