"""Prediction files: every line is used, counted in a note, or refused with its number."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.evaluation.prediction_file import read_predictions, write_predictions
from common.evaluation.predictions import Predictions

Reader = Callable[..., Predictions]


def save(path: Path, text: str) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode(), mtime=0))
    else:
        path.write_bytes(text.encode())
    return path


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Reads a text as a prediction file."""
    return lambda text, name="p.txt": read_predictions(save(tmp_path / name, text))


def scored(predictions: Predictions) -> dict[tuple[str, str], float]:
    names = [(predictions.ids[a], predictions.ids[b]) for a, b in predictions.pairs]
    return dict(zip(names, predictions.scores.tolist(), strict=True))


def edges(predictions: Predictions, threshold: float = 0.5) -> list[tuple[str, str]]:
    network = predictions.edges(threshold)
    return [(network.nodes[a], network.nodes[b]) for a, b in network.edges]


# What is read


@pytest.mark.parametrize(
    "text",
    [
        "B\tA\t0.75\nC\tC\t1\nA\tD\t0\n",
        "B A 0.75\nC C 1\nA D 0\n",
        "\n  B \t A  0.75\nC C 1\n\nA D 0",
        "\ufeffB\tA\t0.75\r\nC\tC\t1\r\n\r\nA\tD\t0\r\n",
        "B\tA\t0.75\nC C 1\nA\tD  0\n",
        "B,A,0.75\nC,C,1\nA,D,0\n",
        "B, A, 0.75\nC ,C, 1\n\nA,D,0",
        "# by X\n#A\tB\t1\nB\tA\t0.75\nC\tC\t1\n# A B\nA\tD\t0\n",
        "# by X, no pairs\n\nB\tA\t0.75\n  #X\tY\t1\n#X\tY\t1\nC\tC\t1\nA\tD\t0\n",
    ],
)
@pytest.mark.parametrize("name", ["p.txt", "p.txt.gz"])
def test_tabs_spaces_blank_lines_and_line_ends_all_read_the_same(
    read: Reader, text: str, name: str
) -> None:
    predictions = read(text, name)
    assert predictions.ids == ("A", "B", "C", "D")
    assert scored(predictions) == {("A", "B"): 0.75, ("A", "D"): 0, ("C", "C"): 1}
    assert edges(predictions) == [("A", "B"), ("C", "C")]
    assert predictions.notes == ()


def test_five_columns_call_what_the_benchmark_calls(read: Reader) -> None:
    """The third column is the truth; a tie is no call; a threshold of 0.5 decides as p > n does."""
    predictions = read("A B 0 0.1 0.9\nA C 1 0.9 0.1\nA D 1 0.5 0.5\nA E 1 0.3 0.4\nA F x nan 1\n")
    assert edges(predictions) == [("A", "B"), ("A", "E")]
    assert scored(predictions)["A", "B"] == 0.9
    assert 0.5 - 1e-12 < scored(predictions)["A", "D"] < 0.5
    assert predictions.notes == ("1 line has the score NaN and counts as not predicted",)


@pytest.mark.parametrize("delimiter", ["\t", " ", "  "])
def test_a_first_line_without_numbers_is_a_header_and_said_to_be(
    read: Reader, delimiter: str
) -> None:
    lines = [["protein_a", "protein_b", "score"], ["A", "B", "0.9"]]
    text = "\n" + "\n".join(map(delimiter.join, lines))
    predictions = read(text)
    assert scored(predictions) == {("A", "B"): 0.9}
    assert predictions.ids == ("A", "B")
    assert predictions.notes == ("line 2 has no numbers and is treated as a header",)


def test_a_line_unlike_the_first_is_refused_with_both(read: Reader) -> None:
    """Of a comment of five words the first good line was blamed, in words that fitted it."""
    with pytest.raises(UserError, match=r"line 2: 'A B 0.6' has 3 columns, but line 1 has 5"):
        read("made by the program X\nA\tB\t0.6\n")


def test_names_of_columns_may_have_spaces_where_tabs_part_them(read: Reader) -> None:
    """It was taken for five columns, and the first pair was blamed."""
    predictions = read("Protein A\tProtein B\tSTRING score\nA\tB\t0.9\n")
    assert scored(predictions) == {("A", "B"): 0.9}
    assert predictions.notes == ("line 1 has no numbers and is treated as a header",)


@pytest.mark.parametrize("line", ["protein a,protein b,the score", "a, b, score"])
def test_a_header_may_be_separated_by_commas(read: Reader, line: str) -> None:
    predictions = read(f"{line}\nA,B,0.9\n")
    assert scored(predictions) == {("A", "B"): 0.9}
    assert predictions.notes == ("line 1 has no numbers and is treated as a header",)


def test_a_file_in_another_encoding_is_no_header(read: Reader) -> None:
    """The NULs of UTF-16 were no numbers: the first pair was lost as a header."""
    with pytest.raises(UserError, match="line 1: "):
        read("P1\tP2\t0 ".encode("utf-16-le").decode())


def test_ids_may_contain_commas_where_white_space_separates_the_columns(read: Reader) -> None:
    assert scored(read("A,1 B,2 0.9\nA,1 C 0.5\n")) == {("A,1", "B,2"): 0.9, ("A,1", "C"): 0.5}


def test_columns_that_are_no_two_probabilities_are_noted(read: Reader) -> None:
    """A score and its uncertainty were read as p_negative and p_positive without a word."""
    lines = "A B 1 0.97 0.1\nB C 0 0.12 0.3\n"
    (note,) = read(lines).notes
    assert "as p_negative and p_positive, but do not add up to 1 in any line" in note
    assert read(lines + "A D 0 0.72 0.285\n").notes == ()


def test_of_four_columns_the_refusal_says_what_to_keep(read: Reader) -> None:
    with pytest.raises(UserError, match=r"line 1: 'A B 1.0 0.97' is not .*cut -f1,2,4"):
        read("A\tB\t1.0\t0.97\n")


@pytest.mark.parametrize("score", ["0,85", "85%x", '"0.9"', "NA", "True", "1,00E-05"])
def test_a_first_pair_with_a_wrong_score_is_no_header(tmp_path: Path, score: str) -> None:
    """It was lost, and the next line blamed; of a file of one line, nothing was predicted."""
    path = save(tmp_path / "p.txt", f"A B {score}\nA C 0.5\n")
    with pytest.raises(UserError, match=f"line 1: '{score}' is not a number such as 0.85"):
        read_predictions(path, {"A", "B", "C"})


def test_uniprot_names_mean_their_accessions(read: Reader) -> None:
    predictions = read("sp|P12345|ABC_HUMAN\ttr|Q1|X\t0.5\nQ1\tP12345\t0.5\n")
    assert scored(predictions) == {("P12345", "Q1"): 0.5}


@pytest.mark.parametrize("text", ["", "\n \n", "a b score\n"])
def test_a_file_without_pairs_predicts_nothing_and_says_so(read: Reader, text: str) -> None:
    predictions = read(text)
    assert predictions.pairs.shape == (0, 2)
    assert predictions.edges().edges.shape == (0, 2)
    assert len(predictions.notes) == 1
    assert np.isnan(predictions.scores_of(["A", "B"], np.array([[0, 1]]))).all()


def test_equal_lines_count_once_and_of_different_scores_the_highest_counts(read: Reader) -> None:
    predictions = read("A B 0.2\nB A 0.2\nA B 0.2\nC D 0.1\nD C 0.7\nC D 0.7\nE F 1\n")
    assert scored(predictions) == {("A", "B"): 0.2, ("C", "D"): 0.7, ("E", "F"): 1}
    assert predictions.notes == (
        "3 lines repeat a pair with the same score; each pair counts once",
        "1 pair is listed with different scores; the highest score counts",
    )


def test_nan_is_not_predicted_and_loses_against_any_score(read: Reader) -> None:
    predictions = read("A B nan\nA B 0.6\nC D NaN\n")
    assert scored(predictions) == {("A", "B"): 0.6}
    assert predictions.ids == ("A", "B", "C", "D")
    assert predictions.notes == ("2 lines have the score NaN and count as not predicted",)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("ABCD"),
            st.sampled_from("ABCD"),
            st.sampled_from([0.0, 0.3, 0.7, 1.0, float("nan"), float("inf")]),
        ),
        max_size=20,
    ),
    st.randoms(use_true_random=False),
)
def test_order_and_orientation_do_not_matter(
    lines: list[tuple[str, str, float]], rng: random.Random
) -> None:
    def gather(listed: Sequence[tuple[str, str, float]]) -> Predictions:
        ids = list(dict.fromkeys(name for line in listed for name in line[:2]))
        pairs = np.array([[ids.index(a), ids.index(b)] for a, b, _ in listed]).reshape(-1, 2)
        return Predictions.gather(ids, pairs.astype(int), np.array([s for *_, s in listed], float))

    shuffled = [(b, a, s) if rng.random() < 0.5 else (a, b, s) for a, b, s in lines]
    rng.shuffle(shuffled)
    one, other = gather(lines), gather(shuffled)
    assert (one.ids, one.notes) == (other.ids, other.notes)
    assert one.pairs.tolist() == other.pairs.tolist()
    assert one.scores.tolist() == other.scores.tolist()


def test_scores_of_given_pairs_come_in_their_order_and_are_nan_where_not_listed(
    read: Reader,
) -> None:
    predictions = read("A B 0.1\nC B 0.2\nC C 0.3\n")
    pairs = np.array([[2, 2], [1, 0], [2, 1], [0, 2], [3, 0]])
    found = predictions.scores_of(["A", "B", "C", "X"], pairs)
    assert found[:3].tolist() == [0.3, 0.1, 0.2]
    assert np.isnan(found[3:]).all()


def test_lines_with_a_protein_that_is_not_asked_for_are_counted_and_forgotten(
    read: Reader, tmp_path: Path
) -> None:
    """One long id made each id of 1,000 lines as wide: 7.7 GB."""
    text = "A B 0.1\nA X 1\n" + "y" * 200_000 + " B 1\n"
    for delimiter in (" ", "\t", "  "):
        path = save(tmp_path / "p.txt", text.replace(" ", delimiter))
        predictions = read_predictions(path, {"A", "B", "C"})
        assert predictions.ids == ("A", "B")
        assert scored(predictions) == {("A", "B"): 0.1}
        assert predictions.notes == (
            "2 lines are ignored, because no task uses the protein (such as 'X')",
        )
    assert len(read(text).ids) == 4


def test_five_columns_keep_their_ranking_where_p_positive_does_not_decide(read: Reader) -> None:
    """All that p_positive had on the other side of 0.5 came to one score: AUROC 0.5, not 1."""
    numbers = [(0.1, 0.40), (0.1, 0.35), (0.1, 0.2), (0.3, 0.19)]
    text = "".join(f"A B{i} 0 {n} {p}\n" for i, (n, p) in enumerate(numbers))
    scores = list(scored(read(text)).values())
    assert scores == pytest.approx([0.65, 0.625, 0.55, 0.445])
    assert edges(read(text)) == [("A", "B0"), ("A", "B1"), ("A", "B2")]


# What is refused


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A B\n", 1),
        ("A B 1 0\n", 1),
        ("A\tB\t1\nA\tC\n", 2),
        ("A B 1\n\nA C x\n", 3),
        ("A B 1\nA B 0 0.5 0.5\n", 2),
        ("A B 0 0.5 0.5\nA B 1\n", 2),
        ("A B 0 0.5 0.5\nA C 0 0.5 high\n", 2),
        ("A\tB\t1\nProtein C\tA\t1\n", 2),
        ("A\tB\t1\n\tA\t1\n", 2),
        ("A\tB\t1\nA\tC\t\n", 2),
        ('A\tB\t1\nA\tC\t"1"\n', 2),
        ("A B C\nA C D\n", 2),
        ("a b probability call\nA C 1 1\n", 1),
        ("A,B,1\nA x,C,1\n", 2),
        ("A,B,1\nA C 1\n", 2),
        ("protein_a protein_b probability call\nA B 1 1\nA C 1\n", 3),
    ],
)
@pytest.mark.parametrize("name", ["p.txt", "p.gz"])
def test_a_malformed_line_is_refused_with_file_and_number(
    read: Reader, text: str, line: int, name: str
) -> None:
    with pytest.raises(UserError, match=rf"{name}, line {line}: (the id )?'"):
        read(text, name)


def test_a_malformed_line_far_down_is_found(read: Reader) -> None:
    lines = [f"P{i}\tQ{i}\t0.5" for i in range(70_000)]
    lines[66_001] = "P\tQ\t0,5"
    with pytest.raises(UserError, match="line 66002: '0,5' is not a number"):
        read("\n".join(lines))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "cut.gz",
            gzip.compress(b"A\tB\t0.123\n" * 9999, mtime=0)[:-40],
            r"cut.gz is not a complete gzip file",
        ),
        ("p.zip", b"PK\3\4", r"p.zip is a zip archive; unpack it first"),
        ("p.txt", "A B 1\n".encode("utf-16"), r"p.txt is UTF-16 text; save it as UTF-8"),
    ],
    ids=["cut.gz", "p.zip", "p.txt"],
)
def test_an_unreadable_file_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_predictions(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.gz", "A\té\t1\n".encode()),
        ("packed.txt", gzip.compress("A\té\t1\n".encode(), mtime=0)),
        ("latin.txt", "A\té\t1\n".encode("latin-1")),
    ],
)
def test_compression_and_encoding_are_recognized_by_the_content(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    assert scored(read_predictions(tmp_path / name)) == {("A", "é"): 1}


def test_a_missing_file_and_a_directory_are_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path / "none.gz", tmp_path):
        with pytest.raises(UserError, match=f"cannot read {path}"):
            read_predictions(path)


# What is written


def random_predictions(seed: int, dtype: type[np.floating]) -> Predictions:
    rng = np.random.default_rng(seed)
    ids = [f"P{i}" for i in range(40)]
    scores = rng.random(300) ** rng.integers(1, 30, 300)
    return Predictions.gather(ids, rng.integers(0, 40, (300, 2)), scores.astype(dtype))


@pytest.mark.parametrize("name", ["p.txt", "p.txt.gz"])
def test_written_scores_are_read_back_the_same(tmp_path: Path, name: str) -> None:
    for dtype in (np.float32, np.float64):
        known = random_predictions(1, dtype)
        write_predictions(tmp_path / name, known.ids, known.pairs, known.scores.astype(dtype))
        found = read_predictions(tmp_path / name)
        assert found.ids == known.ids
        assert (found.pairs == known.pairs).all()
        assert (found.scores.astype(dtype) == known.scores.astype(dtype)).all()
        assert found.notes == ()


def test_float32_scores_are_written_short(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    write_predictions(path, ["A", "B"], np.array([[0, 1]]), np.array([0.1], np.float32))
    assert path.read_text() == "A\tB\t0.1\n"


def test_the_same_predictions_give_the_same_bytes_under_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = random_predictions(2, np.float64)
    write_predictions(tmp_path / "one.gz", known.ids, known.pairs, known.scores)
    monkeypatch.setattr("time.time", lambda: 1e9)
    write_predictions(tmp_path / "two.gz", known.ids, known.pairs, known.scores)
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()


def test_nothing_is_left_where_writing_fails(tmp_path: Path) -> None:
    known = random_predictions(3, np.float64)
    with pytest.raises(UserError, match="cannot write"):
        write_predictions(tmp_path / "none" / "p.gz", known.ids, known.pairs, known.scores)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_prediction_can_be_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "p.gz"
    write_predictions(path, [], np.empty((0, 2), int), np.empty(0))
    assert read_predictions(path).notes == (f"{path} is empty, so nothing is predicted",)


def test_an_id_with_a_quote_comes_back(tmp_path: Path) -> None:
    """The writer refused it after all had been scored."""
    path, scores = tmp_path / "p.txt", np.array([0.1, 1 / 3], np.float32)
    write_predictions(path, ["A", 'b"c'], np.array([[0, 1], [1, 1]]), scores)
    assert path.read_text() == 'A\tb"c\t0.1\nb"c\tb"c\t0.33333334\n'
    known = read_predictions(path)
    assert known.scores_of(["A", 'b"c'], np.array([[0, 1]])) == pytest.approx(scores[:1])
