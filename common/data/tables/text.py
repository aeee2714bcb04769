"""Open text files from anywhere: UTF-8, compressed or not, with any line ends."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from common.errors import UserError

_GZIP_MAGIC = b"\x1f\x8b"


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """Open a UTF-8 text file without byte order marks, decompressed if its name ends in `.gz`.

    Every kind of line end is read as a newline.

    Raises:
        UserError: Here or while reading: the file cannot be read, is not text, or is not gzip
            although its name ends in `.gz`.
    """
    try:
        with _open_bytes(path) as file:
            # Files put together from several can begin with more than one mark.
            while file.peek(3)[:3] == codecs.BOM_UTF8:  # type: ignore[attr-defined]
                file.read(3)
            yield io.TextIOWrapper(file, encoding="utf-8")
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise UserError(
            f"{path} is not a complete gzip file; fetch it again, or rename it if it is not"
            " compressed"
        ) from None
    except UnicodeDecodeError:
        raise UserError(_explain_no_text(path)) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; check the path") from None


def _open_bytes(path: Path) -> IO[bytes]:
    if path.suffix != ".gz":
        return path.open("rb")
    if not path.stat().st_size:
        raise EOFError  # gzip would read no bytes as an empty file
    return cast(IO[bytes], gzip.open(path, "rb"))


def _explain_no_text(path: Path) -> str:
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP_MAGIC and path.suffix != ".gz"
    remedy = "it is compressed by gzip, so rename it to end in .gz" if packed else "save it as such"
    return f"{path} is not a text file in UTF-8; {remedy}"
