"""Protein sequences from FASTA files, and how any text file of the benchmark is read but once.

Files come from anywhere: with Windows line ends, a byte order mark, compressed. What is tolerated
changes nothing; what would change a sequence or guess at one is refused with its line. What was
parsed stays on disk as an HF data set, under a hash of the text it came from.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
import pyarrow as pa
from datasets.table import InMemoryTable

from common.data.tables.ids import shorten_uniprot
from common.errors import UserError, excerpt
from common.files import explain_no_text, hash_file, new_directory

# Part of the cache's key: raise it when the same text shall be parsed into something else.
_CACHE_VERSION = 1
_CHECKSUM_FILE = "checksum"

# ASCII on purpose: upper-casing other letters can make two of one.
_SEQUENCE_LINE = re.compile(r"[A-Za-z]*\*?")


@dataclass(frozen=True)
class _Record:
    name: str
    line: int
    sequence: str


def read_text(path: Path) -> str:
    """The content of a UTF-8 text file, without byte order mark, unpacked where it ends in `.gz`.

    Raises:
        UserError: The file cannot be read, is no gzip file though it is called one, or no text.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        # Files put together from several can begin with more than one mark.
        return content.decode("utf-8").lstrip("\ufeff")
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise UserError(f"{path} is not a whole gzip file; fetch it again") from None
    except UnicodeDecodeError:
        raise UserError(explain_no_text(path)) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; check the path") from None


def cached_dataset(
    kind: str, text: str, cache_dir: Path, parse: Callable[[], pa.Table]
) -> datasets.Dataset:
    """The data set that a text parses to, from disk where the same text was parsed before.

    Several processes may ask at once: each writes its own directory, the first to finish renames
    it into place.

    Args:
        kind: What the text is read as, part of the key.
        text: The content; a changed file has another key.
        cache_dir: Where data sets are kept.
        parse: Gives the rows; called only where they are not there yet.

    Raises:
        UserError: What `parse` raises; or the directory cannot be written.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    folder = cache_dir / f"{kind}-v{_CACHE_VERSION}-{digest}"
    dataset = _load(folder)
    if dataset is None:
        dataset = datasets.Dataset(InMemoryTable(parse()), fingerprint=digest)
        _store(dataset, folder)
    return dataset


def _load(folder: Path) -> datasets.Dataset | None:
    if not folder.is_dir():
        return None
    try:
        # Arrow trusts its files: from a flipped bit it reads other rows, or crashes the process.
        if (folder / _CHECKSUM_FILE).read_text() == _checksum(folder):
            return datasets.load_from_disk(str(folder))
    except (OSError, ValueError, LookupError, TypeError, pa.ArrowException):
        # What is no longer there, or not a data set of this version of the library, is damaged too.
        pass
    # Damaged from outside: make way for a new one.
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _checksum(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.name != _CHECKSUM_FILE)
    return " ".join(hash_file(path) for path in files)


def _store(dataset: datasets.Dataset, folder: Path) -> None:
    remedy = "set data_config.benchmark.cache_dir to another directory"
    with new_directory(folder, replace=False, remedy=remedy) as temporary:
        with _without_progress_bars():
            dataset.save_to_disk(str(temporary))
        (temporary / _CHECKSUM_FILE).write_text(_checksum(temporary))


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    were_disabled = datasets.utils.are_progress_bars_disabled()
    datasets.utils.disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            datasets.utils.enable_progress_bars()


def read_sequences(path: str | Path, cache_dir: str | Path) -> dict[str, str]:
    """As `read_fasta`, parsed once and kept below `cache_dir` (columns id, sequence)."""
    path = Path(path)
    text = read_text(path)

    def parse() -> pa.Table:
        sequences = parse_fasta(text, path)
        return pa.table({"id": list(sequences), "sequence": list(sequences.values())})

    rows = cached_dataset("sequences", text, Path(cache_dir), parse)[:]
    return dict(zip(rows["id"], rows["sequence"], strict=True))


def read_fasta(path: str | Path) -> dict[str, str]:
    """Read a FASTA file.

    Args:
        path: The file; `.gz` is unpacked.

    Returns:
        The upper-case sequence of every id, in file order. The id is the first word of the header,
        or the accession of a UniProt header (`sp|P12345|NAME`). A closing `*` (stop) is dropped.

    Raises:
        UserError: Names the file and line of what is not FASTA, of a character that is not a
            letter, of an empty record, and both lines of an id with two different sequences.
    """
    path = Path(path)
    return parse_fasta(read_text(path), path)


def parse_fasta(text: str, path: Path) -> dict[str, str]:
    """As `read_fasta`, from the text itself; `path` is for messages alone."""
    records: dict[str, _Record] = {}
    for record in _records(text, path):
        first = records.setdefault(record.name, record)
        if first.sequence != record.sequence:
            raise UserError(
                f"{path}, line {record.line}: {excerpt(record.name)} has another sequence here than"
                f" on line {first.line}; keep one of the two"
            )
    if not records:
        raise UserError(f"{path} holds no sequences; expected FASTA ('>id', then the sequence)")
    return {name: record.sequence for name, record in records.items()}


def _records(text: str, path: Path) -> Iterator[_Record]:
    name, start, parts = "", 0, list[str]()
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        line = line.strip()
        if line.startswith(">"):
            if start:
                yield _finish(name, start, parts, path)
            name, start, parts = _header_id(line, number, path), number, []
        elif line and not start:
            raise UserError(f"{path}, line {number}: text before the first '>'; this is not FASTA")
        elif line:
            _check_sequence_line(line, parts, name, f"{path}, line {number}")
            parts.append(line)
    if start:
        yield _finish(name, start, parts, path)


def _header_id(line: str, number: int, path: Path) -> str:
    words = line[1:].split(maxsplit=1)
    if not words:
        raise UserError(f"{path}, line {number}: a header without an id; write '>id'")
    if not words[0].isprintable():
        raise UserError(
            f"{path}, line {number}: the id '{excerpt(words[0])}' has characters that cannot be"
            " seen; remove them"
        )
    return shorten_uniprot(words[0])


def _check_sequence_line(line: str, before: list[str], name: str, where: str) -> None:
    if before and before[-1].endswith("*"):
        raise UserError(
            f"{where}: the sequence of {excerpt(name)} goes on after its stop '*'; mend it"
        )
    valid = _SEQUENCE_LINE.match(line)
    end = valid.end() if valid else 0
    if end < len(line):
        wrong = "*" if line[end - 1 : end] == "*" else line[end]
        raise UserError(
            f"{where}: {wrong!r} in the sequence of {excerpt(name)} is not a residue letter (A-Z);"
            " mend it"
        )


def _finish(name: str, start: int, parts: list[str], path: Path) -> _Record:
    sequence = "".join(parts).removesuffix("*").upper()
    if not sequence:
        raise UserError(
            f"{path}, line {start}: {excerpt(name)} has no sequence; add it or remove the entry"
        )
    return _Record(name, start, sequence)
