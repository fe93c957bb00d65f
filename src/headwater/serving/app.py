"""The ASGI application of a worker: what comes before a route, and what is made of its errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, TypeAlias

from headwater.async_store import AsyncFeatureStore
from headwater.compute.reading.quick import QuickReads
from headwater.serving.access import EVERYTHING, Access, KeyRing, needs_admin
from headwater.serving.answers import Answer, busy, send_answer, stopping
from headwater.serving.bodies import GONE, READING, Bodies, Disconnected
from headwater.serving.deadlines import Deadlines
from headwater.serving.forms import combined, is_arrow
from headwater.serving.logs import Log
from headwater.serving.metrics import Metrics
from headwater.serving.quick import Quick
from headwater.serving.requests import Requests
from headwater.serving.routes import Request, Route, Routes
from headwater.serving.sessions import Sessions
from headwater.serving.settings import ServerSettings
from headwater.wire import names

_SESSION = names.SESSION.encode()
_OPEN = frozenset({"/healthz", "/readyz"})
"""Routes that need no key."""
_OPERATORS = frozenset({names.STATUS, "/metrics", "/openapi.json", "/docs"})
"""Routes for this host, or a key of scope `admin`."""

Scope: TypeAlias = Any
Receive: TypeAlias = Any
Send: TypeAlias = Any


class App:
    """The application of one worker.

    A request goes through `_http` (its id, counts, log and answer), `_answered` (errors), `_answer` (who may ask now)
    and `_routed` (body and session) to a route of `Routes`.

    Args:
        store: the store.
        settings: bounds.
        keys: the API keys; None: requests need none.
        log: takes a line for each event.
        metrics: counts what is answered.

    Attributes:
        requests: what is answered now, and what every way to answer does.
        quick: answers plain reads without a task.
    """

    def __init__(
        self,
        store: AsyncFeatureStore,
        settings: ServerSettings,
        keys: KeyRing | None = None,
        log: Log | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        deadlines = Deadlines()
        bodies = Bodies(settings.most_bytes, settings.body_seconds, settings.most_at_once, deadlines)
        log = log or Log(settings.log_form, settings.log_level)
        self.store = store
        self.requests = Requests(settings, keys, log, metrics or Metrics(), bodies)
        self.routes = Routes(store, settings, self.requests.metrics, deadlines, lambda: self.requests.keys)
        self._sessions = Sessions(store.sync)
        self.quick = Quick(self.requests, QuickReads(store.sync.services), deadlines)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, requests = dict(scope["headers"]), self.requests
        request_id = requests.given_id(headers) or requests.new_id()
        began = time.perf_counter()
        route, status = self.routes.name_of(scope["path"]), 0
        requests.begins()
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
            requests.ended(scope["method"], route, status, began, request_id)
        # the rest of a body that is not read would be taken for the next request
        await send_answer(
            send, answer, request_id, status in (408, 413) or requests.draining, scope["method"] == "HEAD"
        )

    async def _answered(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, route: str, request_id: bytes
    ) -> Answer:
        """The answer, an error's too."""
        try:
            if len(headers) < len(scope["headers"]):
                headers = combined(scope["headers"])
            return await self._answer(scope, headers, receive)
        except Disconnected:
            raise
        except Exception as bad:
            return self.requests.failed(bad, route, request_id)

    async def _answer(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive) -> Answer:
        """The answer to a request, once it is known who asks, and that it may be answered now."""
        path, requests = scope["path"], self.requests
        is_open = path in _OPEN
        if not is_open:
            requests.check_host(headers)
        route, rest = self.routes.find(scope["method"], path)
        if requests.draining and path != "/healthz":
            raise stopping()
        if requests.too_many and not is_open:
            most = requests.settings.most_at_once
            raise busy("TooMuchUnderWay", f"{most} requests are under way here: try again")
        access = EVERYTHING if requests.keys is None or is_open else requests.keys.access(headers)
        if access.key is None:
            return await self._routed(route, rest, scope, headers, receive, access)
        requests.limits.enter(access.key.id)
        try:
            return await self._routed(route, rest, scope, headers, receive, access)
        finally:
            requests.limits.leave(access.key.id)

    async def _routed(
        self, route: Route, rest: str, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, access: Access
    ) -> Answer:
        """The answer of a route to a request that is let in."""
        path, body = scope["path"], b""
        if scope["method"] == "POST":
            is_arrow(headers)
            body = await self.requests.bodies.read(scope, receive, headers)
        if path == names.READ:
            scope[READING] = True
        token = headers.get(_SESSION)
        session = None if token is None else await self._sessions.read(token)
        if path in _OPERATORS:
            needs_admin(access, (scope.get("client") or ("",))[0])
        answer = await route(Request(headers, scope.get("query_string", b""), rest, body, access, session))
        if session is not None:
            answer.headers.append((_SESSION, session.token.encode()))
        return answer
