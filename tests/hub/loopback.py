"""A hub on 127.0.0.1 for the real clients, which can fail on request.

    with LoopbackHub() as hub:
        hub.add("owner/name", "model.safetensors", content)     # served as a large file: ETag is the sha256
        hub.flips = 1                                           # one bit of the next download is flipped
        hub.cuts, hub.stalls_after, hub.pace, hub.ignores_range # lost connection, stall, slow server, no Range
        hub.answer = 503                                        # to every request; SILENT never answers

huggingface_hub 2.4 sends HEAD and GET for /{repo}/resolve/{revision}/{file}. Any other path serves a file of
`add_plain`, for torchvision's URLs.
"""

from __future__ import annotations

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SILENT = -1


class LoopbackHub:
    def __init__(self) -> None:
        self.answer = 200  # an HTTP status for every request, or SILENT
        self.flips = 0  # number of downloads with a flipped bit
        self.cuts = 0  # number of downloads that end after half of the bytes
        self.etag: str | None = None  # instead of the correct one
        self.commit = COMMIT
        self.stalls_after: int | None = None  # bytes after which a download stalls
        self.pace = 0.0  # seconds between parts of 1,000 bytes
        self.ignores_range = False  # sends files from the beginning
        self.announces = True  # whether to send Content-Length
        self.token = ""  # without it the answer is 401
        self.refuses: dict[str, int | str] = {}  # repository → status, or the code of an error that comes with 403
        self.elsewhere: LoopbackHub | None = None  # large files are redirected to this server
        self.requests: list[tuple[str, str]] = []  # (method, path)
        self.ranges: list[str] = []  # the Range headers of downloads
        self.tokens: list[str] = []  # the Authorization headers
        self.files: dict[tuple[str, str], bytes] = {}
        self.regular: set[tuple[str, str]] = set()  # small files, named by git's sha1
        self.plain: dict[str, bytes] = {}
        self.closing = threading.Event()
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LoopbackHub:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def add(self, repo: str, name: str, content: bytes, *, regular: bool = False) -> None:
        self.files[repo, name] = content
        if regular:
            self.regular.add((repo, name))

    def add_plain(self, path: str, content: bytes) -> str:
        """Returns the URL."""
        self.plain[path] = content
        return self.url + path

    def downloads(self) -> int:
        # The client asks /api/agent-harnesses once a process, in whichever test comes first: that is no download.
        return sum(method == "GET" and not path.startswith("/api/") for method, path in self.requests)


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_GET(self) -> None:
        self._serve(body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self, *, body: bool) -> None:
        hub = self.hub
        hub.requests.append((self.command, self.path))
        hub.tokens.append(self.headers.get("Authorization", ""))
        if body:
            hub.ranges.append(self.headers.get("Range", ""))
        if hub.answer == SILENT:
            hub.closing.wait(60)
            self.close_connection = True
            return
        if hub.answer != 200:
            self._empty(hub.answer)
            return
        asked = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path.partition("?")[0])
        if asked is None:
            self._plain(body)
            return
        repo, revision, name = asked.groups()
        if self._refused(repo, revision):
            return
        content = hub.files.get((repo, name))
        if content is None:
            self._empty(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": hub.commit})
            return
        if (repo, name) in hub.regular:
            etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        else:
            etag = hashlib.sha256(content).hexdigest()
        etag = hub.etag or etag
        if hub.elsewhere is not None:
            location = hub.elsewhere.add_plain(f"/cdn/{name}", content)
            linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            self._empty(302, {"X-Repo-Commit": hub.commit, **linked, "Location": location})
            return
        self._content(content, {"X-Repo-Commit": hub.commit, "ETag": f'"{etag}"'}, body)

    def _refused(self, repo: str, revision: str) -> bool:
        """Send an error and return True if `repo` is missing or access is denied."""
        hub = self.hub
        refused = hub.refuses.get(repo)
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._empty(401)
        elif isinstance(refused, int):
            self._empty(refused)
        elif refused is not None:
            self._empty(403, {"X-Error-Code": refused})
        elif not any(known == repo for known, _ in hub.files):
            self._empty(404, {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", hub.commit):
            self._empty(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            return False
        return True

    def _plain(self, body: bool) -> None:
        content = self.hub.plain.get(self.path.partition("?")[0])
        if content is None:
            self._empty(404)
        else:
            self._content(content, {}, body)

    def _empty(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _content(self, content: bytes, headers: dict[str, str], body: bool) -> None:
        start = 0
        ranged = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if ranged and not self.hub.ignores_range:
            start = int(ranged[1])
            if start >= len(content):
                self._empty(416)
                return
        self.send_response(206 if start else 200)
        for key, value in headers.items():
            self.send_header(key, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.hub.announces:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if not body:
            return
        sent = bytearray(content[start:])
        if self.hub.flips:
            self.hub.flips -= 1
            sent[len(sent) // 2] ^= 1
        if self.hub.cuts:
            self.hub.cuts -= 1
            sent = sent[: len(sent) // 2]
            self.close_connection = True
        self._send(bytes(sent))

    def _send(self, sent: bytes) -> None:
        hub = self.hub
        try:
            if hub.stalls_after is not None:
                self.wfile.write(sent[: hub.stalls_after])
                self.wfile.flush()
                hub.closing.wait(60)
            elif hub.pace:
                for i in range(0, len(sent), 1000):
                    self.wfile.write(sent[i : i + 1000])
                    self.wfile.flush()
                    if hub.closing.wait(hub.pace):
                        return
            else:
                self.wfile.write(sent)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client has left
