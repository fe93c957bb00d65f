"""Prepared reads on an event loop: the same plan and the same decoding, and an asynchronous client between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from headwater import forks
from headwater.compute.reading.prepared import PreparedReader
from headwater.compute.reading.read_arguments import refreshed_ask
from headwater.errors import Unavailable
from headwater.event_loops import LOOKUPS, READS
from headwater.online.base import OnlineStore
from headwater.online.fetching.fetcher import Ask, AsyncFetcher
from headwater.online.powers import UNREAD, Asynchronous, AsyncReads, LeveledReads, Reading
from headwater.online.reading.result import OnlineResult
from headwater.online.reading.staleness import StaleRows, stale_rows
from headwater.online.session import Session
from headwater.planning.resolved import ResolvedView
from headwater.types import ConsistencyLevel, DType, StalePolicy


class _Plain:
    """The reads of a store without an asynchronous client.

    Args:
        store: the store.
    """

    def __init__(self, store: OnlineStore) -> None:
        self._store = store

    async def close(self) -> None:
        """Nothing of its own."""


class _Local(_Plain):
    """A store on this machine: its answer is there before a thread would be."""

    def now(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._store.multi_get(keys)

    async def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._store.multi_get(keys)

    async def read(
        self,
        keys: Sequence[bytes],
        level: ConsistencyLevel,
        marks: Mapping[str, int] | None,
        deadline: float | None = None,
    ) -> Reading:
        return Reading(self._store.multi_get(keys), {})


class _Threads(_Plain):
    """A store whose client blocks: it is asked on a thread."""

    async def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return await READS.run(self._store.multi_get, keys)

    async def read(
        self,
        keys: Sequence[bytes],
        level: ConsistencyLevel,
        marks: Mapping[str, int] | None,
        deadline: float | None = None,
    ) -> Reading:
        if isinstance(self._store, LeveledReads):
            return await READS.run(self._store.read, keys, level, marks, deadline)
        return Reading(await READS.run(self._store.multi_get, keys), {})


def async_reads(store: OnlineStore) -> AsyncReads:
    """The reads of a store for the running event loop; who asks closes them."""
    if isinstance(store, Asynchronous):
        return store.asynchronous()
    return _Local(store) if store.capabilities.local else _Threads(store)


class AsyncPreparedReader(forks.OfOneProcess):
    """Reads one set of features on an event loop; `PreparedReader` says what it promises.

    A read that is cancelled leaves the client whole.

    Args:
        inner: names, versions and layouts, resolved.
        fetcher: gives what gets the rows on the running event loop.
    """

    instead = "make one in each process: await store.prepare(features)"

    def __init__(self, inner: PreparedReader, fetcher: Callable[[], AsyncFetcher]) -> None:
        self._inner = inner
        self._fetcher = fetcher

    @property
    def join_keys(self) -> Mapping[str, DType]:
        """Name → dtype of each key that `entities` must have."""
        return self._inner.join_keys

    @property
    def request_fields(self) -> Mapping[str, DType]:
        """Name → dtype of each value that `request` must have."""
        return self._inner.request_fields

    @property
    def versions(self) -> Mapping[str, str]:
        """View label → version that is read."""
        return self._inner.versions

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the reader stays on a version that is not live any more."""
        return self._inner.warnings

    def __repr__(self) -> str:
        return repr(self._inner).replace("<", "<Async", 1)

    async def refresh(self) -> None:
        """See at once what other processes applied or promoted."""
        await LOOKUPS.run(self._inner.refresh)

    async def follow(self) -> None:
        """What a read does first: a look at the registry, where one is due."""
        if self._inner.due:
            await LOOKUPS.run(self._inner.look)

    async def read(
        self,
        entities: Any,
        request: Mapping[str, Any] | None = None,
        consistency: ConsistencyLevel | str | None = None,
        session: Session | None = None,
        stale: StalePolicy | str = StalePolicy.FLAG,
        max_age: timedelta | str | None = None,
        now: datetime | str | None = None,
        deadline: timedelta | str | None = None,
        refresh_budget: timedelta | str | None = None,
    ) -> OnlineResult:
        """Read the features of entities, in one call to the store.

        Args:
            entities: a list of dicts; a dict of lists, in which a scalar is repeated; a table; for a single join key a
                plain list of values. Order and repeats are kept.
            request: values for on-demand features.
            consistency: the level for this read; None: as prepared, else eventual.
            session: this read sees everything that the session has seen, and the session then covers this read too.
            stale: `flag` or `drop` values past their SLA, or `refresh` their rows from the offline source first.
            max_age: a freshness SLA for this read only, a duration such as `"5m"` or a timedelta.
            now: the instant of the read (naive is UTC); None: the store's clock. As for `PreparedReader.read`.
            deadline: how long the store may take; values that it has not returned by then are UNAVAILABLE, without an
                error.
            refresh_budget: how long a refresh may take, at most until the deadline; None: as configured.

        Returns:
            The values with their statuses and times, a row for each entity, in order.

        Raises:
            EntityKeyError: join keys are missing, unknown or of another type.
            SessionRequired: the consistency level needs a session.
            ConsistencyLost: the store has lost data that the session has seen; continue with the error's `.session`.
            ConsistencyNotSupported: the store does not support the consistency level.
            StoreError: the store cannot be read.
        """
        inner = self._inner
        await self.follow()
        given = inner.arguments(request, consistency, session, stale, max_age, now, deadline)
        ask, began = given.ask, time.monotonic()
        plan, fetcher, claims = given.reader.plan_keys(entities), self._fetcher(), inner.claims
        before = await fetcher.rows(plan.keys, ask)
        if claims.reads_due:
            await self._look_at_owner(fetcher, ask, began)
        before = inner.trusted(before)
        result = given.result(plan, before)
        if given.policy is not StalePolicy.REFRESH:
            inner.ask_refresh(given, plan)
            return result
        old, views = stale_rows(plan, given.age), given.reader.request.views
        if not old or not await self._refresh(views, old, given.at, inner.budget(refresh_budget, ask, began)):
            return result
        try:
            rows = await fetcher.rows(plan.keys, refreshed_ask(ask, began))
        except Unavailable:
            return result
        return result if UNREAD in rows else given.again(plan, before, rows)

    async def _look_at_owner(self, fetcher: AsyncFetcher, ask: Ask, began: float) -> None:
        """As that of `PreparedReader`."""
        claims = self._inner.claims
        try:
            (data,) = await fetcher.rows([claims.owner_key], self._inner.owner_ask(ask, began))
        except Unavailable as bad:
            if bad.closed:
                raise
        else:
            if data != UNREAD:
                claims.saw(data)

    async def _refresh(self, views: Sequence[ResolvedView], stale: list[StaleRows], at: int, budget: float) -> bool:
        """As `Refresher.refresh`, without a thread that waits."""
        refreshing = self._inner.services.refresher
        futures = refreshing.begin(views, stale, at)
        if futures:
            await asyncio.wait([asyncio.wrap_future(future) for future in futures], timeout=budget)
        return refreshing.settled(views, stale, futures)
