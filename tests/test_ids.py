"""Protein ids: their places in a list, and the accession in a UniProt name."""

from __future__ import annotations

import pytest

from common.data.tables.ids import number_ids, places_of, shorten_uniprot


def test_places_are_those_in_the_list_and_minus_one_elsewhere() -> None:
    places = places_of(["C", "A", "X", "C"], ["B", "C", "A"])
    assert places.tolist() == [1, 2, -1, 1]
    assert str(places.dtype) == str(places_of([], ["A"]).dtype) == "int64"


def test_numbers_are_places_among_the_sorted_distinct_names() -> None:
    ids, numbers = number_ids(["b", "a", "b", "B"])
    assert ids == ("B", "a", "b")
    assert numbers.tolist() == [2, 1, 2, 0]
    assert number_ids([])[0] == ()


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("sp|P12345|AATM_RABIT", "P12345"),
        ("tr|Q1|", "Q1"),
        ("sp|P9", "sp|P9"),
        ("sp||X", "sp||X"),
        ("xsp|P1|X", "xsp|P1|X"),
        ("gi|5|z", "gi|5|z"),
    ],
)
def test_only_uniprot_names_are_shortened(name: str, short: str) -> None:
    assert shorten_uniprot(name) == short
