"""Which rows of a read are past their SLA."""

from __future__ import annotations

from headwater.clock import MIN_MICROS
from headwater.online.reading.reader import KeyPlan
from headwater.online.reading.view_read import ViewReadPlan, ViewReadResult
from headwater.online.rows.codec import SIGN
from headwater.values import Value


class StaleRows(Value, frozen=True):
    """The rows of one view that are past their SLA.

    Attributes:
        place: the view's, in the request.
        keys: their whole keys.
        events: their event times, microseconds.
        sla: the strictest among the features asked for, or the read's own, microseconds, at least 1.
    """

    place: int
    keys: list[bytes]
    events: list[int]
    sla: int


def may_be_stale(plan: KeyPlan, max_age: int | None) -> bool:
    """Whether `stale_rows` may find some: told at once, and never wrongly denied."""
    for read in plan.reads:
        sla = _sla(read.view, max_age)
        if sla is not None and read.rows.least < read.rows.latest - sla + SIGN:
            return True
    return False


def _sla(view: ViewReadPlan, max_age: int | None) -> int | None:
    if not view.timed:
        return None
    return view.sla if max_age is None else max_age


def stale_rows(plan: KeyPlan, max_age: int | None) -> list[StaleRows]:
    """The rows of a decoded read that are there and older than their SLA, expired ones too.

    Args:
        plan: the read's, decoded.
        max_age: the SLA of this read alone, microseconds.
    """
    found = []
    for place, read in enumerate(plan.reads):
        sla = _sla(read.view, max_age)
        if sla is None:
            continue
        stale = _of_view(plan, read, place, sla)
        if stale is not None:
            found.append(stale)
    return found


def _of_view(plan: KeyPlan, read: ViewReadResult, place: int, sla: int) -> StaleRows | None:
    places = read.rows.older_places(sla, expired=True)
    if places.size:
        # a row of a window view may have no event: like a key that was never seen it is left to runs
        places = places[read.rows.events()[places] != MIN_MICROS]
    if not places.size:
        return None
    long_keys = read.long_keys or {}
    keys = [long_keys.get(i) or plan.keys[read.start + i] for i in places.tolist()]
    return StaleRows(place, keys, read.rows.events()[places].tolist(), max(1, sla))
