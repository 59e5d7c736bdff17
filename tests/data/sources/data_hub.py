"""A local server with the part of the Hugging Face Hub API that `datasets` needs. Tests run it in a separate process:
`python data_hub.py FILE.parquet SOURCE …` opens each source with zoo and prints the results."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlparse

COMMIT = "a" * 40
PARQUET = "data/train-00000-of-00001.parquet"


class Hub(BaseHTTPRequestHandler):
    """owner/pets has one Parquet file, owner/script a loading script, owner/gated asks for an account; no others."""

    files: ClassVar[dict[str, dict[str, bytes]]] = {}
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status, headers, data = self._find(urlparse(self.path).path)
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for key, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass

    def _find(self, path: str) -> tuple[int, dict[str, str], object]:
        if "owner/gated" in path:
            return 403, {"x-error-code": "GatedRepo", "x-error-message": "Access is restricted"}, {}
        repo = next((r for r in self.files if r in path), None)
        if repo is None:
            return 401, {"x-error-code": "RepoNotFound"}, {}
        files = self.files[repo]
        if "/resolve/" in path:
            name = path.split("/resolve/")[1].partition("/")[2]
            if name not in files:
                return 404, {"x-error-code": "EntryNotFound", "x-repo-commit": COMMIT}, {}
            return 200, {"etag": f'"{_digest(files[name])}"', "x-repo-commit": COMMIT}, files[name]
        if "/tree/" in path:
            below = path.split("/tree/")[1].partition("/")[2]
            found = [n for n in files if n.startswith(below)] if below else [n for n in files if "/" not in n]
            listed = [{"type": "file", "path": n, "size": len(files[n]), "oid": _digest(files[n])} for n in found]
            return 200, {}, listed if below else [*listed, {"type": "directory", "path": "data", "oid": "b" * 40}]
        siblings = [{"rfilename": n} for n in files]
        return 200, {}, {"id": repo, "sha": COMMIT, "siblings": siblings, "private": False, "gated": False, "tags": []}


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def main(parquet: str, sources: list[str]) -> None:
    data = Path(parquet).read_bytes()
    ran = b"raise SystemExit('a script was run')"
    Hub.files = {"owner/pets": {PARQUET: data}, "owner/script": {PARQUET: data, "script.py": ran}}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
    os.environ["HF_HUB_DISABLE_XET"] = "1"
    from zoo.data import data_config, open_data
    from zoo.errors import ZooError

    found = {}
    for source in sources:
        try:
            opened = open_data(data_config(source))
            images = [opened.train.read(i) for i in range(len(opened.train))]
            digests = sorted(hashlib.sha1(i.tobytes()).hexdigest() for i in images)
            found[source] = {"name": opened.name, "classes": opened.classes, "train": digests}
        except ZooError as e:
            found[source] = {"error": type(e).__name__, "message": e.message, "hint": e.hint}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
