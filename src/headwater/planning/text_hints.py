"""What to do about a text that is not of its dtype: the option or query that reads it, tried on the text first."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from headwater.definitions.csv_format import CSVFormat
from headwater.definitions.time_format import ISO, TimeFormat, time_format
from headwater.errors import UsageError
from headwater.planning.text_values import INTEGER, beyond_literal, finite, plain_number, value_of_text
from headwater.planning.value_rule import WHOLE, Misfit, beyond_all, cast_value
from headwater.types import DType, Timestamp

_DAYS = (
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y-%m-%d"),
    *("%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y", "%d-%b-%y", "%a, %d %b %Y"),
    *("%d.%m.%y", "%m/%d/%y", "%d/%m/%y"),
)
_COMPACT = {8: "%Y%m%d", 14: "%Y%m%d%H%M%S"}
_TAIL = re.compile(
    r"(?P<day>.+?)(?P<sep>[ T])(?:(?P<hour>\d{1,2}:\d{2})(?P<second>:\d{2})?(?P<part>\.\d{1,9})?(?P<half> ?[APap][Mm])?"
    r"|(?P<compact>\d{6}))(?P<zone> ?(?:Z|z|UTC|[+-]\d{2}(?::?\d{2})?))?",
    re.ASCII,
)
_MARKS = ((",", None), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "\xa0"), (",", "\u202f"))
_NUMBER = re.compile(r"\s*-?(\d{9,19})(?:\.\d+)?\s*", re.ASCII)
_SECONDS, _MILLIS, _MICROS = 11, 14, 17
_MOST = 2


def text_hint(text: str, dtype: DType, form: CSVFormat, column: str = "", *, command: bool = False) -> str:
    """What to do about a field of a CSV file that is not of its dtype; empty where nothing helps.

    Args:
        text: the field.
        dtype: what it should be; a timestamp for a time.
        form: how the file is said to be written.
        column: its column, for a query that reads it.
        command: whether options are given to the command, as `--csv NAME=VALUE`; else to a `CSVSource`.
    """
    if dtype.name in ("timestamp", "date"):
        return f" ({_time_hint(text, dtype, form, column, command)})"
    if dtype.name == "bytes":
        return r" (after 0x or \x come hex digits, two for each byte; other text stands for its UTF-8)"
    if dtype.name in ("array", "embedding"):
        return f" (lists are written as JSON{_list_reason(text, dtype)})"
    return _number_hint(text, dtype, form, command) if dtype.numeric else ""


def number_time_hint(value: Any, column: str) -> str:
    """How a number is read as a time, by a query over the source; empty for other values."""
    found = _NUMBER.fullmatch(str(value))
    if found is None or isinstance(value, bool):
        return ""
    name, digits = '"' + column.replace('"', '""') + '"', len(found[1])
    if digits <= _SECONDS:
        unit, read = "seconds", f"to_timestamp(CAST({name} AS DOUBLE))"
    elif digits <= _MILLIS:
        unit, read = "milliseconds", f"make_timestamp(CAST({name} AS BIGINT) * 1000)"
    elif digits <= _MICROS:
        unit, read = "microseconds", f"make_timestamp(CAST({name} AS BIGINT))"
    else:
        unit, read = "nanoseconds", f"make_timestamp_ns(CAST({name} AS BIGINT))"
    return f"a bare number has no unit; {unit} since 1970: SQLSource('SELECT * REPLACE ({read} AS {name}) FROM t', …)"


def json_time_hint(value: Any, column: str) -> str:
    """What to do about a value of JSON that is not a time; empty where nothing helps."""
    if not isinstance(value, str):
        return number_time_hint(value, column)
    return next((_parsed(column, made) for made in _formats(value)), "")


def _parsed(column: str, form: str) -> str:
    """The query that reads one column of text as times of a form."""
    name = '"' + column.replace('"', '""') + '"'
    return f"SQLSource('SELECT * REPLACE (strptime({name}, ''{form}'') AS {name}) FROM t', …)"


def _options(values: Mapping[str, Any], command: bool) -> str:
    if command:
        return " ".join(f"--csv {shlex.quote(f'{name}={value}')}" for name, value in values.items())
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _time_hint(text: str, dtype: DType, form: CSVFormat, column: str, command: bool) -> str:
    option = "date_format" if dtype.name == "date" else "timestamp_format"
    stated = getattr(form, option)
    said = f"written as {_options({option: stated}, command)}" if stated else "ISO 8601"
    if stated and ISO.parse(text) is not None:
        return f"{said}; this is ISO 8601: leave {option} out"
    formats = [(f, replace(form, timestamp_format=f, date_format=f)) for f in _formats(text) if f != stated]
    fitting = [f for f, made in formats if _reads(text, dtype, made)]
    if fitting:
        other = (
            f"; where other times are written as stated, {_parsed(column, fitting[0])}"
            if stated and not command
            else ""
        )
        return f"{said}; else state {' or '.join(_options({option: f}, command) for f in fitting[:_MOST])}{other}"
    if text.strip().lower().lstrip("+-") in ("infinity", "inf"):
        nulls = ",".join((*form.nulls, text)) if command else (*form.nulls, text)
        return f"{said}; no instant is infinite: {_options({'nulls': nulls}, command)} makes it NULL"
    if re.search(r"[T ]24:00", text):
        return f"{said}; hours are 00 to 23: midnight at a day's end is 00:00 of the next day"
    number = number_time_hint(text, column)
    if number:
        return "a bare number has no unit: give ISO 8601" if command else number
    return said if stated else f"{said}; else state {_options({option: '%d.%m.%Y %H:%M'}, command)}, as it is written"


def _reads(text: str, dtype: DType, form: CSVFormat) -> bool:
    try:
        if dtype == Timestamp:  # an event time may be finer than a microsecond
            return form.times.parse(text) is not None
        value_of_text(text, dtype, form)
    except ValueError:
        return False
    return True


def _formats(text: str) -> Iterator[str]:
    """The formats of strftime's directives that a text may be written in."""
    given = text.strip()
    found = _TAIL.fullmatch(given)
    day, tail = (given, "") if found is None else (found["day"], _tail(found))
    compact = _COMPACT.get(len(day)) if day.isdecimal() else None
    for made in (compact,) if compact else _DAYS:
        with contextlib.suppress(UsageError):
            form: TimeFormat = time_format(made + tail)
            if form.parse(given) is not None:
                yield made + tail


def _tail(found: re.Match[str]) -> str:
    zone = found["zone"] or ""
    after = f"{' ' if zone.startswith(' ') else ''}%z" if zone else ""
    if found["compact"]:
        return f"{found['sep']}%H%M%S{after}"
    half = found["half"] or ""
    clock = ("%I" if half else "%H") + ":%M" + (":%S" if found["second"] else "") + (".%f" if found["part"] else "")
    return found["sep"] + clock + (f"{' ' if half.startswith(' ') else ''}%p" if half else "") + after


def _list_reason(text: str, dtype: DType) -> str:
    try:
        cast_value(json.loads(text, parse_float=finite), dtype)
    except Misfit as misfit:
        return f"; {misfit}"
    except (ValueError, RecursionError):
        return ""
    return ""


def _number_hint(text: str, dtype: DType, form: CSVFormat, command: bool) -> str:
    with contextlib.suppress(ValueError):
        if dtype.name in WHOLE and beyond_literal(plain_number(text, form), dtype):
            return f" ({beyond_all(dtype)}; a decimal mark says that it may be rounded: {text.strip()}{form.decimal}0)"
    if dtype.name == "int64" and re.fullmatch(INTEGER, text, re.ASCII):
        return " (beyond 64 bits: such numbers are declared hw.String)"
    fitting = []
    for decimal, thousands in _MARKS:
        if thousands is not None and thousands not in text:
            continue
        made = replace(form, decimal=decimal, thousands=thousands)
        if _reads(text, dtype, made):
            options = {"decimal": decimal, "thousands": thousands}
            fitting.append({n: v for n, v in options.items() if v != getattr(form, n)})
    if not fitting:
        return ""
    return f" ({' or '.join(_options(options, command) for options in fitting[:_MOST])} where numbers are written so)"
