"""What the tests of bad input share: attempts at reading, the sentence of a refusal, packed files.

A case is one attempt: the reader gives what an independent, slow and obvious oracle gives, or it
refuses with one sentence and leaves the disk as it was. Anything else fails the test by itself.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from common.errors import UserError

Result = TypeVar("Result")

# Beside the path: what a person reads in one go.
LONGEST_SENTENCE = 500

TRIED: Counter[str] = Counter()
RAN_HERE: set[str] = set()  # node ids of the tests that this process has run


def cases(count: int) -> settings:
    """Hypothesis settings: the same examples on every machine, however slow."""
    return settings(max_examples=count, derandomize=True, deadline=None)


@dataclass(frozen=True)
class Refused:
    """What a reader said instead of reading."""

    sentence: str


def attempt(
    reader: str, read: Callable[[], Result], path: Path, or_names: str = ""
) -> Result | Refused:
    """Read, or check that the refusal is one sentence that names the path and left no file.

    Args:
        reader: What the case counts for.
        read: Reads the file.
        path: The file; all beside it must stay as it is where it is refused.
        or_names: What else a refusal may blame instead of the file.
    """
    TRIED[reader] += 1
    before = _files_beside(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            return read()
    except UserError as error:
        sentence = str(error)
    assert str(path) in sentence or (or_names and or_names in sentence)
    assert_one_sentence(sentence.replace(str(path), "PATH"))
    assert _files_beside(path) == before
    return Refused(sentence)


def assert_one_sentence(sentence: str) -> None:
    """It fits on a line of any terminal: no line ends, no control characters, not endless."""
    assert sentence.isprintable(), repr(sentence)
    assert len(sentence) <= LONGEST_SENTENCE, sentence


def _files_beside(path: Path) -> set[tuple[Path, int]]:
    return {(file, file.stat().st_mtime_ns) for file in path.parent.rglob("*")}


def named_line(refused: Refused, path: Path) -> int:
    """The line number that a refusal names."""
    found = re.search(rf"{re.escape(str(path))}, line (\d+)", refused.sentence)
    assert found, refused.sentence
    return int(found.group(1))


def check(
    read: Result | Refused, expected: Result, wrong_lines: Collection[int], path: Path
) -> None:
    """Compare with the oracle: a refusal names one of the wrong lines if there are any."""
    if wrong_lines:
        assert isinstance(read, Refused), "a wrong line was read"
        assert named_line(read, path) in wrong_lines
    else:
        assert read == expected


def assert_tried(request: pytest.FixtureRequest, expected: dict[str, int]) -> None:
    """The tests of the asking file, where all of them ran here, tried so many cases per reader."""
    own = [item for item in request.session.items if item.path == request.path]
    chosen = {item.name.partition("[")[0] for item in own}
    written = {name for name in vars(request.module) if name.startswith("test_")}
    ran = {item.nodeid for item in own} - {request.node.nodeid} <= RAN_HERE
    if not (written <= chosen and ran):
        pytest.skip("counts cases only where all tests of the file run in one process")
    for reader, count in expected.items():
        assert TRIED[reader] >= count, f"{reader}: {TRIED[reader]} cases"


# Files


@dataclass(frozen=True)
class Packing:
    """How a text becomes a file: its encoding, whether it is compressed, what befell it then."""

    name: str
    encoding: str = "utf-8"
    damage: Callable[[bytes], bytes] = bytes

    def store(self, folder: Path, text: str) -> Path:
        content = text.encode(self.encoding, "replace")
        if "packed" in self.name:
            content = gzip.compress(content, mtime=0)
        path = folder / self.name
        path.write_bytes(self.damage(content))
        return path


@st.composite
def packings(draw: st.DrawFn) -> Packing:
    """Mostly harmless; else another encoding, a broken or a misnamed gzip file."""
    kind = draw(st.integers(0, 9))
    if kind < 6:
        return draw(st.sampled_from([Packing("plain.txt"), Packing("packed.gz")]))
    if kind < 8:
        encodings = ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"]
        misfits = [Packing("plain.txt", encoding) for encoding in encodings]
        return draw(st.sampled_from([*misfits, Packing("plain.gz"), Packing("packed.txt")]))
    rests = [
        b"\0",
        b"\0" * 700,
        b"garbage",
        b"\x1f\x8b",
        gzip.compress(b"P1 P2 1\n", mtime=0),
    ]
    damages = st.one_of(
        st.integers(1, 400).map(lambda size: _damaged(lambda content: content[:-size])),
        st.integers(80, 4000).map(lambda bit: _damaged(_flip_behind_the_header(bit))),
        st.sampled_from(rests).map(lambda rest: _damaged(lambda content: content + rest)),
        st.binary(max_size=60).map(lambda junk: Packing("junk.txt", damage=lambda _: junk)),
    )
    return draw(damages)


def _damaged(damage: Callable[[bytes], bytes]) -> Packing:
    return Packing("packed.gz", damage=damage)


def _flip_behind_the_header(bit: int) -> Callable[[bytes], bytes]:
    """Flips a bit; in the header of a gzip file (10 bytes) most change nothing."""

    def flip(content: bytes) -> bytes:
        place = 80 + (bit - 80) % (8 * len(content) - 80)
        return flip_bit(content, place)

    return flip


def flip_bit(content: bytes, bit: int) -> bytes:
    """The content with one bit flipped."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def text_of(path: Path) -> str | None:
    """The oracle's reading: UTF-8 or Windows-1252, gzip by content; None if it is not text."""
    content = path.read_bytes()
    if content.startswith((b"PK\3\4", b"BZh", b"\xfd7zXZ", b"\xff\xfe", b"\xfe\xff")):
        return None
    if not content and path.suffix == ".gz":
        return None
    if content.startswith(b"\x1f\x8b"):
        unpacked = unpack(content)
        if unpacked is None:
            return None
        content = unpacked
    return "\n".join(map(_decoded, re.split(b"\r\n|\r|\n", content))).lstrip("\ufeff")


def _decoded(line: bytes) -> str:
    """A line in one of the two encodings; one that is in neither is made one that is refused."""
    for encoding in ("utf-8", "cp1252"):
        with contextlib.suppress(UnicodeDecodeError):
            return line.decode(encoding)
    return "\0"


def unpack(content: bytes) -> bytes | None:
    """What the members of a gzip file hold, by zlib alone; None if one is not whole."""
    parts = []
    while content:
        member = zlib.decompressobj(wbits=31)
        try:
            parts.append(member.decompress(content))
        except zlib.error:
            return None
        if not member.eof:
            return None
        content = member.unused_data.lstrip(b"\0")
    return b"".join(parts) if parts else None


def lines_of(text: str) -> list[tuple[int, str]]:
    """The lines of a text with their numbers, whatever ends them."""
    return list(enumerate(re.split("\r\n|\r|\n", text), 1))
