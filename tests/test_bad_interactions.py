"""Bad interaction files: every reader gives what a slow oracle gives, or refuses in one sentence.

Cases: 150 for each of the six formats with an oracle, 300 of random text for all readers
(`test_so_many_cases_are_tried`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.tables.interactions.base import Interactions
from common.data.tables.interactions.reading import read_interactions
from common.data.tables.meeting_ids import read_id_map, read_organisms
from common.registry import READERS
from tests.bad_input import (
    Packing,
    Refused,
    assert_tried,
    attempt,
    cases,
    named_line,
    packings,
    unpack,
)

Fields = list[str]
Row = tuple[str, str, int]
# A row; None where the line is dropped; "wrong" where it must be refused.
Verdict = Row | None | str

IDS = ["P12345", "Q00001-2", "4932.A", "β2", "A0A024R1R8", "id_9", "sp|P1|X"]
ODD_IDS = ["", "P 1", "P\u200b1", "P1\x1b[31m", "\ufeffP1", "-", "é" * 200, "P\u30001"]
GENES = ["ENSG00000000005", "ENSG00000061656.3", "ENSG00000000457"]
NUMBERS = ["150", "999", "0.25", "1e-3", "-4"]
ODD_NUMBERS = ["", "x", "1_0", "nan", "0,5", "٣", "--1", "1e"]
LABELS = ["0", "1", "1.0", "0.0", "+", "-", "true", "FALSE"]
ODD_LABELS = ["2", "", "yes", "0.5", "\uff11", "01", "1" * 999]
TAXIDS = ["559292", "9606", "-"]


@dataclass(frozen=True)
class Form:
    """A format as it is tried: how its lines are made, and what each means.

    Attributes:
        delimiter: What the columns are separated by.
        header: The names of its columns; none if it has no header.
        columns: For each column the values that it may have.
        odd: Further values, most of them wrong.
        judge: What the fields of a line mean.
    """

    delimiter: str
    header: Sequence[str]
    columns: Sequence[Sequence[str]]
    odd: Sequence[str]
    judge: Callable[[Fields], Verdict]


def is_id(text: str) -> bool:
    return bool(text) and text.isprintable() and " " not in text


def is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", text, re.I))


def judge_string(fields: Fields) -> Verdict:
    a, b, score = (field.strip(" ") for field in fields)
    return (a, b, 1) if is_id(a) and is_id(b) and is_number(score) else "wrong"


def judge_biogrid(fields: Fields) -> Verdict:
    a, b, kind, *taxids, _ = (field.strip() for field in fields)
    if kind.lower() not in {"physical", "genetic"}:
        return "wrong"
    if not all(re.fullmatch(r"[0-9]{0,9}|-", taxid) for taxid in taxids):
        return "wrong"
    names = [[part.strip() for part in name.split("|")] for name in (a, b)]
    if any(part and not is_id(part) for parts in names for part in parts):
        return "wrong"
    first, second = ("" if parts[0] == "-" else parts[0] for parts in names)
    return (first, second, 1) if first and second and kind.lower() == "physical" else None


def judge_mitab(fields: Fields) -> Verdict:
    truth = {"true": 0, "false": 1, "-": 1, "": 1}.get(fields[35].strip().lower())
    miscore = re.search(r"(?:^|\|)intact-miscore:([^|]*)", fields[14])
    wrong = [
        truth is None,
        miscore is not None and not is_number(miscore.group(1).strip(" ")),
        *(
            t.strip() not in {"", "-"} and not re.match(r"taxid:-?[0-9]+\(", t.strip())
            for t in fields[9:11]
        ),
        *(name.strip() not in {"", "-"} and ":" not in name for name in fields[:2]),
    ]
    if any(wrong):
        return "wrong"
    names = [mitab_name(fields[place]) or mitab_name(fields[place + 2]) for place in (0, 1)]
    if not all(names) or "genetic" in fields[11].lower():
        return None
    assert truth is not None
    return names[0], names[1], truth


def mitab_name(text: str) -> str:
    for part in text.split("|"):
        base, _, name = part.strip().partition(":")
        name = name.split("(")[0].strip('"')
        if base == "uniprotkb" and is_id(name):
            return re.sub(r"^([A-Z0-9]{6,10})-[0-9]+$", r"\1", name)
    return ""


def judge_pring(fields: Fields) -> Verdict:
    a, relation, b, _ = fields
    return (a, b, 1) if relation == "PPI" and is_id(a) and is_id(b) else "wrong"


def judge_huri(fields: Fields) -> Verdict:
    a, b = (field.strip() for field in fields)
    right = all(re.fullmatch(r"ENSG[0-9]{11}(\.[0-9]+)?", name) for name in (a, b))
    return (a, b, 1) if right else "wrong"


def judge_labels(fields: Fields) -> Verdict:
    a, b = (field.strip(" ") for field in fields[:2])
    word = fields[2].strip().lower()
    label = {"+": 1, "true": 1, "-": 0, "false": 0}.get(word)
    if re.fullmatch(r"[01](\.0*)?", word, re.ASCII):
        label = int(word[0])
    return (a, b, label) if is_id(a) and is_id(b) and label is not None else "wrong"


UNIPROT = [f"uniprotkb:{name}" for name in ("P12345", "Q00001-2", "A0A024R1R8")]
HUMAN = ["taxid:9606(human)|taxid:9606(Homo sapiens)", "taxid:-2(chemical synthesis)", "-"]
MITAB_COLUMNS = [
    [*UNIPROT, "-", 'chebi:"CHEBI:15422"'], UNIPROT, ["-", "intact:EBI-1|uniprotkb:Q9"], ["-"],
    ["-"], ["-"], ['psi-mi:"MI:0018"(two hybrid)'], ["Uetz P (2000)"], ["pubmed:1"], HUMAN, HUMAN,
    ['psi-mi:"MI:0915"(physical association)', 'psi-mi:"MI:0208"(genetic interaction)'], ["-"],
    ["intact:EBI-9"], ["-", "intact-miscore:0.56", "author score:A|intact-miscore:0.1"],
    *([["-"]] * 20), ["false", "true", "-"], *([["-"]] * 6),
]  # fmt: skip
BIOGRID_HEADER = [
    "SWISS-PROT Accessions Interactor A", "SWISS-PROT Accessions Interactor B",
    "Experimental System Type", "Organism ID Interactor A", "Organism ID Interactor B", "Score",
    "Systematic Name Interactor A", "Systematic Name Interactor B",
]  # fmt: skip
FORMS = {
    "string": Form(
        " ", ["protein1", "protein2", "combined_score"], [IDS, IDS, NUMBERS],
        ODD_IDS + ODD_NUMBERS, judge_string,
    ),
    "biogrid": Form(
        "\t", BIOGRID_HEADER,
        [
            ["P1", "P2|P3", "-"], ["P2", "P4"], ["physical", "genetic"], TAXIDS, TAXIDS,
            [*NUMBERS, "-"], ["-"], ["-"],
        ],
        ["", "x", "P 1", "9606.5", "taxid:9606", "P\u200b1"],
        lambda fields: judge_biogrid(fields[:6]),
    ),
    "mitab": Form(
        "\t", [], MITAB_COLUMNS,
        ["", "x", "maybe", "uniprotkb", "taxid:x", "intact-miscore:", "P 1"], judge_mitab,
    ),
    "pring_raw": Form(" ", [], [IDS, ["PPI"], IDS, ["string"]], [*ODD_IDS, "ppi"], judge_pring),
    "huri": Form("\t", [], [GENES, GENES], [*ODD_IDS, "ENSG1", "P12345"], judge_huri),
    "delimited": Form(",", [], [IDS, IDS, LABELS], ODD_IDS + ODD_LABELS, judge_labels),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interactions")


@st.composite
def files_of(draw: st.DrawFn, form: Form) -> str:
    """A file of the format, half the time with one odd line, shuffled columns or no header."""
    rows = draw(
        st.lists(st.tuples(*map(st.sampled_from, form.columns)).map(list), min_size=1, max_size=5)
    )
    lines: list[Fields] = [list(form.header), *rows] if form.header else list(rows)
    oddity = draw(st.integers(0, 9))
    if oddity == 0 and len(lines) > 1:
        order = draw(st.permutations(range(len(form.columns))))
        start = 0 if form.header else 1
        lines[start:] = [[fields[place] for place in order] for fields in lines[start:]]
    elif oddity < 5 and len(lines) > 1:
        odd = list(lines[draw(st.integers(1, len(lines) - 1))])
        place = draw(st.integers(0, len(odd) - 1))
        change = draw(st.sampled_from(["value", "value", "missing", "added", "swapped"]))
        if change == "value":
            odd[place] = draw(st.sampled_from(form.odd))
        elif change == "missing":
            del odd[place]
        elif change == "added":
            odd.insert(place, draw(st.sampled_from(form.odd)))
        else:
            odd[place], odd[-1] = odd[-1], odd[place]
        lines.insert(draw(st.integers(1, len(lines))), odd)
    elif oddity == 5 and form.header and len(lines) > 1:
        del lines[0]
    ends = st.sampled_from(
        draw(st.sampled_from([["\n"], ["\r\n"], ["\r"], ["\n", "\n\n", "\n# x\n", "\r\n \n"]]))
    )
    text = "".join(form.delimiter.join(fields) + draw(ends) for fields in lines)
    start_of_file = draw(st.sampled_from(["", "", "\ufeff", "# made by hand\n", "\n"]))
    return start_of_file + (text if draw(st.booleans()) else text.rstrip("\r\n"))


def lines_in(path: Path) -> list[tuple[int, str]] | None:
    """The lines of a file that hold data, with their numbers; None where it must be refused."""
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        unpacked = unpack(content)
        if unpacked is None:
            return None
        content = unpacked
    if (
        content[:2] in {b"\xff\xfe", b"\xfe\xff"}
        or content.startswith(b"PK\3\4")
        or b"\0" in content
    ):
        return None
    content = re.sub(rb"\A(\xef\xbb\xbf)+", b"", content)
    lines = []
    for number, line in enumerate(re.split(rb"\r\n|\r|\n", content), 1):
        try:
            text = line.decode()
        except UnicodeDecodeError:
            try:
                text = line.decode("cp1252")
            except UnicodeDecodeError:
                return None
        if text.strip() and not text.lstrip().startswith("#"):
            lines.append((number, text))
    return lines or None


def expected(form: Form, lines: list[tuple[int, str]]) -> tuple[list[Row], set[int]] | None:
    """The rows of a file, and the numbers of its wrong lines; None where its header is no such."""
    places = list(range(len(form.columns)))
    if form.header:
        names = [name.strip().lower() for name in split(lines[0][1], form.delimiter)]
        wanted = [name.lower() for name in form.header]
        if sorted(names) != sorted(wanted):
            return None
        places, lines = [names.index(name) for name in wanted], lines[1:]
    rows, wrong = [], set[int]()
    width = len(places)
    for number, line in lines:
        fields = split(line, form.delimiter)
        verdict = (
            form.judge([fields[place] for place in places]) if len(fields) == width else "wrong"
        )
        if isinstance(verdict, str):
            wrong.add(number)
        elif verdict:
            rows.append(verdict)
    return rows, wrong


def split(line: str, delimiter: str) -> Fields:
    return re.split(r"[ \t]+", line.strip(" \t")) if delimiter == " " else line.split(delimiter)


def settled(rows: list[Row]) -> tuple[set[Row], set[tuple[str, str]]]:
    """Each pair once, with its label; and those with both."""
    labels: dict[tuple[str, str], set[int]] = {}
    for a, b, label in rows:
        labels.setdefault((min(a, b), max(a, b)), set()).add(label)
    clear = {(*pair, min(found)) for pair, found in labels.items() if len(found) == 1}
    return clear, {pair for pair, found in labels.items() if len(found) == 2}


def as_sets(found: Interactions) -> tuple[set[Row], set[tuple[str, str]]]:
    assert_sound(found)
    names = np.array([*found.ids, ""], object)
    rows = zip(names[found.pairs].tolist(), found.labels.tolist(), strict=True)
    return {(a, b, label) for (a, b), label in rows}, {
        (a, b) for a, b in names[found.contradictions]
    }


def assert_sound(found: Interactions) -> None:
    """What holds of all interactions, wherever they are from."""
    assert list(found.ids) == sorted(set(found.ids))
    both = np.concatenate([found.pairs, found.contradictions])
    assert set(both.ravel().tolist()) == set(range(len(found.ids)))
    assert (both[:, 0] <= both[:, 1]).all()
    assert len(np.unique(both, axis=0)) == len(both)
    assert len(found.pairs) == len(found.labels) == len(found.scores)
    assert all(len(count.examples) <= 10 for count in found.counts)


def check_form(folder: Path, name: str, text: str, packing: Packing) -> None:
    path, form = packing.store(folder, text), FORMS[name]
    read = attempt(name, lambda: as_sets(read_interactions([path], name)), path)
    lines = lines_in(path)
    known = lines and expected(form, lines)
    if not known:
        assert isinstance(read, Refused)
        return
    rows, wrong = known
    if wrong:
        assert isinstance(read, Refused), "a wrong line was read"
        if ": the first line '" not in read.sentence:
            assert named_line(read, path) in wrong
    elif rows:
        assert read == settled(rows)
    else:
        assert isinstance(read, Refused)
        assert "is left" in read.sentence or "holds no interactions" in read.sentence


@cases(150)
@given(files_of(FORMS["string"]), packings())
def test_string_files(folder: Path, text: str, packing: Packing) -> None:
    check_form(folder, "string", text, packing)


@cases(150)
@given(files_of(FORMS["biogrid"]), packings())
def test_biogrid_files(folder: Path, text: str, packing: Packing) -> None:
    check_form(folder, "biogrid", text, packing)


@cases(150)
@given(files_of(FORMS["mitab"]), packings())
def test_mitab_files(folder: Path, text: str, packing: Packing) -> None:
    check_form(folder, "mitab", text, packing)


@cases(150)
@given(files_of(FORMS["pring_raw"]), packings())
def test_pring_raw_files(folder: Path, text: str, packing: Packing) -> None:
    check_form(folder, "pring_raw", text, packing)


@cases(150)
@given(files_of(FORMS["huri"]), packings())
def test_huri_files(folder: Path, text: str, packing: Packing) -> None:
    check_form(folder, "huri", text, packing)


@cases(150)
@given(files_of(FORMS["delimited"]), packings())
def test_delimited_files(folder: Path, text: str, packing: Packing) -> None:
    check_form(folder, "delimited", text, packing)


SCRAPS = [
    *"AB01 \t,;\"'#|:-+é\n\r\x0b\u2028", "label", "score", "protein1", "protein2 combined_score",
    "uniprotkb:P12345", "taxid:9606(x)", "PPI", "A\tB\t1\n", "A B\n", '"A","B"\n', "\t-" * 30,
    "ENSG00000000005", "\r\n",
]  # fmt: skip
scraps = st.sampled_from(SCRAPS)


@cases(300)
@given(st.lists(scraps, max_size=40).map("".join), packings(), st.sampled_from(["auto", *FORMS]))
def test_random_text(folder: Path, text: str, packing: Packing, name: str) -> None:
    path = packing.store(folder, text)
    read = attempt("random", lambda: read_interactions([path], name), path)
    if not isinstance(read, Refused):
        assert_sound(read)


@cases(100)
@given(st.lists(scraps, max_size=20).map("".join), packings())
def test_id_maps_and_headers(folder: Path, text: str, packing: Packing) -> None:
    path = packing.store(folder, text)
    attempt("maps", lambda: read_id_map(path), path)
    attempt("maps", lambda: read_organisms(path), path)


def test_every_format_is_tried() -> None:
    assert {*FORMS, "auto"} == set(READERS.names())


def test_so_many_cases_are_tried(request: pytest.FixtureRequest) -> None:
    assert_tried(request, dict.fromkeys(FORMS, 150) | {"random": 300, "maps": 200})
