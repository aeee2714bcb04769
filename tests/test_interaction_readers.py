"""Reading people's interaction files: the formats, what is counted, and ids that meet."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from common.config_data import InteractionsConfig
from common.data.tables.ids import check_id
from common.data.tables.interactions import base
from common.data.tables.interactions.base import (
    Interactions,
    Reader,
    ReadOptions,
    Rows,
    format_counts,
)
from common.data.tables.interactions.biogrid import NOT_PHYSICAL
from common.data.tables.interactions.reading import read_interactions
from common.data.tables.meeting_ids import (
    BY_FORM,
    BY_MAP,
    MISSING,
    NO_SEQUENCE,
    SEVERAL,
    known_ids,
    meet,
    plain_id,
    read_id_map,
    read_organisms,
)
from common.data.tables.text_table import Head, Layout, TextTable
from common.errors import UserError
from common.registry import READERS

Pair = tuple[str, str]

TAB3 = (
    "#BioGRID Interaction ID\tEntrez Gene Interactor A\tEntrez Gene Interactor B\tBioGRID ID"
    " Interactor A\tBioGRID ID Interactor B\tSystematic Name Interactor A\tSystematic Name"
    " Interactor B\tOfficial Symbol Interactor A\tOfficial Symbol Interactor B\tSynonyms Interactor"
    " A\tSynonyms Interactor B\tExperimental System\tExperimental System Type\tAuthor\tPublication"
    " Source\tOrganism ID Interactor A\tOrganism ID Interactor B\tThroughput\tScore\tModification"
    "\tQualifications\tTags\tSource Database\tSWISS-PROT Accessions Interactor A\tTREMBL Accessions"
    " Interactor A\tREFSEQ Accessions Interactor A\tSWISS-PROT Accessions Interactor B\tTREMBL"
    " Accessions Interactor B\tREFSEQ Accessions Interactor B\tOntology Term IDs\tOntology Term"
    " Names\tOntology Term Categories\tOntology Term Qualifier IDs\tOntology Term Qualifier Names"
    "\tOntology Term Types\tOrganism Name Interactor A\tOrganism Name Interactor B\n"
)
MITAB_HEADER = (
    "#ID(s) interactor A\tID(s) interactor B\tAlt. ID(s) interactor A\tAlt. ID(s) interactor B\t"
    "Alias(es) interactor A\tAlias(es) interactor B\tInteraction detection method(s)\tPublication"
    " 1st author(s)\tPublication Identifier(s)\tTaxid interactor A\tTaxid interactor B\tInteraction"
    " type(s)\tSource database(s)\tInteraction identifier(s)\tConfidence value(s)"
)


def tab3(
    a: str,
    b: str,
    kind: str = "physical",
    organisms: Pair = ("559292", "559292"),
    systematic: Pair = ("-", "-"),
    trembl: Pair = ("-", "-"),
    score: str = "-",
) -> str:
    """A line of BioGRID TAB 3.0."""
    fields = ["-"] * TAB3.count("\t") + ["-"]
    fields[5], fields[6] = systematic
    fields[11:17] = ["Two-hybrid", kind, "Uetz P (2000)", "PUBMED:10688190", *organisms]
    fields[17:19] = ["High Throughput", score]
    fields[23], fields[24], fields[26], fields[27] = a, trembl[0], b, trembl[1]
    return "\t".join(fields) + "\n"


def mitab(
    a: str,
    b: str,
    width: int = 42,
    taxids: Pair = ("taxid:559292(yeast)|taxid:559292(Saccharomyces cerevisiae)",) * 2,
    kind: str = 'psi-mi:"MI:0915"(physical association)',
    confidence: str = "author score:A|intact-miscore:0.56",
    alternative: Pair = ("-", "-"),
    negative: str = "false",
) -> str:
    """A line of PSI-MITAB 2.5 (15 columns), 2.6 (36), 2.7 (42) or 2.8 (46)."""
    fields = [a, b, *alternative, "-", "-", 'psi-mi:"MI:0018"(two hybrid)', "Uetz et al. (2000)"]
    fields += ["pubmed:10688190|imex:IM-1", *taxids, kind, 'psi-mi:"MI:0469"(IntAct)']
    fields += ["intact:EBI-1", confidence] + ["-"] * (width - 15)
    if width > 35:
        fields[35] = negative
    return "\t".join(fields) + "\n"


def read(path: Path, text: str | bytes, **options: object) -> Interactions:
    """What is read of a file with this content."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    form = str(options.pop("format", "auto"))
    return read_interactions([path], form, ReadOptions(**options))  # type: ignore[arg-type]


def refusal(path: Path, text: str | bytes, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        read(path, text, **options)
    return str(caught.value)


def labelled(found: Interactions) -> dict[Pair, int]:
    pairs = [(found.ids[a], found.ids[b]) for a, b in found.pairs.tolist()]
    return dict(zip(pairs, found.labels.tolist(), strict=True))


def examples(found: Interactions) -> dict[str, tuple[str, ...]]:
    return {count.step: count.examples for count in found.counts}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.txt"


# Two and three columns


@pytest.mark.parametrize(
    "text",
    [
        "A\tB\t1\nC\tA\t0\n",
        "A,B,1.0\nC,A,0.0\n",
        "A;B;1.\nC;A;0.\n",
        "A B +\nC A -\n",
        "  A \t B  TRUE \nC\tA\t false",
        '"A","B","1"\n"C","A","0"\n',
        "protein_a\tprotein_b\tlabel\nA\tB\t1\nC\tA\t0\n",
        "label,Protein 2,Protein 1\n1,B,A\n0,A,C\n",
        "\ufeff# made by hand\r\n\r\nA B 1\r\n# in between\r\nC A 0\r\n",
        "A B 1\rC A 0\r",
        "x y label\nA B 1\nC A 0\n",
        "Bait,Prey,verdict\nA,B,1\nC,A,0\n",
    ],
)
def test_three_columns_of_any_kind(path: Path, text: str) -> None:
    found = read(path, text)
    assert labelled(found) == {("A", "B"): 1, ("A", "C"): 0}
    assert found.ids == ("A", "B", "C")
    assert np.isnan(found.scores).all()
    for part, kind in ((found.pairs, np.int64), (found.labels, np.int8)):
        assert part.dtype == kind


def test_two_columns_all_interact(path: Path) -> None:
    for text in ("A B\nB C\n", "Protein A,Protein B\nA,B\nB,C\n", "target source\nB A\nC B\n"):
        assert labelled(read(path, text)) == {("A", "B"): 1, ("B", "C"): 1}


def test_a_header_is_counted_and_pairs_of_short_names_are_none(path: Path) -> None:
    assert base.HEADERS not in read(path, "A B 1\nC D 0\n").record()
    assert base.HEADERS not in read(path, "P1 P2\nC D\n").record()
    assert base.HEADERS not in read(path, "gene1 gene2 1\nC D 0\n").record()
    found = read(path, "id1 id2\nC D\n")
    assert examples(found)[base.HEADERS] == ("id1 id2",)


def test_a_third_column_is_a_score_where_it_is_called_one_or_filtered(path: Path) -> None:
    found = read(path, "a_id b_id score\nA B 0.9\nB C .3\n", format="delimited")
    assert found.scores.tolist() == [0.9, 0.3]
    found = read(path, "A B 0.9\nB C 3e-1\n", min_score=0.5)
    assert labelled(found) == {("A", "B"): 1}
    sentence = refusal(path, "A B 1\nB C 0.3\n")
    assert f"{path}, line 2: the label '0.3'" in sentence
    assert "'score'" in sentence


# What is counted


def test_directions_repetitions_contradictions_and_self_interactions(path: Path) -> None:
    text = "B A 1\nA B 1\nB A 1\nC D 1\nD C 0\nE E 1\nC D 0\nF E 0\n"
    found = read(path, text)
    assert labelled(found) == {("A", "B"): 1, ("E", "E"): 1, ("E", "F"): 0}
    assert [found.ids[row] for row in found.contradictions[0]] == ["C", "D"]
    assert found.record() == {
        base.LINES: 8,
        base.REVERSED: 2,
        base.REPEATED: 2,
        base.CONTRADICTIONS: 1,
        base.SELF: 1,
        base.LEFT: 3,
    }
    assert examples(found)[base.CONTRADICTIONS] == ("C D",)
    table = format_counts(found)
    assert table[0].split() == ["lines", "read", "8"]
    assert table[-1].split() == ["interactions", "left", "3"]


def test_the_highest_score_of_a_pair_counts(path: Path) -> None:
    header = "protein1 protein2 combined_score\n"
    found = read(path, header + "A B 200\nB A 700\nA B 300\nC A 150\n")
    assert found.scores.tolist() == [700, 150]


def test_ten_examples_at_most_and_in_the_order_of_the_file(path: Path) -> None:
    lines = [f"P{number} Q{number} {number % 2 * 900}\n" for number in range(40)]
    found = read(path, "protein1 protein2 combined_score\n" + "".join(lines), min_score=1)
    shown = examples(found)[base.LOW_SCORE]
    assert len(shown) == 10
    assert shown[1].startswith("P2 Q2 ")
    assert found.record()[base.LOW_SCORE] == 20


def test_several_files_are_one_set(tmp_path: Path) -> None:
    first, second = tmp_path / "a.tsv", tmp_path / "b.csv"
    first.write_text("A\tB\t1\nA\tC\t1\n")
    second.write_text("B,A,1\nC,A,0\n")
    found = read_interactions([first, second])
    assert labelled(found) == {("A", "B"): 1}
    assert len(found.contradictions) == 1
    assert found.record()[base.LINES] == 4


# STRING


def test_string_links_in_their_three_forms(path: Path) -> None:
    links = "protein1 protein2 combined_score\n4932.A 4932.B 490\n4932.B 4932.A 490\n"
    detailed = (
        "protein1 protein2 neighborhood fusion cooccurence coexpression experimental database"
        " textmining combined_score\n4932.A 4932.B 0 0 0 45 134 0 81 490\n"
        "4932.B 4932.A 0 0 0 45 134 0 81 490\n"
    )
    full = (
        "protein1 protein2 neighborhood neighborhood_transferred fusion cooccurence homology"
        " coexpression coexpression_transferred experiments experiments_transferred database"
        " database_transferred textmining textmining_transferred combined_score\n"
        "4932.A 4932.B 0 0 0 0 0 0 45 0 134 0 0 0 81 490\n"
        "4932.B 4932.A 0 0 0 0 0 0 45 0 134 0 0 0 81 490\n"
    )
    for text in (links, detailed, full, links.replace(" ", ","), links.replace(" ", "\t")):
        found = read(path, text)
        assert labelled(found) == {("4932.A", "4932.B"): 1}
        assert found.scores.tolist() == [490]
        assert found.record()[base.REVERSED] == 1


def test_string_of_the_website_and_its_filters(path: Path) -> None:
    export = (
        "#node1\tnode2\tnode1_string_id\tnode2_string_id\thomology\tcombined_score\n"
        "CDC28\tCLN2\t4932.YBR160W\t4932.YPL256C\t0\t0.999\n"
        "CDC28\tX\t4932.YBR160W\t9606.X\t0\t0.9\nCDC28\tY\t4932.YBR160W\t4932.Y\t0\t0.4\n"
    )
    found = read(path, export, taxid=4932, min_score=0.5)
    assert labelled(found) == {("4932.YBR160W", "4932.YPL256C"): 1}
    assert found.record()[base.OTHER_ORGANISM] == 1
    assert found.record()[base.LOW_SCORE] == 1
    sentence = refusal(path, export, min_score=400)
    assert "all 3 lines were dropped (3 below min_score" in sentence
    assert "(score 0.999)" in sentence


# BioGRID


def test_biogrid_keeps_physical_evidence_of_the_organism(path: Path) -> None:
    text = TAB3 + tab3("P1", "P2") + tab3("P1", "P3", "genetic")
    text += tab3("P1", "P4", organisms=("559292", "9606")) + tab3("P2|P9", "-")
    text += tab3("-", "P2", trembl=("Q5", "-")) + tab3("P7", "P2", score="0.5")
    found = read(path, text, taxid=559292)
    assert labelled(found) == {("P1", "P2"): 1, ("P2", "Q5"): 1, ("P2", "P7"): 1}
    assert found.scores[-1 if found.ids[found.pairs[-1, 1]] == "P7" else 1] == 0.5
    counts = found.record()
    assert (counts[NOT_PHYSICAL], counts[base.OTHER_ORGANISM], counts[base.NO_ID]) == (1, 1, 1)
    assert examples(found)[base.OTHER_ORGANISM] == ("P1 P4 (organisms 559292, 9606)",)


def test_biogrid_names_proteins_as_the_sequences_do(path: Path) -> None:
    text = TAB3 + tab3("P1|P8", "P2", systematic=("YAL1", "YAL2"))
    assert read(path, text).ids == ("P1", "P2")
    assert read(path, text, known={"P8", "P2"}).ids == ("P2", "P8")
    assert read(path, text, known=known_ids(["4932.YAL1", "YAL2"])).ids == ("YAL1", "YAL2")


def test_biogrid_columns_are_found_by_their_names(path: Path) -> None:
    lines = [line.split("\t") for line in (TAB3 + tab3("P1", "P2")).splitlines()]
    shuffled = "\n".join("\t".join(reversed(fields)) for fields in lines)
    assert read(path, shuffled.replace("#", "")).ids == ("P1", "P2")
    assert "BioGRID TAB 3.0" in refusal(path, tab3("P1", "P2"), format="biogrid")


# PSI-MITAB


@pytest.mark.parametrize("width", [15, 36, 42, 46])
@pytest.mark.parametrize("header", [MITAB_HEADER, "", MITAB_HEADER.replace("#", "")])
def test_mitab_of_any_version(path: Path, width: int, header: str) -> None:
    full = header + "\tx" * (width - 15) + "\n" if header else ""
    text = full + mitab("uniprotkb:P12345", 'uniprotkb:"Q00001"', width)
    found = read(path, text, taxid=559292, min_score=0.5)
    assert labelled(found) == {("P12345", "Q00001"): 1}
    assert found.scores.tolist() == [0.56]


def test_mitab_isoforms_chains_negatives_and_other_molecules(path: Path) -> None:
    text = mitab("uniprotkb:P12345-2", "uniprotkb:Q00001-PRO_0000016689")
    text += mitab("uniprotkb:P12345", "uniprotkb:Q00001", confidence="-")
    text += mitab("uniprotkb:P12345", 'chebi:"CHEBI:15422"') + mitab("uniprotkb:P12345", "-")
    text += mitab("uniprotkb:P12345", "uniprotkb:Q00002", negative="true")
    text += mitab("uniprotkb:A0A024R1R8-3", "ensembl:ENSP00000001")
    text += mitab(
        "entrez gene/locuslink:1",
        "uniprotkb:Q00001",
        alternative=("biogrid:1|uniprot/swiss-prot:P54321", "-"),
    )
    text += mitab(
        "uniprotkb:Q00001",
        "uniprotkb:P12345",
        kind='psi-mi:"MI:0799"(additive genetic interaction)',
    )
    found = read(path, text, known={"ENSP00000001"})
    assert labelled(found) == {
        ("P12345", "Q00001"): 1,
        ("P12345", "Q00002"): 0,
        ("A0A024R1R8", "ENSP00000001"): 1,
        ("P54321", "Q00001"): 1,
    }
    counts = found.record()
    assert (counts[base.PARENTS], counts[base.NO_ID], counts[NOT_PHYSICAL]) == (3, 2, 1)
    assert examples(found)[base.PARENTS][0] == "uniprotkb:P12345-2"


def test_mitab_filters_by_both_organisms_and_miscore(path: Path) -> None:
    yeast, human = "taxid:559292(yeast)", "taxid:9606(human)"
    text = mitab("uniprotkb:P00001", "uniprotkb:P00002", taxids=(yeast, human))
    text += mitab("uniprotkb:P00001", "uniprotkb:P00003", taxids=("-", yeast))
    text += mitab("uniprotkb:P00001", "uniprotkb:P00004", confidence="intact-miscore:0.1")
    text += mitab("uniprotkb:P00001", "uniprotkb:P00005", confidence="author score:9")
    text += mitab("uniprotkb:P00001", "uniprotkb:P00006")
    found = read(path, text, taxid=559292, min_score=0.45)
    assert found.ids == ("P00001", "P00006")
    assert found.record()[base.OTHER_ORGANISM] == 2
    assert found.record()[base.LOW_SCORE] == 2


# HuRI, PRING's raw form, a toy


def test_huri_with_an_id_map(tmp_path: Path, path: Path) -> None:
    text = "ENSG00000000005\tENSG00000061656\nENSG00000000005\tENSG00000000005\n"
    assert READERS.get("huri").recognizes(Head("", text.splitlines()))
    found = read(path, text + "ENSG00000061656\tENSG00000099968.7\n", format="huri")
    table = tmp_path / "map.tsv"
    table.write_text(
        "From\tTo\nENSG00000000005\tQ9H2S6\nENSG00000061656\tX\nENSG00000061656\tQ9H2S7\n"
    )
    met, missing = meet(found, {"Q9H2S6": "A", "Q9H2S7": "C"}, read_id_map(table))
    assert labelled(met) == {("Q9H2S6", "Q9H2S7"): 1, ("Q9H2S6", "Q9H2S6"): 1}
    assert missing == ("ENSG00000099968.7",)
    assert met.record()[BY_MAP] == 2
    assert "line 2: 'P1' is not an Ensembl gene" in refusal(
        path, text[:32] + "P1\tP2\n", format="huri"
    )


def test_pring_raw_by_the_organism_of_its_headers(tmp_path: Path, path: Path) -> None:
    fasta = tmp_path / "idmapping.fasta"
    fasta.write_text(
        ">sp|P15112|A_DICDI Name OS=Dictyostelium OX=44689 GN=x PE=1\nMA\n"
        ">tr|Q55GJ7|B_DICDI OX=44689\nMC\n>sp|P11111|C_HUMAN OX=9606 PE=1\nMD\n"
    )
    text = "P15112 PPI Q55GJ7 string\nP15112 PPI P11111 string\nP11111 PPI P11111 string\n"
    organisms = read_organisms(fasta)
    assert organisms == {"P15112": 44689, "Q55GJ7": 44689, "P11111": 9606}
    found = read(path, text, taxid=44689, organisms=organisms)
    assert labelled(found) == {("P15112", "Q55GJ7"): 1}
    assert found.record()[base.OTHER_ORGANISM] == 2
    assert len(read(path, text)) == 3
    assert "OX=9606" in refusal(path, text, taxid=44689)


def test_a_format_from_elsewhere(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(table: TextTable, options: ReadOptions) -> Iterator[Rows]:
        for block in table.blocks(Layout("~", 2, {"a": 0, "b": 1})):
            yield Rows(block.names("a", check_id), block.names("b", check_id))

    monkeypatch.setattr(READERS, "_entries", dict(READERS._entries))
    READERS.add("toy", Reader(lambda head: "~" in head.lines[0], rows))
    assert InteractionsConfig(format="toy").format == "toy"
    assert labelled(read(path, "A~B\nC~A\n", format="toy")) == {("A", "B"): 1, ("A", "C"): 1}


def test_formats_are_recognized_and_otherwise_named(path: Path) -> None:
    sentence = refusal(path, "A B C D E\n")
    assert str(path) in sentence
    assert all(name in sentence for name in READERS.names())
    assert "did you mean 'string'" in refusal(path, "A B\n", format="strin")
    assert "no scores" in refusal(path, "A B\n", min_score=0.5)


# Files


def test_packed_or_not_whatever_the_name(tmp_path: Path) -> None:
    for name in ("a.gz", "a.txt", "a.tsv.gz.txt"):
        found = read(tmp_path / name, gzip.compress(b"A B\n") + gzip.compress(b"B C\n"))
        assert len(found) == 2
    assert "zip archive" in refusal(tmp_path / "a.gz", b"PK\x03\x04xxxx")
    assert "UTF-16" in refusal(tmp_path / "a.gz", "A B\n".encode("utf-16"))
    assert "not a complete gzip file" in refusal(tmp_path / "a", gzip.compress(b"A B\n" * 9)[:-5])


def test_windows_1252_is_read_line_by_line(path: Path) -> None:
    text = "A\tβ\n".encode() + "A\té\n".encode("cp1252")
    found = read(path, text)
    assert found.ids == ("A", "é", "β")
    assert found.record()[base.FOREIGN_TEXT] == 1
    assert f"{path}, line 3: the line is neither" in refusal(path, text + b"A\t\x81\n")


def test_lines_are_counted_as_an_editor_does_over_blocks(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("text", "text_table"):
        monkeypatch.setattr(f"common.data.tables.{module}.BLOCK_BYTES", 64)
    lines = [f"A{number} B{number}" + "\n" * (number % 3 + 1) for number in range(100)]
    text = "# x\r\n" + "".join(lines)
    assert len(read(path, text)) == 100
    line = text.count("\n") + 1
    assert f"line {line}: 'A B C' has 3 columns, but line 2 has 2" in refusal(
        path, text + "A B C\n"
    )
    assert f"line {line}: a protein id" in refusal(path, text.replace(" ", "\t") + "\tB\n")


# Ids that meet


@pytest.mark.parametrize(
    ("own", "header"),
    [
        ("P12345", "P12345"),
        ("sp|P12345|X_YEAST", "P12345"),
        ("YAL001C", "4932.YAL001C"),
        ("4932.YAL001C", "YAL001C"),
        ("9606.ENSP00000369497", "ENSP00000369497.3"),
        ("ENSP00000369497.2", "ENSP00000369497.3"),
        ("ENSP00000369497", "9606.ENSP00000369497.3"),
        ("NP_000509", "gi|4504349|ref|NP_000509.1|"),
        ("NP_000509.1", "ref|NP_000509.1|"),
        ("4896.SPAC1002.01", "SPAC1002.01"),
        ("P12345.1", "P12345"),
    ],
)
def test_ids_that_mean_the_same(path: Path, own: str, header: str) -> None:
    found = read(path, f"{own}\tB\n")
    met, missing = meet(found, {header: "MA", "B": "MC"})
    assert set(met.ids) == {header, "B"}
    assert not missing


@pytest.mark.parametrize(
    ("own", "headers"),
    [
        ("SPAC1002.01", ["SPAC1002.02"]),
        ("9606.X", ["10090.X"]),
        ("P1234", ["P12345"]),
        ("ENSP00000369497", ["ENSP00000369497.1", "ENSP00000369497.2"]),
    ],
)
def test_ids_that_do_not_mean_the_same(path: Path, own: str, headers: Sequence[str]) -> None:
    found = read(path, f"{own}\tB\nB\tC\n")
    sequences = {header: "M" * place for place, header in enumerate([*headers, "B", "C"], 1)}
    met, missing = meet(found, sequences)
    assert met.ids == ("B", "C")
    assert missing == (own,)
    assert met.record()[MISSING] == met.record()[NO_SEQUENCE] == 1
    assert met.record().get(SEVERAL, 0) == len(headers) - 1


def test_an_exact_id_wins_and_equal_sequences_are_one(path: Path) -> None:
    found = read(path, "ENSP00000369497.2\tX\nENSP00000369498\tX\n")
    sequences = {
        "ENSP00000369497.3": "MA",
        "ENSP00000369497.2": "MC",
        "ENSP00000369498.1": "MD",
        "ENSP00000369498.2": "MD",
        "X": "M",
    }
    assert meet(found, sequences)[0].ids == ("ENSP00000369497.2", "ENSP00000369498.1", "X")


def test_pairs_that_become_one_are_settled_again(path: Path) -> None:
    found = read(
        path,
        "ENSP1.1 B 1\nENSP1.2 B 1\nENSP1.1 ENSP1.2 1\nENSP1.1 C 1\nENSP1.2 C 0\nD D 1\nD D 0\n"
        "ENSP1.1 E 1\nENSP1.1 E 0\nENSP1.2 E 1\n",
    )
    met, _ = meet(found, dict.fromkeys(["ENSP1", "B", "C", "D", "E"], "M"))
    assert labelled(met) == {("B", "ENSP1"): 1, ("ENSP1", "ENSP1"): 1}
    counts = met.record()
    assert (counts[base.REPEATED], counts[base.CONTRADICTIONS], counts[base.SELF]) == (4, 3, 1)
    assert counts[BY_FORM] == 2
    barred = [{met.ids[a], met.ids[b]} for a, b in met.contradictions]
    assert barred == [{"C", "ENSP1"}, {"D"}, {"E", "ENSP1"}]


def test_nothing_left_shows_ids_of_both_sides(path: Path) -> None:
    found = read(path, "ENSG1 ENSG2\n")
    with pytest.raises(UserError) as caught:
        meet(found, {"P1": "M", "P2": "M", "P3": "M"})
    assert "'ENSG1' and 'ENSG2'" in str(caught.value)
    assert "'P1' and 'P2'" in str(caught.value)
    assert "id_map" in str(caught.value)


def test_an_id_map_in_either_direction(tmp_path: Path, path: Path) -> None:
    found = read(path, "G1 G2\n")
    table = tmp_path / "map.csv"
    for text in ("G1,P1\nG2,P2\n", "P1,G1\nP2,G2\n"):
        table.write_text(text)
        assert meet(found, {"P1": "M", "P2": "M"}, read_id_map(table))[0].ids == ("P1", "P2")
    table.write_text("G1,P1,x\n")
    with pytest.raises(UserError, match="3 columns"):
        read_id_map(table)


def test_plain_ids() -> None:
    shown = ["sp|P1|X", "tr|Q1|Y", "gi|5|gb|AAA1.1|", "lcl|x1", "gi|5|z", "a|b", "ENSP1.2"]
    assert [plain_id(name) for name in shown] == [
        "P1",
        "Q1",
        "AAA1.1",
        "x1",
        "gi|5|z",
        "a|b",
        "ENSP1.2",
    ]


# The same interactions in every form


def write_forms(pairs: Sequence[Pair], folder: Path) -> dict[str, Path]:
    """The same interactions as STRING, BioGRID, IntAct and two columns give them."""
    both = sorted([*pairs, *((b, a) for a, b in pairs)])
    links = "".join(f"4932.{a} 4932.{b} {150 + len(a + b) % 800}\n" for a, b in both)
    forms = {
        "string": "protein1 protein2 combined_score\n" + links,
        "biogrid": TAB3 + "".join(tab3(a, b) for a, b in [*pairs, *pairs[::3]]),
        "mitab": MITAB_HEADER
        + "\t-" * 27
        + "\n"
        + "".join(mitab(f"uniprotkb:{b}", f"uniprotkb:{a}") for a, b in reversed(pairs)),
        "delimited": "".join(f"{a}\t{b}\n" for a, b in pairs),
    }
    for name, text in forms.items():
        (folder / name).write_text(text)
    return {name: folder / name for name in forms}


def generated(_: Path) -> list[Pair]:
    rng = np.random.default_rng(1)
    ids = [f"P{number:05d}" for number in range(10_000, 10_200)]
    drawn = {tuple(sorted(pair)) for pair in rng.integers(200, size=(800, 2)).tolist()}
    return [(ids[a], ids[b]) for a, b in drawn]


def yeast(shared: Path) -> list[Pair]:
    file = shared / "pring/yeast/yeast_ppi.txt"
    if not file.is_file():
        pytest.skip(f"the yeast interactions are not there ({file})")
    lines = [line.split() for line in file.read_text().splitlines()]
    return list(dict.fromkeys((min(line), max(line)) for line in lines))


@pytest.mark.parametrize("source", [generated, yeast])
def test_every_format_gives_the_same_interactions(
    source: Callable[[Path], list[Pair]], tmp_path: Path
) -> None:
    pairs = source(Path(__file__).parents[2] / "shared")
    sequences = {name: "M" for pair in pairs for name in pair}
    forms = {}
    for name, file in write_forms(pairs, tmp_path).items():
        found = read_interactions([file], options=ReadOptions(known=known_ids(sequences)))
        forms[name], missing = meet(found, sequences)
        assert not missing
    expected = {tuple(sorted(pair)): 1 for pair in pairs}
    for name, found in forms.items():
        assert labelled(found) == expected, name
        assert found.ids == forms["delimited"].ids
        assert np.array_equal(found.pairs, forms["delimited"].pairs)
    itself = sum(a == b for a, b in pairs)
    assert forms["string"].record()[base.REVERSED] == len(pairs) - itself
