"""A server that stands in for the benchmark's repository, and its ways to fail.

python -m tests.repository_server FOLDER PORT
"""

from __future__ import annotations

import hashlib
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

from tests.local_server import LocalServer

PAGE = b"\n<!DOCTYPE html><html><body>Please log in.</body></html>"


class Repository(LocalServer):
    """Serves a folder.

    Attributes:
        asked: What was asked for: the path, and the offset of a range.
        faults: What to do instead, by path; each is for one request. `break` sends half of the
            answer, `stay broken` does so every time, `half` half of the file as if it were all,
            `page` a web page, `text` some text, `nothing` an empty file, a number that status.
        ranges: Whether parts of files can be had; if not, there are no validators either.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(_Handler, port)
        self.folder = folder
        self.asked: list[tuple[str, int]] = []
        self.faults: dict[str, list[str]] = {}
        self.ranges = True

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


class _Handler(BaseHTTPRequestHandler):
    server: Repository

    def log_message(self, *arguments: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.lstrip("/")
        file = self.server.folder / path
        given = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-")
        self.server.asked.append((path, int(given)))
        faults = self.server.faults.get(path, [])
        fault = (faults[0] if faults[:1] == ["stay broken"] else faults.pop(0)) if faults else ""
        if fault.isdigit() or not file.is_file():
            self.send_error(int(fault or 404))
            return
        content = file.read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        replaced = {"half": content[: len(content) // 2], "page": PAGE, "nothing": b""}
        content = {**replaced, "text": b"nothing to\nsee here\n"}.get(fault, content)
        offset = int(given) if self.server.ranges and self.headers.get("If-Range") == tag else 0
        if offset >= len(content) > 0:
            self.send_error(416)
            return
        self.send_response(206 if offset else 200)
        if self.server.ranges:
            self.send_header("ETag", tag)
        if offset:
            self.send_header("Content-Range", f"bytes {offset}-{len(content) - 1}/{len(content)}")
        body = content[offset:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault in ("break", "stay broken") else body)


if __name__ == "__main__":
    Repository(Path(sys.argv[1]), int(sys.argv[2])).serve_forever()
