"""The piece of the number line that an integer is in, in DuckDB's words: what a zone's clock changes are looked up by.

A table of equal spans gives the piece that a span begins in; the few pieces that begin within a span are counted. So
the work for a row does not grow with the number of pieces, which is several hundred for a zone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

_BITS = 42
"""Spans of 2^42 microseconds, 51 days: a few thousand spans, with at most a few changes of a zone in each."""
_BEYOND = 2**62


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
    first = f"{integers_sql(begins)}[(({bounded}) - ({low}) >> {_BITS}) + 1]"
    padded = integers_sql((*starts, *[_BEYOND] * most))
    later = "".join(f" + CAST({number} >= {padded}[{first} + {after}] AS BIGINT)" for after in range(1, most + 1))
    # least and greatest pass over NULL
    return f"CASE WHEN {number} IS NOT NULL THEN {first}{later} END"


def integers_sql(numbers: Iterable[int]) -> str:
    """A list of integers as one constant, which costs less to plan than one constant each."""
    return f"CAST('[{','.join(map(str, numbers))}]' AS BIGINT[])"


def bound_sql(expression: str, value: Callable[[str], str]) -> str:
    """What is made of an expression that is evaluated once.

    Args:
        expression: one that costs much.
        value: what is made of the name that it gets.
    """
    return f"list_transform([{expression}], lambda w: {value('w')})[1]"
