"""The settings that all of compute shares, as one value."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Self

import msgspec

from headwater.clock import CLOCK_TOLERANCE, duration_micros
from headwater.config import Settings
from headwater.freshness import Freshness, FreshnessFunction
from headwater.online.fetching.fetcher import ReadSettings
from headwater.values import Value


class RefreshSettings(Value, frozen=True):
    """How stale rows are refreshed.

    Attributes:
        requests: whether reads that flag or drop stale values ask for a refresh.
        worker: whether this process works off the queue too, once one of its reads has asked for a refresh.
        budget: how long a read with `stale="refresh"` waits at most.
        rest: how long a key is left alone at least once no newer row was found.
        limit: how many hints may wait in the queue.
        tries: how often a hint is tried before it is a dead letter.
        lease: how long a worker may have a hint before another takes it over.
    """

    requests: bool = False
    worker: bool = False
    budget: timedelta = timedelta(milliseconds=500)
    rest: timedelta = timedelta(minutes=1)
    limit: int = 100_000
    tries: int = 5
    lease: timedelta = timedelta(minutes=2)


class ComputeSettings(Value, frozen=True):
    """How a store writes, runs, reads and refreshes.

    Attributes:
        lookback: how far back a run looks for source rows that came late.
        tolerance: how far ahead of the clock a row may be known and still be put online.
        lease_time: how long a run may be held up before it counts as dead.
        grace: how long past its ttl a row is kept by a store that drops rows by itself: until then its status is
            EXPIRED.
        durable_within: how long a write that asks for durability waits for replicas.
        allow_eviction: whether window views may be served from a store that may drop rows which never expire.
        run_code: whether online reads run functions that the registry keeps as source text.
        offline_run_code: whether history does.
        keep_gone_files: whether rows of source files that are gone are meant to stay, so that no run warns of them.
        freshness: how freshness is measured.
        reads: what stands between a read and the online store.
        refreshing: how stale rows are refreshed.
        folder: the project's folder, to which paths of sources are relative.
        training_sets: the folder of saved training sets; None: a temporary one of the store object.
    """

    lookback: timedelta = timedelta(days=1)
    tolerance: timedelta = CLOCK_TOLERANCE
    lease_time: timedelta = timedelta(minutes=10)
    grace: timedelta = timedelta(days=1)
    durable_within: timedelta = timedelta(seconds=2)
    allow_eviction: bool = False
    keep_gone_files: bool = False
    run_code: bool = True
    offline_run_code: bool = True
    freshness: Freshness = msgspec.field(default_factory=Freshness)
    reads: ReadSettings = msgspec.field(default_factory=ReadSettings)
    refreshing: RefreshSettings = msgspec.field(default_factory=RefreshSettings)
    folder: Path = Path()
    training_sets: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What a project's settings say of it."""
        return cls(
            lookback=settings.materialize_lookback,
            tolerance=settings.online_clock_tolerance,
            durable_within=settings.online_durable_within,
            allow_eviction=settings.online_allow_eviction,
            keep_gone_files=settings.online_gone_files == "keep",
            run_code=settings.serving_run_code,
            offline_run_code=settings.offline_run_code,
            freshness=Freshness(
                FreshnessFunction(settings.freshness_function), duration_micros(settings.freshness_half_life) or None
            ),
            reads=ReadSettings(
                coalesce=settings.online_coalesce,
                cache=settings.online_cache.total_seconds(),
                cache_rows=settings.online_cache_rows,
                retries=settings.online_retries,
                breaker_failures=settings.online_breaker,
                breaker_rest=settings.online_breaker_rest.total_seconds(),
            ),
            refreshing=RefreshSettings(
                requests=settings.freshness_refresh,
                worker=settings.freshness_refresh_worker,
                budget=settings.freshness_refresh_budget,
                rest=settings.freshness_refresh_rest,
                limit=settings.freshness_refresh_queue,
                tries=settings.freshness_refresh_tries,
                lease=settings.freshness_refresh_lease,
            ),
            folder=settings.folder,
            training_sets=settings.folder / settings.offline_training_sets if settings.offline_training_sets else None,
        )
