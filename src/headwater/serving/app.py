"""The ASGI application: one route after the other, bounds and errors around them."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeAlias, TypeVar
from urllib.parse import parse_qs

import msgspec
import pyarrow as pa

from headwater.async_store import AsyncFeatureStore
from headwater.errors import HeadwaterError, UsageError
from headwater.event_loops import LOOKUPS, READS, REPORTS, WRITES, Threads
from headwater.offline.log.requests import Request as LogRequest
from headwater.online.connections import ConnectionCounts, Pooled
from headwater.online.session import Session
from headwater.registry.api_keys import ADMIN, READ, WRITE
from headwater.serving.access import EVERYTHING, Access, KeyRing, needs_admin
from headwater.serving.answers import Answer, Refused, busy, json_answer, other, problem_answer, send_answer, too_large
from headwater.serving.bodies import (
    GONE,
    READING,
    DeleteBody,
    DeleteStream,
    Disconnected,
    ReadBody,
    ReadStream,
    WriteBody,
    WriteStream,
    decoded,
    read_body,
)
from headwater.serving.catalog import check_shown, covered, listed, shown
from headwater.serving.deadlines import Deadlines
from headwater.serving.forms import combined, decoded_stream, is_arrow, wants_arrow
from headwater.serving.idempotency import HEADER as IDEMPOTENCY_KEY
from headwater.serving.idempotency import request_of
from headwater.serving.kept_status import exposed, kept_status
from headwater.serving.limits import KeyLimits
from headwater.serving.logs import Log
from headwater.serving.metrics import Metrics
from headwater.serving.openapi import document
from headwater.serving.page import POLICY, page
from headwater.serving.reads import read_features
from headwater.serving.sessions import Sessions
from headwater.serving.settings import ServerSettings
from headwater.serving.writes import delete_rows, write_rows
from headwater.wire import names
from headwater.wire.arrow_streams import MOST_COLUMNS
from headwater.wire.problems import Problem, problem_of
from headwater.wire.status import status_document

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")
_SESSION = names.SESSION.encode()
_OPEN = frozenset({"/healthz", "/readyz"})
"""Routes that need no key."""
_OPERATORS = frozenset({names.STATUS, "/metrics", "/openapi.json", "/docs"})
"""Routes for this host, or a key of scope `admin`."""

_LARGE = 256 * 1024
"""Bytes of a body that take milliseconds to be read."""

T = TypeVar("T")
P = ParamSpec("P")
Body = TypeVar("Body", bound=msgspec.Struct)
Stream = TypeVar("Stream", bound=msgspec.Struct)
Scope: TypeAlias = Any
Receive: TypeAlias = Any
Send: TypeAlias = Any


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


Route = Callable[[Request], Awaitable[Answer]]


class App:
    """The application of one worker.

    Args:
        store: the store.
        settings: bounds.
        keys: the API keys; None: requests need none.
        log: takes a line for each event.
        metrics: counts what is answered.

    Attributes:
        under_way: how many requests are being answered.
        draining: whether the server is about to stop: what comes is refused, what is under way goes on.
    """

    def __init__(
        self,
        store: AsyncFeatureStore,
        settings: ServerSettings,
        keys: KeyRing | None = None,
        log: Log | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.store, self.settings, self.keys = store, settings, keys
        self.metrics = metrics or Metrics()
        self.log = log or Log(settings.log_form, settings.log_level)
        self.under_way = 0
        self.draining = False
        self._deadlines = Deadlines()
        share = settings.rate / settings.workers
        self._limits = KeyLimits(share, settings.most_at_once_per_key, time.monotonic)
        self._sessions = Sessions(store.sync)
        self._stands = kept_status(store.sync.status)
        # a worker's own, so that ids of several do not meet
        self._ids = map(f"{secrets.token_hex(6)}-{{:x}}".format, itertools.count())
        self._routes: dict[str, dict[str, Route]] = {
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
            self._routes[names.listed(kind)] = {"GET": self._list(kind)}
        self._prefixes = {f"{names.listed(kind)}/": self._show(kind) for kind in names.KINDS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        given = headers.get(b"headwater-request-id", b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else next(self._ids).encode()
        began = time.perf_counter()
        route, status = self._route_of(scope["path"]), 0
        self.under_way += 1
        self.metrics.began()
        try:
            answer = await self._answered(scope, headers, receive, route, request_id)
            status = answer.status
        except Disconnected:
            return
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if GONE not in scope or task is None:
                raise
            task.uncancel()
            return
        finally:
            self.under_way -= 1
            took = time.perf_counter() - began
            self.metrics.ended(route, status, took)
        if self.log.requests:
            fields = {"status": status, "ms": round(1e3 * took, 3), "request_id": request_id.decode()}
            self.log.info("request", method=scope["method"], route=route, **fields)
        # the rest of a body that is not read would be taken for the next request
        await send_answer(send, answer, request_id, status in (408, 413) or self.draining, scope["method"] == "HEAD")

    async def _answered(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, route: str, request_id: bytes
    ) -> Answer:
        """The answer, an error's too."""
        try:
            if len(headers) < len(scope["headers"]):
                headers = combined(scope["headers"])
            return await self._answer(scope, headers, receive)
        except Refused as refused:
            problem = refused.problem
        except HeadwaterError as bad:
            problem = problem_of(bad)
        except Disconnected:
            raise
        except Exception:
            self.log.failure("request failed", route=route, request_id=request_id.decode())
            detail = "this is a bug in headwater; the server's log has more under this request id"
            problem = Problem(500, "InternalError", detail)
        self.metrics.refused(problem.name)
        return problem_answer(problem, request_id.decode())

    async def _answer(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive) -> Answer:
        path, method = scope["path"], scope["method"]
        if self.settings.hosts and path not in _OPEN:
            self._check_host(headers)
        methods, rest = self._routes.get(path), ""
        if methods is None:
            methods, rest = self._by_prefix(path)
        route = methods.get("GET" if method == "HEAD" else method)
        if route is None:
            allowed = ", ".join(methods) + (", HEAD" if "GET" in methods else "")
            raise other(405, "MethodNotAllowed", f"{path} takes {allowed}, not {method}", {"Allow": allowed})
        if self.draining and path != "/healthz":
            raise busy("ShuttingDown", "this server is about to stop: ask another, or again")
        if self.under_way > self.settings.most_at_once and path not in _OPEN:
            raise busy("TooMuchUnderWay", f"{self.settings.most_at_once} requests are under way here: try again")
        access = EVERYTHING if self.keys is None or path in _OPEN else self.keys.access(headers)
        if access.key is None:
            return await self._routed(route, rest, scope, headers, receive, access)
        self._limits.enter(access.key.id)
        try:
            return await self._routed(route, rest, scope, headers, receive, access)
        finally:
            self._limits.leave(access.key.id)

    async def _routed(
        self, route: Route, rest: str, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, access: Access
    ) -> Answer:
        """The answer of a route to a request that is let in."""
        path, method = scope["path"], scope["method"]
        body = b""
        if method == "POST":
            is_arrow(headers)
            body = await read_body(
                scope, receive, headers, self.settings.most_bytes, self._deadlines, self.settings.body_seconds
            )
        if path == names.READ:
            scope[READING] = asyncio.current_task()
        session = await self._session(headers)
        client = (scope.get("client") or ("",))[0]
        if path in _OPERATORS:
            needs_admin(access, client)
        answer = await route(Request(headers, scope.get("query_string", b""), rest, body, access, session))
        if session is not None:
            answer.headers.append((_SESSION, session.token.encode()))
        return answer

    def _check_host(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse names that are not the server's: a page in a browser may have made one stand for this host."""
        name = headers.get(b"host", b"").decode("latin-1")
        host, _, _ = name.rpartition(":")
        if host and not name.endswith("]"):
            name = host
        if name not in self.settings.hosts and name.lower() not in self.settings.hosts:
            raise other(421, "WrongHost", "the Host header does not name this server")

    def _route_of(self, path: str) -> str:
        """The route of a path, for logs: a path that no route has may hold anything."""
        if path in self._routes:
            return path
        return next((f"{prefix}NAME" for prefix in self._prefixes if path.startswith(prefix)), "none")

    def _by_prefix(self, path: str) -> tuple[dict[str, Route], str]:
        for prefix, route in self._prefixes.items():
            if path.startswith(prefix) and len(path) > len(prefix):
                return {"GET": route}, path[len(prefix) :]
        raise other(404, "RouteNotFound", f"there is no {path} here; /openapi.json lists what there is")

    async def _session(self, headers: Mapping[bytes, bytes]) -> Session | None:
        token = headers.get(_SESSION)
        return None if token is None else await self._sessions.read(token)

    # routes

    async def _read(self, request: Request) -> Answer:
        request.access.check(READ)
        settings = self.settings
        body, table = await self._given(request, READS, ReadBody, ReadStream, settings.most_entities)
        if body.features is not None:
            if len(body.features) > MOST_COLUMNS:
                found = f"{len(body.features):,} in one request, at most {MOST_COLUMNS:,}"
                raise too_large(f"features: {found}: read them in parts")
            request.access.check_features(self.store.sync.registry, body.features)
        if body.service is not None:
            request.access.check_service(self.store.sync.registry, body.service)
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
        request.access.check(WRITE)
        most = self.settings.most_rows
        body, table = await self._given(request, WRITES, WriteBody, WriteStream, most)
        request.access.check_view(self.store.sync.registry, body.view)
        once = await self._once(request, "write")
        return await write_rows(
            self.store, body, request.session, most=most, metrics=self.metrics, table=table, request=once
        )

    async def _delete(self, request: Request) -> Answer:
        request.access.check(WRITE)
        most = self.settings.most_rows
        body, table = await self._given(request, WRITES, DeleteBody, DeleteStream, most)
        request.access.check_view(self.store.sync.registry, body.view)
        once = await self._once(request, "delete")
        return await delete_rows(
            self.store, body, request.session, most=most, metrics=self.metrics, table=table, request=once
        )

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
        text, content_type = await REPORTS.run(exposed, self.metrics.memory, self._stands, accept)
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
        views = [view for view in self.store.sync.list_feature_views() if access.sees_view(view.name)]
        return document(views, keys=self.keys is not None)

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
                if self.keys is not None:
                    self.keys.check_age()
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
            check_shown(self.store.sync, kind, request.rest, request.access)
            return json_answer(await LOOKUPS.run(shown, self.store.sync, kind, request.rest, version))

        return route


async def _of_body(request: Request, threads: Threads, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Work that takes as long as a request's body is: on a thread, where that would hold up all others."""
    return await threads.run(work, *args, **options) if len(request.body) > _LARGE else work(*args, **options)


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
