"""The names that window aggregations have where none is given."""

from __future__ import annotations

import re

_UNITS = (
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
)
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")


def whole_units(micros: int) -> str:
    """A duration in the largest unit that divides it: `1d`, `36h`, `90m`."""
    for unit, size in _UNITS:
        if micros % size == 0:
            return f"{micros // size}{unit}"
    raise AssertionError("one microsecond divides every duration")


def aggregation_name(column: str | None, function: str, width: int | None, offset: int = 0) -> str:
    """`{column, or rows}_{function}_{window, or lifetime}`, and `_before_{offset}` where there is one.

    Args:
        column: the column; None: rows.
        function: the function.
        width: microseconds; None: lifetime.
        offset: microseconds.
    """
    window = "lifetime" if width is None else whole_units(width)
    before = f"_before_{whole_units(offset)}" if offset else ""
    return f"{column or 'rows'}_{function}_{window}{before}"


def value_suffix(value: object) -> str:
    """What the name of one value's aggregation ends with, where `over=` makes one a value."""
    return "_" + _NOT_IN_NAMES.sub("_", str(value))
