"""Instants and durations: the one clock, and microseconds since 1970 in UTC."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from headwater.errors import DataError, UsageError, brief

Clock = Callable[[], datetime]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
CLOCK_TOLERANCE = timedelta(seconds=5)
"""How far the clocks of hosts may differ, unless it is set: nobody is warned, and rows known by then count as known."""

MIN_MICROS = -(2**63)
MAX_MICROS = 2**63 - 1
FIRST_MICROS = -62_135_596_800_000_000
LAST_MICROS = 253_402_300_799_999_999
"""The first and last instant that Python can hold (0001-01-01 and the end of 9999, UTC), microseconds since 1970."""
FIRST_DAY, LAST_DAY = FIRST_MICROS // 86_400_000_000, LAST_MICROS // 86_400_000_000
"""The first and last date that Python can hold, days since 1970."""
YEARS = "outside the years 1 to 9999"

_UNITS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d|w)")


def system_clock() -> datetime:
    """The time now, UTC."""
    return datetime.now(UTC)


def ticker(clock: Clock) -> Callable[[], int]:
    """What tells a clock's time in microseconds since 1970; for the system's clock without a datetime between."""
    if clock is system_clock:
        return lambda: time.time_ns() // 1_000
    return lambda: to_micros(clock())


def to_micros(when: datetime | date | str) -> int:
    """Microseconds since 1970 (UTC) of an instant; a naive datetime is taken as UTC.

    Args:
        when: a datetime, a date (its midnight, UTC), or ISO text.

    Raises:
        UsageError: text that is not an ISO date or time, an instant outside the years 1 to 9999 (UTC), or something
            else, such as a bare number.
    """
    try:
        if isinstance(when, str):
            when = datetime.fromisoformat(when.strip())
        if not isinstance(when, datetime):
            when = datetime(when.year, when.month, when.day, tzinfo=UTC)
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        micros = (when - EPOCH) // MICROSECOND
    except Exception:  # also what a tzinfo of somebody's own raises
        bare = " (a bare number has no unit)" if isinstance(when, (int, float)) else ""
        raise UsageError(
            f"{brief(when)} is not a time{bare}: give a datetime, or text like 2024-05-01 or 2024-05-01T12:00:00+00:00"
        ) from None
    if not FIRST_MICROS <= micros <= LAST_MICROS:
        raise UsageError(f"{brief(when)} is {YEARS} in UTC")
    return micros


def instant_of(when: datetime | date | str, argument: str) -> int:
    """`to_micros` of an argument, which errors name."""
    try:
        return to_micros(when)
    except UsageError as bad:
        raise UsageError(f"{argument}: {bad}") from None


def from_micros(micros: int) -> datetime:
    """The UTC datetime of microseconds since 1970.

    Raises:
        DataError: an instant outside the years 1 to 9999.
    """
    try:
        return EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        raise DataError(f"{micros} microseconds since 1970 is {YEARS}") from None


def parse_duration(value: timedelta | str) -> timedelta:
    """A duration from `timedelta` or text such as `"7d"`, `"1h30m"`, `"250ms"`.

    Raises:
        UsageError: text of another form; the message shows the right one. More than a `timedelta` can hold.
    """
    if isinstance(value, timedelta):
        return value
    text = value.strip().lower() if isinstance(value, str) and len(value) < 1_000 else ""
    if text in ("0", "0s"):
        return timedelta(0)
    parts = _DURATION.findall(text)
    if not parts or _DURATION.sub("", text).strip():
        raise UsageError(
            f"{brief(value)} is not a duration; write it as '7d', '6h', '30m' or '1h30m', or give a timedelta"
        )
    try:
        return timedelta(microseconds=round(sum(float(n) * _UNITS[unit] for n, unit in parts)))
    except OverflowError:
        raise UsageError(f"{brief(value)} is too long: a duration is at most {timedelta.max.days:,} days") from None


def format_duration(value: timedelta | None) -> str:
    """The shortest text that `parse_duration` reads back: `6h`, `1d12h`; `none` for None."""
    if value is None:
        return "none"
    rest = value // MICROSECOND
    if rest == 0:
        return "0s"
    sign, rest, text = ("-" if rest < 0 else ""), abs(rest), ""
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, rest = divmod(rest, _UNITS[unit])
        text += f"{count}{unit}" if count else ""
    return sign + text


def duration_micros(value: timedelta | None) -> int:
    """Microseconds of a duration, at most 2**62 (no two instants are further apart); None: 0 (a ttl of 0 is none)."""
    return 0 if value is None else max(-(2**62), min(2**62, value // MICROSECOND))


def duration_argument(given: timedelta | str, argument: str = "max_age") -> int:
    """The microseconds of a duration that was given as an argument, which errors name.

    Raises:
        UsageError: not a duration, or a negative one.
    """
    try:
        micros = duration_micros(parse_duration(given))
    except ValueError as bad:
        raise UsageError(f"{argument}: {bad}") from None
    if micros < 0:
        raise UsageError(f"{argument}={given!r} is negative")
    return micros
