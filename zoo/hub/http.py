"""HTTP requests with a timeout for every step, and the check of HF_ENDPOINT."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from http.client import HTTPMessage
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from zoo.errors import WeightsError

# Seconds for one step of a connection: name resolution, handshake, response.
CONNECT_TIMEOUT = 3.0
# Seconds for all requests before a download together. A host may have several addresses and answer each request just in
# time; with the start of the program, a user should wait at most 10 s for the error.
METADATA_TIMEOUT = 5.0

T = TypeVar("T")


class Unreachable(Exception):
    """The server cannot be found, refuses the connection, does not answer, returns an error or stops in the middle."""


def with_timeout(seconds: float, function: Callable[[], T]) -> T:
    """Return what `function` returns, or raise Unreachable after `seconds`.

    The name resolver of the system has no timeout, and socket timeouts start again for each address, redirect and part
    of a response. A late call continues in a daemon thread.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            result.append(function())
        except BaseException as e:  # noqa: BLE001 - raised again in the calling thread
            failure.append(e)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not result:
        raise Unreachable(f"no answer within {seconds:.0f} s")
    return result[0]


def request_headers(url: str, *, any_status: bool = False) -> HTTPMessage | None:
    """The response headers of a HEAD request; None if the server does not support HEAD.

    Raises Unreachable without a response in time, or for an error status unless `any_status` is set.
    """
    host = urlsplit(url).hostname
    if not url.startswith(("https://", "http://")) or not host:
        raise Unreachable("not a web address")
    _require_resolvable(host)
    with as_unreachable():
        try:
            with open_url(url, {}, CONNECT_TIMEOUT, method="HEAD") as response:
                found: HTTPMessage = response.headers
                return found
        except urllib.error.HTTPError as e:
            # Servers that reject HEAD with one of these may still accept GET.
            if not any_status and e.code not in (403, 405, 501):
                raise
            return None


def _require_resolvable(host: str) -> None:
    """Raise Unreachable if `host` cannot be resolved in time. With a proxy, the proxy resolves it."""
    if urllib.request.getproxies():
        return
    try:
        with_timeout(CONNECT_TIMEOUT, lambda: socket.getaddrinfo(host, None))
    except OSError as e:
        raise Unreachable(f"the name {host} cannot be resolved") from e
    except Unreachable:
        raise Unreachable(f"the name {host} was not resolved within {CONNECT_TIMEOUT:.0f} s") from None


def open_url(url: str, headers: Mapping[str, str], timeout: float, *, method: str = "GET") -> Any:
    """An http.client.HTTPResponse with a success status. Raises what urllib raises."""
    all_headers = {"User-Agent": "zoo", "Accept-Encoding": "identity", **headers}
    return _opener().open(urllib.request.Request(url, headers=all_headers, method=method), timeout=timeout)


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Keep the method and http(s), and send no credentials to another server."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith(("https://", "http://")):
            raise urllib.error.URLError(f"it redirects to {newurl[:60]}")
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None:
            new.method = req.get_method()
            if urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
                new.remove_header("Authorization")
                new.remove_header("Cookie")
        return new


@lru_cache(maxsize=1)
def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Redirect())


def require_endpoint(endpoint: str | None = None) -> None:
    """Raises WeightsError if `endpoint` (None: the environment variable HF_ENDPOINT) is not the URL of a web server.

    Called before importing huggingface_hub or timm, which fail with a traceback on a malformed URL.
    """
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


@contextmanager
def as_unreachable() -> Iterator[None]:
    """Translate the exceptions of a connection into Unreachable."""
    try:
        yield
    except urllib.error.HTTPError as e:
        raise Unreachable(f"the server answers {e.code} {e.reason}".rstrip()) from None
    except urllib.error.URLError as e:
        timed_out = isinstance(e.reason, TimeoutError)
        raise Unreachable("the server does not answer" if timed_out else str(e.reason)) from None
    except TimeoutError:
        raise Unreachable("the server does not answer") from None
    except (http.client.HTTPException, OSError, ValueError) as e:
        raise Unreachable(str(e) or type(e).__name__) from None
