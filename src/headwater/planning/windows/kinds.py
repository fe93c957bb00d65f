"""The kinds of lists that a version keeps, and the function of each aggregate from its state to its value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from headwater.planning.windows.states.base import StateKind
from headwater.planning.windows.states.bins import QuantileBins
from headwater.planning.windows.states.distinct import DistinctValues
from headwater.planning.windows.states.extremes import Extremes
from headwater.planning.windows.states.ordered import LastDistinct, Ordered
from headwater.planning.windows.states.spread import Spreads
from headwater.planning.windows.states.sums import Counts, Totals

COUNT, TOTAL, SPREAD, MIN, MAX, EARLIEST, LATEST, LATEST_DISTINCT, DISTINCT, BINS = (
    "count",
    "total",
    "spread",
    "min",
    "max",
    "earliest",
    "latest",
    "latest_distinct",
    "distinct",
    "bins",
)
KIND_OF: Mapping[str, str] = {
    "count": COUNT,
    "rate": COUNT,
    "sum": TOTAL,
    "mean": TOTAL,
    "var_pop": SPREAD,
    "var_samp": SPREAD,
    "stddev_pop": SPREAD,
    "stddev_samp": SPREAD,
    "min": MIN,
    "max": MAX,
    "first": EARLIEST,
    "first_n": EARLIEST,
    "last": LATEST,
    "last_n": LATEST,
    "seconds_since_last": LATEST,
    "last_n_distinct": LATEST_DISTINCT,
    "count_distinct": DISTINCT,
    "quantile": BINS,
}
"""The kind of list that answers a function."""
KEPT_WHOLE = frozenset({LATEST, LATEST_DISTINCT, DISTINCT})
"""Kinds whose state keeps the times of what it has: one state answers for every window without an offset."""

MIN_INT64, MAX_INT64 = -(2**63), 2**63 - 1


class Overflow(Exception):
    """The sum of a window's integers is beyond 64 bits."""


class Unanswerable(Exception):
    """A bounded state cannot tell the value; history can."""


@lru_cache(maxsize=512)
def state_kind(kind: str, n: int) -> StateKind:
    """How a kind of list keeps its states; `n` is the length of a list, or N of distinct counts, else 0."""
    match kind:
        case "count":
            return Counts()
        case "total":
            return Totals()
        case "spread":
            return Spreads()
        case "min" | "max":
            return Extremes(greatest=kind == MAX)
        case "earliest" | "latest":
            return Ordered(n, last=kind == LATEST)
        case "latest_distinct":
            return LastDistinct(n)
        case "distinct":
            return DistinctValues(n)
        case "bins":
            return QuantileBins()
    raise ValueError(f"{kind!r} is not a kind of list")


def finish(function: str, state: Any, *, start: int, at: int, width: int | None, n: int, q: float | None) -> Any:
    """The value of an aggregate, in its stored form; None is NULL.

    Args:
        function: its name.
        state: of the events of its window, or of a kind that is kept whole; None: no events.
        start: where the window begins, microseconds.
        at: the instant.
        width: the window's length, microseconds; None: lifetime.
        n: the length of a list, or N of a distinct count.
        q: of a quantile.

    Raises:
        Overflow: a sum of integers beyond 64 bits.
        Unanswerable: more distinct values than the state can tell.
    """
    match function:
        case "count":
            return _count(state)
        case "rate":
            assert width is not None
            return _count(state) * 1_000_000 / width
        case "count_distinct":
            count = DistinctValues(n).count(state, start)
            if count is None:
                raise Unanswerable
            return count
        case "last_n" | "last_n_distinct" | "first_n":
            return () if state is None else tuple(entry.value for entry in state[:n])
    if state is None:
        return None
    match function:
        case "sum":
            return _sum(state[1])
        case "mean":
            return state[1] / state[0]
        case "var_pop" | "var_samp" | "stddev_pop" | "stddev_samp":
            return _spread(function, state)
        case "min" | "max":
            return state
        case "first" | "last":
            return state[0].value
        case "seconds_since_last":
            return (at - state[0].event) / 1_000_000
        case "quantile":
            assert q is not None
            return QuantileBins().quantile(state, q)
    raise ValueError(f"{function!r} is not a function")


def _count(state: Any) -> int:
    if isinstance(state, tuple):
        return int(state[0])
    return state or 0


def _sum(total: int | float) -> int | float:
    if isinstance(total, int) and not MIN_INT64 <= total <= MAX_INT64:
        raise Overflow
    return total


def _spread(function: str, state: tuple[int, float, float]) -> float | None:
    count, _, squares = state
    if function.endswith("samp"):
        count -= 1
    if count == 0:
        return None
    # rounding may leave a sum of squares a little below 0
    variance = 0.0 if squares < 0 else squares / count
    return math.sqrt(variance) if function.startswith("stddev") else variance
