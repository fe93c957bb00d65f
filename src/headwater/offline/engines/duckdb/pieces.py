"""The piece of the number line that an integer is in, in DuckDB's words: what a zone's clock changes are looked up by.

A table of equal spans gives the piece that a span begins in; the few pieces that begin within a span are counted. So
the work for a row does not grow with the number of pieces, which is several hundred for a zone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import gcd

_BITS = 42
"""Spans of 2^42 microseconds, 51 days: a few thousand spans, with at most a few changes of a zone in each."""
NEVER = 4 * 10**18
"""More than any number, and of whole seconds where it is one of microseconds."""


def piece_sql(number: str, starts: Sequence[int]) -> str:
    """Which piece (from 1 on) a number is in; NULL for NULL.

    Args:
        number: an expression that costs little: it is evaluated several times.
        starts: the number with which each piece begins; the first piece also holds all that is less.
    """
    if len(starts) == 1:
        return f"CASE WHEN {number} IS NOT NULL THEN 1 END"
    low = starts[1] - (1 << _BITS)
    spans = ((starts[-1] - low) >> _BITS) + 2
    begins = [bisect_right(starts, low + (span << _BITS)) for span in range(spans)]
    begins[0] = 1
    most = max(bisect_right(starts, low + ((span + 1) << _BITS) - 1) - begins[span] for span in range(spans))
    bounded = f"least(greatest({number}, {low}), {low + ((spans - 1) << _BITS)})"
    first = item_sql(begins, f"(({bounded}) - ({low}) >> {_BITS}) + 1")
    padded = (*starts, *[NEVER] * most)
    items = (item_sql(padded, f"{first} + {after}") for after in range(1, most + 1))
    later = "".join(f" + CAST({number} >= {item} AS BIGINT)" for item in items)
    # least and greatest pass over NULL
    return f"CASE WHEN {number} IS NOT NULL THEN {first}{later} END"


def item_sql(numbers: Sequence[int], place: str) -> str:
    """One of several integers, by its place (an expression) from 1 on; NULL for NULL.

    They are one constant, in the largest unit that all are multiples of: it costs less to plan than one constant each.
    """
    unit = gcd(*numbers) or 1
    times = f" * {unit}" if unit > 1 else ""
    return f"(CAST('[{','.join(str(number // unit) for number in numbers)}]' AS BIGINT[])[{place}]{times})"


def bound_sql(expression: str, value: Callable[[str], str]) -> str:
    """What is made of an expression that is evaluated once.

    Args:
        expression: one that costs much.
        value: what is made of the name that it gets.
    """
    return f"list_transform([{expression}], lambda w: {value('w')})[1]"
