"""Downloads files over HTTP, and keeps a file only if it is complete and readable.

A partial download is kept as `NAME.part`, from which the next attempt resumes. A file gets its
final name only when it is complete and can be read as the expected kind of file. `download.json`,
beside the data, records the SHA-256 of all downloaded files, which later runs verify. Proxies and
certificates come from the environment (HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE).
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
TIMEOUT = (10.0, 60.0)  # seconds to connect, and to wait for the next bytes of a response
WAITS = (1.0, 2.0, 4.0)  # seconds between attempts
PIECE = 1 << 14  # bytes read at once; a broken connection loses fewer bytes

_REASONS = {
    requests.exceptions.SSLError: "the server's certificate is not trusted here; set"
    " REQUESTS_CA_BUNDLE to the file with the certificates of your network",
    requests.exceptions.ProxyError: "the proxy set in HTTPS_PROXY or HTTP_PROXY does not respond",
    requests.exceptions.Timeout: "the server did not respond in time",
    requests.exceptions.ChunkedEncodingError: "the connection broke",
    requests.exceptions.ConnectionError: "there is no connection",
}
Entry = dict[str, str]


@dataclass(frozen=True)
class Downloads:
    """Downloads files into one folder, and records their hashes in `download.json`.

    Attributes:
        folder: The folder of the files, which may be in subfolders.
        instead: What the user can do if a file cannot be downloaded, for messages.
    """

    folder: Path
    instead: str

    def fetch(self, target: Path, urls: Sequence[str], check: Callable[[Path], object]) -> bool:
        """Ensure that a file exists, downloading it if necessary from the first URL that has it.

        Args:
            target: The path of the file, below the folder.
            urls: The URLs to try, in this order, until one does not return status 404.
            check: Reads the file, and raises a `UserError` if the content is not as expected.

        Returns:
            Whether the file exists now; False if every URL returned status 404.

        Raises:
            UserError: There is no connection, the server refuses the request, the response is not
                the file, or the file differs from the file that an earlier run downloaded.
        """
        if not target.exists():
            with explain_disk_errors(target):
                self.folder.mkdir(parents=True, exist_ok=True)
                # Another process may be downloading into the same folder.
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
        """Download the rest of a partial file; return False if the URL does not exist (404)."""
        entry = self._entry(name, url)
        validator = entry.get("validator")
        offset = part.stat().st_size if validator and part.exists() else 0
        headers = {"Accept-Encoding": "identity"}
        if validator and offset:
            # The server sends the rest only if the file has not changed, otherwise the whole file.
            headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == 404:
                return False
            resumed = answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
            if answer.status_code == 416 or (answer.status_code == 206 and not resumed):
                part.unlink(missing_ok=True)  # The partial file is longer than the server's file.
                raise requests.exceptions.ChunkedEncodingError
            answer.raise_for_status()
            offset = offset if resumed else 0
            part.parent.mkdir(parents=True, exist_ok=True)
            total = offset + (answer.raw.length_remaining or 0)
            with (
                part.open("ab" if offset else "wb") as file,
                LongWork(f"downloading {name}", total, "bytes", initial=offset) as work,
            ):
                self._note(name, entry | {"validator": _validator(answer)})
                for piece in answer.iter_content(PIECE):
                    file.write(piece)
                    work.advance(len(piece))
                file.flush()
                os.fsync(file.fileno())
        return True

    def _accept(self, url: str, part: Path, target: Path, check: Callable[[Path], object]) -> None:
        """Check a completely downloaded file and give it its final name."""
        if _is_web_page(part):
            reason = "the server sent a web page instead of the file, perhaps a login page"
            raise UserError(self._explain(url, reason))
        name, digest = self._name(target), _sha256(part)
        entry = self._entry(name, url)
        if entry.get("sha256", digest) != digest:
            raise UserError(
                f"{url} has changed since an earlier run downloaded it (SHA-256 {digest[:12]}…"
                f" instead of {entry['sha256'][:12]}…); delete {self.folder / RECORD_FILE} to"
                " accept the new file, or restore the old file"
            )
        try:
            check(part)
        except UserError as error:
            raise UserError(self._explain(url, f"the file is not usable ({error})")) from None
        self._note(name, {"url": url, "sha256": digest})
        part.replace(target)
        size = target.stat().st_size
        LOGGER.info(format_event("file_fetched", file=target, bytes=size, sha256=digest))

    def _verify(self, target: Path) -> None:
        """Raise an error if the file has changed since an earlier run downloaded it."""
        recorded = self._read_record().get(self._name(target), {}).get("sha256")
        if recorded is not None and _sha256(target) != recorded:
            raise UserError(
                f"{target} has changed since it was downloaded (the SHA-256 differs from"
                f" {self.folder / RECORD_FILE}); delete the file to download it again, or set"
                " data_config.benchmark.download: false to use the changed file"
            )

    def _explain(self, url: str, reason: str) -> str:
        return f"cannot download {url}: {reason}; try again, or {self.instead}"

    def _name(self, target: Path) -> str:
        return target.relative_to(self.folder).as_posix()

    def _entry(self, name: str, url: str) -> Entry:
        """Return the record of a file if it came from this URL, or else a new record."""
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
            raise UserError(
                f"{path} is damaged; delete it to continue without the recorded hashes"
            ) from None


def _may_pass(error: requests.RequestException) -> bool:
    """Return whether a failed request may succeed if it is repeated."""
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
    """Return the identifier of the file's version on the server, for the header `If-Range`."""
    etag = answer.headers.get("ETag", "")
    return answer.headers.get("Last-Modified", "") if etag[:2] in ("", "W/") else etag


def _is_web_page(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
