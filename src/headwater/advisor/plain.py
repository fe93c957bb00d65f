"""Results as plain values, and a small table with sentences as text and HTML."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from headwater.html_tables import escaped, html_table


def values(found: Any) -> Any:
    """The JSON-able form: dataclasses and mappings as dicts, enums as their text; `to_dict` is asked where it is."""
    if isinstance(found, Enum):
        return found.value
    if found is None or isinstance(found, (bool, int, float, str)):
        return found
    if isinstance(found, Mapping):
        return {str(values(key)): values(value) for key, value in found.items()}
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        return table(found)
    if isinstance(found, Iterable):
        return [values(value) for value in found]
    return str(found)


def table(found: Any) -> dict[str, Any]:
    """The JSON-able form of a dataclass."""
    return {f.name: _field(getattr(found, f.name)) for f in dataclasses.fields(found)}


def _field(found: Any) -> Any:
    return values(found.to_dict() if hasattr(found, "to_dict") else found)


def text(rows: Sequence[Sequence[str]], sentences: Sequence[str]) -> str:
    """A table as text, names of its columns first, then sentences."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *([""] if lines else []), *sentences])


def html(rows: Sequence[Sequence[str]], sentences: Sequence[str]) -> str:
    """The same as HTML."""
    table = html_table(rows[0], rows[1:]) if rows else ""
    return f"{table}<ul>{''.join(f'<li>{escaped(sentence)}</li>' for sentence in sentences)}</ul>"
