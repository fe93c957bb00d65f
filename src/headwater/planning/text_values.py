"""The value that a text stands for, by dtype: of CSV fields, and of texts in JSON. Engines state the same rule in SQL.

A text that is not such a value is refused, never rounded, cut or taken for NULL.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from headwater.clock import FIRST_MICROS, LAST_MICROS, MICROSECOND, from_micros
from headwater.definitions.bytes_text import bytes_of_text
from headwater.definitions.csv_format import CSVFormat
from headwater.definitions.time_format import TimeFormat, WrittenTime
from headwater.planning.local_time import LocalTimes
from headwater.planning.value_rule import BITS, WHOLE, cast_value
from headwater.types import DType

PLAIN = CSVFormat()
_EPOCH = datetime(1970, 1, 1)

WHOLE_NUMBER = r"\s*[+-]?[0-9]+(?:\.0*)?\s*"
"""An integer: whole numbers as floats are written by whoever has gaps in a column."""
INTEGER = r"\s*[+-]?[0-9]+\s*"
"""A number without decimal mark and exponent is an integer: a float dtype refuses those beyond which it lacks some."""
NUMBER = r"\s*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*"
NAMED_NUMBER = r"\s*[+-]?(?i:nan|inf|infinity)\s*"
TRUE, FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")

_FLOAT = {"float32": pa.float32(), "float64": pa.float64()}


@dataclass(frozen=True)
class Misread:
    """A text of a file that is not of its dtype, which no dtype takes.

    Attributes:
        text: the text.
        hint: what an error says that may be done about it.
    """

    text: str
    hint: str

    def __repr__(self) -> str:
        return repr(self.text)


def grouped(thousands: str, decimal: str) -> str:
    """The pattern of a number whose thousands are separated, or are not."""
    mark, point = re.escape(thousands), re.escape(decimal)
    return rf"\s*[+-]?(?:[0-9]{{1,3}}(?:{mark}[0-9]{{3}})+|[0-9]*)(?:{point}[0-9]*)?(?:[eE][+-]?[0-9]+)?\s*"


def value_of_text(text: str, dtype: DType, form: CSVFormat = PLAIN, zone: LocalTimes | None = None) -> Any:
    """The Python value of a text; timestamps aware in UTC.

    Args:
        text: the text; whether it means NULL is for its reader to know.
        dtype: what it is to be.
        form: says how numbers and times are written.
        zone: of times without an offset; None: UTC.

    Raises:
        ValueError: it is not such a value.
    """
    match dtype.name:
        case "string":
            return text
        case "bytes":
            return bytes_of_text(text)
        case "int32" | "int64":
            return _whole(plain_number(text, form), BITS[dtype.name])
        case "float32" | "float64":
            return _float(plain_number(text, form), dtype)
        case "bool":
            folded = text.strip().lower()
            if folded not in TRUE + FALSE:
                raise ValueError(text)
            return folded in TRUE
        case "timestamp":
            return instant_of_text(text, form.times, zone)
        case "date":
            return _date(text, form.dates)
        case _:
            return _array(text, dtype, zone)


def plain_number(text: str, form: CSVFormat) -> str:
    """A number with its decimal mark as a point, and without what parts its thousands.

    Raises:
        ValueError: thousands that are separated in another way.
    """
    if form.thousands is None and form.decimal == ".":
        return text
    if form.thousands is not None:
        named = re.fullmatch(NAMED_NUMBER, text)
        if named is None and re.fullmatch(grouped(form.thousands, form.decimal), text) is None:
            raise ValueError(text)
        text = text.replace(form.thousands, "")
    elif form.decimal != "." and "." in text:
        raise ValueError(text)
    return text.replace(form.decimal, ".")


def written_time(text: str, form: TimeFormat) -> WrittenTime:
    """The time in a text, as it is written.

    Raises:
        ValueError: it is not a time of that form.
    """
    written = form.parse(text)
    if written is None:
        raise ValueError(text)
    return written


def instant_of_text(text: str, form: TimeFormat, zone: LocalTimes | None = None) -> datetime:
    """The instant in a text (in the zone where no offset is written); one between two microseconds is refused.

    Raises:
        ValueError: it is not a time, or no timestamp holds it.
    """
    written = written_time(text, form)
    if written.finer:
        raise ValueError(text)
    return from_micros(_micros(written, text, zone))


def given_time_of_text(text: str, form: TimeFormat, *, finer: int = 0) -> datetime:
    """The time in a text, aware if its offset is written, else naive: its zone is for others to know.

    Args:
        text: the text.
        form: how it is written.
        finer: what one between two microseconds becomes: 1 the later of them, -1 the earlier; 0: it is refused.

    Raises:
        ValueError: it is not a time, or no timestamp holds it.
    """
    written = written_time(text, form)
    if written.finer and not finer:
        raise ValueError(text)
    _micros(written, text, None)  # refuses what is outside the years 1 to 9999
    try:
        wall = written.wall + (MICROSECOND if written.finer and finer > 0 else timedelta(0))
        return wall if written.offset is None else (wall - written.offset).replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError(text) from None


def micros_up(text: str, form: TimeFormat, zone: LocalTimes | None = None) -> int:
    """The instant in a text in microseconds since 1970 (in the zone where no offset is written), finer ones rounded up.

    Raises:
        ValueError: it is not a time, or is outside the years 1 to 9999.
    """
    return _micros(written_time(text, form), text, zone)


def clock_change(text: str, form: TimeFormat, zone: LocalTimes) -> int:
    """Whether a time without an offset is in an hour that a clock change repeats or skips, as `LocalTimes` says it.

    Raises:
        ValueError: it is not a time of that form.
    """
    written = written_time(text, form)
    return 0 if written.offset is not None else zone.instant((written.wall - _EPOCH) // MICROSECOND)[1]


def _micros(written: WrittenTime, text: str, zone: LocalTimes | None) -> int:
    wall = (written.wall - _EPOCH) // MICROSECOND
    if written.offset is None:
        micros = (wall if zone is None else zone.instant(wall)[0]) + written.finer
    else:
        micros = wall - written.offset // MICROSECOND + written.finer
    if not FIRST_MICROS <= micros <= LAST_MICROS:
        raise ValueError(text)
    return micros


def _whole(text: str, bits: int) -> int:
    if re.fullmatch(WHOLE_NUMBER, text, re.ASCII) is None:
        raise ValueError(text)
    value = int(text.partition(".")[0])
    if not -(2**bits) <= value < 2**bits:
        raise ValueError(text)
    return value


def _float(text: str, dtype: DType) -> float:
    if re.fullmatch(NAMED_NUMBER, text, re.ASCII):
        return float(text)
    if re.fullmatch(NUMBER, text, re.ASCII) is None:
        raise ValueError(text)
    # one rounding: of the text to the dtype
    stripped = text.strip().removeprefix("+")
    value = float(pa.scalar(stripped).cast(_FLOAT[dtype.name]).as_py())
    if not np.isfinite(value) or (abs(value) >= WHOLE[dtype.name] and beyond_literal(text, dtype)):
        raise ValueError(text)
    return value


def beyond_literal(number: str, dtype: DType) -> bool:
    """Whether a plain number is an integer literal beyond those that a float dtype holds all of."""
    return re.fullmatch(INTEGER, number, re.ASCII) is not None and abs(int(number)) > WHOLE[dtype.name]


def _date(text: str, form: TimeFormat) -> date:
    """The day that is written; a time within it is refused."""
    written = written_time(text, form)
    day = datetime(written.wall.year, written.wall.month, written.wall.day)
    if written.finer or written.wall != day:
        raise ValueError(text)
    return day.date()


def _array(text: str, dtype: DType, zone: LocalTimes | None) -> list[Any]:
    """A list of JSON."""
    value = json_value(json.loads(text, parse_float=finite), dtype, zone)
    if not isinstance(value, list):
        raise ValueError(text)
    return value


def finite(text: str) -> float:
    """A number of JSON.

    Raises:
        ValueError: no float64 is as great.
    """
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is greater than any float64")
    return value


def text_in_json(value: Any, dtype: DType, *, finer: int = 0) -> Any:
    """A value of JSON whose texts are times, dates and bytes where the dtype says so; the rest as it is.

    Args:
        value: the value.
        dtype: what it is to be.
        finer: see `given_time_of_text`.

    Raises:
        ValueError: a text that is not such a value.
    """
    if isinstance(value, str) and dtype.name == "timestamp":
        return given_time_of_text(value, PLAIN.times, finer=finer)
    if isinstance(value, str) and dtype.name in ("date", "bytes"):
        return value_of_text(value, dtype)
    if isinstance(value, list) and dtype.element is not None:
        return [text_in_json(item, dtype.element) for item in value]
    return value


def json_value(value: Any, dtype: DType, zone: LocalTimes | None = None) -> Any:
    """A value of JSON in a dtype: times, dates and bytes are text in it, all else is of its own kind.

    Raises:
        ValueError: it is not such a value.
    """
    if isinstance(value, str) and dtype.name in ("timestamp", "date", "bytes"):
        return value_of_text(value, dtype, PLAIN, zone)
    if isinstance(value, list) and dtype.element is not None:
        return [json_value(item, dtype.element, zone) for item in value]
    return cast_value(value, dtype)
