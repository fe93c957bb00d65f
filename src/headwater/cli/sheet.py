"""What a command has to say, before anything is drawn: sheets, lines and their styles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

STYLES = {
    "PRESENT": "green",
    "NULL": "cyan",
    "STALE": "yellow",
    "EXPIRED": "red",
    "NOT_KNOWN": "red",
    "NOT_FOUND": "red",
    "UNAVAILABLE": "bold red",
    "ERROR": "bold red",
    "live": "green",
    "pending": "yellow",
    "retired": "dim",
    "met": "green",
    "missed": "red",
    "unknown": "yellow",
    "qualifies": "green",
    "open": "yellow",
    "out": "red",
}
"""Words that carry their colour wherever they stand alone in a cell."""

MARKS = {"+": "green", "~": "yellow", "-": "red", "»": "cyan", "«": "cyan", "=": "dim"}
"""What the first character of a line of `Lines` says about its colour."""


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        columns: the headings.
        rows: values, drawn by `plain.shown`; numbers are set to the right.
        title: above it, if any.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""

    @classmethod
    def of(cls, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Sheet:
        """A table whose columns without any value are left out, the first one aside."""
        kept = list(rows)
        filled = [i for i in range(len(columns)) if i == 0 or any(row[i] not in (None, "") for row in kept)]
        return cls([columns[i] for i in filled], [[row[i] for i in filled] for row in kept], title)

    def is_numeric(self, column: int) -> bool:
        """Whether a column has numbers, if anything."""
        return bool(self.rows) and all(_is_number(row[column]) or row[column] is None for row in self.rows)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True)
class Line:
    """A line of text in one style: `bold`, `dim`, `green`, …"""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Fields:
    """Names and values under each other; empty ones are left out."""

    pairs: Sequence[tuple[str, Any]]
    title: str = ""

    @property
    def filled(self) -> list[tuple[str, Any]]:
        """Those that are not empty."""
        return [(name, value) for name, value in self.pairs if value not in (None, "", (), [], {})]


@dataclass(frozen=True)
class Lines:
    """Lines whose first character says their colour: `+` added, `~` changed, `-` removed, `»` live, `=` as it was."""

    text: str


Drawable = Sheet | Line | Fields | Lines | str
