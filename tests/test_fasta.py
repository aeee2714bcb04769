"""FASTA files: what is read, what is refused with its line, and the cache of what was parsed."""

from __future__ import annotations

import gzip
from pathlib import Path

import datasets
import pytest

from common.data.tables import cache, fasta
from common.data.tables.fasta import read_fasta, read_records, read_sequences
from common.errors import UserError
from common.evaluation.own_pairs import OwnSequences
from tests.tiny_esm import record_log

SHARED = Path(__file__).parents[2] / "shared"


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def simple(tmp_path: Path) -> Path:
    return write(tmp_path / "x.fasta", ">P1\nACDE\nFG\n>P2 a name\nmkx*\n")


def test_reads_ids_and_joined_upper_case_sequences_without_stop(simple: Path) -> None:
    assert read_fasta(simple) == {"P1": "ACDEFG", "P2": "MKX"}


def test_takes_the_accession_of_a_uniprot_header_only(tmp_path: Path) -> None:
    text = ">sp|P12345|AATM_RABIT Aspartate\nMA\n>tr|Q1|X\nMC\n> sp|P9|N spaced\nMD\n>gi|5|z\nME\n"
    read = read_fasta(write(tmp_path / "x.fasta", text))
    assert read == {"P12345": "MA", "Q1": "MC", "P9": "MD", "gi|5|z": "ME"}


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_line_ends_byte_order_mark_and_compression_change_nothing(
    tmp_path: Path, line_end: str
) -> None:
    text = line_end.join([">P1", "ACDE ", "", "FG", ">P2", "MK", "", ""])
    marked = b"\xef\xbb\xbf" + text.encode()
    assert read_fasta(write(tmp_path / "x.fasta", marked)) == {"P1": "ACDEFG", "P2": "MK"}
    for name, content in (
        ("x.fasta.gz", gzip.compress(marked, mtime=0)),
        ("packed.fasta", gzip.compress(marked, mtime=0)),
        ("plain.fasta.gz", marked),
    ):
        path = write(tmp_path / name, content)
        assert read_fasta(path) == {"P1": "ACDEFG", "P2": "MK"}
        assert read_sequences(path, tmp_path / "cache") == {"P1": "ACDEFG", "P2": "MK"}


def test_an_old_encoding_in_a_description_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fasta", ">P1 protéine\nAC\n>P2 β\nMK\n".encode("cp1252", "replace"))
    assert read_fasta(path) == {"P1": "AC", "P2": "MK"}
    # The user's own proteins were read twice, the second time as UTF-8 only.
    own = OwnSequences.read([path])
    assert (own.all, own.descriptions) == (read_fasta(path), {"P1": "protéine", "P2": "?"})


def test_a_description_is_what_follows_the_id_in_the_first_header(tmp_path: Path) -> None:
    text = ">sp|P1|X_Y A  kinase \nMA\n>P2\tof yeast\nMC\n>P3\nMD\n>P1 again\nMA\n"
    records = read_records(write(tmp_path / "x.fasta", text))
    found = {name: each.description for name, each in records.items()}
    assert found == {"P1": "A  kinase", "P2": "of yeast", "P3": ""}


def test_stop_codons_and_letters_of_no_standard_residue_are_counted(tmp_path: Path) -> None:
    """A U is selenocysteine, an X anything; language models were trained on few of them."""
    path = write(tmp_path / "x.fasta", ">P1\nACUX*\n>P2\nMXbX\n>P3\nACD\n>P4\nMK\n*\n>P4\nMK\n")
    with record_log() as log:
        assert read_fasta(path) == {"P1": "ACUX", "P2": "MXBX", "P3": "ACD", "P4": "MK"}
        read_fasta(write(tmp_path / "plain.fasta", ">P3\nACDEFGHIKLMNPQRSTVWY\n"))
    assert log.lines == [
        f"sequences_read | file={path} | stops_removed=2 | proteins_with_other_letters=2"
        " | letters=B 1, U 1, X 3"
    ]


def test_a_repeated_entry_is_fine_but_not_with_another_sequence(tmp_path: Path) -> None:
    same = write(tmp_path / "same.fasta", ">P1\nAC\n>P1\nA\nC*\n")
    assert read_fasta(same) == {"P1": "AC"}
    other = write(tmp_path / "other.fasta", ">P1\nAC\n>P2\nAC\n>P1\nAD\n")
    with pytest.raises(UserError, match=r"other\.fasta, line 5: P1 .* line 1;"):
        read_fasta(other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "contains no sequences"),
        ("\n \n", "contains no sequences"),
        ("ACDE\n>P1\nAC\n", "line 1: the file is not FASTA"),
        (">P1\nACDE\nAC4E\n", "line 3: '4' in the sequence of P1"),
        (">P1\nAC-E\n", "line 2: '-' in the sequence of P1"),
        (">P1\nAC E\n", "line 2: ' ' in the sequence of P1"),
        (">P1\nAC*E\n", "line 2: '*' in the sequence of P1"),
        (">P1\nAC**\n", "line 2: '*' in the sequence of P1"),
        (">P1\nACß\n", "line 2: 'ß' in the sequence of P1"),
        (">P1\nAC*\nDE\n", "line 3: the sequence of P1 has residues after the stop codon"),
        (">P1\nAC\n>P2\n>P3\nAC\n", "line 3: P2 has no sequence"),
        (">P1\nAC\n>P2\n*\n", "line 3: P2 has no sequence"),
        (">P1\nAC\n>P2", "line 3: P2 has no sequence"),
        (">\nAC\n", "line 1: the header has no id"),
    ],
)
def test_refuses_what_is_not_fasta_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "bad.fasta", text)
    with pytest.raises(UserError) as error:
        read_fasta(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.fasta", None, "cannot read .*No such file"),
        ("latin.fasta", b">P1\nAC\xe9\n", "line 2: 'é' in the sequence of P1"),
        ("other.fasta", b">P1\nAC\n>\x81\n", "line 3: the line is neither UTF-8 nor Windows-1252"),
        ("wide.fasta", ">P1\nAC\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        (
            "cut.fasta.gz",
            gzip.compress(b">P1\n" + b"AC" * 99, mtime=0)[:-12],
            "not a complete gzip file",
        ),
    ],
)
def test_unreadable_files_are_one_sentence(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        write(tmp_path / name, content)
    with pytest.raises(UserError, match=message):
        read_fasta(tmp_path / name)


@pytest.mark.skipif(not (SHARED / "pring").is_dir(), reason="needs the real PRING files")
def test_reads_the_real_yeast_sequences() -> None:
    path = SHARED / "pring/yeast/yeast_simple.fasta"
    sequences = read_fasta(path)
    assert len(sequences) == path.read_text().count(">") == 3274
    assert sequences["P40539"].startswith("MDDARLFRRVVCMPFPMIMLVALYRNVLGRDSTVD")


def test_the_cache_gives_what_was_parsed_without_parsing_again(
    simple: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_sequences(simple, tmp_path / "cache")
    assert first == read_fasta(simple)
    monkeypatch.setattr(fasta, "read_fasta", None)
    assert read_sequences(simple, tmp_path / "cache") == first


def test_a_changed_file_is_parsed_again(simple: Path, tmp_path: Path) -> None:
    read_sequences(simple, tmp_path / "cache")
    write(simple, simple.read_text().replace("FG", "FW"))
    assert read_sequences(simple, tmp_path / "cache")["P1"] == "ACDEFW"


def test_a_refused_file_leaves_no_cache(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.fasta", ">P1\nA1\n")
    for _ in range(2):
        with pytest.raises(UserError, match="line 2"):
            read_sequences(path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_the_second_of_two_processes_yields_to_the_first(
    simple: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both parse and write; whoever renames second finds the place taken by the same content."""
    folder = tmp_path / "cache"
    save = datasets.Dataset.save_to_disk

    def save_and_be_overtaken(dataset: datasets.Dataset, target: str) -> None:
        save(dataset, target)
        final = Path(target).name.removeprefix(".").rsplit(".", 2)[0]
        monkeypatch.setattr(datasets.Dataset, "save_to_disk", save)
        cache._store(dataset, folder / final)

    monkeypatch.setattr(datasets.Dataset, "save_to_disk", save_and_be_overtaken)
    assert read_sequences(simple, folder) == read_fasta(simple)
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(fasta, "read_fasta", None)
    assert read_sequences(simple, folder)["P2"] == "MKX"


@pytest.mark.parametrize("damage", ["cut", "state", "emptied"])
def test_a_damaged_cache_is_built_anew(simple: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    read_sequences(simple, cache)
    (folder,) = cache.iterdir()
    if damage == "cut":
        arrow = next(folder.glob("*.arrow"))
        arrow.write_bytes(arrow.read_bytes()[:-40])
    elif damage == "state":
        write(folder / "state.json", "{")
    else:
        for file in folder.iterdir():
            file.unlink()
    assert read_sequences(simple, cache) == read_fasta(simple)
    assert len(datasets.load_from_disk(str(folder))) == 2


def test_an_impossible_cache_directory_is_one_sentence(simple: Path, tmp_path: Path) -> None:
    taken = write(tmp_path / "taken", "a file")
    with pytest.raises(UserError, match=r"cannot write .*taken.*data_config\.benchmark\.cache"):
        read_sequences(simple, taken)


def test_progress_bars_stay_as_they_were(
    simple: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    datasets.utils.enable_progress_bars()
    read_sequences(simple, tmp_path / "cache")
    assert not datasets.utils.are_progress_bars_disabled()
    assert capfd.readouterr().err == ""
