"""FeatureStore: the public API; it holds a store's parts and services, and hands each call to what does the work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from headwater import forks
from headwater.clock import Clock, parse_duration, system_clock
from headwater.compute.context import StoreContext
from headwater.compute.opening import Closed, StoreParts, open_project
from headwater.compute.reading.prepared import PreparedReader
from headwater.compute.services import Services
from headwater.deferred import deferred
from headwater.forks import lazy
from headwater.interrupts import leaves_nothing
from headwater.observer import Observer, silent
from headwater.online.base import OnlineStore
from headwater.online.reading.result import OnlineResult
from headwater.online.session import Session
from headwater.registry.registry import FeatureRegistry
from headwater.types import ConsistencyLevel, StalePolicy, WriteTarget

if TYPE_CHECKING:
    from headwater.advisor import measure as measuring
    from headwater.advisor.measurement import Measurement
    from headwater.compute import applying, repair, status, verify
    from headwater.compute.materializing import materialize
    from headwater.compute.reading import historical
    from headwater.compute.refreshing import worker
    from headwater.compute.refreshing.worker import Worker
    from headwater.compute.reports import (
        ClockRepairReport,
        DeleteReport,
        EraseReport,
        MaterializeReport,
        WriteReport,
    )
    from headwater.compute.status import StoreStatus
    from headwater.compute.training_sets import listing, saving
    from headwater.compute.training_sets.listing import TrainingSetList
    from headwater.compute.training_sets.training_set import TrainingSet
    from headwater.compute.verify import VerifyReport
    from headwater.compute.writing import delete, erase_entity, write
    from headwater.definitions.entity import Entity
    from headwater.offline.base import OfflineEngine
    from headwater.offline.join.result import HistoryResult
    from headwater.planning import catalog
    from headwater.planning.catalog import ModelInfo, OnDemandInfo, ServiceInfo, ViewInfo
    from headwater.planning.plan import Plan
    from headwater.planning.pointers import PointerChange
else:
    # what a process that only serves never does: DuckDB, SQLGlot and SQLAlchemy come with it
    measuring = deferred("headwater.advisor.measure")
    applying = deferred("headwater.compute.applying")
    repair = deferred("headwater.compute.repair")
    status = deferred("headwater.compute.status")
    verify = deferred("headwater.compute.verify")
    materialize = deferred("headwater.compute.materializing.materialize")
    historical = deferred("headwater.compute.reading.historical")
    listing = deferred("headwater.compute.training_sets.listing")
    saving = deferred("headwater.compute.training_sets.saving")
    worker = deferred("headwater.compute.refreshing.worker")
    delete = deferred("headwater.compute.writing.delete")
    erase_entity = deferred("headwater.compute.writing.erase_entity")
    write = deferred("headwater.compute.writing.write")
    catalog = deferred("headwater.planning.catalog")


class FeatureStore(forks.OfOneProcess):
    """A feature store: definitions, history and online rows, in one process.

    Use it with `with`, or call `close()`. It can be used by several threads, and on both sides of a fork. Instants are
    given as a `datetime` or an ISO 8601 text, and mean UTC where they name no time zone; durations as a `timedelta` or
    a text such as `"5m"`.

    Args:
        path: the project's folder, or its `headwater.toml`.
        registry: URL of the registry, or a `FeatureRegistry`; default: as the settings say.
        online: URL of the online store, or an `OnlineStore`; default: as the settings say.
        offline: name of the offline engine, or an `OfflineEngine`; default: as the settings say.
        clock: returns the time now, as a `datetime` in UTC; default: the system's clock.
        observer: is called with the progress of long calls; default: nothing is.

    Attributes:
        settings: everything that `headwater.toml`, the environment and the arguments say.

    Raises:
        ConfigError: the folder does not exist, or a setting or URL is not valid.
        MissingExtra: a package of the online store or offline engine is not installed; the message is the command
            that installs it.
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
        self._parts: StoreParts = open_project(path, registry, online, offline, clock or system_clock, observer)
        self.settings = self._parts.settings

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
        """Make a store with nothing on disk and apply definitions: for tests, notebooks, and to try a definition.

        Args:
            definitions: entities, views and services.
            sources: view → its rows, with its source's own columns (a table or a list of dicts), which are read instead
                of its source; a view that is not named reads its own source. For a view over a query also {table:
                rows}: the query runs on these rows in place of the tables that are named.
            clock: returns the time now, as a `datetime` in UTC; default: the system's clock.
            path: the folder that relative paths of sources start from.
            observer: is called with the progress of long calls.

        Returns:
            The store; the definitions are registered and live.

        Raises:
            DefinitionError: everything that is wrong with the definitions.
            FeatureViewNotFound: `sources` names a view that is not among the definitions.
            UsageError: `sources` names a table that the view's query does not have.
        """
        store = cls.__new__(cls)
        store._parts = applying.in_memory(definitions, sources or {}, clock or system_clock, path, observer)
        store.settings = store._parts.settings
        return store

    @lazy
    def context(self) -> StoreContext:
        """The parts and settings, for what is built on a store; the registry is made where it does not exist yet."""
        return self._parts.context

    @property
    def rooms(self) -> StoreContext:
        """The former name of `context`, for programs that were written with it."""
        return self.context

    @lazy
    def services(self) -> Services:
        """The store's threads and caches."""
        return Services(self.context)

    # definitions

    @property
    def registry(self) -> FeatureRegistry:
        """The registry: snapshots, past versions, feature definitions, the change log."""
        return self._parts.registry

    @leaves_nothing
    def plan(self, definitions: Iterable[Any] | None = None, *, check: bool = False) -> Plan:
        """Show what `apply` would do; nothing is changed.

        Args:
            definitions: entities, views and services to add or change; None: the project's files, where what they no
                longer have is retired.
            check: also read values: the first 10,000 rows of each file of a source, or of a query's result, as a run
                would read them.

        Returns:
            The plan; `str(plan)` is what the command shows, and `apply(plan)` runs it.

        Raises:
            DefinitionError: everything that is wrong, together, each with file and line; with `check` also the values
                that do not fit, by file, row and column.
            VersionConflict: a definition was changed under a version that is registered.
        """
        return applying.plan(self._parts, definitions, every_value=check)

    @leaves_nothing
    def apply(
        self, changes: Iterable[Any] | Plan | None = None, *, promote: bool = False, allow_removals: bool = False
    ) -> Plan:
        """Register definitions: all or nothing. Of new sources of text the first 10,000 rows of each file are read.

        Args:
            changes: entities, views and services to add or change; None: the project's files, where what they no longer
                have is retired; a plan: that very plan.
            promote: let what is registered go live as soon as it has caught up, also services and versions that were
                given a number of their own.
            allow_removals: let what is live be retired where the project's files no longer have it.

        Returns:
            The plan that was run.

        Raises:
            DefinitionError: everything that is wrong, together; nothing was changed.
            VersionConflict: a definition was changed under a version that is registered; nothing was changed.
            RemovalsRefused: something live would be retired; nothing was changed.
            RegistryConflict: another process applied meanwhile, or the files changed since the plan was made; nothing
                was changed.
            StoreError: the online store needs a table that cannot be made, or a store cannot be reached; nothing was
                changed.
        """
        return applying.apply(self._parts, changes, promote=promote, allow_removals=allow_removals)

    @leaves_nothing
    def promote(self, name: str, version: str, force: bool = False) -> PointerChange:
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
        return applying.promote(self.context, name, version, force=force)

    @leaves_nothing
    def rollback(self, name: str) -> PointerChange:
        """Make the version of a view or service live that was live before.

        Args:
            name: of the view or service.

        Returns:
            The version that was live before the call, and which services still read it.

        Raises:
            NotFound: the name is not registered.
            ChangeRefused: no version was live before, or it is retired.
        """
        return applying.rollback(self.context, name)

    @leaves_nothing
    def retire(self, name: str, version: str) -> None:
        """End the updates of a version for good; its online rows are removed later.

        Args:
            name: of the view or service.
            version: such as `1.2.0`.

        Raises:
            NotFound: the name or the version is not registered.
            ChangeRefused: the version is live, or read by services, which are named.
        """
        self.context.versions.retire(name, version, now=self.context.clock())

    def get_feature_view(self, name: str, version: str | None = None) -> ViewInfo | OnDemandInfo:
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
        return catalog.any_view_info(self.registry.snapshot(), name, version)

    def get_feature_service(self, name: str, version: str | None = None) -> ServiceInfo:
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
        return catalog.service_info(self.registry.snapshot(), name, version)

    def get_entity(self, name: str) -> Entity:
        """Return a registered entity.

        Args:
            name: of the entity.

        Returns:
            Its definition.

        Raises:
            EntityNotFound: no entity of that name is registered.
            StoreError: the registry cannot be read.
        """
        return self.registry.snapshot().entity(name)

    def get_model(self, name: str, version: int | None = None) -> ModelInfo:
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
        return catalog.model_info(self.registry.snapshot(), name, version)

    def list_feature_views(self) -> list[ViewInfo | OnDemandInfo]:
        """List the views that have a live version, on-demand views last.

        Returns:
            The live version of each.

        Raises:
            StoreError: the registry cannot be read.
        """
        return catalog.live_views(self.registry.snapshot())

    def list_feature_services(self) -> list[ServiceInfo]:
        """List the services that have a live version.

        Returns:
            The live version of each.

        Raises:
            StoreError: the registry cannot be read.
        """
        return catalog.live_services(self.registry.snapshot())

    def list_entities(self) -> list[Entity]:
        """List the registered entities.

        Returns:
            Their definitions.

        Raises:
            StoreError: the registry cannot be read.
        """
        return list(self.registry.snapshot().entities.values())

    def list_models(self) -> list[ModelInfo]:
        """List the models that were logged with a service (`hw.mlflow.log_model`).

        Returns:
            Every version of each, by name and version.

        Raises:
            StoreError: the registry cannot be read.
        """
        return catalog.models(self.registry.snapshot())

    @leaves_nothing
    def refresh_registry(self) -> None:
        """See at once what other processes applied; otherwise it is seen within five seconds.

        Raises:
            StoreError: the registry cannot be read.
        """
        self.registry.refresh()

    # history

    @leaves_nothing
    def get_historical_features(
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

        The versions and the offline log's position are fixed by the call; the join runs when the result is consumed.

        Args:
            spine: join keys and timestamps: a pandas, polars or pyarrow table, a Parquet path, or SQL; None together
                with `at`: every known entity.
            features: a list of references (`"weather:temp"`, `"weather:*"`), views and selections; a service or its
                name.
            timestamp_column: the spine's column of times; default: `timestamp` or `event_timestamp`.
            at: one instant for all rows, instead of a column.
            as_known: use only what was known at each row's time; False: also what became known later.
            timezone: IANA name of the time zone of naive timestamps in the spine and of a naive `at`, such as
                `Europe/Berlin`; None: UTC. Where a clock change repeats an hour, the earlier instant is used.
            full_names: name feature columns `view__feature`; None: only their names.
            include: columns to add for each view or feature: `status`, `event_time`.
            bucket: (i, n): only the rows in part i of n, from 0, by the join keys that all views share (where they
                share none, by the row's number); all parts together are the whole, each row once. For many processes
                or machines; `row_numbers()` of the result tells which rows it has.

        Returns:
            The result, with `to_arrow()`, `to_pandas()` and others: the spine's columns as they are, then the features
            in their declared dtypes; timestamps are microseconds in UTC.

        Raises:
            NotFound: a view, feature, service or version is not registered.
            UsageError: arguments that contradict each other, two columns of one name, or a bucket that is not (i, n).
            SpineError: a column is missing, a timestamp is NULL, or a key has another type than the join key.
            SourceError: a source cannot be read, or does not fit its view; also when the result is consumed.
        """
        return historical.historical(
            self.context,
            spine,
            features,
            timestamp_column=timestamp_column,
            at=at,
            as_known=as_known,
            timezone=timezone,
            full_names=full_names,
            include=include,
            bucket=bucket,
        )

    @leaves_nothing
    def save_training_set(
        self,
        name: str,
        spine: Any,
        features: Any,
        labels: Sequence[str] = (),
        timestamp_column: str | None = None,
        at: datetime | str | None = None,
        as_known: bool = True,
        timezone: str | None = None,
        full_names: bool | None = None,
        include: Sequence[str] = (),
    ) -> TrainingSet:
        """Join features to training rows and keep the result under a name, as its next version, which never changes.

        The rows are a Parquet file, beside a manifest of all that they were made of: versions, sources, the offline
        log's position. It is written in bounded memory, and is there whole or not at all.

        Args:
            name: of the set: letters, digits, `.`, `_` and `-`.
            spine: join keys and timestamps: a pandas, polars or pyarrow table, a Parquet path, or SQL; None together
                with `at`: every known entity.
            features: a list of references (`"weather:temp"`, `"weather:*"`), views and selections; a service or its
                name.
            labels: columns of the spine that a model predicts.
            timestamp_column: the spine's column of times; default: `timestamp` or `event_timestamp`.
            at: one instant for all rows, instead of a column.
            as_known: use only what was known at each row's time; False: also what became known later.
            timezone: IANA name of the time zone of naive timestamps in the spine and of a naive `at`, such as
                `Europe/Berlin`; None: UTC. Where a clock change repeats an hour, the earlier instant is used.
            full_names: name feature columns `view__feature`; None: only their names.
            include: columns to add for each view or feature: `status`, `event_time`.

        Returns:
            The set.

        Raises:
            UsageError: a name or label that cannot be one, arguments that contradict each other, or two columns of one
                name.
            NotFound: a view, feature, service or version is not registered.
            SpineError: a column is missing, a timestamp is NULL, or a key has another type than the join key.
            SourceError: a source cannot be read, does not fit its view, or changed while it was read.
            StoreError: the set cannot be written; nothing is left of it.
        """
        return saving.save(
            self.context,
            name,
            spine,
            features,
            labels,
            timestamp_column=timestamp_column,
            at=at,
            as_known=as_known,
            timezone=timezone,
            full_names=full_names,
            include=include,
        )

    def training_set(self, name: str, version: int | None = None) -> TrainingSet:
        """Return a saved training set; its rows are read when they are asked for.

        Args:
            name: of the set.
            version: such as 3; None: the newest.

        Returns:
            The set, with `to_pandas()`, `to_numpy()`, `split()`, `verify()` and others.

        Raises:
            NotFound: there is no such set or version.
            UsageError: not a name or version.
            StoreError: the set cannot be read, or its manifest is damaged.
        """
        return listing.training_set(self.context, name, version)

    def list_training_sets(self) -> TrainingSetList:
        """List the saved training sets of this project's folder of them.

        Returns:
            Every version of each, by name and version. Of one that cannot be read a warning (`UserWarning`) says why
            and what to do, and so does `.problems` (`name@version` → why).

        Raises:
            StoreError: the folder cannot be listed.
        """
        return listing.training_sets(self.context)

    # online

    @leaves_nothing
    def materialize(
        self,
        views: Sequence[str] | str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        entities: Any = None,
        force: bool = False,
    ) -> MaterializeReport:
        """Put online what history has and the online store lacks, for every version that is not retired.

        A run that was killed is made up for by the next.

        Args:
            views: names of views, or `view@version`; None: all.
            start: only rows that became known at or after this instant; the watermark does not move then.
            end: only rows that became known up to this instant, and not later than now; None: now.
            entities: only these keys, in any form that reads take; the watermark does not move then.
            force: make each selected key equal to what history has now, also where the online row is newer or history
                has no row; cannot be combined with `start` or `end`.

        Returns:
            What each run did, and which versions wait to go live.

        Raises:
            UsageError: arguments that contradict each other, or a version that is retired.
            NotFound: a view or version is not registered.
            EntityKeyError: keys that lack a join key, are NULL or of another type.
            LogMismatch: the online store belongs to another offline log.
            HeadwaterError: what failed first, once every other version has run; `.report` has what was done.
        """
        return materialize.materialize(self.context, views, start=start, end=end, entities=entities, force=force)

    @leaves_nothing
    def write(
        self,
        view: str,
        rows: Any,
        to: WriteTarget | str = WriteTarget.BOTH,
        session: Session | None = None,
        durability: int = 0,
        errors: str = "raise",
        created: str = "arrival",
    ) -> WriteReport:
        """Write rows of a view to its history and online. With created times a repeated write changes nothing.

        Args:
            view: name of the view.
            rows: a table or a list of dicts with the source's own columns; None is NULL. Naive times are in the
                source's time zone (UTC unless set).
            to: `both`; `offline`: the history alone; `online`: the online store alone, where rows have no history and
                are not filled again.
            session: is advanced, so that reads with it see the rows.
            durability: how many replicas of the online store must have the rows before the call returns.
            errors: `raise`: with one bad row nothing is written, and all bad rows are named; `report`: the good rows
                are written.
            created: when rows without a created time became known: at their `arrival`; or, to load history, at their
                `event` time plus the source's delay (a push source has no delay).

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
        return write.write(
            self.context, view, rows, to=to, errors=errors, durability=durability, session=session, created=created
        )

    @leaves_nothing
    def delete(self, view: str, entities: Any, purge: bool = False, session: Session | None = None) -> DeleteReport:
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
        return delete.delete(self.context, view, entities, purge=purge, session=session)

    @leaves_nothing
    def erase(self, entity: str, entities: Any) -> EraseReport:
        """Purge keys in every view of an entity: hidden at once, erased by a materialize or worker ten minutes later.

        Args:
            entity: name of the entity.
            entities: the keys, in any form that reads take.

        Returns:
            What is erased, what is pending and until when (UTC), and what headwater cannot reach.

        Raises:
            EntityNotFound: no entity of that name is registered.
            EntityKeyError: keys that lack a join key, are NULL or of another type.
            StoreError: a store failed; calling again goes on.
        """
        return erase_entity.erase_entity(self.context, entity, entities)

    @leaves_nothing
    def repair_clock(self) -> ClockRepairReport:
        """After a wrong clock (`ClockError`): take the time now as right.

        Arrivals and deletes that the offline log has stamped later than now get the time now, a microsecond apart and
        in their order; online rows that are known later than now become what history has now. After an interruption
        call it again.

        Returns:
            What was changed.

        Raises:
            StoreError: a store cannot be reached, or the log's folder belongs to another log.
        """
        return repair.repair_clock(self.context)

    def worker(self, views: Sequence[str] | str | None = None) -> Worker:
        """Return a worker, which refreshes stale rows that reads asked for, and erases purged keys when it is time.

        Args:
            views: names of the views that it works on; None: all.

        Returns:
            The worker: `.run()` works until its event `.stopping` is set, `.run(once=True)` until nothing is due.

        Raises:
            StoreError: the registry cannot be read.
        """
        return worker.Worker(self.context, [views] if isinstance(views, str) else views)

    @leaves_nothing
    def flush_refresh_requests(self) -> None:
        """Bring the refresh requests of this object's reads to the queue now; otherwise it happens within a second.

        Requests that cannot be delivered are dropped and counted; the next read of the key asks again.
        """
        self.services.flush_requests()

    @leaves_nothing
    def measure(self, features: Any = None, *, minutes: float = 1.0, max_keys: int = 1_000) -> Measurement:
        """Measure this store on keys that it holds. Nothing is written, and the load is bounded.

        Args:
            features: as in `prepare`; None: each live service, otherwise each live view, at most four.
            minutes: how long it may take in all.
            max_keys: how many keys are drawn at most, and how many rows a spine has.

        Returns:
            The figures; `.as_profile()` compares them with those of other systems.

        Raises:
            UsageError: bounds that are not positive.
            NotFound: nothing is registered, or `features` names what is not registered.
            StoreError: the online store holds no rows of the features, or a store cannot be reached.
        """
        return measuring.measure(self.context, features=features, seconds=60 * minutes, max_keys=max_keys)

    @leaves_nothing
    def claim_store(self, log_id: str) -> int:
        """Let this registry's offline log own the online store, which belongs to another log.

        Rows and deletes of the other log stay until they are replaced, or `materialize(force=True)` removes what
        history lacks; they may exist nowhere else. Rows of window views are removed, and the next run fills these views
        again. Runs of the other log fail from now on.

        Args:
            log_id: of the log that the store belongs to now, as the error names it.

        Returns:
            The log position after which this log goes on.

        Raises:
            UsageError: the store belongs to another log than the one named; nothing was changed.
            StoreError: a store cannot be reached, or was written to meanwhile.
        """
        return self.context.claims.take_over(log_id)

    @leaves_nothing
    def prepare(
        self,
        features: Any,
        consistency: ConsistencyLevel | str | None = None,
        registry_refresh: timedelta | str = "5s",
        full_names: bool | None = None,
    ) -> PreparedReader:
        """Resolve names, versions and layouts once, so that each read is one round trip to the online store.

        Args:
            features: a list of references (`"weather:temp"`, `"weather:*"`), views and selections; a service or its
                name.
            consistency: the level of every read that names none: `eventual`, `monotonic_read`, `session` or `strong`;
                None: eventual.
            registry_refresh: how long until the reader sees what other processes applied.
            full_names: name columns `view__feature`; None: only the features' names.

        Returns:
            The reader; call `.read(entities)`.

        Raises:
            NotFound: a view, feature, service or version is not registered.
            UsageError: two columns of one name, or a bare view name in a list.
            ConsistencyNotSupported: the online store does not offer the level.
            ChangeRefused: a version that is neither live nor materialized as far as the live one.
            LogMismatch: the online store belongs to another offline log.
            ConfigError: window views, of a Redis that may evict their rows (`[online] allow_eviction`).
        """
        return PreparedReader(
            self.context,
            self.services,
            features,
            consistency=consistency,
            registry_refresh=parse_duration(registry_refresh),
            full_names=full_names,
        )

    def get_online_features(
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

        What `prepare` does is kept for the next read of the same features.

        Args:
            features: a list of references (`"weather:temp"`, `"weather:*"`), views and selections; a service or its
                name.
            entities: join keys: a list of dicts; a dict of lists, in which a scalar is repeated; a table; for a single
                join key also a plain list of values. Order and repeats are kept.
            request: values for on-demand features: field → one value for all entities, or one for each.
            consistency: what the read may miss: `eventual`, `monotonic_read`, `session` or `strong`.
            session: the read sees what the session has seen, and advances it.
            stale: what happens to values older than their freshness SLA: `flag` them, `drop` them, or `refresh` their
                rows from the offline source before the answer, in one round trip more.
            max_age: a freshness SLA for this read alone.
            now: read exactly as of this instant: a row that became known later, or a key deleted later, is NOT_KNOWN.
                None: the time now, where a row from up to an hour ahead is read as of its own instant
                (`result.read_at`).
            full_names: name columns `view__feature`; None: only the features' names.

        Returns:
            The result, with `to_dict()`, `to_numpy()`, `to_pandas()` and others: keys first, then the features in the
            order asked for, in their declared dtypes; statuses, event times (UTC) and freshness beside them.

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
        return self.services.reader(features, full_names).read(
            entities, request, consistency=consistency, session=session, stale=stale, max_age=max_age, now=now
        )

    def session(self) -> Session:
        """Begin a session: reads that take it see what its writes, deletes and earlier reads have seen.

        Returns:
            The session; `.token` carries it to other processes.

        Raises:
            StoreError: the registry cannot be read.
        """
        return self.context.session()

    @leaves_nothing
    def status(self, now: datetime | str | None = None) -> StoreStatus:
        """Report the state of every version and of the stores.

        Args:
            now: the instant at which freshness and delays are measured; None: the time now.

        Returns:
            The report; what cannot be reached is a warning in it.

        Raises:
            UsageError: `now` is not an instant.
            StoreError: the registry cannot be read.
        """
        return status.of_project(self.context, self.settings, now, self.services.fetcher.counts())

    @leaves_nothing
    def verify(
        self, *, sample: int | None = None, forget: Sequence[str] = (), accept_folder: bool = False
    ) -> VerifyReport:
        """Check what the store keeps: what is damaged, what is lost, and how to continue; in bounded memory.

        Args:
            sample: how many rows of each version of the online store to check; None: all.
            forget: names of damaged or missing files that the offline log is to continue without: their rows are lost,
                and history says so.
            accept_folder: write the log folder's `log.json` again, which was lost or damaged.

        Returns:
            The report; `.whole` is False where anything is damaged.

        Raises:
            UsageError: a file to forget that is not the log's, or is whole.
            LogMismatch: the folder to accept is not the log's.
            StoreError: the registry's database cannot be read.
        """
        return verify.verify(self.context, sample=sample, forget=forget, accept_folder=accept_folder)

    def close(self) -> None:
        """Release what this object opened; what was given to it stays the caller's. Closing twice is a no-op.

        Raises:
            StoreError: a part could not be closed; the others were.
        """
        parts, services = self._parts, vars(self).get("services")
        if services is not None:
            services.close()
        parts.close()
        closed: Any = Closed(parts.project)
        self._parts = self.context = self.services = closed

    def __repr__(self) -> str:
        return f"<FeatureStore {self._parts}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
