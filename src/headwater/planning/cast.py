"""Columns as their declared dtypes, by the rule of `value_rule`; which rows do not fit is said row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from headwater.clock import to_micros
from headwater.deferred import deferred
from headwater.errors import UsageError
from headwater.planning.python_arrays import array_of_values, refuse_mixed
from headwater.planning.value_checks import numpy_micros, row_list, shown, unreadable, valid_mask
from headwater.planning.value_rule import BITS, WHOLE, Misfit, cast_value
from headwater.types import DType, Float32, Timestamp, castable, is_list
from headwater.values import Value

if TYPE_CHECKING:
    import pyarrow.compute as pc
    from numpy.typing import NDArray
else:
    pc = deferred("pyarrow.compute")

Column: TypeAlias = pa.ChunkedArray | list[Any]
"""A column as the user gave it: Arrow from a table, Python values from a list of dicts."""

_MICROS = pa.timestamp("us", tz="UTC")
_ALONE: dict[str, type] = {"string": str, "bytes": bytes, "date": date}
_MILLIS_A_DAY = 86_400_000
_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}


class Fitted(Value, frozen=True):
    """A column in a dtype.

    Attributes:
        values: the values; NULL where they do not fit.
        bad: the rows whose value does not fit; None: all do.
    """

    values: pa.Array
    bad: NDArray[np.bool_] | None = None


def fit(column: Column, dtype: DType) -> Fitted:
    """A column as a dtype, each value by the rule of `value_rule.cast_value`.

    Args:
        column: the values.
        dtype: what they shall be.
    """
    if dtype == Timestamp and isinstance(column, list):
        return _instants(column, up=False)
    return _fit(column, dtype, lambda array: _arrow(array, dtype))


def fit_time(column: Column) -> Fitted:
    """A column of times (timestamps of any unit, aware or naive in UTC, or dates) in microseconds, rounded up."""
    if isinstance(column, list):
        return _instants(column, up=True)
    return _readable(plain(column), lambda array: _times(array, up=True))


def misfits(column: pa.ChunkedArray, bad: NDArray[np.bool_], dtype: DType, first: int | None = 0) -> str:
    """What an error says of the values of a column that do not fit.

    Args:
        column: the values as they were given.
        bad: which of them do not fit.
        dtype: what they do not fit.
        first: the number of the first row; None: the error names the row itself.
    """
    rows = np.flatnonzero(bad)
    value = column[int(rows[0])]
    try:
        cast_value(value.as_py(), dtype)
        why = ""
    except Misfit as misfit:
        why = f": {misfit}"
    except Exception:  # Python holds no nanoseconds without pandas
        why = ": finer than a microsecond" if pa.types.is_timestamp(value.type) else ""
    where = "" if first is None else f" in {row_list(rows, first)}"
    return f"{shown(value)}{where} does not fit {dtype}{why}"


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
    # Arrow takes text beside bytes for bytes, and bools and integers beside floats for floats, so that these are looked
    # at one by one
    alone, kinds = _ALONE.get(dtype.name), set(map(type, column)) - {type(None)}
    if kinds <= {alone} if alone is not None else len(kinds) <= 1 or not dtype.numeric:
        found = _converted(column, convert)
        if found is not None and found.bad is None:
            return found
    return _one_by_one(column, dtype)


def _converted(column: Sequence[Any], convert: Callable[[pa.Array], Fitted]) -> Fitted | None:
    """Python values as Arrow takes them; None where it does not."""
    try:
        return convert(array_of_values(column, refuse_mixed))
    except Exception:  # Arrow's own errors, and what a method of somebody's object raises
        return None


def _one_by_one(column: Sequence[Any], dtype: DType) -> Fitted:
    good: list[Any] = []
    bad = np.zeros(len(column), bool)
    for i, value in enumerate(column):
        try:
            good.append(cast_value(value, dtype))
        except Exception:  # a Misfit, and what a method of somebody's object raises
            good.append(None)
            bad[i] = True
    return Fitted(pa.array(good, dtype.arrow), bad if bad.any() else None)


def _instants(column: Sequence[Any], *, up: bool) -> Fitted:
    """Python times in microseconds; finer ones are rounded up, or do not fit."""
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
        return _NO_TIME if found is None or not (up or found[1]) else found[0] + (not found[1])
    if not isinstance(value, date):
        return _NO_TIME
    if isinstance(value, datetime) and value != value:  # pandas' NaT is a datetime
        return None
    try:
        # pandas' timestamps are datetimes with nanoseconds beside
        finer = getattr(value, "nanosecond", 0) != 0
        return _NO_TIME if finer and not up else to_micros(value) + finer
    except UsageError:
        return _NO_TIME


def plain(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One array, dictionaries and views and large forms decoded."""
    if isinstance(column, pa.ChunkedArray) and not column.num_chunks:
        # pyarrow makes no empty array of every type, such as a dictionary without values, as pandas has of no text
        column = pa.nulls(0, column.type.value_type if pa.types.is_dictionary(column.type) else column.type)
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        return decoded(array, pa.string())
    if pa.types.is_large_binary(array.type) or pa.types.is_binary_view(array.type):
        return decoded(array, pa.binary())
    return array


def decoded(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Text or bytes of a large, fixed-size or view encoding in the plain one."""
    try:
        return array.cast(wanted)
    except pa.ArrowNotImplementedError:  # pyarrow below 18 casts no views
        return pa.array(array.to_pylist(), wanted)


def _arrow(array: pa.Array, dtype: DType) -> Fitted:
    if is_list(array.type) and array.type != dtype.arrow:
        return _lists(array, dtype)
    return _readable(array, lambda readable: _plain_arrow(readable, dtype))


def _plain_arrow(array: pa.Array, dtype: DType) -> Fitted:
    given, wanted = array.type, dtype.arrow
    if given == wanted and dtype.name != "embedding":
        return Fitted(array)
    if pa.types.is_null(given):
        return Fitted(pa.nulls(len(array), wanted))
    if not castable(given, dtype):
        return _none(array, wanted)
    match dtype.name:
        case "int32" | "int64":
            return _integers(array, dtype)
        case "float32" | "float64":
            return _floats(array, dtype)
        case "timestamp":
            return _times(array, up=False)
        case "date":
            return _dates(array, wanted)
        case "embedding":
            return _lists(array, dtype)
    return Fitted(array.cast(wanted))


def _none(array: pa.Array, wanted: pa.DataType) -> Fitted:
    bad = valid_mask(array)
    return Fitted(pa.nulls(len(array), wanted), bad if bad.any() else None)


def _masked(array: pa.Array, bad: NDArray[np.bool_], wanted: pa.DataType) -> Fitted:
    """The values cast, those that are bad left out."""
    if not bad.any():
        return Fitted(array.cast(wanted, safe=False))
    return Fitted(pc.if_else(pa.array(~bad), array, pa.scalar(None, array.type)).cast(wanted, safe=False), bad)


def _integers(array: pa.Array, dtype: DType) -> Fitted:
    given, wanted, bits = array.type, dtype.arrow, BITS[dtype.name]
    if pa.types.is_decimal(given):
        try:
            return Fitted(array.cast(wanted))
        except pa.ArrowException:
            return _one_by_one(array.to_pylist(), dtype)
    if pa.types.is_floating(given):
        values = array.cast(pa.float64()).fill_null(0.0).to_numpy()
        ends = 2.0 ** min(bits, 53)
        with np.errstate(invalid="ignore"):
            good = (np.trunc(values) == values) & (values > -ends) & (values < ends)
        if bits == 31:
            good |= values == -ends
        return _masked(array, ~good, wanted)
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
        whole = WHOLE[dtype.name]
        if given.bit_width + pa.types.is_unsigned_integer(given) <= whole.bit_length():
            return Fitted(array.cast(wanted))
        values = array.fill_null(0).to_numpy()
        return _masked(
            array, (values > whole) | (values < -whole) if values.dtype.kind == "i" else values > whole, wanted
        )
    if pa.types.is_decimal(given):
        try:
            # by way of text: Arrow's own cast rounds more than once
            found = array.cast(pa.string()).cast(wanted)
        except pa.ArrowException:
            return _one_by_one(array.to_pylist(), dtype)
        return _finite(found, np.zeros(len(array), bool))
    if given.bit_width <= wanted.bit_width:
        return Fitted(array.cast(wanted))
    with np.errstate(over="ignore"):
        found = array.cast(wanted, safe=False)
    return _finite(found, np.isinf(array.fill_null(0.0).to_numpy()))


def _finite(found: pa.Array, infinite: NDArray[np.bool_]) -> Fitted:
    """Numbers that were cast: those that became infinite without having been so do not fit."""
    bad = np.isinf(found.fill_null(0.0).to_numpy()) & ~infinite
    return _masked(found, bad, found.type)


def _times(array: pa.Array, *, up: bool) -> Fitted:
    """Times in microseconds; finer ones are rounded up, or do not fit."""
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
        micros = -(-values // 1000)
        bad = np.zeros(len(values), bool) if up else values % 1000 != 0
    else:
        factor = _PER_UNIT[given.unit]
        bad = np.abs(values) > (2**63 - 1) // factor
        micros = np.where(bad, 0, values) * factor
    found = pa.array(micros, mask=~valid_mask(array) | bad).cast(_MICROS)
    return Fitted(found, bad if bad.any() else None)


def _dates(array: pa.Array, wanted: pa.DataType) -> Fitted:
    """Dates of days; of milliseconds only those that are whole days."""
    if pa.types.is_date32(array.type):
        return Fitted(array)
    millis = array.view(pa.int64()).fill_null(0).to_numpy()
    found = pa.array((millis // _MILLIS_A_DAY).astype(np.int32), mask=~valid_mask(array)).view(wanted)
    bad = millis % _MILLIS_A_DAY != 0
    return Fitted(found, bad if bad.any() else None)


def _lists(array: pa.Array, dtype: DType) -> Fitted:
    wanted = dtype.arrow
    if dtype.name not in ("array", "embedding"):
        return _none(array, wanted)
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    inner = _arrow(plain(array.flatten()), dtype.element or Float32)
    wrong = np.zeros(len(inner.values), bool) if inner.bad is None else inner.bad.copy()
    if dtype.name == "embedding":
        wrong |= ~valid_mask(inner.values)
    parents = np.repeat(np.arange(len(array)), lengths)
    bad = np.zeros(len(array), bool)
    bad[parents[wrong]] = True
    if dtype.name == "embedding":
        bad |= (lengths != dtype.dim) & valid_mask(array)
    empty = ~valid_mask(array) | bad
    values = inner.values.filter(pa.array(~empty[parents])) if bad.any() else inner.values
    offsets = np.concatenate([[0], np.cumsum(np.where(empty, 0, lengths))])
    mask = pa.array(empty) if empty.any() else None
    found = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, mask=mask)
    return Fitted(found.cast(wanted), bad if bad.any() else None)
