"""History: features joined to a spine, with the versions and the log position fixed at the call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headwater.compute.context import Rooms
from headwater.compute.materializing.inputs import view_input
from headwater.errors import UsageError, nearest
from headwater.offline.base import HistoryRequest
from headwater.offline.join.result import HistoryResult
from headwater.planning.resolve import resolve

INCLUDABLE = ("status", "event_time")
"""What history can show beside the features."""


def historical(
    rooms: Rooms,
    spine: Any,
    features: Any,
    *,
    timestamp_column: str | None = None,
    at: int | None = None,
    as_known: bool = True,
    full_names: bool | None = None,
    include: Sequence[str] = (),
    timezone: str | None = None,
) -> HistoryResult:
    """Join features to training rows; the versions and the log position are fixed here, however often it is consumed.

    Args:
        rooms: the store's parts.
        spine: a pandas, polars or pyarrow table, a Parquet path, or SQL; None with `at`: every known entity.
        features: references, views, selections; a service or its name.
        timestamp_column: default: `timestamp` or `event_timestamp`.
        at: microseconds; one instant for all rows.
        as_known: whether only what was known at the row's time counts.
        full_names: name columns `view__feature`.
        include: any of `status`, `event_time`.
        timezone: of naive timestamps of the spine; None: UTC.

    Raises:
        NotFound, UsageError: as `resolve` says.
        SpineError: a missing column, a NaT, a key of another type.
    """
    for name in include:
        if name not in INCLUDABLE:
            raise UsageError(f"include={name!r}: write {' or '.join(map(repr, INCLUDABLE))}{nearest(name, INCLUDABLE)}")
    request = resolve(rooms.registry.snapshot(), features, full_names=full_names, history=True)
    # one position for all views, so that a row is either in all of them or in none
    until = rooms.log.head_position()
    asked = HistoryRequest(
        spine=spine,
        views=tuple(view_input(rooms, view, until) for view in request.views),
        columns=request.columns,
        timestamp_column=timestamp_column,
        at=at,
        as_known=as_known,
        include=tuple(include),
        timezone=timezone,
    )
    return HistoryResult(rooms.engine, asked)
