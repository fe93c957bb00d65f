"""AsyncFeatureStore: the same door on an event loop; reads take an asynchronous client where the store has one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from headwater import forks
from headwater.compute.reading.async_reads import AsyncPreparedReader, async_fetcher
from headwater.compute.reports import DeleteReport, MaterializeReport, WriteReport
from headwater.compute.status import StoreStatus
from headwater.offline.join.result import HistoryResult
from headwater.online.fetching.fetcher import AsyncFetcher
from headwater.online.reading.result import OnlineResult
from headwater.online.session import Session
from headwater.planning.plan import Plan
from headwater.store import FeatureStore
from headwater.types import ConsistencyLevel, StalePolicy, WriteTarget

P = ParamSpec("P")
T = TypeVar("T")


class _Client:
    """The client of one event loop, which ends with it.

    A loop that shuts down (as `asyncio.run` does at its end) closes the asynchronous generators that were begun on it:
    so one of them holds the client.
    """

    def __init__(self, fetcher: AsyncFetcher) -> None:
        self.fetcher = fetcher
        self._held = self._hold()
        with suppress(StopIteration):
            self._held.__anext__().send(None)

    async def _hold(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.fetcher.reads.close()

    async def close(self) -> None:
        """End its connections; twice is a no-op."""
        await self._held.aclose()


class AsyncFeatureStore(forks.OfOneProcess):
    """A feature store on an event loop: `async with hw.AsyncFeatureStore("path") as store`.

    Reads are truly asynchronous on Redis and DynamoDB, and direct where the rows lie on this machine; everything else
    (definitions, history, writes, runs) is the synchronous store's, on a thread. Arguments, results and errors are
    those of `FeatureStore`. Each event loop that reads has a client of its own, which ends when the loop shuts down.

    Args:
        path: the project's folder, or its `headwater.toml`.
        options: as `FeatureStore` takes them.
    """

    def __init__(self, path: str | Path = ".", **options: Any) -> None:
        self._take(FeatureStore(path, **options))

    @classmethod
    def in_memory(cls, definitions: Iterable[Any], **options: Any) -> Self:
        """A store with nothing on disk, as `FeatureStore.in_memory`."""
        return cls.of(FeatureStore.in_memory(definitions, **options))

    @classmethod
    def of(cls, store: FeatureStore) -> Self:
        """The asynchronous door of a store; closing it closes the store."""
        made = cls.__new__(cls)
        made._take(store)
        return made

    def _take(self, store: FeatureStore) -> None:
        self.sync = store
        self._fetching: dict[asyncio.AbstractEventLoop, _Client] = {}
        forks.after_fork(self, AsyncFeatureStore._in_child)

    def _in_child(self) -> None:
        # to close a client of the parent's event loop would take its sockets from that loop
        forks.abandon(self._fetching)
        self._fetching = {}

    @property
    def registry(self) -> Any:
        """The registry, as `FeatureStore.registry`."""
        return self.sync.registry

    async def _thread(self, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        return await asyncio.to_thread(work, *args, **options)

    async def plan(self, definitions: Iterable[Any] | None = None, *, check: bool = False) -> Plan:
        """What `apply` would do; with `check` values are read too."""
        return await self._thread(self.sync.plan, definitions, check=check)

    async def apply(self, definitions: Iterable[Any] | None = None) -> Plan:
        """Register definitions: all or nothing."""
        return await self._thread(self.sync.apply, definitions)

    async def promote(self, name: str, version: str, force: bool = False) -> None:
        """Make a version of a view or service live."""
        await self._thread(self.sync.promote, name, version, force)

    async def rollback(self, name: str) -> None:
        """Make the version live that was live before."""
        await self._thread(self.sync.rollback, name)

    async def retire(self, name: str, version: str) -> None:
        """End the feeding of a version."""
        await self._thread(self.sync.retire, name, version)

    async def refresh_registry(self) -> None:
        """See at once what other processes applied."""
        await self._thread(self.sync.refresh_registry)

    async def get_historical_features(self, spine: Any, features: Any, **options: Any) -> HistoryResult:
        """Join features to training rows; use the result's own methods on a thread, for they run the join."""
        return await self._thread(self.sync.get_historical_features, spine, features, **options)

    async def materialize(
        self,
        views: Sequence[str] | str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        entities: Any = None,
        force: bool = False,
    ) -> MaterializeReport:
        """Put online what is missing up to now."""
        return await self._thread(self.sync.materialize, views, start, end, entities, force)

    async def write(
        self,
        view: str,
        rows: Any,
        to: WriteTarget | str = WriteTarget.BOTH,
        session: Session | None = None,
        durability: int = 0,
        errors: str = "raise",
        created: str = "arrival",
    ) -> WriteReport:
        """Write rows of a view to its history and online. A write that is cancelled goes on to its end."""
        return await self._thread(self.sync.write, view, rows, to, session, durability, errors, created)

    async def delete(
        self, view: str, entities: Any, purge: bool = False, session: Session | None = None
    ) -> DeleteReport:
        """Hide every row of some keys."""
        return await self._thread(self.sync.delete, view, entities, purge, session)

    async def prepare(
        self,
        features: Any,
        consistency: ConsistencyLevel | str | None = None,
        registry_refresh: timedelta | str = "5s",
        full_names: bool | None = None,
    ) -> AsyncPreparedReader:
        """Resolve names, versions and layouts once; `await reader.read(entities)` is then one round trip."""
        inner = await self._thread(self.sync.prepare, features, consistency, registry_refresh, full_names)
        return AsyncPreparedReader(inner, self._fetcher)

    async def get_online_features(
        self,
        features: Any,
        entities: Any,
        request: Mapping[str, Any] | None = None,
        consistency: ConsistencyLevel | str = ConsistencyLevel.EVENTUAL,
        session: Session | None = None,
        stale: StalePolicy | str = StalePolicy.FLAG,
        max_age: timedelta | str | None = None,
        now: datetime | str | None = None,
        full_names: bool | None = None,
    ) -> OnlineResult:
        """Read features of some entities: `prepare` (cached) and `read`."""
        inner = self.sync.cached_reader(features, full_names, make=False)
        if inner is None:
            inner = await self._thread(self.sync.cached_reader, features, full_names)
        assert inner is not None
        reader = AsyncPreparedReader(inner, self._fetcher)
        return await reader.read(entities, request, consistency, session, stale, max_age, now)

    def _fetcher(self) -> AsyncFetcher:
        """The client of the running event loop."""
        loop = asyncio.get_running_loop()
        found = self._fetching.get(loop)
        if found is None:
            for other in [other for other in self._fetching if other.is_closed()]:
                self._fetching.pop(other, None)
            found = self._fetching[loop] = _Client(async_fetcher(self.sync.rooms))
        return found.fetcher

    def session(self) -> Session:
        """A new session; its token travels to other processes."""
        return self.sync.session()

    async def status(self, now: datetime | str | None = None) -> StoreStatus:
        """How every version stands, and what the parts say of themselves."""
        found: StoreStatus = await self._thread(self.sync.status, now)
        # its reads go through a client of their own
        client = self._fetching.get(asyncio.get_running_loop())
        return found if client is None else replace(found, reads=client.fetcher.counts())

    async def close(self) -> None:
        """Release what this object opened. Closing twice is a no-op."""
        fetching, self._fetching = self._fetching, {}
        here = asyncio.get_running_loop()
        for loop, client in fetching.items():
            if loop is here:
                await client.close()
            elif loop.is_running():
                # of another thread
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(client.close(), loop))
        await self._thread(self.sync.close)

    def __repr__(self) -> str:
        return repr(self.sync).replace("<", "<Async", 1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
