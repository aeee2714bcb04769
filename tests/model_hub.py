"""A server that stands in for the Hugging Face hub: models with revisions, downloads, pushes.

It answers the requests that huggingface_hub makes, so that the client's own code is tested:

    python -m tests.model_hub PORT user/repo=DIRECTORY ...

serves directories as models; set HF_ENDPOINT=http://127.0.0.1:PORT and HF_HUB_DISABLE_XET=1.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.local_server import LocalServer

Files = Mapping[str, bytes]
TOKEN = "hf_stand_in"
LARGE = (".safetensors", ".npy")  # what the hub keeps in its large file storage


@dataclass
class Model:
    """A repository: its commits, and what its branches and tags stand for."""

    private: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files, *names: str) -> str:
        """Make a commit of exactly these files, and point `main` and further names to it."""
        content = [[name, _hash(data)] for name, data in sorted(files.items())]
        sha = _hash(json.dumps([len(self.commits), content]).encode())
        self.commits[sha] = dict(files)
        self.names |= dict.fromkeys(("main", *names), sha)
        return sha

    def resolve(self, revision: str) -> str | None:
        sha = self.names.get(revision, revision)
        return sha if sha in self.commits else None


def _hash(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


class Hub(LocalServer):
    """The server.

    Attributes:
        models: The models by name.
        asked: The method and path of every request.
        stored: Pushed large files by their SHA-256.
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__(_Handler, port)
        self.models: dict[str, Model] = {}
        self.asked: list[str] = []
        self.stored: dict[str, bytes] = {}

    def fetched(self) -> list[str]:
        """The paths of the files that were asked for, beyond their headers."""
        return [each for each in self.asked if re.match("GET .*/resolve/", each)]

    def add(self, name: str, files: Files, *names: str) -> str:
        """Commit files to a model; return the commit."""
        return self.models.setdefault(name, Model()).commit(files, *names)


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        self._answer({
            r"/api/models/([^/]+/[^/]+)/revision/([^/]+)": self._describe,
            r"/api/models/([^/]+/[^/]+)": lambda name: self._describe(name, "main"),
            r"/api/models/([^/]+/[^/]+)/tree/([^/]+)": self._list,
            r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)": self._serve,
        })  # fmt: skip

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(401, "", "Invalid credentials in Authorization header")
            return
        self._answer({
            r"/api/repos/create": self._create,
            r"/api/validate-yaml": lambda: self._send({"warnings": [], "errors": []}),
            r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)": self._choose_modes,
            r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch": self._offer_storage,
            r"/store/([0-9a-f]+)": self._store,
            r"/api/models/([^/]+/[^/]+)/commit/([^/]+)": self._commit,
        })  # fmt: skip

    def do_PUT(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({r"/store/([0-9a-f]+)": self._store})

    def _answer(self, routes: Mapping[str, Callable[..., None]]) -> None:
        path = urlsplit(self.path).path
        self.server.asked.append(f"{self.command} {path}")
        for pattern, action in routes.items():
            if match := re.fullmatch(pattern, path):
                action(*map(unquote, match.groups()))
                return
        self._refuse(404, "", "no such page")

    def _send(self, content: Any, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        for name, value in (("X-Error-Code", code), ("X-Error-Message", message)):
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _find(self, name: str, revision: str) -> tuple[str, Files] | None:
        """The commit of a revision; the hub calls a private model, like an unknown one, absent."""
        model = self.server.models.get(name)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if model is None or (model.private and not known):
            self._refuse(404 if known else 401, "RepoNotFound", "Repository not found")
            return None
        sha = model.resolve(revision)
        if sha is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return sha, model.commits[sha]

    def _describe(self, name: str, revision: str) -> None:
        if found := self._find(name, revision):
            files = [{"rfilename": path} for path in found[1]]
            self._send({"id": name, "sha": found[0], "siblings": files})

    def _list(self, name: str, revision: str) -> None:
        if found := self._find(name, revision):
            self._send([
                {"type": "file", "path": path, "size": len(data), "oid": _hash(data)}
                for path, data in found[1].items()
            ])  # fmt: skip

    def _serve(self, name: str, revision: str, path: str) -> None:
        if found := self._find(name, revision):
            if path not in found[1]:
                self._refuse(404, "EntryNotFound", "Entry not found")
                return
            content = found[1][path]
            self._send(content, ETag=f'"{_hash(content)}"', X_Repo_Commit=found[0])

    def _create(self) -> None:
        wanted = json.loads(self.body)
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.server.models:
            self._send({"url": f"{self.server.url}/{name}"}, 409)
            return
        self.server.models[name] = Model(wanted["visibility"] == "private")
        self.server.add(name, {".gitattributes": b""})
        self._send({"url": f"{self.server.url}/{name}"})

    def _choose_modes(self, name: str, revision: str) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self.body)["files"]
        ]
        self._send({"files": files})

    def _offer_storage(self, name: str) -> None:
        offers = [
            {**each, "actions": {"upload": {"href": f"{self.server.url}/store/{each['oid']}"}}}
            for each in json.loads(self.body)["objects"]
        ]
        self._send({"transfer": "basic", "objects": offers})

    def _store(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            self._refuse(400, "", "the content has another hash")
            return
        self.server.stored[oid] = self.body
        self._send({})

    def _commit(self, name: str, revision: str) -> None:
        files = dict(self.server.models[name].commits[self.server.models[name].names[revision]])
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.stored[value["oid"]]
        sha = self.server.add(name, files)
        self._send({"commitUrl": f"{self.server.url}/{name}/commit/{sha}", "commitOid": sha})


def files_of(directory: Path) -> dict[str, bytes]:
    """The files of a directory by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


if __name__ == "__main__":
    standing_in = Hub(int(sys.argv[1]))
    for argument in sys.argv[2:]:
        model, _, folder = argument.partition("=")
        standing_in.add(model, files_of(Path(folder)))
    standing_in.serve_forever()
