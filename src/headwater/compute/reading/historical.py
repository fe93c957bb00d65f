"""History: features joined to a spine, with the versions and the log position fixed at the call."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from headwater.compute.context import StoreContext
from headwater.compute.inputs import view_input
from headwater.compute.sources import views_in
from headwater.deferred import deferred
from headwater.errors import ConfigError, UsageError, listing, nearest
from headwater.offline.base import HistoryRequest
from headwater.offline.join.result import HistoryResult
from headwater.planning.buckets import Bucket
from headwater.planning.local_time import instant_in
from headwater.planning.resolve import resolve

if TYPE_CHECKING:
    from headwater.compute.transforms import history
else:
    history = deferred("headwater.compute.transforms.history")

INCLUDABLE = ("status", "event_time")
"""What history can show beside the features."""


def historical(
    context: StoreContext,
    spine: Any,
    features: Any,
    *,
    timestamp_column: str | None = None,
    at: datetime | str | None = None,
    as_known: bool = True,
    full_names: bool | None = None,
    include: str | Sequence[str] = (),
    timezone: str | None = None,
    log_until: int | None = None,
    bucket: tuple[int, int] | None = None,
) -> HistoryResult:
    """Join features to training rows; the versions and the log position are fixed here, however often it is consumed.

    Args:
        context: the store's parts and settings.
        spine: a pandas, polars or pyarrow table, a Parquet path, or SQL; None with `at`: every known entity.
        features: references, views, selections; a service or its name.
        timestamp_column: default: `timestamp` or `event_timestamp`.
        at: one instant for all rows.
        as_known: whether only what was known at the row's time counts.
        full_names: name columns `view__feature`.
        include: any of `status`, `event_time`.
        timezone: of naive timestamps of the spine, and of a naive `at`; None: UTC.
        bucket: (i, n): only the rows in part i of n by the join keys that all views share.
        log_until: rows and deletes of the offline log up to this position count; None: all that are there now.

    Raises:
        NotFound, UsageError: as `resolve` says; a bucket that is not (i, n).
        SpineError: a missing column, a NaT, a key of another type.
    """
    instant = None if at is None else instant_in(at, timezone)
    include = (include,) if isinstance(include, str) else tuple(include)
    for name in include:
        if name not in INCLUDABLE:
            raise UsageError(f"include={name!r}: write {' or '.join(map(repr, INCLUDABLE))}{nearest(name, INCLUDABLE)}")
    context.sources.remember(views_in(features))
    request = resolve(context.registry.snapshot(), features, full_names=full_names, history=True)
    # one position for all views, so that a row is either in all of them or in none
    until = context.log.head_position() if log_until is None else log_until
    computing = None
    if request.functions:
        if not context.settings.offline_run_code:
            names = listing(f"{function.name} {function.version}" for function in request.functions)
            raise ConfigError(
                f"{names}: computed by code from the registry, which [offline] run_code = false refuses to run"
            )
        computing = history.HistoryFunctions(request)
    asked = HistoryRequest(
        spine=spine,
        views=tuple(view_input(context, view, until) for view in request.views),
        columns=request.columns,
        timestamp_column=timestamp_column,
        at=instant,
        as_known=as_known,
        include=include,
        timezone=timezone,
        log_position=until,
        bucket=None if bucket is None else Bucket.of(bucket),
    )
    engine = context.engine if computing is None else history.ComputingEngine(context.engine, computing)
    result = HistoryResult(engine, asked)
    result.metadata.versions, result.resolved = request.versions, request
    return result
