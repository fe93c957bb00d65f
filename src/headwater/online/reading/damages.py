"""Rows of a read that are damaged, and values that cannot be given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from headwater.online.reading.entities import EntityBatch
from headwater.online.reading.view_read import AnsweredView, ReadColumn, ViewAnswered


class DamagedRow(NamedTuple):
    """A damaged row, or values that cannot be given.

    Attributes:
        view: of which view.
        row: for which row of the answer.
        key: its key.
        what: what is wrong.
        columns: the columns whose values are not given; empty: all of the view.
    """

    view: ViewAnswered
    row: int
    key: tuple[Any, ...]
    what: str
    columns: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """With the view, its version and the columns."""
        columns = f"{', '.join(self.columns)}: " if self.columns else ""
        return f"{self.view.label} {self.view.version}: {columns}{self.what}"


def damaged_rows(columns: Sequence[ReadColumn], batch: EntityBatch, reads: Sequence[AnsweredView]) -> list[DamagedRow]:
    """One for each view and row of the answer that has one, and for each problem of single values.

    Args:
        columns: the columns asked for.
        batch: the entities.
        reads: what was read of each view.
    """
    out = []
    for place, read in enumerate(reads):
        rows = read.rows
        if not (rows.damaged or rows.left_out):
            continue
        left_out = _left_out([c for c in columns if c.view == place], read) if rows.left_out else {}
        keys = [batch.values(name) for name in read.view.key_columns]
        positions = range(batch.size) if read.inverse is None else read.inverse
        for row, position in enumerate(positions):
            key = tuple(column[row] for column in keys)
            what = rows.damaged.get(position)
            if what is not None:
                out.append(DamagedRow(read.view, row, key, rows.said + what))
                continue
            for problem, names in left_out.get(position, {}).items():
                out.append(DamagedRow(read.view, row, key, problem, tuple(names)))
    return out


def _left_out(columns: Sequence[ReadColumn], read: AnsweredView) -> dict[int, dict[str, list[str]]]:
    """Position → why values are UNAVAILABLE there → those of which columns."""
    out: dict[int, dict[str, list[str]]] = {}
    for column in columns:
        for position, problem in (read.rows.left_out.get(column.feature) or {}).items():
            out.setdefault(position, {}).setdefault(problem, []).append(column.name)
    return out
