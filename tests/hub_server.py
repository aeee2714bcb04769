"""A server that stands in for the Hugging Face hub, for one model.

HF_ENDPOINT=http://127.0.0.1:PORT names it; python -m tests.hub_server NAME DIRECTORY PORT
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "c" * 40


class Hub(ThreadingHTTPServer):
    """Serves the files of one model's directory under its name.

    Attributes:
        sent: The names of the files that were sent, in order.
    """

    daemon_threads = True

    def __init__(self, name: str, directory: Path, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.model, self.directory = name, directory
        self.sent: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def describe(self, path: str) -> object:
        """What the hub says about a model: its commit, or the list of its files."""
        if "/tree/" not in path:
            return {"id": self.model, "sha": COMMIT}
        files = [(file.name, file.read_bytes()) for file in sorted(self.directory.iterdir())]
        return [
            {"type": "file", "path": name, "size": len(content), "oid": digest_of(content)}
            for name, content in files
        ]


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Stay silent."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        name, content = self._answer()
        if content:
            self.server.sent.append(name)
            self.wfile.write(content)

    def _answer(self) -> tuple[str, bytes]:
        path = urlsplit(self.path).path
        model, content = self.server.model, b""
        name = path.rsplit("/", 1)[-1]
        if path.startswith(f"/api/models/{model}"):
            content = json.dumps(self.server.describe(path)).encode()
        elif path.startswith(f"/{model}/resolve/") and (self.server.directory / name).is_file():
            content = (self.server.directory / name).read_bytes()
        self.send_response(200 if content else 404)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{digest_of(content)}"')
        self.end_headers()
        return name, content


@contextmanager
def serving_model(name: str, directory: Path) -> Iterator[Hub]:
    """A hub that answers meanwhile."""
    with Hub(name, directory) as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()


if __name__ == "__main__":
    Hub(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])).serve_forever()
