"""Rows of one view version into the online store: with their expiry, and without those that it cannot take."""

from __future__ import annotations

import math
from collections.abc import Sequence

from headwater.compute.context import StoreContext
from headwater.compute.writing.too_large import too_large
from headwater.online.base import HighWater, OnlineStore, PutOutcome, Row
from headwater.online.meta import greatest_key
from headwater.planning.resolved import ResolvedView

NEVER_EXPIRES = 10_000_000_000
"""Seconds (three centuries) from which on a row is put without an expiry."""


def put_rows(
    context: StoreContext,
    view: ResolvedView,
    rows: list[tuple[bytes, bytes]],
    *,
    until: int | None = None,
    position: int = 0,
) -> list[PutOutcome]:
    """Put rows of a view version online; where the store drops rows by itself, those with a ttl in their time.

    Rows that the store cannot take are left out.

    Args:
        context: the store's parts and settings.
        view: the version.
        rows: keys and packed rows.
        until: microseconds; see `OnlineStore.put`.
        position: no row has a greater log position.
    """
    gone = too_large(context.online, view.layout, view.keys, rows)
    high_water = (greatest_key(context.project), position)
    return put_without(gone, context.online, rows, until, expires_in(context, view), high_water)


def put_without(
    gone: Sequence[int],
    online: OnlineStore,
    rows: Sequence[Row],
    until: int | None,
    expires: int | None,
    high_water: HighWater,
) -> list[PutOutcome]:
    """Put rows but for some, whose outcome is that they are too large.

    Args:
        gone: the positions of those.
        online: the store.
        rows: keys and packed rows.
        until, expires, high_water: see `OnlineStore.put`.
    """
    if not gone:
        return online.put(rows, until=until, expires_in=expires, high_water=high_water)
    left = frozenset(gone)
    fitting = [row for i, row in enumerate(rows) if i not in left]
    outcomes = iter(online.put(fitting, until=until, expires_in=expires, high_water=high_water))
    return [PutOutcome.TOO_LARGE if i in left else next(outcomes) for i in range(len(rows))]


def expires_in(context: StoreContext, view: ResolvedView) -> int | None:
    """Seconds after which the store may drop rows of a version: its ttl and the grace; None: never."""
    ttl = view.view.ttl_time if view.view.source.event_time is not None else None
    if not ttl:
        return None
    lasts = ttl.total_seconds() + context.settings.grace.total_seconds()
    # no store's clock reaches all of Python's durations
    return math.ceil(lasts) if 0 < lasts < NEVER_EXPIRES else None
