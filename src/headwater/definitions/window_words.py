"""What an aggregation computes, in words: for catalogs, and as it stands at an instant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from headwater.clock import EPOCH, MICROSECOND
from headwater.definitions.aggregate_functions import MAX_DISTINCT
from headwater.definitions.aggregation import Aggregation
from headwater.definitions.window_hops import DAY, MINUTE, SECOND
from headwater.definitions.window_names import whole_units

_NAMES = {
    "count_distinct": "distinct count of",
    "var_pop": "variance (population) of",
    "var_samp": "variance (sample) of",
    "stddev_pop": "standard deviation (population) of",
    "stddev_samp": "standard deviation (sample) of",
    "rate": "count a second of",
}


def in_words(given: Aggregation) -> str:
    """What an aggregation computes, on one line: `mean of arr_delay over 7d, where delay > 0`."""
    return f"{_function(given)} {_window(given)}" + (f", where {given.where}" if given.where is not None else "")


def _function(given: Aggregation) -> str:
    column = given.column or "rows"
    match given.function:
        case "seconds_since_last":
            return "seconds since the last row"
        case "last_n":
            return f"last {given.n} of {column}"
        case "first_n":
            return f"first {given.n} of {column}"
        case "last_n_distinct":
            return f"last {given.n} distinct of {column}"
        case "quantile":
            return f"quantile {given.q} of {column}"
        case "count_distinct" if given.max_distinct != MAX_DISTINCT:
            return f"distinct count (exact up to {given.max_distinct:,}) of {column}"
    return f"{_NAMES.get(given.function, f'{given.function} of')} {column}"


def _window(given: Aggregation) -> str:
    if given.width is None:
        return "over a lifetime"
    before = f" before {whole_units(given.offset_micros)} ago" if given.offset_micros else ""
    return f"over {whole_units(given.width)}{before}"


def explained(given: Aggregation, at: datetime) -> str:
    """Which events count at an instant: `events from 02:00, 7 days before, to now; late ones count when known`.

    Args:
        given: the aggregation.
        at: the instant (UTC).
    """
    late = "late ones count when known"
    if given.width is None:
        return f"all events up to now; {late}"
    micros = (at.astimezone(UTC) - EPOCH) // MICROSECOND
    hop, offset = given.hop_micros, given.offset_micros
    start = (micros - offset - given.width) // hop * hop
    if not offset:
        return f"events from {_instant(start, micros, hop)}, to now; {late}"
    end = (micros - offset) // hop * hop
    return f"events from {_instant(start, micros, hop)}, to before {_instant(end, micros, hop)}; {late}"


def _instant(time: int, now: int, hop: int) -> str:
    """A time of day, and how many days before it is."""
    try:
        moment = EPOCH + timedelta(microseconds=time)
    except OverflowError:
        return "the beginning"
    parts = "minutes" if hop % MINUTE == 0 else "seconds" if hop % SECOND == 0 else "microseconds"
    days = now // DAY - time // DAY
    before = "today" if days == 0 else "1 day before" if days == 1 else f"{days} days before"
    return f"{moment.time().isoformat(timespec=parts)}, {before}"


def moves(given: Aggregation) -> str:
    """In which steps the oldest end of a window moves: `every 5m`; of a lifetime nothing."""
    return "" if given.width is None else f"every {whole_units(given.hop_micros)}"
