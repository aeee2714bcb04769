"""Reads text files with any line ends, plain or gzip-compressed, in common encodings."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from common.errors import UserError

BLOCK_BYTES = 4 << 20
_GZIP_MAGIC = b"\x1f\x8b"
# The first bytes of file types that users often download and pass on unchanged.
_OTHER_FILES = {
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"BZh": "a bzip2 archive; unpack it first",
    b"\xfd7zXZ": "an xz archive; unpack it first",
}


def unreadable(path: Path, error: OSError) -> UserError:
    """Build the error for a file that the operating system cannot read."""
    return UserError(f"cannot read {path}: {error.strerror or error}; check the path")


class TextFile:
    """Reads a text file in blocks and decodes UTF-8 or Windows-1252.

    Gzip is recognized by the file's first bytes, byte order marks are skipped, every kind of line
    end is read as a newline, and a line that is not UTF-8 is read as Windows-1252.

    Attributes:
        path: The file.
        foreign: The number of lines that the last reading decoded as Windows-1252.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.foreign = 0

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield the number and the text of every line; the first line has the number 1."""
        number = 0
        for block in self.text_blocks():
            for line in block.decode().split("\n")[:-1]:
                number += 1
                yield number, line

    def text_blocks(self) -> Iterator[bytes]:
        """Yield the text of the file as UTF-8 bytes, in blocks of whole lines.

        Raises:
            UserError: The file cannot be read, or is not text.
        """
        number, self.foreign = 0, 0
        for block in self._raw_blocks():
            if b"\r" in block:
                block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            if not block.endswith(b"\n"):
                block += b"\n"
            if b"\0" in block:
                line = number + block[: block.index(b"\0")].count(b"\n") + 1
                raise UserError(
                    f"{self.path}, line {line}: the line contains a NUL byte, so the file is not a"
                    " text file; save the file as UTF-8 text"
                )
            if not block.isascii():
                block = self._as_utf8(block, number)
            number += block.count(b"\n")
            yield block

    def _as_utf8(self, block: bytes, before: int) -> bytes:
        try:
            block.decode()
            return block
        except UnicodeDecodeError:
            lines = enumerate(block.split(b"\n"), before + 1)
            return b"\n".join(self._line_as_utf8(line, number) for number, line in lines)

    def _line_as_utf8(self, line: bytes, number: int) -> bytes:
        try:
            line.decode()
            return line
        except UnicodeDecodeError:
            self.foreign += 1
        try:
            return line.decode("cp1252").encode()
        except UnicodeDecodeError:
            raise UserError(
                f"{self.path}, line {number}: the line is neither UTF-8 nor Windows-1252; save the"
                " file as UTF-8"
            ) from None

    def _raw_blocks(self) -> Iterator[bytes]:
        try:
            with self._open() as file:
                # The first block is small, because often only the first lines are needed.
                block = file.read(BLOCK_BYTES >> 5) + file.readline()
                while block.startswith(codecs.BOM_UTF8):
                    block = block.removeprefix(codecs.BOM_UTF8)
                while block:
                    yield block
                    block = file.read(BLOCK_BYTES) + file.readline()
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise UserError(f"{self.path} is not a complete gzip file; download it again") from None
        except OSError as error:
            raise unreadable(self.path, error) from None

    def _open(self) -> IO[bytes]:
        with self.path.open("rb") as file:
            start = file.read(8)
        for mark, kind in _OTHER_FILES.items():
            if start.startswith(mark):
                raise UserError(f"{self.path} is {kind}")
        if not start and self.path.suffix == ".gz":
            raise EOFError  # a download that stopped at once
        if start.startswith(_GZIP_MAGIC):
            return cast(IO[bytes], gzip.open(self.path, "rb"))
        return self.path.open("rb")
