"""Columns of written rows as their declared dtypes, without loss; which rows do not fit is told row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headwater.clock import to_micros
from headwater.errors import UsageError
from headwater.planning.tables import decoded
from headwater.planning.value_checks import numpy_micros, unreadable
from headwater.types import DType, Timestamp

Column: TypeAlias = pa.ChunkedArray | list[Any]
"""A column as the user gave it: Arrow from a table, Python values from a list of dicts."""

_MICROS = pa.timestamp("us", tz="UTC")
_WHOLE = {"float32": 2**24, "float64": 2**53}
_ALONE = {"string": {str, type(None)}, "bytes": {bytes, type(None)}, "date": {date, type(None)}}
_MILLIS_A_DAY = 86_400_000
_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}


@dataclass(frozen=True)
class Fitted:
    """A column in a dtype.

    Attributes:
        values: the values; NULL where they do not fit.
        bad: the rows whose value does not fit; None: all do.
    """

    values: pa.Array
    bad: NDArray[np.bool_] | None = None


def fit(column: Column, dtype: DType, *, pandas: bool = False) -> Fitted:
    """A column as a dtype.

    Integers of any width fit where the value does, whole numbers a float that holds them exactly, floats a narrower
    float unless they overflow; text, bytes, bools, times and dates only their own kind. Finer timestamps round down.

    Args:
        column: the values.
        dtype: what they shall be.
        pandas: whether they came from pandas, which holds integers with gaps as floats.
    """
    if dtype == Timestamp and isinstance(column, list):
        return _instants(column, up=False)
    return _fit(column, dtype, lambda array: _arrow(array, dtype, pandas))


def fit_time(column: Column) -> Fitted:
    """A column of times (timestamps of any unit, aware or naive in UTC, or dates) in microseconds, rounded up."""
    if isinstance(column, list):
        return _instants(column, up=True)
    return _readable(plain(column), lambda array: _times(array, up=True))


def _readable(array: pa.Array, convert: Callable[[pa.Array], Fitted]) -> Fitted:
    """Convert what can be read back; text that is not UTF-8 and instants that Python cannot hold do not fit."""
    bad, _ = unreadable(array)
    if bad is None:
        return convert(array)
    found = convert(array.take(pa.array(np.arange(len(array)), mask=bad)))
    return Fitted(found.values, bad if found.bad is None else bad | found.bad)


def _fit(column: Column, dtype: DType, convert: Callable[[pa.Array], Fitted]) -> Fitted:
    if not isinstance(column, list):
        return convert(plain(column))
    # Arrow takes text beside bytes for bytes, and cuts a datetime beside a date, so that these are looked at one by one
    exact = _ALONE.get(dtype.name)
    if exact is None or exact.issuperset(map(type, column)):
        found = _converted(column, None, convert)
        if found is not None and found.bad is None:
            return found
    return _one_by_one(column, dtype, convert)


def _converted(column: Sequence[Any], hint: pa.DataType | None, convert: Callable[[pa.Array], Fitted]) -> Fitted | None:
    """Python values as Arrow takes them; None where it does not."""
    try:
        return convert(pa.array(column, hint))
    except Exception:  # Arrow's own errors, and what a method of somebody's object raises
        return None


def _one_by_one(column: Sequence[Any], dtype: DType, convert: Callable[[pa.Array], Fitted]) -> Fitted:
    hint = dtype.arrow if dtype.name in ("string", "bytes", "date", "array", "embedding") else None
    given = np.fromiter((value is not None for value in column), bool, len(column))
    good = [value if _accepts(dtype, value) else None for value in column]
    found = _converted(good, hint, convert)
    if found is None:
        good = [value if _converted([value], hint, convert) is not None else None for value in good]
        found = _converted(good, hint, convert)
    if found is None:
        return Fitted(pa.nulls(len(column), dtype.arrow), given)
    bad = given & np.fromiter((value is None for value in good), bool, len(column))
    both = bad if found.bad is None else bad | found.bad
    return Fitted(found.values, both if both.any() else None)


def _accepts(dtype: DType, value: Any) -> bool:
    try:
        return dtype.accepts(value)
    except Exception:
        return False


def _instants(column: Sequence[Any], *, up: bool) -> Fitted:
    """Python times in microseconds; what is none is bad."""
    if {datetime, type(None)}.issuperset(map(type, column)):
        try:
            return Fitted(
                pa.array([None if value is None else to_micros(value) for value in column], pa.int64()).cast(_MICROS)
            )
        except UsageError:
            pass
    found = [_instant(value, up) for value in column]
    bad = np.fromiter((f is _NO_TIME for f in found), bool, len(found))
    values = pa.array([None if f is _NO_TIME else f for f in found], pa.int64()).cast(_MICROS)
    return Fitted(values, bad if bad.any() else None)


_NO_TIME = object()


def _instant(value: Any, up: bool) -> Any:
    if value is None:
        return None
    if isinstance(value, np.datetime64):
        if np.isnat(value):
            return None
        found = numpy_micros(value)
        return _NO_TIME if found is None else found[0] + (1 if up and not found[1] else 0)
    if not isinstance(value, date):
        return _NO_TIME
    if isinstance(value, datetime) and value != value:  # pandas' NaT is a datetime
        return None
    try:
        # pandas' timestamps are datetimes with nanoseconds beside
        finer: int = getattr(value, "nanosecond", 0)
        return to_micros(value) + (1 if up and finer else 0)
    except UsageError:
        return _NO_TIME


def plain(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One array, dictionaries and views and large forms decoded."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.nulls(0, array.type)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        return decoded(array, pa.string())
    if pa.types.is_large_binary(array.type) or pa.types.is_binary_view(array.type):
        return decoded(array, pa.binary())
    return array


def _arrow(array: pa.Array, dtype: DType, pandas: bool) -> Fitted:
    if _is_list(array.type) and array.type != dtype.arrow:
        return _lists(array, dtype, pandas)
    return _readable(array, lambda readable: _plain_arrow(readable, dtype, pandas))


def _plain_arrow(array: pa.Array, dtype: DType, pandas: bool) -> Fitted:
    given, wanted = array.type, dtype.arrow
    if given == wanted and dtype.name != "embedding":
        return Fitted(array)
    if pa.types.is_null(given):
        return Fitted(pa.nulls(len(array), wanted))
    match dtype.name:
        case "int32" | "int64":
            return _integers(array, dtype, pandas)
        case "float32" | "float64":
            return _floats(array, dtype)
        case "timestamp":
            return _times(array, up=False)
        case "date" if pa.types.is_date(given):
            return _dates(array, wanted)
        case "bytes" if pa.types.is_fixed_size_binary(given):
            return Fitted(array.cast(wanted))
        case "embedding":
            return _lists(array, dtype, pandas)
    return _none(array, wanted)


def _none(array: pa.Array, wanted: pa.DataType) -> Fitted:
    bad = _valid(array)
    return Fitted(pa.nulls(len(array), wanted), bad if bad.any() else None)


def _valid(array: pa.Array) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False).astype(bool)
    return found


def _masked(array: pa.Array, bad: NDArray[np.bool_], wanted: pa.DataType) -> Fitted:
    """The values cast, those that are bad left out."""
    if not bad.any():
        return Fitted(array.cast(wanted, safe=False))
    return Fitted(pc.if_else(pa.array(~bad), array, pa.scalar(None, array.type)).cast(wanted, safe=False), bad)


def _integers(array: pa.Array, dtype: DType, pandas: bool) -> Fitted:
    given, wanted = array.type, dtype.arrow
    if pa.types.is_decimal(given) and given.scale == 0:
        try:
            return Fitted(array.cast(wanted))
        except pa.ArrowException:
            return _none(array, wanted)
    if pa.types.is_floating(given) and pandas:
        values = array.cast(pa.float64()).fill_null(np.nan).to_numpy()
        nan = np.isnan(values)
        limit = 2.0**31 if dtype.name == "int32" else 2.0**63
        whole = (np.floor(np.where(nan, 0, values)) == np.where(nan, 0, values)) & (
            np.abs(np.where(nan, 0, values)) < limit
        )
        emptied = pc.if_else(pa.array(~nan), array, pa.scalar(None, given))
        return _masked(emptied, ~whole & ~nan, wanted)
    if not pa.types.is_integer(given):
        return _none(array, wanted)
    bits = 31 if dtype.name == "int32" else 63
    if given.bit_width <= bits or (pa.types.is_signed_integer(given) and given.bit_width == bits + 1):
        return Fitted(array.cast(wanted))
    values = array.fill_null(0).to_numpy()
    bad = values > np.asarray(2**bits - 1, values.dtype)
    if pa.types.is_signed_integer(given):
        bad |= values < -(2**bits)
    return _masked(array, bad, wanted)


def _floats(array: pa.Array, dtype: DType) -> Fitted:
    given, wanted = array.type, dtype.arrow
    if pa.types.is_integer(given):
        values = array.fill_null(0).to_numpy()
        limit = _WHOLE[dtype.name]
        big = np.flatnonzero((values > limit) | (values < -limit) if values.dtype.kind == "i" else values > limit)
        bad = np.zeros(len(values), bool)
        kind = np.float32 if dtype.name == "float32" else np.float64
        for i in big:
            bad[i] = int(kind(values[i])) != int(values[i])
        return _masked(array, bad, wanted)
    if pa.types.is_decimal(given) and dtype.name == "float64":
        return Fitted(array.cast(wanted))
    if not pa.types.is_floating(given):
        return _none(array, wanted)
    if given.bit_width <= wanted.bit_width:
        return Fitted(array.cast(wanted))
    values = array.fill_null(0.0).to_numpy()
    return _masked(array, np.isfinite(values) & (np.abs(values) > np.finfo(np.float32).max), wanted)


def _times(array: pa.Array, *, up: bool) -> Fitted:
    given = array.type
    if pa.types.is_null(given):
        return Fitted(pa.nulls(len(array), _MICROS))
    if pa.types.is_date(given):
        return Fitted(array.cast(pa.timestamp("us")).cast(_MICROS))
    if not pa.types.is_timestamp(given):
        return _none(array, _MICROS)
    if given.unit == "us":
        return Fitted(array.cast(pa.int64()).cast(_MICROS))
    values = array.cast(pa.int64()).fill_null(0).to_numpy()
    if given.unit == "ns":
        micros = -(-values // 1000) if up else values // 1000
        bad = np.zeros(len(values), bool)
    else:
        factor = _PER_UNIT[given.unit]
        bad = np.abs(values) > (2**63 - 1) // factor
        micros = np.where(bad, 0, values) * factor
    found = pa.array(micros, mask=~_valid(array) | bad).cast(_MICROS)
    return Fitted(found, bad if bad.any() else None)


def _dates(array: pa.Array, wanted: pa.DataType) -> Fitted:
    """Dates of days; of milliseconds only those that are whole days."""
    if pa.types.is_date32(array.type):
        return Fitted(array)
    millis = array.view(pa.int64()).fill_null(0).to_numpy()
    found = pa.array((millis // _MILLIS_A_DAY).astype(np.int32), mask=~_valid(array)).view(wanted)
    bad = millis % _MILLIS_A_DAY != 0
    return Fitted(found, bad if bad.any() else None)


def _is_list(given: pa.DataType) -> bool:
    return bool(pa.types.is_list(given) or pa.types.is_large_list(given) or pa.types.is_fixed_size_list(given))


def _lists(array: pa.Array, dtype: DType, pandas: bool) -> Fitted:
    wanted = dtype.arrow
    if dtype.name not in ("array", "embedding") or not _is_list(array.type):
        return _none(array, wanted)
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    inner = _arrow(plain(array.flatten()), dtype.element or DType("float32"), pandas)
    wrong = np.zeros(len(inner.values), bool) if inner.bad is None else inner.bad.copy()
    if dtype.name == "embedding":
        wrong |= ~_valid(inner.values)
    parents = np.repeat(np.arange(len(array)), lengths)
    bad = np.zeros(len(array), bool)
    bad[parents[wrong]] = True
    if dtype.name == "embedding":
        bad |= (lengths != dtype.dim) & _valid(array)
    empty = ~_valid(array) | bad
    values = inner.values.filter(pa.array(~empty[parents])) if bad.any() else inner.values
    offsets = np.concatenate([[0], np.cumsum(np.where(empty, 0, lengths))])
    mask = pa.array(empty) if empty.any() else None
    found = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, mask=mask)
    return Fitted(found.cast(wanted), bad if bad.any() else None)
