"""Check HF_ENDPOINT before importing huggingface_hub or timm, which fail with a traceback on a malformed URL."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from zoo.errors import WeightsError

__all__ = ["require_endpoint"]


def require_endpoint(endpoint: str | None = None) -> None:
    """Raises WeightsError if `endpoint` (None: the environment variable) is not the URL of a web server."""
    named = os.environ.get("HF_ENDPOINT") or "" if endpoint is None else endpoint
    if endpoint is None and not named:
        return
    try:
        parts = urlsplit(named)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or any(c.isspace() for c in named):
        raise WeightsError(
            f"HF_ENDPOINT is {named!r}, which is not the URL of a server",
            "set it to a URL such as https://huggingface.co, or unset it",
        )
