"""Rows as they were given to `write`: grouped by their columns, each column fitted to a dtype once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.errors import DataError, RowsRejected, listing
from headwater.planning.cast import Column, Fitted, fit, fit_time, plain
from headwater.planning.data_kinds import is_column
from headwater.planning.python_arrays import array_of_values, refuse_mixed
from headwater.planning.tables import as_table, column_names, loose_columns
from headwater.planning.value_checks import shown, unreadable
from headwater.types import Date, DType, fitting_dtype

Known = dict[tuple[str, DType | None], Fitted]
"""(column, dtype; None: a time) → the column as it fits."""


@dataclass
class GivenRows:
    """Rows that share a set of columns, as the user gave them."""

    columns: dict[str, Column]
    rows: NDArray[np.int64]
    given: Any = None
    naive: dict[str, Column] = field(default_factory=dict)
    """The columns as they were before naive times became instants, where that changed anything."""

    def column(self, name: str, dtype: DType | None) -> Column:
        """A column as it is held to a dtype (None: a time): a date is the date that was given, in whatever zone."""
        return self.naive.get(name, self.columns[name]) if dtype == Date else self.columns[name]

    def as_given(self, name: str, at: int) -> str:
        """A value as it was before it became an instant, for errors; empty where it was not another."""
        if name not in self.naive or self.naive[name] is self.columns[name]:
            return ""
        given, instant = shown(self.naive[name][at]), shown(self.columns[name][at])
        return "" if given == instant else f" (given as {given}, which is of the source's time zone)"


def given_groups(view: str, data: Any) -> tuple[list[GivenRows], int]:
    """The rows by their sets of columns, and how many there are.

    Raises:
        DataError: data that is not a table.
    """
    if isinstance(data, Mapping) and not any(is_column(v) for v in data.values()):
        data = [data]
    if isinstance(data, (list, tuple)):
        wrong = next((i for i, row in enumerate(data) if not isinstance(row, Mapping)), None)
        if wrong is not None:
            raise DataError(
                f"rows of {view!r}: row {wrong} is a {type(data[wrong]).__name__}; each row must be a dict of "
                "column → value"
            )
        groups: dict[frozenset[str], list[int]] = {}
        for i, row in enumerate(data):
            groups.setdefault(frozenset(row), []).append(i)
        raws = []
        for places in groups.values():
            first = data[places[0]]
            columns: dict[str, Column] = {str(name): [data[i][name] for i in places] for name in first}
            raws.append(GivenRows(columns, np.array(places, np.int64)))
        return raws, len(data)
    columns, count = _columns(view, data)
    return [GivenRows(columns, np.arange(count, dtype=np.int64), data)], count


def rejected(view: str, problems: list[str], bad: int, count: int) -> RowsRejected:
    """The error of a write that its bad rows end.

    Args:
        view: the view's name.
        problems: a line for each bad row, or for the first of them.
        bad: how many are bad.
        count: how many were given.
    """
    return RowsRejected(f"{view}: {bad} of {count} rows are invalid; nothing was written", problems)


def _columns(view: str, data: Any) -> tuple[dict[str, Column], int]:
    """The columns of a table; those that Arrow cannot hold as lists, so that the rows at fault are named."""
    try:
        table = as_table(data, f"rows of {view!r}", refuse_mixed)
    except DataError:
        loose = loose_columns(data)
        if not loose:
            raise
        return loose, len(next(iter(loose.values())))
    names = column_names(table.schema, f"rows of {view!r}", DataError)
    columns: dict[str, Column] = {name: table.column(i) for i, name in enumerate(names)}
    if len(columns) != table.num_columns:
        raise DataError(f"rows of {view!r}: two columns of one name among {listing(names)}")
    return columns, table.num_rows


def fit_column(raw: GivenRows, name: str, dtype: DType | None, known: Known) -> Fitted:
    """A column as it fits a dtype (None: a time); fitted once, and kept in `known`."""
    if (name, dtype) not in known:
        column = raw.column(name, dtype)
        known[name, dtype] = fit_time(column) if dtype is None else fit(column, dtype)
    return known[name, dtype]


def any_kind(column: Column) -> Fitted:
    """A column in the type that it has, where some dtype stands for it and its values can be read back."""
    try:
        array = plain(column if isinstance(column, pa.ChunkedArray) else array_of_values(column))
    except Exception:  # Arrow's own errors, and what a method of somebody's object raises
        array = None
    if array is None or fitting_dtype(array.type) is None:
        given = np.fromiter((value is not None for value in column), bool, len(column))
        return Fitted(pa.nulls(len(column)), given if given.any() else None)
    bad, _ = unreadable(array)
    return Fitted(array, bad)
