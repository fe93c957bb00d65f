"""The times of one view's rows, one for each row of the answer."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headwater.online.reading.view_values import spread
from headwater.online.rows.values import Damaged, instant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headwater.freshness import Freshness
    from headwater.online.reading.answered_rows import AnsweredRows
    from headwater.online.reading.view_read import AnsweredView


class ViewTimes(NamedTuple):
    """The times of one view's rows in microseconds, one for each row of the answer.

    Attributes:
        events: event times; anything where `gone`.
        created: created times; anything where `gone`.
        at: the instant that the answer holds for.
        gone: whether there is no row to show, or none with an event time.
    """

    events: NDArray[np.int64]
    created: NDArray[np.int64]
    at: NDArray[np.int64]
    gone: NDArray[np.bool_]

    @classmethod
    def of(cls, read: AnsweredView) -> ViewTimes:
        """Those of a view."""
        rows = read.rows
        gone, timeless = np.zeros(rows.size, np.bool_), rows.timeless
        if timeless:
            gone[list(timeless)] = True
        at = np.full(rows.size, rows.at) if isinstance(rows.at, int) else rows.at
        times = (rows.events(), rows.created(), at, gone)
        return cls(*(times if read.inverse is None else (each[read.inverse] for each in times)))


def instants(read: AnsweredView, size: int) -> list[int]:
    """The instants that the answer's rows hold for, microseconds.

    Args:
        read: the view's part.
        size: rows of the answer.
    """
    at = read.rows.at
    if isinstance(at, int):
        return [at] * size
    found: list[int] = (at if read.inverse is None else at[read.inverse]).tolist()
    return found


def known_times(read: AnsweredView, micros: NDArray[np.int64]) -> list[int | None]:
    """Times of rows, microseconds; None where there is no value."""
    gone = read.rows.gone
    values = [None if i in gone else at for i, at in enumerate(micros.tolist())]
    return values if read.inverse is None else spread(values, read.inverse)


def event_times(read: AnsweredView) -> list[datetime | None]:
    """Event times (UTC); None where there is no value, or the view has none."""
    gone, micros = read.rows.gone, read.rows.events()
    times = [None if i in gone or not read.view.timed else as_datetime(at) for i, at in enumerate(micros.tolist())]
    return times if read.inverse is None else spread(times, read.inverse)


def aged_from(rows: AnsweredRows) -> NDArray[np.int64]:
    """What ages count from, microseconds."""
    return rows.events() if rows.since is None else np.maximum(rows.events(), rows.since)


def freshness_scores(read: AnsweredView, freshness: Freshness, sla: int | None) -> list[float | None]:
    """The freshness of rows; None where there is no value.

    Args:
        read: the view's part.
        freshness: the function that it is measured by.
        sla: the strictest of the view, microseconds; None: it has none.
    """
    scores = np.ones(read.rows.size)
    if read.view.timed:
        # in floats: no age overflows
        ages = np.asarray(read.rows.at, np.float64) - aged_from(read.rows).astype(np.float64)
        scores = freshness.score(ages, sla)
    gone = read.rows.gone
    values = [None if i in gone else score for i, score in enumerate(scores.tolist())]
    return values if read.inverse is None else spread(values, read.inverse)


def as_datetime(micros: int) -> datetime | None:
    """An instant of microseconds (UTC); None where Python has none."""
    try:
        return instant(micros)
    except Damaged:
        return None
