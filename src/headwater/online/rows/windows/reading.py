"""What a row says at an instant: the value and status of each feature of a window version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from headwater.online.rows.windows.lists import RowList
from headwater.online.rows.windows.row import WindowRow
from headwater.planning.windows.kinds import Overflow, Unanswerable, finish
from headwater.planning.windows.layout import SUFFIXES, WHOLE, ListLayout, WindowFeature, WindowLayout
from headwater.planning.windows.rule import BEFORE_ALL
from headwater.types import Status

if TYPE_CHECKING:
    from headwater.online.rows.windows.stored import StoredList

LEFT_OUT = "exceeds the bounds of a row: events of the window were left out"
OVERFLOWS = "the sum of the window's integers is beyond 64 bits"
NOT_FILLED = "not filled"


class FeatureValue(NamedTuple):
    """The value of one feature, in its stored form, its status, and why it is UNAVAILABLE."""

    value: Any
    status: Status
    problem: str = ""


def holds_from(row: WindowRow) -> int:
    """The instant from which a row's reads hold, microseconds; with an earlier `now` they are NOT_KNOWN."""
    return max(row.newest_known, row.deleted_through)


def read_row(
    layout: WindowLayout, row: WindowRow | None, now: int, features: Sequence[WindowFeature] | None = None
) -> list[FeatureValue]:
    """The values of features at an instant.

    Args:
        layout: the version's.
        row: None: an entity without events.
        now: not before `holds_from`, microseconds.
        features: those asked for; None: all.
    """
    empty = RowList()
    return [
        read_feature(feature, layout.lists[feature.list], empty if row is None else row.lists[feature.list], now)
        for feature in (layout.features if features is None else features)
    ]


def read_feature(feature: WindowFeature, layout: ListLayout, given: RowList | StoredList, now: int) -> FeatureValue:
    """The value of a feature at an instant, from its list."""
    window = feature.window
    start = window.start(now)
    if window.width is None:
        if given.lifetime_left_out:
            return FeatureValue(None, Status.UNAVAILABLE, LEFT_OUT)
    elif given.left_out is not None and start <= given.left_out:
        return FeatureValue(None, Status.UNAVAILABLE, LEFT_OUT)
    state = _state(layout, given, start, window.end(now))
    try:
        value = finish(feature.function, state, start=start, at=now, width=window.width, n=feature.n, q=feature.q)
    except Unanswerable:
        return FeatureValue(None, Status.UNAVAILABLE, LEFT_OUT)
    except Overflow:
        if feature.errors == "null":
            return FeatureValue(None, Status.NULL)
        return FeatureValue(None, Status.UNAVAILABLE, OVERFLOWS)
    return FeatureValue(feature.default, Status.NULL) if value is None else FeatureValue(value, Status.PRESENT)


def _state(layout: ListLayout, given: RowList | StoredList, start: int, end: int | None) -> Any:
    if layout.shape == WHOLE:
        return layout.states.since(given.states[0], start) if given.states else None
    if start == BEFORE_ALL:
        return given.lifetime
    index = given.first_from(start)
    if layout.shape == SUFFIXES:
        return given.states[index] if index < len(given.states) else None
    until = len(given.states) if end is None else given.first_from(end)
    state = None
    for each in given.states[index:until]:
        state = layout.states.merge(state, each)
    return state
