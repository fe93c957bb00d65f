"""Hops: the steps in which the oldest end of a window moves, in microseconds, and how many a window may have."""

from __future__ import annotations

from datetime import timedelta

from headwater.clock import MICROSECOND, format_duration

MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
MOST_HOPS = 1_024
"""How many hops a window and its offset may span."""
LONGEST = 3_652_059 * DAY
"""How far back a window and its offset may reach: no two event times are further from one another."""

_LADDER = [
    *(base * MILLISECOND for base in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *(base * SECOND for base in (1, 2, 5, 10, 15, 30)),
    *(base * MINUTE for base in (1, 2, 5, 10, 15, 30)),
    *(base * HOUR for base in (1, 2, 3, 4, 6, 12)),
    *(base * DAY for base in (1, 2, 5, 7, 10, 14, 28)),
]


def default_hop(width: int) -> int:
    """The hop of a window that names none: 5 minutes up to 12 hours, an hour up to 12 days, then a day.

    Args:
        width: the window's length, microseconds; below 5 minutes it is its own hop.
    """
    if width <= 12 * HOUR:
        return min(width, 5 * MINUTE)
    return HOUR if width <= 12 * DAY else DAY


def fitting_hop(width: int, offset: int) -> int | None:
    """A round hop with which a window spans at most `MOST_HOPS` hops; None where it would exceed the window."""
    least = -(-(offset + width) // MOST_HOPS)
    if least > width:
        return None
    days = -(-least // DAY) * DAY
    return min(next((hop for hop in _LADDER if hop >= least), days), width)


def hop_problem(width: int, hop: int, offset: int) -> str | None:
    """Why a window cannot have this hop and offset (microseconds); None where it can."""
    if offset + width > LONGEST:
        return (
            f"a window of {shown(width)}{_before(offset)} reaches back further than {LONGEST // DAY:,} days, which no "
            "event does: give window=None for all events"
        )
    if hop <= 0:
        return f"hop {shown(hop)} must be longer than zero"
    if hop > width:
        return f"hop {shown(hop)} is longer than the window of {shown(width)}: it must be at most that"
    if offset + width <= MOST_HOPS * hop:
        return None
    count = -(-(offset + width) // hop)
    spans = f"a window of {shown(width)}{_before(offset)}"
    fit = fitting_hop(width, offset)
    if fit is None:
        advice = "no hop fits, since a hop is at most the window: shorten offset= or lengthen the window"
    else:
        advice = f"set hop='{shown(fit)}'"
    return f"{spans} in hops of {shown(hop)} spans {count:,} hops, more than {MOST_HOPS:,}: {advice}"


def _before(offset: int) -> str:
    return f" before {shown(offset)}" if offset else ""


def shown(micros: int) -> str:
    """A duration as users write it."""
    return format_duration(timedelta(microseconds=micros)) if micros else "0s"


def micros_of(duration: timedelta) -> int:
    """A duration in microseconds."""
    return duration // MICROSECOND
