"""The values of the rows of a window version, read row by row or as columns, with NULLs told from values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.online.rows.windows.form import CONVERTED, WindowForm
from headwater.online.rows.windows.reading_columns import NumbersRead
from headwater.planning.windows.values import result_value
from headwater.types import DType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

LeftOut = Mapping[int, Mapping[int, str]]
"""Slot → position → why the value is UNAVAILABLE."""
Overflowed = Mapping[int, set[int]]
"""Slot → positions that are NULL by overflow, and take no default."""


class ListedValues:
    """Values that were read row by row.

    Args:
        form: of the rows.
        table: the values of each row in their stored form, None where there is none; taken over.
        left_out: see there.
        overflowed: see there.
    """

    def __init__(self, form: WindowForm, table: list[list[Any]], left_out: LeftOut, overflowed: Overflowed) -> None:
        self._form, self._table, self._left_out = form, table, left_out
        self._defaulted: dict[int, set[int]] = {}
        for slot, default in form.defaults:
            kept, none = left_out.get(slot, ()), overflowed.get(slot, ())
            for place, row in enumerate(table):
                if row[slot] is None and place not in kept and place not in none:
                    row[slot] = default
                    self._defaulted.setdefault(slot, set()).add(place)

    @property
    def has_nulls(self) -> bool:
        """Whether any value is NULL, or not there."""
        return bool(self._defaulted) or any(None in row for row in self._table)

    def columns(self) -> list[list[Any]]:
        """The values of each feature in their stored form, fresh lists; None where there is none."""
        table = self._table
        if len(table) == 1:
            return list(map(list, zip(table[0], strict=True)))
        return list(map(list, zip(*table, strict=True))) if table else [[] for _ in self._form.features]

    def column(self, slot: int) -> list[Any]:
        """Those of one feature."""
        return [row[slot] for row in self._table]

    def nulls(self, slot: int) -> Mask | None:
        """Where a feature has no value; None where it always has one."""
        return _those([row[slot] is None for row in self._table])

    def null_statuses(self, slot: int) -> Mask | None:
        """Where the status of a feature is NULL; None where it never is."""
        left_out, defaulted = self._left_out.get(slot, ()), self._defaulted.get(slot, ())
        column = enumerate(self.column(slot))
        return _those([(v is None and i not in left_out) or i in defaulted for i, v in column])

    def numbers(self, slot: int) -> NDArray[Any]:
        """A feature as stored numbers, an embedding as a matrix; anything where there is no value."""
        return _as_numbers(self.column(slot), self._form.features[slot].dtype)


def _those(where: list[bool]) -> Mask | None:
    return np.array(where, np.bool_) if True in where else None


class ColumnValues:
    """Values that were read as columns.

    Args:
        form: of the rows.
        size: how many rows there are.
        given: of each feature a list, with None where there is no value, or what was read as numbers.
        left_out: see there.
        overflowed: see there.
    """

    def __init__(
        self,
        form: WindowForm,
        size: int,
        given: Sequence[list[Any] | NumbersRead],
        left_out: LeftOut,
        overflowed: Overflowed,
    ) -> None:
        self._form = form
        self._columns: list[Any] = []
        self._nulls: dict[int, tuple[Mask, Mask]] = {}
        """Slot → where its status is NULL, and where it has no value, of those that have such."""
        for slot, column in enumerate(given):
            values: Any
            if isinstance(column, NumbersRead):
                values, there = column
                absent = None if there is None else ~there
            else:
                values, absent = column, _those([value is None for value in column])
            self._columns.append(values)
            if absent is not None:
                self._take_default(slot, absent, left_out.get(slot, {}), overflowed.get(slot, set()))

    def _take_default(self, slot: int, absent: Mask, left_out: Mapping[int, str], overflowed: set[int]) -> None:
        """Put the default of a feature in place of its NULLs."""
        is_null, none, default = absent, absent, self._form.features[slot].default
        if left_out:
            is_null = absent.copy()
            is_null[list(left_out)] = False
        if default is not None:
            kept = is_null.copy()
            kept[list(overflowed)] = False
            none = absent & ~kept
            column = self._columns[slot]
            if isinstance(column, np.ndarray):
                # another feature may have the same numbers, and another default
                column = self._columns[slot] = column.copy()
            for place in np.flatnonzero(kept).tolist():
                column[place] = default
        self._nulls[slot] = is_null, none

    @property
    def has_nulls(self) -> bool:
        """Whether any value is NULL, or not there."""
        return bool(self._nulls)

    def columns(self) -> list[list[Any]]:
        """The values of each feature in their stored form, fresh lists; None where there is none."""
        out = [list(column) if isinstance(column, list) else column.tolist() for column in self._columns]
        for slot, (_, absent) in self._nulls.items():
            column = out[slot]
            for place in np.flatnonzero(absent).tolist():
                column[place] = None
        return out

    def column(self, slot: int) -> list[Any]:
        """Those of one feature."""
        column, nulls = self._columns[slot], self.nulls(slot)
        values: list[Any] = list(column) if isinstance(column, list) else column.tolist()
        if nulls is not None:
            for place in np.flatnonzero(nulls).tolist():
                values[place] = None
        return values

    def nulls(self, slot: int) -> Mask | None:
        """Where a feature has no value; None where it always has one."""
        found = self._nulls.get(slot)
        return None if found is None or not found[1].any() else found[1]

    def null_statuses(self, slot: int) -> Mask | None:
        """Where the status of a feature is NULL; None where it never is."""
        found = self._nulls.get(slot)
        return None if found is None else found[0]

    def numbers(self, slot: int) -> NDArray[Any]:
        """A feature as stored numbers, an embedding as a matrix; anything where there is no value."""
        dtype, values = self._form.features[slot].dtype, self._columns[slot]
        if isinstance(values, list):
            return _as_numbers(values, dtype)
        numbers: NDArray[Any] = values if values.dtype == dtype.numpy else values.astype(dtype.numpy)
        return numbers


def _as_numbers(values: Sequence[Any], dtype: DType) -> NDArray[Any]:
    if dtype.name == "embedding":
        nothing = (0.0,) * (dtype.dim or 0)
        return np.array([nothing if value is None else value for value in values], "<f4").reshape(-1, dtype.dim or 0)
    return np.array([0 if value is None else value for value in values], dtype.numpy)


@lru_cache(maxsize=256)
def converter(dtype: DType) -> Callable[[Any], Any] | None:
    """From the stored form of a value to the one that results have; None: it is the same."""
    return partial(result_value, dtype) if dtype.name in CONVERTED else None
