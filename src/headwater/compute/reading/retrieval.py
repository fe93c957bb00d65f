"""Online retrieval: readers whose names, versions and layouts are resolved once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from headwater.clock import duration_micros
from headwater.compute.context import Rooms
from headwater.compute.reading.prepared import Explained, PreparedReader
from headwater.freshness import Freshness, FreshnessFunction
from headwater.registry.reader import REFRESH
from headwater.types import ConsistencyLevel

__all__ = ["Explained", "PreparedReader", "prepare"]


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
