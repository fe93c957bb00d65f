"""The routes: what is answered under which path, to a request that has been let in."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeAlias, TypeVar
from urllib.parse import parse_qs

import msgspec
import pyarrow as pa

from headwater.async_store import AsyncFeatureStore
from headwater.errors import UsageError
from headwater.event_loops import LOOKUPS, READS, REPORTS, WRITES, Threads
from headwater.offline.log.requests import Request as LogRequest
from headwater.online.connections import ConnectionCounts, Pooled
from headwater.online.session import Session
from headwater.planning.snapshot import RegistrySnapshot
from headwater.registry.api_keys import ADMIN, READ, WRITE
from headwater.serving.access import Access, KeyRing
from headwater.serving.answers import Answer, busy, json_answer, other
from headwater.serving.bodies import DeleteBody, DeleteStream, ReadBody, ReadStream, WriteBody, WriteStream, decoded
from headwater.serving.catalog import check_shown, covered, listed, shown
from headwater.serving.deadlines import Deadlines
from headwater.serving.forms import decoded_stream, is_arrow, wants_arrow
from headwater.serving.idempotency import HEADER as IDEMPOTENCY_KEY
from headwater.serving.idempotency import request_of
from headwater.serving.kept_status import exposed, kept_status
from headwater.serving.metrics import Metrics
from headwater.serving.openapi import document
from headwater.serving.page import POLICY, page
from headwater.serving.reads import check_allowed, check_width, read_features
from headwater.serving.settings import ServerSettings
from headwater.serving.writes import change_rows
from headwater.wire import names
from headwater.wire.status import status_document

_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")
LARGE = 256 * 1024
"""Bytes of a body that take milliseconds to be read."""

T = TypeVar("T")
P = ParamSpec("P")
Body = TypeVar("Body", bound=msgspec.Struct)
Stream = TypeVar("Stream", bound=msgspec.Struct)


@dataclass(slots=True)
class Request:
    """What a route is given.

    Attributes:
        headers: names in lower case.
        query: of the URL.
        rest: of the path, behind the route's own.
        body: bytes; empty for GET.
        access: what its key allows.
        session: what the client says it has seen; advanced in place.
    """

    headers: Mapping[bytes, bytes]
    query: bytes
    rest: str
    body: bytes
    access: Access
    session: Session | None


Route: TypeAlias = Callable[[Request], Awaitable[Answer]]


class Routes:
    """What one worker answers.

    Args:
        store: the store.
        settings: bounds.
        metrics: counts what is served.
        deadlines: of the event loop.
        keys: gives the API keys; None: requests need none.

    Attributes:
        exact: path → method → route.
        prefixes: what a path begins with, before a name → the route for GET.
    """

    def __init__(
        self,
        store: AsyncFeatureStore,
        settings: ServerSettings,
        metrics: Metrics,
        deadlines: Deadlines,
        keys: Callable[[], KeyRing | None],
    ) -> None:
        self.store, self.settings, self.metrics = store, settings, metrics
        self._deadlines, self._keys = deadlines, keys
        self._known_status = kept_status(store.sync.status)
        self.exact: dict[str, dict[str, Route]] = {
            names.READ: {"POST": self._read},
            names.WRITE: {"POST": self._write},
            names.DELETE: {"POST": self._delete},
            names.STATUS: {"GET": self._status},
            "/metrics": {"GET": self._metrics},
            "/openapi.json": {"GET": self._openapi},
            "/docs": {"GET": self._docs},
            "/healthz": {"GET": self._health},
            "/readyz": {"GET": self._ready},
        }
        for kind in names.KINDS:
            self.exact[names.listed(kind)] = {"GET": self._list(kind)}
        self.prefixes = {f"{names.listed(kind)}/": self._show(kind) for kind in names.KINDS}

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """The route of a path, and what follows the route's own part of it.

        Raises:
            Refused: 404: there is none; 405: not for this method.
        """
        methods, rest = self.exact.get(path), ""
        if methods is None:
            methods, rest = self._by_prefix(path)
        route = methods.get("GET" if method == "HEAD" else method)
        if route is None:
            allowed = ", ".join(methods) + (", HEAD" if "GET" in methods else "")
            raise other(405, "MethodNotAllowed", f"{path} takes {allowed}, not {method}", {"Allow": allowed})
        return route, rest

    def name_of(self, path: str) -> str:
        """The route of a path, for logs and metrics: a path that no route has may hold anything."""
        if path in self.exact:
            return path
        return next((f"{prefix}NAME" for prefix in self.prefixes if path.startswith(prefix)), "none")

    def _by_prefix(self, path: str) -> tuple[dict[str, Route], str]:
        for prefix, route in self.prefixes.items():
            if path.startswith(prefix) and len(path) > len(prefix):
                return {"GET": route}, path[len(prefix) :]
        raise other(404, "RouteNotFound", f"there is no {path} here; /openapi.json lists what there is")

    # reads and writes

    async def _read(self, request: Request) -> Answer:
        request.access.check(READ)
        settings = self.settings
        body, table = await self._given(request, READS, ReadBody, ReadStream, settings.most_entities)
        check_width(body)
        if request.access.limited:
            snapshot = await self._snapshot()
            check_allowed(request.access, snapshot, body)
        return await read_features(
            self.store,
            body,
            request.session,
            table=table,
            arrow=wants_arrow(request.headers),
            deadlines=self._deadlines,
            deadline=settings.deadline,
            most=settings.most_entities,
            metrics=self.metrics,
        )

    async def _snapshot(self) -> RegistrySnapshot:
        """The registry, for what a key with patterns may know of it."""
        return await self.store.sync.services.async_registry.snapshot()

    async def _given(
        self, request: Request, threads: Threads, kind: type[Body], stream: type[Stream], most_rows: int
    ) -> tuple[Body | Stream, pa.Table | None]:
        """What a request says, and the rows of an Arrow request."""
        if is_arrow(request.headers):
            # as many values as JSON of that size may have
            most = self.settings.most_bytes // 2
            return await _of_body(request, threads, decoded_stream, request.body, stream, most_rows, most)
        return await _of_body(request, threads, decoded, request.body, kind), None

    async def _once(self, request: Request, what: str) -> LogRequest | None:
        """The request that an Idempotency-Key stands for."""
        if IDEMPOTENCY_KEY not in request.headers:
            return None
        return await _of_body(request, WRITES, request_of, request.headers, what, request.body, request.access)

    async def _write(self, request: Request) -> Answer:
        return await self._change(request, "write", WriteBody, WriteStream)

    async def _delete(self, request: Request) -> Answer:
        return await self._change(request, "delete", DeleteBody, DeleteStream)

    async def _change(
        self,
        request: Request,
        what: str,
        kind: type[WriteBody] | type[DeleteBody],
        stream: type[WriteStream] | type[DeleteStream],
    ) -> Answer:
        request.access.check(WRITE)
        most = self.settings.most_rows
        body, table = await self._given(request, WRITES, kind, stream, most)
        if request.access.limited:
            request.access.check_view(await self._snapshot(), body.view)
        once = await self._once(request, what)
        return await change_rows(
            self.store, body, request.session, most=most, metrics=self.metrics, table=table, request=once
        )

    # what there is, and how it stands

    async def _status(self, request: Request) -> Answer:
        now = _parameters(request.query, "now").get("now")
        status = await REPORTS.run(self.store.sync.status, now)
        return json_answer(status_document(covered(self.store.sync, status, request.access)))

    async def _metrics(self, request: Request) -> Answer:
        if request.access.limited:
            # its series name every view
            request.access.check(ADMIN)
        self.count_reads()
        accept = request.headers.get(b"accept", b"").decode("latin-1")
        text, content_type = await REPORTS.run(exposed, self.metrics.memory, self._known_status, accept)
        return Answer(text, content_type=content_type.encode())

    def count_reads(self) -> None:
        """Take over what stood between this worker's reads and the online store, and its connections."""
        fetcher = self.store.sync.services.async_clients.existing()
        if fetcher is not None:
            self.metrics.reads(fetcher.counts())
        clients: tuple[object, ...] = (self.store.sync.context.online, None if fetcher is None else fetcher.reads)
        pools = [client for client in clients if isinstance(client, Pooled)]
        if pools:
            self.metrics.pool(ConnectionCounts.total(client.connections() for client in pools))

    def _document(self, access: Access) -> dict[str, Any]:
        snapshot = self.store.sync.registry.snapshot()
        every = self.store.sync.list_feature_views()
        views = [view for view in every if access.sees_features(snapshot, view.name)]
        return document(views, keys=self._keys() is not None)

    async def _openapi(self, request: Request) -> Answer:
        return json_answer(await LOOKUPS.run(self._document, request.access))

    async def _docs(self, request: Request) -> Answer:
        made = await LOOKUPS.run(self._document, request.access)
        host = request.headers.get(b"host", b"").decode("latin-1")
        address = f"{self.settings.scheme}://{host if _HOST.fullmatch(host) else '127.0.0.1:8080'}"
        policy = (b"content-security-policy", POLICY.encode())
        return Answer(page(made, address).encode(), content_type=b"text/html; charset=utf-8", headers=[policy])

    async def _health(self, request: Request) -> Answer:
        return json_answer({"status": "ok"})

    async def _ready(self, request: Request) -> Answer:
        """Whether reads can be answered: the registry was read, keys can be checked, and the online store answers."""
        registry, part = self.store.sync.registry, "registry"
        try:
            with self._deadlines.within(self.settings.deadline):
                if registry.latest is None:
                    # what was read once serves through an outage of the registry, as reads do
                    await LOOKUPS.run(registry.snapshot)
                keys = self._keys()
                if keys is not None:
                    keys.check_age()
                part = "online store"
                await self.store.ping()
        except TimeoutError:
            raise busy("Unavailable", f"the {part} does not answer") from None
        return json_answer({"status": "ready"})

    def _list(self, kind: str) -> Route:
        async def route(request: Request) -> Answer:
            request.access.check(READ)
            found = await LOOKUPS.run(listed, self.store.sync, kind, request.access)
            return json_answer({kind: found})

        return route

    def _show(self, kind: str) -> Route:
        async def route(request: Request) -> Answer:
            version = _parameters(request.query, "version").get("version")
            request.access.check(READ)
            if request.access.limited:
                check_shown(await self._snapshot(), kind, request.rest, version, request.access)
            return json_answer(await LOOKUPS.run(shown, self.store.sync, kind, request.rest, version))

        return route


async def _of_body(request: Request, threads: Threads, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Work that takes as long as a request's body is: on a thread, where that would hold up all others."""
    return await threads.run(work, *args, **options) if len(request.body) > LARGE else work(*args, **options)


def _parameters(query: bytes, *known: str) -> dict[str, str]:
    """The parameters of a URL, the first of each name.

    Raises:
        UsageError: one that the route does not take.
    """
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        raise UsageError(f"{unknown!r} is not a parameter here; {', '.join(f'{name}=' for name in known)} is")
    return {name: values[0] for name, values in given.items()}
