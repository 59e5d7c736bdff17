"""Plain HTTP with a bound on every wait: is the server there, and what does it send?"""

from __future__ import annotations

import http.client
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

__all__ = ["PROBE_SECONDS", "Unreachable", "require_answer", "stream"]

# For one step of a connection: the name, the handshake, the answer. Together below the 10 s that a user should wait.
PROBE_SECONDS = 3.0
# Between two pieces of a file that has begun to arrive.
_STALL_SECONDS = 20.0
_CHUNK = 1 << 20


class Unreachable(Exception):
    """The server cannot be found, refuses, does not answer, answers with an error, or stops in the middle."""


def _require_name(host: str) -> None:
    """Raise Unreachable if `host` has no address, or none is found in time. Behind a proxy names are its business."""
    if urllib.request.getproxies():
        return
    failure: list[OSError] = []

    def look_up() -> None:
        try:
            socket.getaddrinfo(host, None)
        except OSError as e:
            failure.append(e)

    # The system's resolver takes no time-out, and waits 10 s and more for name servers that are silent.
    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if thread.is_alive():
        raise Unreachable(f"the name {host} was not resolved within {PROBE_SECONDS:.0f} s")
    if failure:
        raise Unreachable(f"the name {host} cannot be resolved")


def require_answer(url: str, *, any_status: bool = False) -> None:
    """Raise Unreachable if the server of `url` does not soon give headers, of success unless `any_status` will do."""
    host = urlsplit(url).hostname
    if not url.startswith(("https://", "http://")) or not host:
        raise Unreachable("not a web address")
    _require_name(host)
    with _translated():
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS).close()
        except urllib.error.HTTPError as e:
            # The last three come from servers that may give what they do not describe.
            if not any_status and e.code not in (403, 405, 501):
                raise


def stream(url: str) -> Iterator[bytes]:
    """The content of `url` in pieces. Raises Unreachable, also if less arrives than was announced."""
    require_answer(url)
    arrived = 0
    with _translated(), urllib.request.urlopen(url, timeout=_STALL_SECONDS) as response:
        announced = response.headers.get("Content-Length")
        while chunk := response.read(_CHUNK):
            arrived += len(chunk)
            yield chunk
    if announced is not None and announced.isdigit() and arrived != int(announced):
        raise Unreachable(f"the connection broke off after {arrived} of {announced} bytes")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as e:
        raise Unreachable(f"the server answers {e.code} {e.reason}") from None
    except urllib.error.URLError as e:
        raise Unreachable(str(e.reason)) from None
    except TimeoutError:
        raise Unreachable("the server does not answer") from None
    except (http.client.HTTPException, OSError, ValueError) as e:
        raise Unreachable(str(e) or type(e).__name__) from None
