"""A result as the HTML table that notebooks show."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headwater.types import Status

if TYPE_CHECKING:
    pass

SHOWN = 20


def to_html(columns: Mapping[str, Sequence[Any]], statuses: Mapping[str, Sequence[Status]]) -> str:
    """A table of the first rows; values that are not plainly there carry their status."""
    names = list(columns)
    rows = len(columns[names[0]]) if names else 0
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>"
        + "".join(_cell(columns[name][i], statuses[name][i] if name in statuses else None) for name in names)
        + "</tr>"
        for i in range(min(rows, SHOWN))
    )
    more = f"<p>{rows - SHOWN} more rows</p>" if rows > SHOWN else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: Any, status: Status | None) -> str:
    text = "" if value is None else html.escape(str(value))
    mark = "" if status in (None, Status.PRESENT, Status.NULL) else f" <small>{status}</small>"
    return f"<td>{text}{mark}</td>"
