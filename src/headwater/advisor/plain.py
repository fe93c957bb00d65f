"""A comparison as plain values and as a small table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from headwater.html_tables import escaped, html_table

if TYPE_CHECKING:
    from headwater.advisor.result import ArchitectureComparison

_QUALIFIED = {True: "yes", None: "open", False: "no"}


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


def text(comparison: ArchitectureComparison) -> str:
    """The ranking as a table of text, then the reasoning."""
    if comparison.requirements.asks_nothing:
        return "\n".join(comparison.recommendation_reasoning)
    rows = _rows(comparison)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", *comparison.recommendation_reasoning])


def html(comparison: ArchitectureComparison) -> str:
    """The same as HTML."""
    head, *rows = _rows(comparison)
    said = "".join(f"<li>{escaped(sentence)}</li>" for sentence in comparison.recommendation_reasoning)
    table = "" if comparison.requirements.asks_nothing else html_table(head, rows)
    return f"{table}<ul>{said}</ul>"


def _rows(comparison: ArchitectureComparison) -> list[list[str]]:
    rows = [["system", "qualifies", "score", "range", "first in", "first missed"]]
    for name, score in comparison.architecture_scores.items():
        missed = comparison.detailed_analysis[name].first_missed
        rows.append(
            [
                name,
                _QUALIFIED[score.qualified],
                f"{score.total_score:.3f}",
                f"{score.low:.3f} to {score.high:.3f}" if score.low < score.high else "",
                f"{comparison.sensitivity.first_places.get(name, 0.0):.0%}",
                missed.requirement if missed is not None else "",
            ]
        )
    return rows
