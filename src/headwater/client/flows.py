"""What a client does, step by step, without a network: each flow yields requests and pauses, and is sent replies.

A client for threads and one for event loops drive the same flows.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import urlencode

import msgspec

from headwater import forks
from headwater.client.addresses import ServerAddress, parse_address
from headwater.client.calls import SOME_TIME, Call, Pause, Reply, being_answered, checked, pause_before, reading
from headwater.client.reading import (
    PLAIN,
    ReadOptions,
    Wanted,
    described,
    describing_call,
    read_call,
    result_of,
)
from headwater.client.sessions import advance
from headwater.client.writing import delete_call, is_name, keys_in, named_path, raw_delete_call, report_in, write_call
from headwater.clock import duration_argument, from_micros, to_micros
from headwater.compute.reports import DeleteReport, WriteReport
from headwater.deferred import deferred
from headwater.errors import (
    AccessDenied,
    ChangeRefused,
    ConfigError,
    EntityKeyError,
    EntityNotFound,
    FeatureServiceNotFound,
    FeatureViewNotFound,
    NotFound,
    Unavailable,
    UsageError,
    brief,
)
from headwater.online.reading.entities import entity_batch
from headwater.online.reading.result import OnlineResult
from headwater.online.session import Session
from headwater.types import ConsistencyLevel, DType, WriteTarget
from headwater.wire import names
from headwater.wire.results import ReceivedRequest

if TYPE_CHECKING:
    from headwater.compute.status import StoreStatus
    from headwater.definitions.entity import Entity
    from headwater.planning.summaries import ModelSummary, ServiceSummary, ViewSummary
    from headwater.wire import catalog
    from headwater.wire import status as wire_status
else:
    # few clients ask for these
    catalog = deferred("headwater.wire.catalog")
    wire_status = deferred("headwater.wire.status")

T = TypeVar("T")
Flow: TypeAlias = Generator[Call | Pause, Reply, T]
KEPT = 1_000
"""Descriptions that a client keeps."""
_NOT_FOUND: dict[str, type[NotFound]] = {
    "views": FeatureViewNotFound,
    "services": FeatureServiceNotFound,
    "entities": EntityNotFound,
    "models": NotFound,
}
_LONGEST = 1e6
"""Seconds that a client waits at most: more is beyond what sockets take."""
_POLL, _SPARE = 0.25, 1.0
"""Seconds between two looks at whether a request that was sent before is answered; and after its time is over."""
OTHER_COLUMNS = "the columns of these features have changed: prepare the reader again"


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How a client asks.

    Attributes:
        address: of the server.
        headers: of every request.
        timeout: seconds that a connection, and an answer to anything but writes and deletes, may take.
        write_timeout: seconds that an answer to those may take.
        retries: how often a request that may be repeated is sent again.
        arrow: whether requests and answers are Arrow IPC streams, else JSON.
        tls: settings of TLS; None: the system's.
        connections: that are kept.
    """

    address: ServerAddress
    headers: dict[str, str] = field(repr=False)
    timeout: float
    write_timeout: float
    retries: int
    arrow: bool
    tls: ssl.SSLContext | None
    connections: int


def client_settings(
    url: str,
    api_key: str | None,
    timeout: timedelta | str,
    write_timeout: timedelta | str,
    retries: int,
    form: str,
    ca: str | Path | None,
    connections: int,
) -> ClientSettings:
    """The arguments of a client, checked.

    Raises:
        UsageError: one of them is not valid.
        ConfigError: the file of certificates cannot be read.
    """
    address = parse_address(url)
    given = {"timeout": timeout, "write_timeout": write_timeout}
    seconds = {name: min(duration_argument(value, name) / 1e6, _LONGEST) for name, value in given.items()}
    for name, value in given.items():
        if not seconds[name]:
            raise UsageError(f"{name}={value!r}: must be longer than 0")
    for name, number, least in (("retries", retries, 0), ("connections", connections, 1)):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise UsageError(f"{name}={number!r}: must be a whole number from {least}")
    if form not in ("arrow", "json"):
        raise UsageError(f"form={form!r}: write 'arrow' or 'json'")
    headers = {"user-agent": "headwater-python"}
    if api_key is not None:
        if not isinstance(api_key, str) or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
            raise UsageError("api_key: not a key: give what 'headwater keys create' showed")
        headers["authorization"] = f"Bearer {api_key}"
    tls = None
    if ca is not None and address.scheme != "https":
        raise UsageError(f"ca={str(ca)!r}: {address} is not https, so that no certificate is checked: omit ca=")
    if address.scheme == "https":
        try:
            tls = ssl.create_default_context(cafile=None if ca is None else str(ca))
        except (OSError, ssl.SSLError) as bad:
            raise ConfigError(f"ca={str(ca)!r}: {bad}") from bad
    return ClientSettings(
        address=address,
        headers=headers,
        timeout=seconds["timeout"],
        write_timeout=seconds["write_timeout"],
        retries=retries,
        arrow=form == "arrow",
        tls=tls,
        connections=connections,
    )


class Flows(forks.OfOneProcess):
    """The flows of one client, and what it knows of the server.

    Args:
        settings: how it asks.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self._described: dict[Wanted, ReceivedRequest] = {}
        self._keys: dict[str, dict[str, DType] | None] = {}

    def send(self, call: Call) -> Flow[Reply]:
        """A request, sent again where that is safe and may help; the answer to it.

        Raises:
            HeadwaterError: the server's own error.
            Unavailable: it cannot be reached, or not in time.
        """
        attempt, patient_until = 0, None
        until = None if call.within is None else time.monotonic() + call.within
        while True:
            attempt += 1
            if until is not None:
                call = replace(call, timeout=max(until - time.monotonic(), SOME_TIME))
            reply, lost = None, None
            try:
                reply = yield call
            except Unavailable as bad:
                lost = bad
            pause = None
            if call.repeatable and attempt <= self.settings.retries and not (lost is not None and lost.closed):
                if (seconds := being_answered(reply)) is not None:
                    # by a worker that may have died: until its time is over this counts as no attempt
                    now = time.monotonic()
                    patient_until = now + seconds + _SPARE if patient_until is None else patient_until
                    pause = Pause(_POLL) if now < patient_until else None
                    attempt -= 1
                elif reply is None or reply.status != 200:
                    pause = pause_before(attempt, reply)
                if pause is not None and until is not None and time.monotonic() + pause.seconds >= until:
                    pause = None
            if pause is None:
                if lost is not None:
                    raise lost
                assert reply is not None
                return checked(reply)
            yield pause

    def describe(self, wanted: Wanted, consistency: ConsistencyLevel | str | None = None) -> Flow[ReceivedRequest]:
        """What describes the reads of some features, asked of the server."""
        reply = yield from self.send(describing_call(wanted, consistency))
        found = described(reply)
        self._keep(wanted, found)
        return found

    def known(self, wanted: Wanted) -> ReceivedRequest | None:
        """What described the last answer for some features."""
        return self._described.get(wanted)

    def _keep(self, wanted: Wanted, found: ReceivedRequest) -> None:
        if len(self._described) >= KEPT:
            self._described.clear()
        self._described[wanted] = found

    def read(
        self, wanted: Wanted, entities: Any, options: ReadOptions = PLAIN, expected: ReceivedRequest | None = None
    ) -> Flow[OnlineResult]:
        """The features of some entities.

        Args:
            wanted: what is asked for.
            entities: in any form that a store takes.
            options: the other arguments.
            expected: of a prepared reader: what its columns are.

        Raises:
            HeadwaterError: as the store's read does.
        """
        known = expected or self._described.get(wanted)
        fresh = known is None
        while True:
            if known is None:
                known = yield from self.describe(wanted)
            try:
                keys = known.asked.keys
                batch = entity_batch(entities, keys)
                call = read_call(wanted, batch, known, options, self.settings.arrow)
                reply = yield from self.send(call)
            except (EntityKeyError, UsageError) as bad:
                # the keys, or the request fields, may be others since another version is live
                keyed = isinstance(bad, EntityKeyError) or options.request is not None
                if fresh or expected is not None or not keyed:
                    raise
                known, fresh = None, True
                continue
            advance(options.session, call, reply)
            result, schema = result_of(reply, batch, options)
            if schema is not known:
                if expected is not None and not schema.same_columns(expected):
                    raise ChangeRefused(OTHER_COLUMNS)
                self._keep(wanted, schema)
            return result

    def write(
        self,
        view: str,
        rows: Any,
        to: WriteTarget | str,
        session: Session | None,
        durability: int,
        errors: str,
        created: str,
    ) -> Flow[WriteReport]:
        """Write rows; see `FeatureStore.write`."""
        call = write_call(view, rows, to, session, durability, errors, created, self.settings.arrow)
        reply = yield from self.send(replace(call, timeout=self.settings.write_timeout))
        advance(session, call, reply)
        return report_in(reply, WriteReport)

    def delete(self, view: str, entities: Any, purge: bool, session: Session | None) -> Flow[DeleteReport]:
        """Delete keys; see `FeatureStore.delete`."""
        arrow = self.settings.arrow
        refused = call = None
        try:
            keys = yield from self._join_keys(view)
            if keys is not None:
                call = delete_call(view, entity_batch(entities, keys), keys, purge, session, arrow)
        except EntityKeyError as bad:
            # they may be those of another version, which the server knows
            refused = bad
        except UsageError:
            pass  # which the server says better
        call = call or raw_delete_call(view, entities, purge, session, arrow)
        try:
            reply = yield from self.send(replace(call, timeout=self.settings.write_timeout))
        except EntityKeyError:
            if refused is not None:
                raise refused from None
            raise
        advance(session, call, reply)
        return report_in(reply, DeleteReport)

    def _join_keys(self, view: str) -> Flow[dict[str, DType] | None]:
        """The join keys of a view's live version; None: an API key that writes may not read them. Asked for once."""
        if not is_name(view):
            raise FeatureViewNotFound(f"no view {brief(view)} is registered")
        if view in self._keys:
            return self._keys[view]
        keys = None
        try:
            keys = keys_in((yield from self.send(Call("GET", named_path("views", view)))))
        except AccessDenied as bad:
            if not bad.authenticated:
                return None
        if len(self._keys) >= KEPT:
            self._keys.clear()
        self._keys[view] = keys
        return keys

    def feature_views(self) -> Flow[list[ViewSummary]]:
        """The live views; see `FeatureStore.list_feature_views`."""
        return (yield from self._listed("views", catalog.view_in))

    def feature_services(self) -> Flow[list[ServiceSummary]]:
        """The live services; see `FeatureStore.list_feature_services`."""
        return (yield from self._listed("services", catalog.service_in))

    def entities(self) -> Flow[list[Entity]]:
        """The entities; see `FeatureStore.list_entities`."""
        return (yield from self._listed("entities", catalog.entity_in))

    def feature_view(self, name: str, version: str | None) -> Flow[ViewSummary]:
        """A version of a view; see `FeatureStore.get_feature_view`."""
        return (yield from self._shown("views", name, version, catalog.view_in))

    def feature_service(self, name: str, version: str | None) -> Flow[ServiceSummary]:
        """A version of a service; see `FeatureStore.get_feature_service`."""
        return (yield from self._shown("services", name, version, catalog.service_in))

    def entity(self, name: str) -> Flow[Entity]:
        """An entity; see `FeatureStore.get_entity`."""
        return (yield from self._shown("entities", name, None, catalog.entity_in))

    def models(self) -> Flow[list[ModelSummary]]:
        """The logged models; see `FeatureStore.list_models`."""
        return (yield from self._listed("models", catalog.model_in))

    def model(self, name: str, version: int | None) -> Flow[ModelSummary]:
        """A version of a logged model; see `FeatureStore.get_model`."""
        return (yield from self._shown("models", name, None if version is None else str(version), catalog.model_in))

    def _listed(self, kind: str, read: Callable[[Any], T]) -> Flow[list[T]]:
        """All of a kind that the API key may read."""
        reply = yield from self.send(Call("GET", names.listed(kind)))
        with reading(reply):
            return [read(document) for document in msgspec.json.decode(reply.body)[kind]]

    def _shown(self, kind: str, name: str, version: str | None, read: Callable[[Any], T]) -> Flow[T]:
        """One of a kind.

        Raises:
            NotFound: not a name that anything could have.
        """
        if not is_name(name):
            raise _NOT_FOUND[kind](f"no {names.KINDS[kind]} {brief(name)} is registered")
        query = {} if version is None else {"version": version}
        reply = yield from self.send(Call("GET", named_path(kind, name, query)))
        with reading(reply):
            return read(msgspec.json.decode(reply.body))

    def status(self, now: datetime | str | None) -> Flow[StoreStatus]:
        """The state of the store; see `FeatureStore.status`."""
        query = "" if now is None else "?" + urlencode({"now": from_micros(to_micros(now)).isoformat()})
        reply = yield from self.send(Call("GET", f"{names.STATUS}{query}"))
        with reading(reply):
            found: StoreStatus = wire_status.status_in(reply.body)
            return found
