"""Values as JSON: one form for each dtype, the same in requests and in answers, that survives the round trip.

| dtype | JSON |
|---|---|
| int32, int64 | a number; beyond 2**53 the same digits as text (a request may use text for any) |
| float32, float64 | the shortest exact number (a float32 as a double); "NaN", "Infinity", "-Infinity" |
| bool, string | true or false, text |
| bytes | base64 |
| timestamp | RFC 3339 in UTC with microseconds, `2026-11-28T10:00:00.000000Z` (a request may use any offset) |
| date | `2026-11-28` |
| array, embedding | an array of the above |

NULL is null everywhere.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

import numpy as np

from headwater.errors import brief
from headwater.planning.text_values import Misread
from headwater.types import DType, Timestamp, a_dtype

WHOLE = 2**53
"""The greatest integer up to which every reader of JSON has all integers."""
_INFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_PLAIN: dict[str, frozenset[type]] = {
    name: frozenset((kind, type(None))) for name, kind in (("int32", int), ("int64", int), ("float64", float))
}
"""Types of values that JSON's own form will do for."""
_DIGITS = re.compile(r"-?[0-9]{1,20}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_NEARLY_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[Tt ]([0-9]{2}:[0-9]{2})(:[0-9]{2})?(\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:?[0-9]{2})?"
)
"""Dates, and times that lack an offset or seconds, or have too many digits."""


def to_json(values: Sequence[Any], dtype: DType) -> Sequence[Any]:
    """A column as what a JSON encoder writes in the forms above; `values` itself where nothing has to be changed.

    Args:
        values: Python values of a dtype, as results give them; None is NULL.
        dtype: theirs. Dates and bytes are left to the encoder (msgspec's), which has those forms.
    """
    write = column_writer(dtype)
    return values if write is None else write(values)


@lru_cache(maxsize=256)
def column_writer(dtype: DType) -> Callable[[Sequence[Any]], Sequence[Any]] | None:
    """What `to_json` does with columns of a dtype; None where they are left as they are."""
    match dtype.name:
        case "int64":
            return lambda values: values if _small(values) else [_whole(value) for value in values]
        case "float32" | "float64" | "embedding" | "array":
            write = _writer(dtype)
            return lambda values: (
                values if _plain_numbers(values) else [None if value is None else write(value) for value in values]
            )
        case "timestamp":
            return lambda values: [None if value is None else _timestamp(value) for value in values]
    return None


def _small(values: Sequence[Any]) -> bool:
    try:
        return not values or (max(values) <= WHOLE and min(values) >= -WHOLE)
    except TypeError:  # some are NULL
        return all(value is None or -WHOLE <= value <= WHOLE for value in values)


def _plain_numbers(values: Sequence[Any]) -> bool:
    """Whether all are finite floats; quick for what nearly every column is."""
    try:
        return math.isfinite(sum(values))
    except (TypeError, OverflowError):
        return False


def plain_numbers(columns: Sequence[Sequence[Any]]) -> bool:
    """Whether all values of some columns of numbers are finite floats; quick for what nearly every answer is."""
    try:
        return math.isfinite(sum(map(sum, columns)))
    except (TypeError, OverflowError):
        return False


def _writer(dtype: DType) -> Callable[[Any], Any]:
    match dtype.name:
        case "int64":
            return _whole
        case "float32" | "float64":
            return _float
        case "timestamp":
            return _timestamp
        case "embedding":
            return lambda values: values if _plain_numbers(values) else [_float(value) for value in values]
        case "array":
            assert dtype.element is not None
            write = _writer(dtype.element)
            return lambda values: [None if value is None else write(value) for value in values]
    return lambda value: value


def _whole(value: int | None) -> int | str | None:
    return value if value is None or -WHOLE <= value <= WHOLE else str(value)


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _timestamp(value: datetime) -> str:
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


class NoForm(ValueError):
    """A value that JSON has no exact form for.

    Attributes:
        value: the value.
    """

    def __init__(self, value: Any) -> None:
        super().__init__(f"{brief(value)} has no exact form in JSON")
        self.value = value


def value_to_json(value: Any) -> Any:
    """A Python value in the form above of the dtype that its own type is: where no dtype is known.

    Raises:
        NoForm: there is none: a naive time, a decimal.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return _whole(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime) and value.tzinfo is not None and not getattr(value, "nanosecond", 0):
        try:
            return _timestamp(value)
        except OverflowError:
            raise NoForm(value) from None
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (list, tuple, np.ndarray)):
        return [value_to_json(item) for item in value]
    raise NoForm(value)


def from_json(values: Sequence[Any], dtype: DType, strict: bool = True, marked: bool = False) -> list[Any]:
    """A column of a request as Python values; what JSON has no form for is read from its own.

    Other values are left as they are: whoever takes them refuses them in the words that it has for Python.

    Args:
        values: as a JSON decoder gave them.
        dtype: what they are meant to be.
        strict: whether a text of another form is an error; else it is left as it is, too.
        marked: whether one that is left is marked as a text that is no time, with what may be done about it.

    Raises:
        ValueError: naming the first value whose text is not of that form, and its row.
    """
    plain = _PLAIN.get(dtype.name)
    if plain is not None and plain.issuperset(map(type, values)):
        return list(values)
    read = _reader(dtype)
    if read is None:
        return list(values)
    out = []
    for row, value in enumerate(values):
        try:
            out.append(None if value is None else read(value))
        except ValueError as bad:
            if strict:
                raise ValueError(f"row {row}: {bad}") from None
            out.append(_marked(value) if marked else value)
    return out


def read_rows(
    rows: Sequence[dict[str, Any]], dtypes: Mapping[str, DType], marked: AbstractSet[str] = frozenset()
) -> None:
    """Rows of a request in Python values, in place; a text of another form is left as it is.

    Args:
        rows: as a JSON decoder gave them.
        dtypes: column → what its values are meant to be; other columns are left as they are.
        marked: columns of times of which such a text is marked, with what may be done about it.
    """
    readers = [(name, read) for name, dtype in dtypes.items() if (read := _reader(dtype)) is not None]
    for row in rows:
        for name, read in readers:
            value = row.get(name)
            # numbers, booleans and null are what they are
            if type(value) is str or type(value) is list:
                try:
                    row[name] = read(value)
                except ValueError:
                    if name in marked:
                        row[name] = _marked(value)


def _reader(dtype: DType) -> Callable[[Any], Any] | None:
    """What reads a value that is not null; None where JSON's own will do."""
    match dtype.name:
        case "int32" | "int64":
            return _read_whole
        case "float32" | "float64":
            return _read_float
        case "timestamp":
            return _read_timestamp
        case "date":
            return _read_date
        case "bytes":
            return _read_bytes
        case "embedding":
            return lambda values: [_read_float(value) for value in values] if isinstance(values, list) else values
        case "array":
            assert dtype.element is not None
            read = _reader(dtype.element)
            if read is None:
                return None
            return lambda values: (
                [None if value is None else read(value) for value in values] if isinstance(values, list) else values
            )
    return None


def _wrong(value: Any, dtype: str, form: str) -> ValueError:
    return ValueError(f"{brief(value)} is not {a_dtype(DType(dtype))}; write it {form}")


def _read_whole(value: Any) -> Any:
    if isinstance(value, str):
        if not _DIGITS.fullmatch(value):
            raise _wrong(value, "int64", "as a number, or as text of digits beyond 2**53")
        return int(value)
    return value


def _read_float(value: Any) -> Any:
    if isinstance(value, str):
        if value not in _INFINITE:
            raise _wrong(value, "float64", 'as a number, or "NaN", "Infinity", "-Infinity"')
        return _INFINITE[value]
    return value


def _read_timestamp(value: Any) -> Any:
    if isinstance(value, str):
        try:
            if _TIME.fullmatch(value):
                return datetime.fromisoformat(value.upper())
        except ValueError:
            pass
        raise ValueError(f"{brief(value)} is not {a_dtype(Timestamp)}{_time_hint(value)}")
    return value


def _marked(value: Any) -> Any:
    return Misread(value, _time_hint(value)) if isinstance(value, str) else value


def _time_hint(text: str) -> str:
    """What an error says may be done about a text that is not a time as RFC 3339 has it."""
    found = _NEARLY_TIME.fullmatch(text) if len(text) < 100 else None
    if found is None:
        return "; write it as RFC 3339 has it: 2026-11-28T10:00:00Z or 2026-11-28T11:00:00+01:00"
    date, minutes, seconds, fraction, offset = found.groups(default="")
    time = f"{date}T{minutes or '00:00'}{seconds or ':00'}{fraction[:7]}"
    if len(fraction) > 7:
        return f": it is finer than a microsecond; write {time}{offset or 'Z'}"
    if not offset:
        return f": it has no offset; write {time}Z or {time}+01:00"
    offset = offset if ":" in offset or len(offset) == 1 else f"{offset[:3]}:{offset[3:]}"
    try:
        datetime.fromisoformat((time + offset).upper())
    except ValueError:
        return ": there is no such date or time of day"
    return f"; write {time}{offset}"


def _read_date(value: Any) -> Any:
    if isinstance(value, str):
        try:
            if _DATE.fullmatch(value):
                return date.fromisoformat(value)
        except ValueError:
            pass
        raise _wrong(value, "date", "as 2026-11-28")
    return value


def _read_bytes(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise _wrong(value, "bytes", "in base64") from None
    return value
