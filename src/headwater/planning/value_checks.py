"""Values that nothing can read back: text that is not UTF-8, and instants outside the years 1 to 9999.

Arrow holds both without a word: PyArrow reads text from files unchecked, and its times reach 290,000 years.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from headwater.clock import FIRST_DAY, FIRST_MICROS, LAST_DAY, LAST_MICROS, YEARS
from headwater.deferred import deferred
from headwater.errors import HeadwaterError, brief
from headwater.types import is_list

if TYPE_CHECKING:
    import pyarrow.compute as pc
    from numpy.typing import NDArray
else:
    pc = deferred("pyarrow.compute")

NOT_TEXT = "not valid UTF-8 text"
WIDE_KEY = (
    "an integer beyond 64 bits, too large for an integer key: declare the join key as hw.String and give the "
    "digits as text"
)
_INT64 = range(-(2**63), 2**63)


def is_wide(value: Any) -> bool:
    """Whether a value is an integer that 64 bits do not hold."""
    return isinstance(value, (int, np.integer)) and int(value) not in _INT64


Rows: TypeAlias = "NDArray[np.bool_] | None"
"""Which rows of a column are bad; None: none is."""

Column: TypeAlias = pa.Array | pa.ChunkedArray
Columns: TypeAlias = Iterable[tuple[str, Column]]

_MOST = 5
_NUMPY_UNITS = {"day": "D", "s": "s", "ms": "ms", "us": "us"}
_MILLIS_A_DAY = 86_400_000


def not_text(array: pa.Array) -> Rows:
    """Which rows hold text that is not valid UTF-8, also inside lists, structs and dictionaries."""
    if not holds_text(array.type):
        return None
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return _rows(array, _is_text, _undecodable)
    return None


def beyond_years(array: pa.Array) -> Rows:
    """Which rows hold a timestamp or date outside the years 1 to 9999, also inside lists, structs and dictionaries."""
    return _rows(array, _is_time, _far) if holds_time(array.type) else None


def unreadable(array: pa.Array) -> tuple[Rows, str]:
    """Which rows hold either, and what the first of them is."""
    texts, times = not_text(array), beyond_years(array)
    if times is None:
        return texts, NOT_TEXT
    if texts is None:
        return times, YEARS
    return texts | times, NOT_TEXT if np.argmax(texts | times) == np.argmax(texts) else YEARS


def refuse_unreadable(
    columns: Columns, where: Callable[[str], str], error: type[HeadwaterError], first: int = 0
) -> None:
    """Refuse columns that hold such a value.

    Args:
        columns: name and values of each.
        where: a column's name → what it is, for the error (`spine column 'note'`).
        error: what to raise.
        first: the number of the first row.

    Raises:
        error: naming column, rows and the first value.
    """
    _refuse(columns, unreadable_rows, where, error, first)


def refuse_not_text(columns: Columns, where: Callable[[str], str], error: type[HeadwaterError], first: int = 0) -> None:
    """`refuse_unreadable` for text alone."""
    _refuse(columns, lambda column: _bad_rows(column, lambda chunk: (not_text(chunk), NOT_TEXT)), where, error, first)


def _refuse(
    columns: Columns,
    look: Callable[[Column], tuple[NDArray[np.int64], str] | None],
    where: Callable[[str], str],
    error: type[HeadwaterError],
    first: int,
) -> None:
    for name, column in columns:
        found = look(column)
        if found is not None:
            rows, what = found
            raise error(f"{where(name)}: {shown(column[int(rows[0])])} in {row_list(rows, first)} is {what}")


def unreadable_rows(column: Column) -> tuple[NDArray[np.int64], str] | None:
    """The rows of a column that hold such a value, ascending, and what the first of them is; None: no row does."""
    return _bad_rows(column, unreadable)


def _bad_rows(column: Column, look: Callable[[pa.Array], tuple[Rows, str]]) -> tuple[NDArray[np.int64], str] | None:
    if not (holds_text(column.type) or holds_time(column.type)):
        return None
    found: list[NDArray[np.int64]] = []
    what, start = "", 0
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        bad, kind = look(chunk)
        if bad is not None:
            what = what or kind
            found.append(np.flatnonzero(bad).astype(np.int64) + start)
        start += len(chunk)
    return (np.concatenate(found), what) if found else None


def left_out(rows: int) -> str:
    """What a warning says of rows of the log that an earlier release took."""
    return (
        f"{rows:,} rows of the offline log are left out: values that are {NOT_TEXT}, or {YEARS}, or damaged; "
        "headwater verify names them"
    )


def row_list(rows: Sequence[int] | NDArray[np.int64], first: int = 0) -> str:
    """`row 3`, `rows 3, 5 and 12 more`."""
    some = ", ".join(str(int(row) + first) for row in rows[:_MOST])
    more = f" and {len(rows) - _MOST:,} more" if len(rows) > _MOST else ""
    return f"row{'' if len(rows) == 1 else 's'} {some}{more}"


def shown(value: Any) -> str:
    """A value as messages show it, an Arrow scalar that Python cannot hold too."""
    if not isinstance(value, pa.Scalar):
        return brief(value)
    try:
        return brief(value.as_py())
    except Exception:
        pass
    if isinstance(value, pa.DictionaryScalar):
        return shown(value.value)
    try:
        if _is_text(value.type):
            return brief(value.as_buffer().to_pybytes())
        if _is_time(value.type):
            time = np.array([value.value], f"datetime64[{_NUMPY_UNITS[_unit(value.type)]}]")
            return f"a time of the year {1970 + int(time.astype('datetime64[Y]').astype(np.int64)[0]):,}"
    except Exception:
        pass
    return f"a {value.type}"


def python_values(column: Column) -> list[Any]:
    """A column's values for people to look at; one that Python cannot hold is its text."""
    try:
        values: list[Any] = column.to_pylist()
    except Exception:
        values = []
        for value in column:
            try:
                values.append(value.as_py())
            except Exception:
                values.append(shown(value))
    return values


_SECONDS = {"Y": 31_536_000, "M": 2_419_200, "W": 604_800, "D": 86_400, "h": 3_600, "m": 60, "s": 1, "ms": 0.001}
"""The shortest of each unit of NumPy that is coarser than microseconds."""
_FAR_SECONDS = 4e11
"""Further from 1970 than the years 1 and 9999."""


def numpy_micros(value: np.datetime64) -> tuple[int, bool] | None:
    """Microseconds since 1970 of an instant that is not NaT, rounded down, and whether that is exact.

    None: an instant outside the years 1 to 9999.
    """
    unit, step = np.datetime_data(value.dtype)
    # NumPy's own cast of an instant that is too far away wraps around
    if abs(int(value.astype(np.int64))) * step * _SECONDS.get(unit, 0) > _FAR_SECONDS:
        return None
    micros = value.astype("datetime64[us]")
    found = int(micros.astype(np.int64))
    return (found, bool(micros == value)) if FIRST_MICROS <= found <= LAST_MICROS else None


def without_nan(column: Column) -> Column:
    """A column of pandas: where its own types hold floats, NaN occurs beside the NULLs, and means the same."""
    if not pa.types.is_floating(column.type):
        return column
    nan = pc.is_nan(column)
    return pc.if_else(nan, pa.scalar(None, column.type), column) if pc.any(nan).as_py() else column


PARSE_TIMES = (
    "it is text: parse it first, with datetime.fromisoformat(…), pandas.to_datetime(…, utc=True), polars' "
    ".str.to_datetime(time_zone='UTC') or CAST(… AS TIMESTAMPTZ) in SQL (the headwater command reads ISO text as it is)"
)
"""How text becomes a time."""


def holds_text(kind: pa.DataType) -> bool:
    """Whether a column of a type can hold text, also inside lists, structs and dictionaries."""
    return _holds(kind, _is_text)


def holds_time(kind: pa.DataType) -> bool:
    """Whether a column of a type can hold a time outside the years 1 to 9999, also inside lists and the like."""
    return _holds(kind, _is_time)


# -- where in a column


def _holds(kind: pa.DataType, leaf: Callable[[pa.DataType], bool]) -> bool:
    """Whether a type is such a leaf, or has one inside."""
    if leaf(kind):
        return True
    if pa.types.is_dictionary(kind):
        return _holds(kind.value_type, leaf)
    if isinstance(kind, pa.BaseExtensionType):
        return _holds(kind.storage_type, leaf)
    return any(_holds(kind.field(i).type, leaf) for i in range(kind.num_fields))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_time(kind: pa.DataType) -> bool:
    return bool((pa.types.is_timestamp(kind) and kind.unit != "ns") or pa.types.is_date(kind))


def _rows(array: pa.Array, leaf: Callable[[pa.DataType], bool], check: Callable[[pa.Array], Rows]) -> Rows:
    """Which rows hold a leaf that `check` finds bad."""
    kind = array.type
    if leaf(kind):
        return check(array)
    if not _holds(kind, leaf):
        return None
    if isinstance(array, pa.ExtensionArray):
        return _rows(array.storage, leaf, check)
    if pa.types.is_dictionary(kind):
        inside = _rows(array.dictionary, leaf, check)
        if inside is None:
            return None
        return _some(inside[array.indices.fill_null(0).to_numpy()] & valid_mask(array))
    if pa.types.is_struct(kind):
        found = [bad for field in array.flatten() if (bad := _rows(field, leaf, check)) is not None]
        return _some(np.logical_or.reduce(found)) if found else None
    if is_list(kind):
        inside = _rows(array.flatten(), leaf, check)
        if inside is None:
            return None
        lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        bad = np.zeros(len(array), bool)
        bad[np.repeat(np.arange(len(array)), lengths)[inside]] = True
        return bad
    # a map, a union: read one by one
    return _some(np.fromiter((_fails(value) for value in array), bool, len(array)))


def _fails(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except Exception:
        return True
    return False


def _some(bad: NDArray[np.bool_]) -> Rows:
    return bad if bad.any() else None


def valid_mask(array: pa.Array) -> NDArray[np.bool_]:
    """Where values are not NULL."""
    valid: NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False).astype(bool)
    return valid


def _undecodable(array: pa.Array) -> Rows:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return _some(np.fromiter((_is_not_utf8(value) for value in array), bool, len(array)))
    return None


def _is_not_utf8(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return True
    return False


def _far(array: pa.Array) -> Rows:
    first, last = _limits(array.type)
    numbers = array.view(pa.int32() if pa.types.is_date32(array.type) else pa.int64())
    if array.null_count:
        numbers = numbers.fill_null(0)
    values = numbers.to_numpy()
    if not len(values) or (values.min() >= first and values.max() <= last):
        return None
    bad: NDArray[np.bool_] = (values < first) | (values > last)
    return bad


def _unit(kind: pa.DataType) -> str:
    return "day" if pa.types.is_date32(kind) else "ms" if pa.types.is_date64(kind) else str(kind.unit)


def _limits(kind: pa.DataType) -> tuple[int, int]:
    if pa.types.is_date32(kind):
        return FIRST_DAY, LAST_DAY
    if pa.types.is_date64(kind):
        return FIRST_DAY * _MILLIS_A_DAY, (LAST_DAY + 1) * _MILLIS_A_DAY - 1
    per = {"s": 1_000_000, "ms": 1_000, "us": 1}[kind.unit]
    return FIRST_MICROS // per, LAST_MICROS // per
