"""Client: a feature store behind a server, for programs that use threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from headwater import forks
from headwater.client.calls import Call, Pause
from headwater.client.flows import Flow, Flows, client_settings
from headwater.client.readers import Prepared
from headwater.client.reading import ReadOptions, Wanted
from headwater.clock import parse_duration
from headwater.compute.reports import DeleteReport, WriteReport
from headwater.errors import Unavailable, needs_package
from headwater.online.reading.result import OnlineResult
from headwater.online.session import Session
from headwater.types import ConsistencyLevel, StalePolicy, WriteTarget
from headwater.wire.results import ReceivedRequest

with needs_package("urllib3", "client"):
    from headwater.client.connections import Connections

if TYPE_CHECKING:
    from headwater.compute.status import StoreStatus
    from headwater.definitions.entity import Entity
    from headwater.planning.summaries import ModelSummary, ServiceSummary, ViewSummary

T = TypeVar("T")


class Client(forks.OfOneProcess):
    """A feature store behind `headwater serve`: its own methods, results and errors, over HTTP.

    Safe to use from several threads, and on both sides of a fork. Reads are sent again where the server cannot be
    reached, is busy or about to stop; writes and deletes too, by a key of their own that lets them be done once, but
    for `to="online"`.

    Args:
        url: of the server, `http://127.0.0.1:8080`.
        api_key: what `headwater keys create` showed; None where the server asks for none.
        timeout: how long a connection may take, and each attempt of anything but writes and deletes.
        write_timeout: how long each attempt of a write or delete may take; large ones take the server seconds.
        retries: how often a request may be sent again.
        form: `arrow` or `json`: how values travel.
        ca: a file of certificates by which an `https` server is known; None: the system's.
        connections: how many are kept open.

    Raises:
        UsageError: an argument that is not valid.
        ConfigError: the file of certificates cannot be read.
        MissingExtra: urllib3 is not installed.
    """

    instead = "make one in each process: hw.Client(url)"

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: timedelta | str = "1s",
        write_timeout: timedelta | str = "30s",
        retries: int = 2,
        form: str = "arrow",
        ca: str | Path | None = None,
        connections: int = 16,
    ) -> None:
        settings = client_settings(url, api_key, timeout, write_timeout, retries, form, ca, connections)
        self._flows = Flows(settings)
        self._http = Connections(
            settings.address, settings.headers, settings.timeout, settings.tls, settings.connections
        )

    def _run(self, flow: Flow[T]) -> T:
        try:
            step: Call | Pause = next(flow)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    step = next(flow)
                    continue
                try:
                    reply = self._http.send(step)
                except Unavailable as lost:
                    step = flow.throw(lost)
                else:
                    step = flow.send(reply)
        except StopIteration as done:
            result: T = done.value
            return result

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
        """Read the features of some entities.

        The first read of some features has one request more, which describes them.

        Args:
            features: a list of references (`"weather:temp"`, `"weather:*"`), or the name of a service.
            entities: join keys: a list of dicts; a dict of lists, in which a scalar is repeated; a table; for a single
                join key also a plain list of values. Order and repeats are kept.
            request: values for features that are computed at request time.
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
            UsageError: an argument that is not valid, objects instead of references, or two columns of one name.
            EntityKeyError: join keys that are missing, unknown or of another type.
            SessionRequired: a level that needs a session came without one.
            ConsistencyNotSupported: the online store does not offer the level.
            ConsistencyLost: the store has lost what the session has seen; continue with the error's `.session`.
            ChangeRefused: a version that is neither live nor materialized as far as the live one.
            AccessDenied: the API key is missing or not valid, or does not allow the call.
            StoreError: the server or its online store cannot be reached, or not in time.
        """
        level = None if consistency is ConsistencyLevel.EVENTUAL else consistency
        options = ReadOptions(request, level, session, stale, max_age, now)
        return self._run(self._flows.read(Wanted.of(features, full_names), entities, options))

    def prepare(
        self,
        features: Any,
        consistency: ConsistencyLevel | str | None = None,
        registry_refresh: timedelta | str = "5s",
        full_names: bool | None = None,
    ) -> RemoteReader:
        """Describe some features once; each read of them is then one request.

        Args:
            features: a list of references (`"weather:temp"`, `"weather:*"`), or the name of a service.
            consistency: the level of every read that names none; None: eventual.
            registry_refresh: as a store's; a server follows its registry by itself, within five seconds.
            full_names: name columns `view__feature`; None: only the features' names.

        Returns:
            The reader; call `.read(entities)`.

        Raises:
            NotFound: a view, feature, service or version is not registered.
            UsageError: objects instead of references, two columns of one name, or a bare view name in a list.
            ConsistencyNotSupported: the online store does not offer the level.
            ChangeRefused: a version that is neither live nor materialized as far as the live one.
            AccessDenied: the API key is missing or not valid, or does not allow the call.
            StoreError: the server or its online store cannot be reached, or not in time.
        """
        parse_duration(registry_refresh)
        wanted = Wanted.of(features, full_names)
        found = self._run(self._flows.describe(wanted, consistency))
        return RemoteReader(self._flows, self._run, wanted, found, consistency)

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
        """Write rows of a view to its history and online.

        A write that is sent again is done once, by a key of its own; one with `to="online"` is not sent again.

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
            UsageError: an argument that is not valid, or more than the server takes at once.
            ConsistencyNotSupported: `durability` for a store without replicas.
            ClockError: the offline log's clock is far ahead of now.
            AccessDenied: the API key is missing or not valid, or does not allow the call.
            StoreError: the server or a store cannot be reached; where the rows are in the log, the message says so.
        """
        return self._run(self._flows.write(view, rows, to, session, durability, errors, created))

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
            ClockError: the offline log's clock is far ahead of now.
            AccessDenied: the API key is missing or not valid, or does not allow the call.
            StoreError: the server or a store cannot be reached; where the delete is in the log, the message says so.
        """
        return self._run(self._flows.delete(view, entities, purge, session))

    def session(self) -> Session:
        """Begin a session: reads that take it see what its writes, deletes and earlier reads have seen.

        Returns:
            The session; `.token` carries it to other processes.
        """
        return Session()

    def get_feature_view(self, name: str, version: str | None = None) -> ViewSummary:
        """Return a registered view.

        Args:
            name: of the view.
            version: such as `1.2.0`; None: the live version.

        Returns:
            Its features, join keys, output schema and more; not its source, which a server does not send.

        Raises:
            FeatureViewNotFound: no view of that name is registered.
            VersionNotFound: it has no such version, or none that is live.
            AccessDenied: the API key is missing or not valid, or does not allow the call.
            StoreError: the server or the registry cannot be reached.
        """
        return self._run(self._flows.feature_view(name, version))

    def get_feature_service(self, name: str, version: str | None = None) -> ServiceSummary:
        """Return a registered service.

        Args:
            name: of the service.
            version: such as `1.2.0`; None: the live version.

        Returns:
            Its features with the versions that it reads, join keys and output schema.

        Raises:
            FeatureServiceNotFound: no service of that name is registered.
            VersionNotFound: it has no such version, or none that is live.
            AccessDenied: the API key is missing or not valid, or does not allow the call.
            StoreError: the server or the registry cannot be reached.
        """
        return self._run(self._flows.feature_service(name, version))

    def get_entity(self, name: str) -> Entity:
        """Return a registered entity.

        Args:
            name: of the entity.

        Returns:
            Its definition.

        Raises:
            EntityNotFound: no entity of that name is registered.
            AccessDenied: the API key is missing or not valid, or does not allow the call.
            StoreError: the server or the registry cannot be reached.
        """
        return self._run(self._flows.entity(name))

    def get_model(self, name: str, version: int | None = None) -> ModelSummary:
        """Return a logged model.

        Args:
            name: of the model.
            version: such as 2; None: the newest.

        Returns:
            The service that it takes and what it was trained on.

        Raises:
            NotFound: no model of that name was logged, or it has no such version.
            AccessDenied: the API key is missing or not valid, or does not allow the call.
            StoreError: the server or the registry cannot be reached.
        """
        return self._run(self._flows.model(name, version))

    def list_feature_views(self) -> list[ViewSummary]:
        """List the views that have a live version, of those that the API key may read.

        Returns:
            The live version of each.

        Raises:
            AccessDenied: the API key is missing or not valid, or does not allow the call.
            StoreError: the server cannot be reached, or its registry cannot be read.
        """
        return self._run(self._flows.feature_views())

    def list_feature_services(self) -> list[ServiceSummary]:
        """List the services that have a live version, of those that the API key may read.

        Returns:
            The live version of each.

        Raises:
            AccessDenied: the API key is missing or not valid, or does not allow the call.
            StoreError: the server cannot be reached, or its registry cannot be read.
        """
        return self._run(self._flows.feature_services())

    def list_entities(self) -> list[Entity]:
        """List the registered entities: those of the views that the API key may read.

        Returns:
            Their definitions.

        Raises:
            AccessDenied: the API key is missing or not valid, or does not allow the call.
            StoreError: the server cannot be reached, or its registry cannot be read.
        """
        return self._run(self._flows.entities())

    def list_models(self) -> list[ModelSummary]:
        """List the models that were logged with a service, of those that the API key may read.

        Returns:
            Every version of each, by name and version.

        Raises:
            AccessDenied: the API key is missing or not valid, or does not allow the call.
            StoreError: the server cannot be reached, or its registry cannot be read.
        """
        return self._run(self._flows.models())

    def status(self, now: datetime | str | None = None) -> StoreStatus:
        """Report the state of every version and of the stores.

        Args:
            now: the instant at which freshness and delays are measured; None: the time now.

        Returns:
            The report of one of the server's processes; what cannot be reached is a warning in it.

        Raises:
            UsageError: `now` is not an instant.
            AccessDenied: the API key is missing or not valid, or does not allow the call.
            StoreError: the server or the registry cannot be reached.
        """
        return self._run(self._flows.status(now))

    def close(self) -> None:
        """End the connections. Closing twice is a no-op."""
        self._http.close()

    def __repr__(self) -> str:
        return f"<Client of {self._flows.settings.address}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RemoteReader(Prepared):
    """Reads one set of features over HTTP; safe to use from several threads.

    Its columns never change: where the server would answer with others, a read raises `ChangeRefused`.
    """

    def __init__(
        self,
        flows: Flows,
        run: Callable[[Flow[Any]], Any],
        wanted: Wanted,
        described: ReceivedRequest,
        consistency: ConsistencyLevel | str | None,
    ) -> None:
        super().__init__(flows, wanted, described, consistency)
        self._run = run

    def refresh(self) -> None:
        """Ask the server again what is read.

        Raises:
            ChangeRefused: the columns are others now.
            AccessDenied: the API key is missing or not valid, or does not allow the call.
            StoreError: the server cannot be reached.
        """
        self._follow(self._run(self._flows.describe(self._wanted, self._level)))

    def read(
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
        """Read the features of entities, in one request.

        Args:
            entities: join keys: a list of dicts; a dict of lists, in which a scalar is repeated; a table; for a single
                join key also a plain list of values. Order and repeats are kept.
            request: values for features that are computed at request time.
            consistency: what the read may miss: `eventual`, `monotonic_read`, `session` or `strong`; None: as prepared.
            session: the read sees what the session has seen, and advances it.
            stale: what happens to values older than their freshness SLA: `flag`, `drop` or `refresh`.
            max_age: a freshness SLA for this read alone.
            now: read exactly as of this instant; None: the time now.
            deadline: how long the online store may take: what it has not given by then is UNAVAILABLE.
            refresh_budget: how long a refresh of stale values may take; None: as the server is configured.

        Returns:
            The values with their statuses and times, a row for each entity, in order.

        Raises:
            EntityKeyError: join keys are missing, unknown or of another type.
            SessionRequired: the consistency level needs a session.
            ConsistencyLost: the store has lost what the session has seen; continue with the error's `.session`.
            ConsistencyNotSupported: the store does not offer the level.
            ChangeRefused: the columns of these features are others now.
            AccessDenied: the API key is missing or not valid, or does not allow the call.
            StoreError: the server or its online store cannot be reached, or not in time.
        """
        level = self._level if consistency is None else consistency
        options = ReadOptions(request, level, session, stale, max_age, now, deadline, refresh_budget)
        result: OnlineResult = self._run(self._flows.read(self._wanted, entities, options, self._first))
        return result
