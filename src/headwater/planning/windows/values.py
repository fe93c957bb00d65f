"""Values as aggregates hold them: the numbers that are stored, one NaN, no negative zero, arrays as tuples."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from headwater.clock import from_micros, to_micros
from headwater.types import DType

NAN = math.nan
_EPOCH_DAY = date(1970, 1, 1).toordinal()


class Entry(NamedTuple):
    """A value with what orders it: event time, created time (microseconds), the log over a source, log position.

    `NamedTuple`, since a version's lists hold many and compare them; `order_of` compares the values too.
    """

    event: int
    created: int
    from_log: bool
    position: int
    value: Any = None


def order_of(entry: Entry) -> tuple[Any, ...]:
    """By what the events of a window are ordered: rules 1 to 4 of history, then the greater value."""
    return (entry.event, entry.created, entry.from_log, entry.position, rank(entry.value))


def rank(value: Any) -> tuple[Any, ...]:
    """A value's place among those of its dtype: NULL lowest, NaN greatest; equal only for equal values.

    Text is ordered by its UTF-8 bytes, which is the order of its code points; arrays by element, the shorter first.
    """
    if value is None:
        return (0,)
    if isinstance(value, float):
        return (2,) if value != value else (1, value)
    if isinstance(value, tuple):
        return (1, tuple(rank(element) for element in value))
    return (1, value)


def stored_form(dtype: DType, value: Any) -> Any:
    """A Python value of a dtype as aggregates hold it.

    Integers and bools as int, floats as float (−0.0 as 0.0, any NaN as one), timestamps as microseconds since 1970
    (UTC), dates as days since 1970, text and bytes as they are, arrays and embeddings as tuples of these; NULL is None.
    """
    if value is None:
        return None
    match dtype.name:
        case "float32" | "float64":
            return _one_form(float(value))
        case "bool" | "int32" | "int64":
            return int(value)
        case "timestamp":
            return to_micros(value) if isinstance(value, datetime) else int(value)
        case "date":
            return value.toordinal() - _EPOCH_DAY if isinstance(value, date) else int(value)
        case "array":
            assert dtype.element is not None
            return tuple(stored_form(dtype.element, element) for element in value)
        case "embedding":
            return tuple(_one_form(float(element)) for element in value)
    return value


def _one_form(number: float) -> float:
    return NAN if number != number else number + 0.0


def stored_values(dtype: DType, column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """A column's values as aggregates hold them (`stored_form`), all at once.

    Args:
        dtype: the column's.
        column: in the dtype's Arrow type, or one that is cast to it.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array = array if array.type == dtype.arrow else array.cast(dtype.arrow)
    match dtype.name:
        case "float32" | "float64":
            return [None if value is None else _one_form(value) for value in array.to_pylist()]
        case "bool":
            return array.cast(pa.int8()).to_pylist()  # type: ignore[no-any-return]
        case "timestamp":
            return array.cast(pa.int64()).to_pylist()  # type: ignore[no-any-return]
        case "date":
            return array.cast(pa.int32()).to_pylist()  # type: ignore[no-any-return]
        case "array" | "embedding":
            return [None if value is None else stored_form(dtype, value) for value in array.to_pylist()]
    return array.to_pylist()  # type: ignore[no-any-return]


def result_value(dtype: DType, stored: Any) -> Any:
    """A stored value as results hold it: bool, int, float, text, bytes, datetime (UTC), date, lists of these; None."""
    if stored is None:
        return None
    match dtype.name:
        case "bool":
            return bool(stored)
        case "timestamp":
            return from_micros(stored)
        case "date":
            return date.fromordinal(stored + _EPOCH_DAY)
        case "array":
            assert dtype.element is not None
            return [result_value(dtype.element, element) for element in stored]
        case "embedding":
            return list(stored)
    return stored


def result_values(dtype: DType, stored: Iterable[Any]) -> list[Any]:
    """Stored values as results hold them, in order."""
    if dtype.name in ("bool", "timestamp", "date", "array", "embedding"):
        return [result_value(dtype, value) for value in stored]
    return list(stored)


def result_array(dtype: DType, stored: Iterable[Any]) -> pa.Array:
    """Stored values as a column of the dtype's Arrow type."""
    return pa.array(_plain(dtype, stored), dtype.arrow)


def _plain(dtype: DType, stored: Iterable[Any]) -> list[Any]:
    """What Arrow makes a column of a dtype of: times are the numbers that are stored."""
    if dtype.name == "bool":
        return [None if value is None else bool(value) for value in stored]
    if dtype.name == "array" and dtype.element is not None:
        element = dtype.element
        return [None if value is None else _plain(element, value) for value in stored]
    return list(stored)
