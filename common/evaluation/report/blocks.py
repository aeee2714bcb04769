"""The blocks that a section of the report consists of; the template shows each kind its own way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from common.charts import Chart, Panel
from common.csv_log import Cell, Table
from common.evaluation.judging import Judgement
from common.evaluation.results import UNDEFINED
from common.evaluation.scored import Scored
from common.evaluation.test_side import TestSide
from common.run import Run

_NUMERIC = re.compile(r"[-+\d.\[\], ]+")


@dataclass(frozen=True, eq=False)
class Judged:
    """Everything that sections show: the run, what was judged, the test side and the results."""

    run: Run
    side: TestSide
    scored: Scored
    judgement: Judgement


@dataclass(frozen=True)
class Sentences:
    """Sentences, one below the other.

    Attributes:
        items: The sentences.
        strong: Whether they matter more than other text.
    """

    kind: ClassVar[str] = "sentences"

    items: Sequence[str]
    strong: bool = False


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    kind: ClassVar[str] = "facts"

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Numbers:
    """A table.

    Attributes:
        table: Its content.
        name: The name under which its CSV is downloaded, without the suffix.
        summary: If given, the table is folded away below these words.
        digits: How many decimals are shown; the CSV has all digits.
    """

    kind: ClassVar[str] = "numbers"

    table: Table
    name: str
    summary: str = ""
    digits: int = 4

    def rows(self) -> list[list[Shown]]:
        """Return the cells of every row."""
        header = self.table.header
        return [
            [Shown.of(row.get(name), self.digits) for name in header] for row in self.table.rows
        ]

    def columns(self) -> list[tuple[str, bool]]:
        """Return the columns' names, and whether they contain numbers."""
        columns = zip(*self.rows(), strict=True)
        return [
            (name, all(cell.number for cell in cells))
            for name, cells in zip(self.table.header, columns, strict=False)
        ]


@dataclass(frozen=True, eq=False)
class Drawings:
    """The panels of charts.

    Attributes:
        charts: The charts by name; no other chart of the page has the same name.
    """

    kind: ClassVar[str] = "drawings"

    charts: Mapping[str, Chart]

    def panels(self) -> Iterator[tuple[str, str, Panel]]:
        """Yield every panel, with a name of its own and the title of its chart."""
        for name, chart in self.charts.items():
            for number, panel in enumerate(chart.panels, 1):
                yield f"{identifier(name)}-{number}", chart.title, panel


Block = Sentences | Facts | Numbers | Drawings


@dataclass(frozen=True)
class Section:
    """A heading, an introduction, and blocks."""

    title: str
    blocks: Sequence[Block]
    intro: str = ""

    @property
    def anchor(self) -> str:
        """The name by which the page links to the section."""
        return identifier(self.title)


@dataclass(frozen=True)
class Shown:
    """A cell as it is shown, and as a CSV file has it."""

    text: str
    exact: str
    number: bool

    @classmethod
    def of(cls, value: Cell, digits: int) -> Shown:
        """Create the cell of a value; a float is rounded to this many decimals."""
        if value is None:
            return cls(UNDEFINED, "", number=True)
        if isinstance(value, float):
            # A fixed number of decimals, unless the number is very large or very small.
            usual = value == 0 or 0.001 <= abs(value) < 1000
            text = f"{value:.{digits}f}" if usual else f"{value:.{digits}g}"
            return cls(text, repr(float(value)), number=True)
        return cls(str(value), str(value), number=bool(_NUMERIC.fullmatch(str(value))))


def identifier(text: str) -> str:
    """Keep only those characters of a text that are allowed in an id or a file name."""
    return re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_").lower()
