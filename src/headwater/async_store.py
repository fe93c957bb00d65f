"""AsyncFeatureStore: the same API on an event loop; reads take an asynchronous client where the store has one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from headwater import forks
from headwater.clock import Clock
from headwater.compute.reading.async_reads import AsyncPreparedReader
from headwater.compute.services import Services
from headwater.event_loops import LOOKUPS, REPORTS, RUNS, WRITES
from headwater.observer import Observer, silent
from headwater.online.base import OnlineStore
from headwater.online.fetching.fetcher import AsyncFetcher
from headwater.online.reading.result import OnlineResult
from headwater.online.session import Session
from headwater.registry.registry import FeatureRegistry
from headwater.store import FeatureStore
from headwater.types import ConsistencyLevel, StalePolicy, WriteTarget

if TYPE_CHECKING:
    from headwater.compute.reports import DeleteReport, MaterializeReport, WriteReport
    from headwater.compute.status import StoreStatus
    from headwater.definitions.entity import Entity
    from headwater.offline.base import OfflineEngine
    from headwater.offline.join.result import HistoryResult
    from headwater.planning.catalog import ModelInfo, OnDemandInfo, ServiceInfo, ViewInfo
    from headwater.planning.plan import Plan
    from headwater.planning.pointers import PointerChange


class AsyncFeatureStore(forks.OfOneProcess):
    """A feature store on an event loop: `async with hw.AsyncFeatureStore("path") as store`.

    Reads are asynchronous on Redis and DynamoDB, and direct where the rows are on this machine; everything else
    (definitions, history, writes, runs) is done by the synchronous store, on a thread. Each event loop that reads has a
    client of its own, which ends when the loop shuts down.

    Args:
        path: the project's folder, or its `headwater.toml`.
        registry: URL of the registry, or a `FeatureRegistry`; default: as the settings say.
        online: URL of the online store, or an `OnlineStore`; default: as the settings say.
        offline: name of the offline engine, or an `OfflineEngine`; default: as the settings say.
        clock: returns the time now, as a `datetime` in UTC; default: the system's clock.
        observer: is called with the progress of long calls; default: nothing is.

    Attributes:
        sync: the synchronous store.

    Raises:
        ConfigError: the folder does not exist, or a setting or URL is not valid.
        MissingExtra: a package of the online store or offline engine is not installed.
    """

    def __init__(
        self,
        path: str | Path = ".",
        *,
        registry: str | FeatureRegistry | None = None,
        online: str | OnlineStore | None = None,
        offline: str | OfflineEngine | None = None,
        clock: Clock | None = None,
        observer: Observer = silent,
    ) -> None:
        self.sync = FeatureStore(
            path, registry=registry, online=online, offline=offline, clock=clock, observer=observer
        )

    @classmethod
    def in_memory(
        cls,
        definitions: Iterable[Any],
        *,
        sources: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        path: str | Path = ".",
        observer: Observer = silent,
    ) -> Self:
        """Make a store with nothing on disk and apply definitions, as `FeatureStore.in_memory`.

        Args:
            definitions: entities, views and services.
            sources: view → its rows, which are read instead of its source; for a view over a query also {table: rows}.
            clock: returns the time now, as a `datetime` in UTC; default: the system's clock.
            path: the folder that relative paths of sources start from.
            observer: is called with the progress of long calls.

        Returns:
            The store; the definitions are registered and live.

        Raises:
            DefinitionError: everything that is wrong with the definitions.
            FeatureViewNotFound: `sources` names a view that is not among the definitions.
        """
        return cls.of(FeatureStore.in_memory(definitions, sources=sources, clock=clock, path=path, observer=observer))

    @classmethod
    def of(cls, store: FeatureStore) -> Self:
        """Use a synchronous store on event loops.

        Args:
            store: the store; closing the asynchronous one closes it.

        Returns:
            The asynchronous store.
        """
        made = cls.__new__(cls)
        made.sync = store
        return made

    @property
    def registry(self) -> FeatureRegistry:
        """The registry, as `FeatureStore.registry`."""
        return self.sync.registry

    async def plan(self, definitions: Iterable[Any] | None = None, *, check: bool = False) -> Plan:
        """Show what `apply` would do; nothing is changed.

        Args:
            definitions: entities, views and services to add or change; None: the project's files.
            check: also read values: the first 10,000 rows of each file of a source.

        Returns:
            The plan; `apply(plan)` runs it.

        Raises:
            DefinitionError: everything that is wrong, together, each with file and line.
            VersionConflict: a definition was changed under a version that is registered.
        """
        return await RUNS.run(self.sync.plan, definitions, check=check)

    async def apply(
        self, changes: Iterable[Any] | Plan | None = None, *, promote: bool = False, allow_removals: bool = False
    ) -> Plan:
        """Register definitions: all or nothing.

        Args:
            changes: entities, views and services to add or change; None: the project's files; a plan: that very plan.
            promote: let what is registered go live as soon as it has caught up.
            allow_removals: let what is live be retired where the project's files no longer have it.

        Returns:
            The plan that was run.

        Raises:
            DefinitionError: everything that is wrong, together; nothing was changed.
            VersionConflict: a definition was changed under a version that is registered; nothing was changed.
            RemovalsRefused: something live would be retired; nothing was changed.
            RegistryConflict: another process applied meanwhile, or the files changed since the plan was made; nothing
                was changed.
            StoreError: a store cannot be reached; nothing was changed.
        """
        return await RUNS.run(self.sync.apply, changes, promote=promote, allow_removals=allow_removals)

    async def promote(self, name: str, version: str, force: bool = False) -> PointerChange:
        """Make a version of a view or service live.

        Args:
            name: of the view or service.
            version: such as `1.2.0`.
            force: also where it is not materialized as far as the live version.

        Returns:
            The version that was live before, and which services still read it.

        Raises:
            NotFound: the name or the version is not registered.
            ChangeRefused: the version is not materialized as far as the live one, or is retired.
        """
        return await RUNS.run(self.sync.promote, name, version, force)

    async def rollback(self, name: str) -> PointerChange:
        """Make the version of a view or service live that was live before.

        Args:
            name: of the view or service.

        Returns:
            The version that was live before the call, and which services still read it.

        Raises:
            NotFound: the name is not registered.
            ChangeRefused: no version was live before, or it is retired.
        """
        return await RUNS.run(self.sync.rollback, name)

    async def retire(self, name: str, version: str) -> None:
        """End the updates of a version for good.

        Args:
            name: of the view or service.
            version: such as `1.2.0`.

        Raises:
            NotFound: the name or the version is not registered.
            ChangeRefused: the version is live, or read by services, which are named.
        """
        await RUNS.run(self.sync.retire, name, version)

    async def get_feature_view(self, name: str, version: str | None = None) -> ViewInfo | OnDemandInfo:
        """Return a registered view.

        Args:
            name: of the view.
            version: such as `1.2.0`; None: the live version.

        Returns:
            Its definition, join keys and output schema.

        Raises:
            FeatureViewNotFound: no view of that name is registered.
            VersionNotFound: it has no such version, or none that is live.
            StoreError: the registry cannot be read.
        """
        return await LOOKUPS.run(self.sync.get_feature_view, name, version)

    async def get_feature_service(self, name: str, version: str | None = None) -> ServiceInfo:
        """Return a registered service.

        Args:
            name: of the service.
            version: such as `1.2.0`; None: the live version.

        Returns:
            Its features with the versions that it reads, join keys and output schema.

        Raises:
            FeatureServiceNotFound: no service of that name is registered.
            VersionNotFound: it has no such version, or none that is live.
            StoreError: the registry cannot be read.
        """
        return await LOOKUPS.run(self.sync.get_feature_service, name, version)

    async def get_entity(self, name: str) -> Entity:
        """Return a registered entity.

        Args:
            name: of the entity.

        Returns:
            Its definition.

        Raises:
            EntityNotFound: no entity of that name is registered.
            StoreError: the registry cannot be read.
        """
        return await LOOKUPS.run(self.sync.get_entity, name)

    async def get_model(self, name: str, version: int | None = None) -> ModelInfo:
        """Return a logged model.

        Args:
            name: of the model.
            version: such as 2; None: the newest.

        Returns:
            The service that it takes, what it was trained on, and where it is.

        Raises:
            NotFound: no model of that name was logged, or it has no such version.
            StoreError: the registry cannot be read.
        """
        return await LOOKUPS.run(self.sync.get_model, name, version)

    async def list_feature_views(self) -> list[ViewInfo | OnDemandInfo]:
        """List the views that have a live version, on-demand views last.

        Returns:
            The live version of each.

        Raises:
            StoreError: the registry cannot be read.
        """
        return await LOOKUPS.run(self.sync.list_feature_views)

    async def list_feature_services(self) -> list[ServiceInfo]:
        """List the services that have a live version.

        Returns:
            The live version of each.

        Raises:
            StoreError: the registry cannot be read.
        """
        return await LOOKUPS.run(self.sync.list_feature_services)

    async def list_entities(self) -> list[Entity]:
        """List the registered entities.

        Returns:
            Their definitions.

        Raises:
            StoreError: the registry cannot be read.
        """
        return await LOOKUPS.run(self.sync.list_entities)

    async def list_models(self) -> list[ModelInfo]:
        """List the models that were logged with a service (`hw.mlflow.log_model`).

        Returns:
            Every version of each, by name and version.

        Raises:
            StoreError: the registry cannot be read.
        """
        return await LOOKUPS.run(self.sync.list_models)

    async def refresh_registry(self) -> None:
        """See at once what other processes applied; otherwise it is seen within five seconds.

        Raises:
            StoreError: the registry cannot be read.
        """
        await LOOKUPS.run(self.sync.refresh_registry)

    async def get_historical_features(
        self,
        spine: Any,
        features: Any,
        timestamp_column: str | None = None,
        at: datetime | str | None = None,
        as_known: bool = True,
        timezone: str | None = None,
        full_names: bool | None = None,
        include: Sequence[str] = (),
        bucket: tuple[int, int] | None = None,
    ) -> HistoryResult:
        """Join features to training rows, point-in-time correct: one row out for each spine row, in order.

        The join runs when the result is consumed: call its methods on a thread (`asyncio.to_thread(result.to_arrow)`).

        Args:
            spine: join keys and timestamps: a pandas, polars or pyarrow table, a Parquet path, or SQL; None together
                with `at`: every known entity.
            features: a list of references, views and selections; a service or its name.
            timestamp_column: the spine's column of times; default: `timestamp` or `event_timestamp`.
            at: one instant for all rows, instead of a column.
            as_known: use only what was known at each row's time; False: also what became known later.
            timezone: IANA name of the time zone of naive timestamps in the spine and of a naive `at`; None: UTC.
            full_names: name feature columns `view__feature`; None: only their names.
            include: columns to add for each view or feature: `status`, `event_time`.
            bucket: (i, n): only the rows in part i of n, from 0, by the join keys that all views share (where they
                share none, by the row's number); all parts together are the whole, each row once. For many processes
                or machines; `row_numbers()` of the result tells which rows it has.

        Returns:
            The result: the spine's columns as they are, then the features in their declared dtypes; timestamps are
            microseconds in UTC.

        Raises:
            NotFound: a view, feature, service or version is not registered.
            UsageError: arguments that contradict each other, two columns of one name, or a bucket that is not (i, n).
            SpineError: a column is missing, a timestamp is NULL, or a key has another type than the join key.
            SourceError: a source cannot be read, or does not fit its view; also when the result is consumed.
        """
        return await RUNS.run(
            self.sync.get_historical_features,
            spine,
            features,
            timestamp_column,
            at,
            as_known,
            timezone,
            full_names,
            include,
            bucket,
        )

    async def materialize(
        self,
        views: Sequence[str] | str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        entities: Any = None,
        force: bool = False,
    ) -> MaterializeReport:
        """Put online what history has and the online store lacks, for every version that is not retired.

        Args:
            views: names of views, or `view@version`; None: all.
            start: only rows that became known at or after this instant; the watermark does not move then.
            end: only rows that became known up to this instant; None: now.
            entities: only these keys, in any form that reads take; the watermark does not move then.
            force: make each selected key equal to what history has now; cannot be combined with `start` or `end`.

        Returns:
            What each run did, and which versions wait to go live.

        Raises:
            UsageError: arguments that contradict each other, or a version that is retired.
            NotFound: a view or version is not registered.
            EntityKeyError: keys that lack a join key, are NULL or of another type.
            LogMismatch: the online store belongs to another offline log.
            HeadwaterError: what failed first, once every other version has run; `.report` has what was done.
        """
        return await RUNS.run(self.sync.materialize, views, start, end, entities, force)

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
        """Write rows of a view to its history and online. A write that is cancelled goes on to its end.

        Args:
            view: name of the view.
            rows: a table or a list of dicts with the source's own columns; None is NULL.
            to: `both`, `offline` (the history alone) or `online` (the online store alone).
            session: is advanced, so that reads with it see the rows.
            durability: how many replicas of the online store must have the rows before the call returns.
            errors: `raise`: with one bad row nothing is written; `report`: the good rows are written.
            created: when rows without a created time became known: at their `arrival`, or at their `event` time plus
                the source's delay.

        Returns:
            How many rows were applied, superseded, rejected or left for later, and the log position of the last one.

        Raises:
            FeatureViewNotFound: no view of that name is registered.
            RowsRejected: rows that no version can take; `.problems` names every bad row.
            UsageError: an argument that is not valid, or a view that was removed.
            ConsistencyNotSupported: `durability` for a store without replicas.
            LogMismatch: the online store belongs to another offline log.
            ClockError: the offline log's clock is far ahead of now.
            StoreError: a store failed; where the rows are in the log, the message says so.
        """
        return await WRITES.run(self.sync.write, view, rows, to, session, durability, errors, created)

    async def delete(
        self, view: str, entities: Any, purge: bool = False, session: Session | None = None
    ) -> DeleteReport:
        """Hide every row of some keys that is known by now, online and in history, for reads from now on.

        Args:
            view: name of the view.
            entities: the keys, in any form that reads take.
            purge: also erase them, by a materialize or worker ten minutes later.
            session: is advanced, so that reads with it see the delete.

        Returns:
            How many keys were deleted, and up to which instant (UTC) their rows are hidden.

        Raises:
            FeatureViewNotFound: no view of that name is registered.
            EntityKeyError: keys that lack a join key, are NULL or of another type.
            LogMismatch: the online store belongs to another offline log.
            ClockError: the offline log's clock is far ahead of now.
            StoreError: a store failed; where the delete is in the log, the message says so.
        """
        return await WRITES.run(self.sync.delete, view, entities, purge, session)

    async def prepare(
        self,
        features: Any,
        consistency: ConsistencyLevel | str | None = None,
        registry_refresh: timedelta | str = "5s",
        full_names: bool | None = None,
    ) -> AsyncPreparedReader:
        """Resolve names, versions and layouts once; `await reader.read(entities)` is then one round trip.

        Args:
            features: a list of references, views and selections; a service or its name.
            consistency: the level of every read that names none; None: eventual.
            registry_refresh: how long until the reader sees what other processes applied.
            full_names: name columns `view__feature`; None: only the features' names.

        Returns:
            The reader, for any event loop.

        Raises:
            NotFound: a view, feature, service or version is not registered.
            UsageError: two columns of one name, or a bare view name in a list.
            ConsistencyNotSupported: the online store does not offer the level.
            ChangeRefused: a version that is neither live nor materialized as far as the live one.
            LogMismatch: the online store belongs to another offline log.
            ConfigError: window views, of a Redis that may evict their rows (`[online] allow_eviction`).
        """
        inner = await LOOKUPS.run(self.sync.prepare, features, consistency, registry_refresh, full_names)
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
        """Read the features of some entities, in one round trip to the online store.

        Args:
            features: a list of references, views and selections; a service or its name.
            entities: join keys: a list of dicts; a dict of lists, in which a scalar is repeated; a table; for a single
                join key also a plain list of values. Order and repeats are kept.
            request: values for on-demand features: field → one value for all entities, or one for each.
            consistency: what the read may miss: `eventual`, `monotonic_read`, `session` or `strong`.
            session: the read sees what the session has seen, and advances it.
            stale: what happens to values older than their freshness SLA: `flag`, `drop` or `refresh`.
            max_age: a freshness SLA for this read alone.
            now: read exactly as of this instant; None: the time now.
            full_names: name columns `view__feature`; None: only the features' names.

        Returns:
            The result: keys first, then the features in the order asked for, in their declared dtypes; statuses, event
            times (UTC) and freshness beside them.

        Raises:
            NotFound: a view, feature, service or version is not registered.
            UsageError: an argument that is not valid, or two columns of one name.
            EntityKeyError: join keys that are missing, unknown or of another type.
            SessionRequired: a level that needs a session came without one.
            ConsistencyNotSupported: the online store does not offer the level.
            ConsistencyLost: the store has lost what the session has seen; continue with the error's `.session`.
            ChangeRefused: a version that is neither live nor materialized as far as the live one.
            LogMismatch: the online store belongs to another offline log.
            StoreError: the online store cannot be read.
        """
        reader = await self.kept_reader(features, full_names)
        return await reader.read(entities, request, consistency, session, stale, max_age, now)

    async def kept_reader(self, features: Any, full_names: bool | None = None) -> AsyncPreparedReader:
        """The reader that `get_online_features` uses, kept for the next call with the same features.

        Args:
            features: a list of references, views and selections; a service or its name.
            full_names: name columns `view__feature`; None: only the features' names.

        Returns:
            The reader.

        Raises:
            NotFound, UsageError, ChangeRefused: as `get_online_features`.
        """
        services = self.sync.services
        inner = services.kept_reader(features, full_names, await services.async_registry.snapshot())
        if inner is None:
            # names are resolved on a thread: the registry may be asked
            inner = await LOOKUPS.run(services.reader, features, full_names)
        return AsyncPreparedReader(inner, self._fetcher)

    async def ping(self) -> None:
        """Ask the online store for one entry.

        Raises:
            Unavailable: it does not answer.
        """
        claims = self.sync.context.claims
        claims.check_there()
        await self._fetcher().reads.multi_get([claims.owner_key])

    def _fetcher(self) -> AsyncFetcher:
        return self.sync.services.async_clients.fetcher()

    def session(self) -> Session:
        """Begin a session: reads that take it see what its writes, deletes and earlier reads have seen.

        Returns:
            The session; `.token` carries it to other processes.

        Raises:
            StoreError: the registry cannot be read.
        """
        return self.sync.session()

    async def status(self, now: datetime | str | None = None) -> StoreStatus:
        """Report the state of every version and of the stores.

        Args:
            now: the instant at which freshness and delays are measured; None: the time now.

        Returns:
            The report, with what the reads of the running event loop did; what cannot be reached is a warning in it.

        Raises:
            UsageError: `now` is not an instant.
            StoreError: the registry cannot be read.
        """
        report = await REPORTS.run(self.sync.status, now)
        # its reads go through a client of their own
        fetcher = self.sync.services.async_clients.existing()
        return report if fetcher is None else replace(report, reads=fetcher.counts())

    async def close(self) -> None:
        """Release what this object opened, its clients on every event loop included. Closing twice is a no-op.

        Raises:
            StoreError: a part could not be closed; the others were.
        """
        services = vars(self.sync).get("services")
        if isinstance(services, Services):
            await services.close_clients()
        await asyncio.to_thread(self.sync.close)

    def __repr__(self) -> str:
        return repr(self.sync).replace("<", "<Async", 1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
