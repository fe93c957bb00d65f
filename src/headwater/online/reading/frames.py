"""A result as the HTML table that notebooks show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headwater.html_tables import Markup, escaped, html_table
from headwater.types import Status

SHOWN = 20


def to_html(columns: Mapping[str, Sequence[Any]], statuses: Mapping[str, Sequence[Status]]) -> str:
    """A table of the first rows; values that are not plainly there carry their status."""
    names = list(columns)
    count = len(columns[names[0]]) if names else 0
    rows = (
        [_cell(columns[name][i], statuses[name][i] if name in statuses else None) for name in names]
        for i in range(min(count, SHOWN))
    )
    return html_table(names, rows, notes=[f"{count - SHOWN:,} more rows"] if count > SHOWN else [])


def _cell(value: Any, status: Status | None) -> str:
    text = "" if value is None else str(value)
    if status in (None, Status.PRESENT, Status.NULL):
        return text
    return Markup(f"{escaped(text)} <small>{status}</small>")
