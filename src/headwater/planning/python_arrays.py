"""Python values as Arrow arrays, the same in whatever order they are.

Arrow takes the type of a column from its first values and bends the others to it: times beside dates lose their time of
day, naive times beside aware ones their zone or their lack of one, and numbers beside times become microseconds. So the
kinds of values are looked at here first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from headwater.clock import FIRST_DAY, LAST_DAY, MICROSECOND, YEARS
from headwater.planning.local_time import AWARE, DATE, NaiveTimes, given_time
from headwater.planning.value_checks import without_nan

_TIMES = (date, np.datetime64)
_CLOCKS = (time, timedelta, np.timedelta64)
_LISTS = (list, tuple, np.ndarray)
_NUMBERS = (int, float, np.integer, np.floating)
_DAY = timedelta(days=1) // MICROSECOND

Settle: TypeAlias = Callable[[str], NaiveTimes]
"""The name of a column that mixes kinds of times → what its dates and naive times stand for."""


def in_utc(_: str) -> NaiveTimes:
    """Dates and naive times are of UTC."""
    return NaiveTimes()


def refuse_mixed(name: str) -> NaiveTimes:
    """Refuse a column that mixes kinds of times.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"column {name!r} mixes kinds of times")


def is_gap(value: Any) -> bool:
    """Whether pandas takes a value for a missing one."""
    return (isinstance(value, float) and value != value) or type(value).__name__ in ("NaTType", "NAType")


def array_of(values: Any, *, from_pandas: bool = False) -> pa.Array | pa.ChunkedArray:
    """An array of a column of pandas, NumPy or Python.

    Raises:
        OverflowError: a day of NumPy that is too far away; Arrow lets it wrap around.
        ValueError: kinds of values that have no type in common, naive and aware times and dates among them.
    """
    if isinstance(values, (list, tuple)) or getattr(values, "dtype", None) == np.dtype(object):
        array = array_of_values(_listed(values), refuse_mixed, from_pandas=from_pandas)
    else:
        if isinstance(values, np.ndarray) and values.dtype == np.dtype("datetime64[D]"):
            days = values[~np.isnat(values)].astype(np.int64)
            if len(days) and (days.min() < FIRST_DAY or days.max() > LAST_DAY):
                raise OverflowError(f"a date {YEARS}")
        if isinstance(values, np.ndarray) and values.ndim == 2:
            values = list(values)  # a matrix: a vector a row
        array = pa.array(values, from_pandas=from_pandas)
    return without_nan(array) if from_pandas else array


def _listed(values: Any) -> Sequence[Any]:
    """The objects of a column."""
    return values if isinstance(values, (list, tuple)) else list(values)


def array_of_values(
    values: Sequence[Any], settle: Settle = in_utc, name: str = "", *, from_pandas: bool = False
) -> pa.Array:
    """An array of Python values, the same in whatever order they are.

    Dates and naive times together are naive; either beside aware times becomes an instant. Nanoseconds are kept.

    Args:
        values: the values.
        settle: what dates and naive times beside aware ones stand for.
        name: of the column, for `settle`.
        from_pandas: whether NaN and the like are gaps.

    Raises:
        ValueError: values of kinds that have no type in common, and what Arrow refuses.
    """
    kinds = set(map(type, values)) - {type(None)}
    if any(issubclass(kind, _TIMES) for kind in kinds):
        return _array_of_times([_known(value, from_pandas) for value in values], settle, name)
    if kinds and all(issubclass(kind, _LISTS) for kind in kinds):
        return _array_of_lists(values, settle, name, from_pandas)
    if len(kinds) > 1:
        clocks = {kind for kind in kinds if issubclass(kind, _CLOCKS)}
        if clocks and any(not is_gap(value) for value in values if value is not None and type(value) not in clocks):
            raise ValueError("times of day or durations among others")  # which Arrow takes for microseconds
    # a narrow float of NumPy's that comes first would be the type of all
    narrow = len(kinds) > 1 and kinds & {np.float16, np.float32} and all(issubclass(kind, _NUMBERS) for kind in kinds)
    array = pa.array(values, pa.float64() if narrow else None, from_pandas=from_pandas)
    if pa.types.is_floating(array.type) and kinds & {bool, np.bool_}:
        raise ValueError("a bool among floats")  # which Arrow takes for a number
    return array


def _known(value: Any, from_pandas: bool) -> Any:
    """A value; None where it is missing."""
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else value
    if type(value).__name__ == "NaTType" or (from_pandas and is_gap(value)):
        return None
    return value


def _array_of_times(values: Sequence[Any], settle: Settle, name: str) -> pa.Array:
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return pa.nulls(len(values))
    if not all(issubclass(kind, _TIMES) for kind in kinds):
        raise ValueError("times among others")  # which Arrow takes for microseconds
    if len(kinds) == 1 and (plain := _of_one_kind(values, kinds.pop())) is not None:
        return plain
    given = [None if value is None else given_time(value) for value in values]
    ways = {found.kind for found in given if found is not None}
    if ways == {DATE}:
        days = [None if found is None else found.micros // _DAY for found in given]
        return pa.array(days, pa.int32()).view(pa.date32())
    rule = NaiveTimes() if len(ways) == 1 else settle(name)
    naive = AWARE not in ways and (DATE not in ways or rule.dates or rule.zone is None)
    micros = [None if found is None else found.micros if naive else rule.instant(found) for found in given]
    zone = None if naive else "UTC"
    if not any(found is not None and found.nanos for found in given):
        return pa.array(micros, pa.int64()).cast(pa.timestamp("us", zone))
    nanos = [None if at is None or f is None else at * 1000 + f.nanos for at, f in zip(micros, given, strict=True)]
    return pa.array(nanos, pa.int64()).cast(pa.timestamp("ns", zone))


def _of_one_kind(values: Sequence[Any], kind: type) -> pa.Array | None:
    """Values of one type as Arrow takes them; None where that is not how they are."""
    if kind is date:
        return pa.array(values)
    if issubclass(kind, datetime) and len({value.tzinfo is None for value in values if value is not None}) == 1:
        array = pa.array(values)
        if kind is datetime or not any(getattr(value, "nanosecond", 0) for value in values):
            return array
        return pa.array(values, pa.timestamp("ns", array.type.tz))
    return None


def _array_of_lists(values: Sequence[Any], settle: Settle, name: str, from_pandas: bool) -> pa.Array:
    """Lists; those of times by their elements."""
    try:
        array, failed = pa.array(values, from_pandas=from_pandas), None
    except Exception as bad:
        array, failed = None, bad
    if array is not None and not (pa.types.is_list(array.type) and pa.types.is_temporal(array.type.value_type)):
        return array
    known = [None if value is None else list(value) for value in values]
    elements = [_known(element, from_pandas) for element in chain.from_iterable(v for v in known if v is not None)]
    if failed is not None and not all(isinstance(element, (*_TIMES, type(None))) for element in elements):
        raise failed
    inner = array_of_values(elements, settle, name)
    lengths = [0 if value is None else len(value) for value in known]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    missing = pa.array([value is None for value in known])
    return pa.ListArray.from_arrays(offsets, inner, mask=missing)
