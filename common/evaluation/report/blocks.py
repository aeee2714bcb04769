"""The kinds of blocks in a section of the report: sentences, facts, tables and charts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from common.charts import Chart, Panel
from common.console import UNDEFINED
from common.csv_log import Cell, Table
from common.evaluation.judging import Judgement
from common.evaluation.scored import Scored
from common.evaluation.test_side import TestSide
from common.run import Run

_NUMERIC = re.compile(r"[-+\d.\[\], ]+")


@dataclass(frozen=True, eq=False)
class Judged:
    """The content of the report: the run, the test data, the evaluated predictions and results."""

    run: Run
    side: TestSide
    scored: Scored
    judgement: Judgement


@dataclass(frozen=True)
class Sentences:
    """A block of sentences, shown as a list.

    Attributes:
        items: The sentences.
        strong: Whether the sentences are emphasized.
    """

    kind: ClassVar[str] = "sentences"

    items: Sequence[str]
    strong: bool = False


@dataclass(frozen=True)
class Facts:
    """A block of facts, shown as a list of names and values."""

    kind: ClassVar[str] = "facts"

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Numbers:
    """A block that shows a table, which the reader can download as a CSV file.

    Attributes:
        table: The table.
        name: The name of the CSV file, without the suffix.
        summary: If given, the table is collapsed under this heading.
        digits: The number of decimals that are shown; the CSV file has all digits.
    """

    kind: ClassVar[str] = "numbers"

    table: Table
    name: str
    summary: str = ""
    digits: int = 4

    def rows(self) -> list[list[Shown]]:
        """Return the formatted cells of every row."""
        header = self.table.header
        return [
            [Shown.of(row.get(name), self.digits) for name in header] for row in self.table.rows
        ]

    def columns(self) -> list[tuple[str, bool]]:
        """Return the name of each column, and whether all cells of the column are numbers."""
        columns = zip(*self.rows(), strict=True)
        return [
            (name, all(cell.number for cell in cells))
            for name, cells in zip(self.table.header, columns, strict=False)
        ]


@dataclass(frozen=True, eq=False)
class Drawings:
    """A block that shows charts.

    Attributes:
        charts: The charts by name; every name must be unique on the page.
    """

    kind: ClassVar[str] = "drawings"

    charts: Mapping[str, Chart]

    def panels(self) -> Iterator[tuple[str, str, Panel]]:
        """Yield every panel of the charts, with a unique name and the title of its chart."""
        for name, chart in self.charts.items():
            for number, panel in enumerate(chart.panels, 1):
                yield f"{identifier(name)}-{number}", chart.title, panel


Block = Sentences | Facts | Numbers | Drawings


@dataclass(frozen=True)
class Section:
    """A section of the report: a heading, an introduction, and blocks."""

    title: str
    blocks: Sequence[Block]
    intro: str = ""

    @property
    def anchor(self) -> str:
        """The HTML id to which the page's navigation links."""
        return identifier(self.title)


@dataclass(frozen=True)
class Shown:
    """A cell of a table, with the text for the page and the exact value for the CSV file."""

    text: str
    exact: str
    number: bool

    @classmethod
    def of(cls, value: Cell, digits: int) -> Shown:
        """Create a cell from a value, rounding a float to `digits` decimals."""
        if value is None:
            return cls(UNDEFINED, "", number=True)
        if isinstance(value, float):
            # Very large or very small numbers are rounded to significant digits instead.
            usual = value == 0 or 0.001 <= abs(value) < 1000
            text = f"{value:.{digits}f}" if usual else f"{value:.{digits}g}"
            return cls(text, repr(float(value)), number=True)
        return cls(str(value), str(value), number=bool(_NUMERIC.fullmatch(str(value))))


def identifier(text: str) -> str:
    """Convert a text to an identifier of letters, digits and underscores for ids and file names."""
    return re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_").lower()
