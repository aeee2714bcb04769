"""Fetches files over HTTP so that an interrupted or damaged transfer never becomes a file.

What has arrived is kept as `NAME.part`, and the transfer resumes from there. A file is moved to its
place only when it is complete and can be read as the right kind of file. `download.json`, beside
the data, records the SHA-256 of everything that was fetched, and later runs compare the files with
it. Proxies and certificates come from the environment (HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests
from filelock import FileLock

from common.errors import UserError
from common.files import explain_disk_errors, write_atomically
from common.long_work import LongWork
from common.run import LOGGER, format_event

RECORD_FILE, LOCK_FILE = "download.json", ".download.lock"
TIMEOUT = (10.0, 60.0)  # seconds: to connect, and between two pieces of an answer
WAITS = (1.0, 2.0, 4.0)  # seconds between tries
PIECE = 1 << 14  # bytes read at once; a broken connection loses less than this

_REASONS = {
    requests.exceptions.SSLError: "its certificate is not trusted here; set REQUESTS_CA_BUNDLE to"
    " the file with the certificates of your network",
    requests.exceptions.ProxyError: "the proxy of HTTPS_PROXY or HTTP_PROXY does not answer",
    requests.exceptions.Timeout: "it does not answer in time",
    requests.exceptions.ChunkedEncodingError: "the connection broke",
    requests.exceptions.ConnectionError: "there is no connection",
}
Entry = dict[str, str]


@dataclass(frozen=True)
class Downloads:
    """The fetched files of one folder, and the record of them.

    Attributes:
        folder: Where the files go, in subfolders too.
        instead: What else the user can do if a file cannot be fetched, for messages.
    """

    folder: Path
    instead: str

    def fetch(self, target: Path, urls: Sequence[str], check: Callable[[Path], object]) -> bool:
        """Make sure that a file exists, fetching it from the first URL that has it.

        Args:
            target: The file, below the folder.
            urls: Where it may be; they are tried in this order until one does not answer 404.
            check: Reads the file, and raises a `UserError` if it is not what it should be.

        Returns:
            Whether the file exists now; False if every URL answered 404.

        Raises:
            UserError: There is no connection, the server refuses, the answer is not the file, or
                the file differs from what an earlier run fetched.
        """
        if not target.exists():
            with explain_disk_errors(target):
                self.folder.mkdir(parents=True, exist_ok=True)
                # Another process may be fetching into the same folder.
                with FileLock(self.folder / LOCK_FILE):
                    if not target.exists():
                        return any(self._fetch_from(url, target, check) for url in urls)
        self._verify(target)
        return True

    def _fetch_from(self, url: str, target: Path, check: Callable[[Path], object]) -> bool:
        part = target.with_name(f"{target.name}.part")
        for wait in (*WAITS, None):
            try:
                if not self._receive(url, part, self._name(target)):
                    return False
                break
            except requests.RequestException as error:
                if wait is None or not _may_pass(error):
                    raise UserError(self._explain(url, _reason(error, part))) from None
                time.sleep(wait)
        try:
            self._accept(url, part, target, check)
        finally:
            part.unlink(missing_ok=True)
        return True

    def _receive(self, url: str, part: Path, name: str) -> bool:
        """Receive the missing part of a file; return False if the URL has no file."""
        entry = self._entry(name, url)
        validator = entry.get("validator")
        offset = part.stat().st_size if validator and part.exists() else 0
        headers = {"Accept-Encoding": "identity"}
        if validator and offset:
            # The server sends the rest only if its file is still the same, else all of it.
            headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == 404:
                return False
            resumed = answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
            if answer.status_code == 416 or (answer.status_code == 206 and not resumed):
                part.unlink(missing_ok=True)  # It is longer than the file on the server.
                raise requests.exceptions.ChunkedEncodingError
            answer.raise_for_status()
            offset = offset if resumed else 0
            part.parent.mkdir(parents=True, exist_ok=True)
            total = offset + (answer.raw.length_remaining or 0)
            with (
                part.open("ab" if offset else "wb") as file,
                LongWork(f"fetching {name}", total, "bytes", initial=offset) as work,
            ):
                self._note(name, entry | {"validator": _validator(answer)})
                for piece in answer.iter_content(PIECE):
                    file.write(piece)
                    work.advance(len(piece))
                file.flush()
                os.fsync(file.fileno())
        return True

    def _accept(self, url: str, part: Path, target: Path, check: Callable[[Path], object]) -> None:
        """Check a complete file and move it into its place."""
        if _is_web_page(part):
            reason = "it answers with a web page instead of the file, perhaps a login page"
            raise UserError(self._explain(url, reason))
        name, digest = self._name(target), _sha256(part)
        entry = self._entry(name, url)
        if entry.get("sha256", digest) != digest:
            raise UserError(
                f"{url} has changed since an earlier run fetched it (SHA-256 {digest[:12]}…"
                f" instead of {entry['sha256'][:12]}…); delete {self.folder / RECORD_FILE} to"
                " accept the new file, or restore the old one"
            )
        try:
            check(part)
        except UserError as error:
            raise UserError(self._explain(url, f"what was sent is not usable ({error})")) from None
        self._note(name, {"url": url, "sha256": digest})
        part.replace(target)
        size = target.stat().st_size
        LOGGER.info(format_event("file_fetched", file=target, bytes=size, sha256=digest))

    def _verify(self, target: Path) -> None:
        """Refuse a file that was fetched by an earlier run and has changed since."""
        recorded = self._read_record().get(self._name(target), {}).get("sha256")
        if recorded is not None and _sha256(target) != recorded:
            raise UserError(
                f"{target} has changed since it was fetched (its SHA-256 is not the one in"
                f" {self.folder / RECORD_FILE}); delete it to fetch it again, or set"
                " data_config.benchmark.download: false to use it as it is"
            )

    def _explain(self, url: str, reason: str) -> str:
        return f"cannot fetch {url}: {reason}; try again, or {self.instead}"

    def _name(self, target: Path) -> str:
        return target.relative_to(self.folder).as_posix()

    def _entry(self, name: str, url: str) -> Entry:
        """Return the recorded entry of a file, if the file came from this URL."""
        entry = self._read_record().get(name, {})
        return entry if entry.get("url") == url else {"url": url}

    def _note(self, name: str, entry: Entry) -> None:
        record = self._read_record() | {name: entry}
        write_atomically(self.folder / RECORD_FILE, json.dumps(record, indent=1) + "\n")

    def _read_record(self) -> dict[str, Entry]:
        path = self.folder / RECORD_FILE
        try:
            record: dict[str, Entry] = json.loads(path.read_bytes()) if path.exists() else {}
            return {name: dict(entry) for name, entry in record.items()}
        except (ValueError, AttributeError, TypeError):
            raise UserError(f"{path} is damaged; delete it to continue without it") from None


def _may_pass(error: requests.RequestException) -> bool:
    """Whether another try may succeed; it cannot if the request itself is refused."""
    if error.response is not None:
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, tuple(_REASONS))


def _reason(error: requests.RequestException, part: Path) -> str:
    if error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    reason = next((text for kind, text in _REASONS.items() if isinstance(error, kind)), str(error))
    arrived = part.stat().st_size if part.exists() else 0
    return f"{reason}, after {arrived} bytes of the file" if arrived else reason


def _validator(answer: requests.Response) -> str:
    """Return the server's identifier of this state of the file, for the header `If-Range`."""
    etag = answer.headers.get("ETag", "")
    return answer.headers.get("Last-Modified", "") if etag[:2] in ("", "W/") else etag


def _is_web_page(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
