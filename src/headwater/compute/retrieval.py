"""Retrieval: features joined to a spine, and prepared online reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from headwater.clock import duration_micros
from headwater.compute.inputs import view_input
from headwater.compute.prepared import Explained, PreparedReader
from headwater.compute.rooms import Rooms
from headwater.errors import UsageError, nearest
from headwater.freshness import Freshness, FreshnessFunction
from headwater.offline.base import HistoryRequest
from headwater.offline.result import HistoryResult
from headwater.planning.resolve import resolve
from headwater.registry.reader import REFRESH
from headwater.types import ConsistencyLevel

INCLUDABLE = ("status", "event_time")
"""What history can show beside the features."""

__all__ = ["Explained", "PreparedReader", "historical", "prepare"]


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


def prepare(
    rooms: Rooms,
    features: Any,
    *,
    consistency: ConsistencyLevel | str | None = None,
    registry_refresh: timedelta = REFRESH,
    full_names: bool | None = None,
    freshness: FreshnessFunction | str = FreshnessFunction.LINEAR,
    half_life: timedelta | None = None,
    look: bool = True,
) -> PreparedReader:
    """Resolve names, versions and layouts once.

    Args:
        rooms: the store's parts.
        features: references, views, selections; a service or its name.
        consistency: the level of every read, unless one names its own.
        registry_refresh: how long until what other processes applied is seen.
        full_names: name columns `view__feature`.
        freshness: the function freshness is measured by.
        half_life: of the exponential one; None: the SLA.
        look: whether to look now whose the online store is; else the first read does.

    Raises:
        NotFound, UsageError: as `resolve` says.
        ConsistencyNotSupported: a level that the store cannot give.
        ChangeRefused: a version that is neither live nor materialized as far as the live one.
    """
    measure = Freshness(FreshnessFunction(freshness), duration_micros(half_life) or None)
    return PreparedReader(
        rooms,
        features,
        consistency=consistency,
        registry_refresh=registry_refresh,
        full_names=full_names,
        freshness=measure,
        look=look,
    )
