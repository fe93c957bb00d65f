"""Times in text: ISO 8601, or a format of strftime's directives, as one regular expression that every reader uses.

Months and weekdays are English whatever the locale, and one digit is as good as two: `6/1/2026` is `%m/%d/%Y`.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from functools import lru_cache

from headwater.errors import UsageError
from headwater.values import Value

MONTHS: tuple[str, ...] = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
)
MONTHS += ("november", "december")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_HOURS_OFF = r"[+-](?:0\d|1[0-5])(?::?[0-5]\d)?"
_OFFSET = rf"(Z|z|UTC|{_HOURS_OFF})"

_DIRECTIVES = {
    "Y": r"(\d{4})",
    "y": r"(\d{2})",
    "m": r"(\d{1,2})",
    "d": r"(\d{1,2})",
    "j": r"(\d{1,3})",
    "H": r"(\d{1,2})",
    "I": r"(\d{1,2})",
    "M": r"(\d{1,2})",
    "S": r"(\d{1,2})",
    "f": r"(\d{1,9})",
    "p": r"((?i:AM|PM))",
    "b": "((?i:" + "|".join(name[:3] for name in MONTHS) + "))",
    "B": "((?i:" + "|".join(MONTHS) + "))",
    "a": "((?i:" + "|".join(name[:3] for name in _DAYS) + "))",
    "A": "((?i:" + "|".join(_DAYS) + "))",
    "z": _OFFSET,
}
_WHOLE = {"F": "%Y-%m-%d", "T": "%H:%M:%S", "R": "%H:%M", "D": "%m/%d/%y"}

_ISO = (
    r"\s*(\d{4})-(\d{2})-(\d{2})(?:[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d+))?)? ?"
    rf"(Z|z|UTC|{_HOURS_OFF})?)?\s*"
)
_ISO_GROUPS = tuple("YmdHMSfz")


class WrittenTime(Value, frozen=True):
    """A time as it is written.

    Attributes:
        wall: without its offset, cut to microseconds.
        offset: what was written of it; None: nothing.
        finer: whether it is between two microseconds.
    """

    wall: datetime
    offset: timedelta | None
    finer: bool


class TimeFormat(Value, frozen=True):
    """How a time is written.

    Attributes:
        text: the format as given; empty for ISO 8601.
        pattern: the regular expression that the whole text matches (in the syntax that Python and RE2 share).
        groups: the directive of each group.
    """

    text: str
    pattern: str
    groups: tuple[str, ...]

    def parse(self, text: str) -> WrittenTime | None:
        """The time that a text says; None where it says none."""
        match = _compiled(self.pattern).fullmatch(text)
        if match is None:
            return None
        return _written({d: g for d, g in zip(self.groups, match.groups(), strict=True) if g is not None})

    @property
    def has_offset(self) -> bool:
        """Whether a text may say its offset from UTC."""
        return "z" in self.groups


ISO = TimeFormat("", _ISO, _ISO_GROUPS)
"""A date, or a date and time, of ISO 8601."""


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


@lru_cache(maxsize=64)
def time_format(text: str | None, *, what: str = "timestamp_format") -> TimeFormat:
    """The format that a text of strftime's directives says; None: ISO 8601.

    Args:
        text: such as `%d.%m.%Y %H:%M`.
        what: the option, for errors.

    Raises:
        UsageError: a directive that is not known, or given twice; a format that does not say the day.
    """
    if text is None:
        return ISO
    pattern, groups = r"\s*", list[str]()
    rest = iter(re.sub("%(.)", lambda found: _WHOLE.get(found[1], found[0]), text))
    for character in rest:
        if character != "%":
            pattern += r"\s+" if character.isspace() else re.escape(character)
            continue
        letter = next(rest, "")
        letter = next(rest, "") if letter in ("-", "#") else letter
        if letter == "%":
            pattern += "%"
        elif letter not in _DIRECTIVES:
            raise UsageError(f"{what}: {text!r}: %{letter} is not known; known are %{', %'.join(_DIRECTIVES)}")
        elif letter in groups:
            raise UsageError(f"{what}: {text!r}: %{letter} is given twice")
        else:
            groups.append(letter)
            pattern += _DIRECTIVES[letter]
    there = set(groups)
    month = there & {"m", "b", "B"}
    if len(there & {"Y", "y"}) != 1 or not ("j" in there or (len(month) == 1 and "d" in there)):
        raise UsageError(f"{what}: {text!r} does not determine the day: it needs %Y (or %y), %m (or %b, %B) and %d")
    if ("H" in there and "I" in there) or ("I" in there) != ("p" in there):
        raise UsageError(f"{what}: {text!r}: hours are %H, or %I with %p")
    return TimeFormat(text, pattern + r"\s*", tuple(groups))


def _written(parts: dict[str, str]) -> WrittenTime | None:
    fraction = parts.get("f", "")
    try:
        hour = int(parts.get("H", parts.get("I", "0")))
        if "I" in parts:
            if not 1 <= hour <= 12:
                return None
            hour = hour % 12 + (12 if parts["p"].upper() == "PM" else 0)
        clock = (hour, int(parts.get("M", 0)), int(parts.get("S", 0)), int(fraction[:6].ljust(6, "0")))
        day = _day(parts)
        wall = datetime(day.year, day.month, day.day, *clock)
    except (ValueError, OverflowError):
        return None
    offset = _offset(parts["z"]) if "z" in parts else None
    return WrittenTime(wall, offset, bool(fraction[6:].strip("0")))


def _day(parts: dict[str, str]) -> date:
    # of two digits, as POSIX reads them
    year = int(parts["Y"]) if "Y" in parts else int(parts["y"]) + (1900 if int(parts["y"]) >= 69 else 2000)
    if "j" in parts:
        found = date(year, 1, 1) + timedelta(days=int(parts["j"]) - 1)
        if found.year != year:
            raise ValueError(parts["j"])
        return found
    names = [name[: len(text)] for text in (parts.get("b"), parts.get("B")) if text for name in MONTHS]
    month = int(parts["m"]) if "m" in parts else names.index((parts.get("b") or parts["B"]).lower()) + 1
    return date(year, month, int(parts["d"]))


def _offset(text: str) -> timedelta:
    if text in ("Z", "z", "UTC"):
        return timedelta(0)
    digits = text[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or "0"))
    return -offset if text[0] == "-" else offset
