"""FeatureStore: the public door; it holds a store's parts and hands each call to the room that does the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from headwater import forks
from headwater.clock import Clock, parse_duration, system_clock, to_micros
from headwater.compute.context import Rooms
from headwater.compute.opening import Closed, check_engine, check_store, open_engine, open_online
from headwater.compute.reading import retrieval
from headwater.compute.refreshing.requests import RefreshSettings
from headwater.compute.sources import BoundSources, views_in, with_parts
from headwater.config import Settings, load_settings
from headwater.deferred import deferred
from headwater.definitions.view import FeatureView
from headwater.errors import FeatureViewNotFound, RegistryConflict, RemovalsRefused, nearest
from headwater.forks import lazy
from headwater.interrupts import leaves_nothing
from headwater.observer import Observer, silent
from headwater.online.base import OnlineStore
from headwater.online.fetching.fetcher import ReadSettings
from headwater.online.powers import Provisioned
from headwater.online.reading.result import OnlineResult
from headwater.online.session import Session
from headwater.registry.reader import REFRESH
from headwater.registry.registry import FeatureRegistry, open_registry
from headwater.state_files import STATE, exposed, narrow_all
from headwater.types import ConsistencyLevel, StalePolicy, WriteTarget
from headwater.urls import without_password

if TYPE_CHECKING:
    from headwater import loader
    from headwater.advisor import measure as measuring
    from headwater.advisor.measurement import Measurement
    from headwater.compute import repair as repairing
    from headwater.compute import source_values as values
    from headwater.compute import status as statuses
    from headwater.compute import verify as verifying
    from headwater.compute.materializing import materialize as materializing
    from headwater.compute.reading import historical as histories
    from headwater.compute.refreshing import worker as working
    from headwater.compute.reports import (
        ClockRepairReport,
        DeleteReport,
        EraseReport,
        MaterializeReport,
        WriteReport,
    )
    from headwater.compute.verify import VerifyReport
    from headwater.compute.writing import delete as deleting
    from headwater.compute.writing import erase_entity as erasing
    from headwater.compute.writing import write as writing
    from headwater.definitions.entity import Entity
    from headwater.offline.base import OfflineEngine
    from headwater.offline.join.result import HistoryResult
    from headwater.offline.log import log as logs
    from headwater.planning import catalog, diff, local_time, pointers
    from headwater.planning import plan as plans
    from headwater.planning.catalog import ServiceInfo, ViewInfo
    from headwater.planning.plan import Plan
    from headwater.planning.pointers import PointerChange
else:
    # what a process that only serves never does: DuckDB, SQLGlot and SQLAlchemy come with it
    loader = deferred("headwater.loader")
    measuring = deferred("headwater.advisor.measure")
    deleting = deferred("headwater.compute.writing.delete")
    erasing = deferred("headwater.compute.writing.erase_entity")
    histories = deferred("headwater.compute.reading.historical")
    materializing = deferred("headwater.compute.materializing.materialize")
    repairing = deferred("headwater.compute.repair")
    values = deferred("headwater.compute.source_values")
    statuses = deferred("headwater.compute.status")
    verifying = deferred("headwater.compute.verify")
    working = deferred("headwater.compute.refreshing.worker")
    writing = deferred("headwater.compute.writing.write")
    logs = deferred("headwater.offline.log.log")
    catalog = deferred("headwater.planning.catalog")
    diff = deferred("headwater.planning.diff")
    local_time = deferred("headwater.planning.local_time")
    pointers = deferred("headwater.planning.pointers")
    plans = deferred("headwater.planning.plan")

_PREPARED = 256
_PLANNED_AGAIN = 2
"""How often `apply` plans again where somebody else has changed the registry meanwhile."""


def _read_settings(settings: Settings) -> ReadSettings:
    return ReadSettings(
        coalesce=settings.online_coalesce,
        cache=settings.online_cache.total_seconds(),
        cache_rows=settings.online_cache_rows,
        retries=settings.online_retries,
        breaker_failures=settings.online_breaker,
        breaker_rest=settings.online_breaker_rest.total_seconds(),
    )


def _begin_work(rooms: Rooms) -> Callable[[], None]:
    return working.begin_work(rooms)


def _refresh_settings(settings: Settings) -> RefreshSettings:
    return RefreshSettings(
        hints=settings.freshness_refresh,
        budget=settings.freshness_refresh_budget,
        rest=settings.freshness_refresh_rest,
        limit=settings.freshness_refresh_queue,
        tries=settings.freshness_refresh_tries,
        lease=settings.freshness_refresh_lease,
    )


class FeatureStore(forks.OfOneProcess):
    """A feature store: definitions, history, online rows, in one process.

    Use it with `with`, or `close()` it. Safe to use from several threads; make it before a fork, it opens its files
    after.

    Args:
        path: the project's folder, or its `headwater.toml`.
        registry: URL or `FeatureRegistry`; default: the settings'.
        online: URL or `OnlineStore`.
        offline: the engine's name, or an `OfflineEngine`.
        clock: what tells the time, UTC; default: the system's.
        observer: is told of progress; default: nobody.

    Raises:
        ConfigError: a folder that is not there, a bad setting or URL.
        MissingExtra: a store's package is not installed; the message is the line that installs it.
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
        settings = load_settings(
            path,
            registry_url=registry if isinstance(registry, str) else None,
            online_url=online if isinstance(online, str) else None,
            offline_engine=offline if isinstance(offline, str) else None,
        )
        # an earlier release left it readable by others
        narrow_all(settings.folder / STATE)
        log = settings.folder / settings.offline_log
        self._assemble(settings, registry, online, offline, clock or system_clock, observer, log)

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
        """A store with nothing on disk, its definitions applied: for tests, notebooks, and to try a changed definition.

        Args:
            definitions: entities, views and services.
            sources: view → its rows, with its source's own columns (a table or a list of dicts), read instead of its
                source; a view that is not named reads its own source. Of a view over a query also {table: rows}: the
                query runs, over these rows in place of the tables that are named.
            clock: what tells the time.
            path: the folder that relative paths of sources start from.
            observer: is told of progress.

        Raises:
            DefinitionError: everything that is wrong with the definitions.
            FeatureViewNotFound: `sources` is not a view of the definitions.
        """
        store = cls.__new__(cls)
        settings = load_settings(path, environ={})
        settings = replace(
            settings, project=settings.project or "headwater", registry_url="sqlite://", online_url="memory:"
        )
        store._assemble(settings, None, None, None, clock or system_clock, observer, None)
        try:
            definitions = with_parts(definitions)
            views = {d.name: d for d in definitions if isinstance(d, FeatureView)}
            for name, rows in (sources or {}).items():
                if name not in views:
                    raise FeatureViewNotFound(f"sources: no view {name!r} among the definitions{nearest(name, views)}")
                store._sources.replace(views[name], rows)
            # values are read when they are asked for
            store._applied(definitions, new_text=False)
        except BaseException:
            store.close()
            raise
        return store

    def _assemble(
        self,
        settings: Settings,
        registry: str | FeatureRegistry | None,
        online: str | OnlineStore | None,
        offline: str | OfflineEngine | None,
        clock: Clock,
        observer: Observer,
        log: Path | None,
    ) -> None:
        """Open the parts; those given as objects stay the caller's to close."""
        self.settings = settings
        self._name = settings.project
        self._clock = clock
        self._lock = forks.lock()
        self._prepared: dict[Any, retrieval.PreparedReader] = {}
        self._owned: list[Any] = []
        self._sources = BoundSources()
        self._observer = observer
        self._log_folder = log
        try:
            self._registry = (
                registry
                if isinstance(registry, FeatureRegistry)
                # a look at what is registered, or would be, leaves nothing in the folder: the first write makes it
                else self._own(
                    open_registry(settings.registry_url, settings.folder, settings.project, clock=clock, make=False)
                )
            )
            self._given_engine = None if isinstance(offline, str) else offline
            if self._given_engine is None:
                check_engine(settings)
            if isinstance(online, OnlineStore):
                check_store(type(online))
            self._online = online if isinstance(online, OnlineStore) else self._own(open_online(settings, clock))
        except BaseException:
            self.close()
            raise

    @lazy
    def rooms(self) -> Rooms:
        """The parts together, for what is built on a store; registry and log are made where they are not there yet."""
        self._registry.make()
        return Rooms(
            project=self._registry.project,
            registry=self._registry,
            open_engine=lambda: self._engine,
            open_log=self._open_log,
            online=self._online,
            clock=self._clock,
            source_of=self._sources.source_of,
            lookback=self.settings.materialize_lookback,
            tolerance=self.settings.online_clock_tolerance,
            keep_gone_files=self.settings.online_gone_files == "keep",
            observer=self._observer,
            reads=_read_settings(self.settings),
            refreshing=_refresh_settings(self.settings),
            work_here=_begin_work if self.settings.freshness_refresh_worker else None,
            durable_within=self.settings.online_durable_within,
        )

    @lazy
    def _engine(self) -> OfflineEngine:
        with self._lock:
            engine: OfflineEngine = self._given_engine or self._own(open_engine(self.settings, self._observer))
        return engine

    def _open_log(self) -> logs.OfflineLog:
        tolerance = self.settings.online_clock_tolerance
        return logs.OfflineLog(self._registry.engine, self._log_folder, self._clock, tolerance)

    @property
    def _project(self) -> str:
        """The project's name, as far as it is known."""
        registry = vars(self).get("_registry")
        if isinstance(registry, FeatureRegistry):
            self._name = registry.project
        return self._name

    def _own(self, part: Any) -> Any:
        self._owned.append(part)
        return part

    # definitions

    @property
    def registry(self) -> FeatureRegistry:
        """The registry: snapshots, past versions, feature definitions, the change log."""
        return self._registry

    @leaves_nothing
    def plan(self, definitions: Iterable[Any] | None = None, *, check: bool = False) -> Plan:
        """What `apply` would do.

        Args:
            definitions: entities, views and services; None: the project's files, and what they no longer have is
                removed.
            check: also read values: the first 10,000 rows of each file of a source, or of a query's answer, as a run
                would read them.

        Raises:
            DefinitionError: everything that is wrong, together, each with its place; with `check` the values that do
                not fit, by file, row and column.
            VersionConflict: changed definitions under versions that are registered.
        """
        return self._plan(definitions, every_value=check, new_text=False)

    def _plan(self, definitions: Iterable[Any] | None, *, every_value: bool, new_text: bool) -> Plan:
        whole = definitions is None
        if definitions is None:
            definitions = loader.load_definitions(self.settings.folder, self.settings.definitions)
        definitions = with_parts(definitions)
        self._sources.remember(definitions)
        snapshot = self._registry.refresh()
        schemas = self._sources.schemas(self._engine, definitions)
        now = self._clock()
        plan = diff.plan(snapshot, definitions, schemas, whole_project=whole, now=now)
        plan = replace(plan, definitions=None if whole else tuple(definitions))
        if every_value or new_text:
            views = [d for d in definitions if isinstance(d, FeatureView)]
            values.check_values(self._engine, snapshot, views, self._sources.source_of, now, every=every_value)
        return plan

    @leaves_nothing
    def apply(
        self, changes: Iterable[Any] | Plan | None = None, *, promote: bool = False, allow_removals: bool = False
    ) -> Plan:
        """Register definitions: all or nothing. Of new sources of text the first 10,000 rows of each file are read.

        Args:
            changes: as in `plan`; a list adds and changes, only the project's files remove. A plan: that very plan.
            promote: what is registered goes live as soon as it has caught up, services and versions with a number of
                their own too.
            allow_removals: whether what is live may be retired, since the project's files no longer have it.

        Returns:
            The plan that was run.

        Raises:
            DefinitionError, VersionConflict: as in `plan`; nothing was changed.
            RemovalsRefused: something live would be retired; nothing was changed.
            RegistryConflict: somebody else applied meanwhile, or the files changed since the plan was made; nothing was
                changed.
            StoreError: the online store needs a table that cannot be made; nothing was changed.
        """
        plan = self._applied(changes, new_text=True, allow_removals=allow_removals)
        if promote:
            self.rooms.versions.request_promotion(plan, now=self._clock())
            marks = self.rooms.watermarks(self._registry.refresh())
            self.rooms.versions.go_live(marks, now=self._clock())
        return plan

    def _applied(self, changes: Iterable[Any] | Plan | None, *, new_text: bool, allow_removals: bool = False) -> Plan:
        """Apply; where somebody else was first with the same, what is left of it."""
        if isinstance(changes, plans.Plan):
            again = self._plan(changes.definitions, every_value=False, new_text=new_text)
            plans.check_same_plan(changes, again)
            return self._apply(changes, allow_removals)
        definitions = None if changes is None else tuple(changes)
        plan = self._plan(definitions, every_value=False, new_text=new_text)
        for _ in range(_PLANNED_AGAIN):
            try:
                return self._apply(plan, allow_removals)
            except RegistryConflict:
                again = self._plan(definitions, every_value=False, new_text=False)
                if again.stages and not plan.has_same_stages(again):
                    raise
                plan = again
        return self._apply(plan, allow_removals)

    def _apply(self, plan: Plan, allow_removals: bool) -> Plan:
        if plan.removals and not allow_removals:
            raise RemovalsRefused(
                f"{', '.join(plan.removals)}: live, and no longer in the project's files; nothing was changed: "
                "'headwater apply --allow-removals' (allow_removals=True) retires what is gone; this cannot be undone",
                plan.removals,
            )
        if isinstance(self.rooms.online, Provisioned):
            self.rooms.online.provision()
        self._registry.apply(plan, now=self._clock(), log_head=self.rooms.log.head_position())
        return plan

    @leaves_nothing
    def promote(self, name: str, version: str, force: bool = False) -> PointerChange:
        """Make a version of a view or service live.

        Returns:
            What was left, and who keeps reading it.

        Raises:
            ChangeRefused: it has not caught up with the live version (`force` overrides), or is retired.
        """
        marks = self.rooms.watermarks(self._registry.refresh())
        stages = self.rooms.versions.promote(name, version, watermarks=marks, now=self._clock(), force=force)
        return pointers.pointer_change(self._registry.snapshot(), name, stages)

    @leaves_nothing
    def rollback(self, name: str) -> PointerChange:
        """Make the version of a view or service live that was live before.

        Returns:
            What was left, and who keeps reading it.

        Raises:
            ChangeRefused: none was live before, or it is retired.
        """
        stages = self.rooms.versions.rollback(name, now=self._clock())
        return pointers.pointer_change(self._registry.snapshot(), name, stages)

    @leaves_nothing
    def retire(self, name: str, version: str) -> None:
        """End the updates of a version.

        Raises:
            ChangeRefused: it is live, or read by services that are named.
        """
        self.rooms.versions.retire(name, version, now=self._clock())

    def get_feature_view(self, name: str, version: str | None = None) -> ViewInfo:
        """A registered view: its definition, join keys and output schema; the live version by default."""
        return catalog.view_info(self._registry.snapshot().view(name), version)

    def get_feature_service(self, name: str, version: str | None = None) -> ServiceInfo:
        """A registered service: its pinned features, join keys and output schema; the live version by default."""
        return catalog.service_info(self._registry.snapshot(), name, version)

    def get_entity(self, name: str) -> Entity:
        """A registered entity."""
        return self._registry.snapshot().entity(name)

    def list_feature_views(self) -> list[ViewInfo]:
        """The live version of every view."""
        return [catalog.view_info(r) for r in self._registry.snapshot().views.values() if r.live is not None]

    def list_feature_services(self) -> list[ServiceInfo]:
        """The live version of every service."""
        snapshot = self._registry.snapshot()
        return [catalog.service_info(snapshot, r.name) for r in snapshot.services.values() if r.live is not None]

    def list_entities(self) -> list[Entity]:
        """Every entity."""
        return list(self._registry.snapshot().entities.values())

    @leaves_nothing
    def refresh_registry(self) -> None:
        """See at once what other processes applied (else within five seconds)."""
        self._registry.refresh()

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
    ) -> HistoryResult:
        """Join features to training rows, point-in-time correct: one row out for each spine row, in order.

        Args:
            spine: a pandas, polars or pyarrow table, a Parquet path, or SQL; None with `at`: every known entity.
            features: references, views, selections; a service or its name.
            timestamp_column: default: `timestamp` or `event_timestamp`.
            at: one instant for all rows, instead of a column.
            as_known: False: also what was learnt later counts (the metadata says so).
            timezone: of naive timestamps of the spine, and of `at`: `Europe/Berlin`; None: UTC. Of an hour that a clock
                change repeats the earlier instant counts.
            full_names: name columns `view__feature`.
            include: `status`, `event_time`: columns to add.

        Raises:
            NotFound, UsageError: as `resolve` says.
            SpineError: a missing column, a NaT, a key of another type.
        """
        self._sources.remember(views_in(features))
        return histories.historical(
            self.rooms,
            spine,
            features,
            timestamp_column=timestamp_column,
            at=None if at is None else local_time.instant_in(at, timezone),
            as_known=as_known,
            timezone=timezone,
            full_names=full_names,
            include=(include,) if isinstance(include, str) else tuple(include),
        )

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
        """Put online what is missing up to now, of every version that is fed; a killed run is made whole by the next.

        Args:
            views: view names (or `view@version`); None: all.
            start, end: only rows known in [start, end]; with a `start` the watermark stays.
            entities: only these keys; the watermark stays.
            force: make each selected key what history has now; not with `start` or `end`.
        """
        return materializing.materialize(
            self.rooms,
            [views] if isinstance(views, str) else views,
            start=start,
            end=end,
            entities=entities,
            force=force,
        )

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
        """Write rows of a view to its history and online; give them created times and a retry changes nothing.

        Args:
            view: its name.
            rows: a table or a list of dicts with the source's own columns.
            to: `both`, `offline`, or `online` (cache only: no history, not refilled).
            session: is advanced.
            durability: how many replicas to wait for.
            errors: `raise`: a bad row writes nothing and all are named; `report`: the good rows are written.
            created: `event`, to load history: rows without a created time count as known at their event time and the
                source's delay (a push source has none), so before they were written; `arrival`: from now on.

        Raises:
            RowsRejected: `.problems` names every bad row.
        """
        return writing.write(
            self.rooms, view, rows, to=to, errors=errors, durability=durability, session=session, created=created
        )

    @leaves_nothing
    def delete(self, view: str, entities: Any, purge: bool = False, session: Session | None = None) -> DeleteReport:
        """Hide every row of some keys known by now, online and in history, for reads from now on.

        Args:
            view: its name.
            entities: the keys, in any form that reads take.
            purge: also erase them, by a later materialize.
            session: is advanced.
        """
        return deleting.delete(self.rooms, view, entities, purge=purge, session=session)

    @leaves_nothing
    def erase(self, entity: str, entities: Any) -> EraseReport:
        """Purge keys in every view of an entity: hidden at once, erased by a materialize or worker ten minutes later.

        Args:
            entity: its name.
            entities: the keys, in any form that reads take.

        Raises:
            EntityNotFound: no such entity.
            EntityKeyError: keys that lack a join key, are NULL or of another type.
        """
        return erasing.erase_entity(self.rooms, entity, entities)

    @leaves_nothing
    def repair_clock(self) -> ClockRepairReport:
        """After a wrong clock (`ClockError`): take now for right.

        What the offline log has stamped ahead of now, arrivals and deletes, follows now a microsecond apart, in its
        order; online rows that are known later than now become what history has now. Where it was interrupted it is
        simply called again.

        Raises:
            StoreError: a store cannot be reached, or the log's folder is another log's.
        """
        return repairing.repair_clock(self.rooms)

    def worker(self, views: Sequence[str] | str | None = None) -> working.Worker:
        """What works off the refresh queue, and erases purged keys once their time has come.

        Args:
            views: only these views; None: all.

        Returns:
            The worker: `.run()` works until its event `stopping` is set, `.run(once=True)` until nothing is due.
        """
        return working.Worker(self.rooms, [views] if isinstance(views, str) else views)

    @leaves_nothing
    def flush_refresh_requests(self) -> None:
        """Bring the refresh requests that reads of this object have made to the queue now; else within a second."""
        self.rooms.hints.flush()

    @leaves_nothing
    def measure(self, features: Any = None, *, minutes: float = 1.0, max_keys: int = 1_000) -> Measurement:
        """Measure this store on keys that it holds; nothing is written, and the load that it makes is bounded.

        Args:
            features: as in `prepare`; None: each live service, else each live view, at most four.
            minutes: how long it may take in all.
            max_keys: how many keys are drawn at most, and how many rows a spine has.

        Returns:
            The figures; `.as_profile()` puts them beside those of other systems.

        Raises:
            UsageError: bounds that mean nothing.
            NotFound: nothing is registered, or `features` names what is not there.
            StoreError: the online store holds no rows of it, or a store cannot be reached.
        """
        return measuring.measure(
            self.rooms, features=features, seconds=60 * minutes, max_keys=max_keys, observer=self._observer
        )

    @leaves_nothing
    def claim_store(self, log_id: str) -> int:
        """Let this registry's offline log own the online store, which another log wrote to.

        Rows and deletes of the other log stay until they are replaced, or `materialize(force=True)` removes what
        history lacks; they may exist nowhere else. Its runs fail from now on.

        Args:
            log_id: of the log that the store belongs to now, as the error names it.

        Returns:
            The position after which this log goes on.

        Raises:
            UsageError: the store belongs to another log than the one named.
        """
        return self.rooms.claims.take_over(log_id)

    @leaves_nothing
    def prepare(
        self,
        features: Any,
        consistency: ConsistencyLevel | str | None = None,
        registry_refresh: timedelta | str = "5s",
        full_names: bool | None = None,
    ) -> retrieval.PreparedReader:
        """Resolve names, versions and layouts once; `.read(entities)` is then one round trip.

        Raises:
            NotFound, UsageError: as `resolve` says.
            ConsistencyNotSupported: a level that the store cannot give.
            ChangeRefused: a version that is neither live nor materialized as far as the live one.
        """
        return self._prepare(features, consistency, parse_duration(registry_refresh), full_names, look=True)

    def _prepare(
        self,
        features: Any,
        consistency: ConsistencyLevel | str | None = None,
        registry_refresh: timedelta = REFRESH,
        full_names: bool | None = None,
        *,
        look: bool,
    ) -> retrieval.PreparedReader:
        return retrieval.prepare(
            self.rooms,
            features,
            consistency=consistency,
            registry_refresh=registry_refresh,
            full_names=full_names,
            freshness=self.settings.freshness_function,
            half_life=self.settings.freshness_half_life,
            look=look,
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
        """Read features of some entities: `prepare` (cached) and `read`."""
        reader = self.cached_reader(features, full_names)
        assert reader is not None
        return reader.read(
            entities, request, consistency=consistency, session=session, stale=stale, max_age=max_age, now=now
        )

    @leaves_nothing
    def cached_reader(
        self, features: Any, full_names: bool | None = None, *, make: bool = True
    ) -> retrieval.PreparedReader | None:
        """The reader that `get_online_features` uses; None where it is not there yet and `make` is off."""
        key = (
            tuple(features) if isinstance(features, list) else features,
            full_names,
            self._registry.snapshot().revision,
        )
        try:
            found = self._prepared.get(key)
        except TypeError:  # a set, say, has no hash
            return self._prepare(features, full_names=full_names, look=False) if make else None
        if found is None and make:
            # the read that follows looks whose the store is: one that hangs is waited for once
            found = self._prepare(features, full_names=full_names, look=False)
            with self._lock:
                if len(self._prepared) >= _PREPARED:
                    self._prepared.clear()
                self._prepared[key] = found
        return found

    def session(self) -> Session:
        """A new session; its token travels to other processes."""
        return Session(self.rooms.store_name)

    @leaves_nothing
    def status(self, now: datetime | str | None = None) -> statuses.StoreStatus:
        """How every version stands, and what the parts say of themselves."""
        registry = {"url": without_password(self.settings.registry_url)}
        now = now if now is not None else self._clock()
        return statuses.status(self.rooms, to_micros(now), registry, exposed(self.settings.folder / STATE))

    @leaves_nothing
    def verify(
        self, *, sample: int | None = None, forget: Sequence[str] = (), accept_folder: bool = False
    ) -> VerifyReport:
        """Check what the store keeps: what is damaged, what is lost, and how to go on; in bounded memory.

        Args:
            sample: so many rows of each version of the online store; None: all.
            forget: names of damaged or missing files that the offline log is to go on without: their rows are lost,
                and histories say so.
            accept_folder: write the log folder's `log.json` again, which was lost or damaged.

        Returns:
            The report; `.whole` says whether anything is damaged.

        Raises:
            UsageError: a file to forget that is not the log's, or is whole.
            LogMismatch: the folder to accept is not the log's.
            StoreError: the registry's database cannot be read.
        """
        return verifying.verify(self.rooms, sample=sample, forget=forget, accept_folder=accept_folder)

    def close(self) -> None:
        """Release what this object opened; what was given to it stays the caller's. Closing twice is a no-op."""
        self._prepared.clear()
        rooms = vars(self).get("rooms")
        if isinstance(rooms, Rooms):
            rooms.close()
        with self._lock:
            owned, self._owned = self._owned, []
        with ExitStack() as parts:
            for part in owned:
                parts.callback(part.close)
        gone: Any = Closed(f"this FeatureStore of {self._project!r}")
        self._registry = self._engine = self._online = self.rooms = gone

    def __repr__(self) -> str:
        settings = self.settings
        if isinstance(self._registry, Closed):
            return f"<FeatureStore {self._project}: closed>"
        registry, online = without_password(settings.registry_url), without_password(settings.online_url)
        return (
            f"<FeatureStore {self._project} in {settings.folder}: "
            f"registry {registry}, online {online}, offline {settings.offline_engine}>"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
