"""The ends of windows, and the boundaries of events, for whole columns of times; see `planning.windows.rule`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from headwater.planning.windows.rule import BEFORE_ALL, Window, boundary_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_FAR = 2**60
"""Longer than any two times are apart: beyond it Python's integers count."""


def starts(window: Window, at: Ints) -> Ints:
    """`Window.start` at each instant."""
    if window.width is None:
        return np.full(len(at), BEFORE_ALL, np.int64)
    if window.offset + window.width >= _FAR:
        return _exact(window.start, at)
    return _floored(at - (window.offset + window.width), window.hop)


def ends(window: Window, at: Ints) -> Ints | None:
    """`Window.end` at each instant; None: everything that is known is before it."""
    if not window.offset:
        return None
    if window.offset + window.hop >= _FAR:
        return _exact(window.end, at)
    return _floored(at - window.offset, window.hop)


def boundaries(events: Ints, hops: Sequence[int]) -> Ints:
    """`boundary_of` each event time; where there are no hops all have the same."""
    if any(hop >= _FAR for hop in hops):
        return _exact(lambda event: boundary_of(event, hops), events)
    found = np.full(len(events), BEFORE_ALL, np.int64)
    for hop in hops:
        # a multiple of another has no later boundary
        if not any(hop != other and hop % other == 0 for other in hops):
            np.maximum(found, _floored(events, hop), out=found)
    return found


def _floored(times: Ints, hop: int) -> Ints:
    # several times as fast as a remainder
    return times // hop * hop


def _exact(function: object, times: Ints) -> Ints:
    each, inverse = np.unique(times, return_inverse=True)
    values = [max(BEFORE_ALL, min(2**63 - 1, function(int(time)))) for time in each]  # type: ignore[operator]
    return np.array(values, np.int64)[inverse]
