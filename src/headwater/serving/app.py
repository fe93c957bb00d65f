"""The ASGI application of a worker: what comes before a route, and what is made of its errors."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any, TypeAlias

from headwater.async_store import AsyncFeatureStore
from headwater.errors import HeadwaterError
from headwater.serving.access import EVERYTHING, Access, KeyRing, needs_admin
from headwater.serving.answers import Answer, Refused, busy, other, problem_answer, send_answer, stopping
from headwater.serving.bodies import GONE, READING, Bodies, Disconnected
from headwater.serving.deadlines import Deadlines
from headwater.serving.forms import combined, is_arrow
from headwater.serving.limits import KeyLimits
from headwater.serving.logs import Log
from headwater.serving.metrics import Metrics
from headwater.serving.quick import Quick
from headwater.serving.routes import Request, Route, Routes
from headwater.serving.sessions import Sessions
from headwater.serving.settings import ServerSettings
from headwater.wire import names
from headwater.wire.problems import Problem, problem_of

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
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
        under_way: how many requests are being answered.
        draining: whether the server is about to stop: what comes is refused, what is under way goes on.
        quick: answers plain reads without a task.
        limits: of API keys.
        deadlines: of the event loop.
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
        self.deadlines = Deadlines()
        self.routes = Routes(store, settings, self.metrics, self.deadlines, lambda: self.keys)
        self._bodies = Bodies(settings.most_bytes, settings.body_seconds, settings.most_at_once, self.deadlines)
        share = settings.rate / settings.workers
        self.limits = KeyLimits(share, settings.most_at_once_per_key, time.monotonic)
        self._sessions = Sessions(store.sync)
        self.quick = Quick(self)
        # a worker's own, so that ids of several do not meet
        self._ids = map(f"{secrets.token_hex(6)}-{{:x}}".format, itertools.count())

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
        headers = dict(scope["headers"])
        request_id = self.given_id(headers) or self.new_id()
        began = time.perf_counter()
        route, status = self.routes.name_of(scope["path"]), 0
        self.begins()
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
            self.ended(scope["method"], route, status, began, request_id)
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
        except Disconnected:
            raise
        except Exception as bad:
            return self.failed(bad, route, request_id)

    # what every way to answer does

    def given_id(self, headers: Mapping[bytes, bytes]) -> bytes | None:
        """The id that a request came with; None where it has none, or none that can be sent back."""
        given = headers.get(b"headwater-request-id")
        return given if given and _REQUEST_ID.fullmatch(given) else None

    def new_id(self) -> bytes:
        """An id of a request."""
        return next(self._ids).encode()

    @property
    def has_room(self) -> bool:
        """Whether one more request may be answered now."""
        under_way, most = self.under_way, self.settings.most_at_once
        return not self.draining and (under_way < most or under_way - self._bodies.arriving < most)

    def begins(self) -> None:
        """Count a request that comes; `ended` or `never_began` follows."""
        self.under_way += 1
        self.metrics.began()

    def never_began(self) -> None:
        """Forget a request that is begun once more."""
        self.under_way -= 1
        self.metrics.never_began()

    def ended(self, method: str, route: str, status: int, began: float, request_id: bytes | None) -> None:
        """Count and log a request that was answered.

        Args:
            method: HTTP's.
            route: as `Routes.name_of` has it.
            status: of the answer; 0: there is none, since the client went away.
            began: when it came, by `time.perf_counter()`.
            request_id: its id.
        """
        self.under_way -= 1
        took = time.perf_counter() - began
        self.metrics.ended(route, status, took)
        if status and self.log.requests:
            fields = {"status": status, "ms": round(1e3 * took, 3), "request_id": (request_id or b"").decode()}
            self.log.info("request", method=method, route=route, **fields)

    def failed(self, bad: Exception, route: str, request_id: bytes) -> Answer:
        """The answer to a request that met an error, which is counted; one of ours is logged."""
        if isinstance(bad, Refused):
            problem = bad.problem
        elif isinstance(bad, HeadwaterError):
            problem = problem_of(bad)
        else:
            self.log.failure("request failed", bad, route=route, request_id=request_id.decode())
            detail = "this is a bug in headwater; the server's log has more under this request id"
            problem = Problem(500, "InternalError", detail)
        return self._refused(problem, request_id)

    def _refused(self, problem: Problem, request_id: bytes) -> Answer:
        self.metrics.refused(problem.name)
        return problem_answer(problem, request_id.decode())

    def refusal(self, problem: Problem) -> tuple[Answer, bytes]:
        """The answer to what is not a whole request, counted as other refusals are; and its id."""
        request_id = self.new_id()
        return self._refused(problem, request_id), request_id

    async def _answer(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive) -> Answer:
        """The answer to a request, once it is known who asks, and that it may be answered now."""
        path = scope["path"]
        is_open = path in _OPEN
        if not is_open:
            self.check_host(headers)
        route, rest = self.routes.find(scope["method"], path)
        if self.draining and path != "/healthz":
            raise stopping()
        if self.under_way - self._bodies.arriving > self.settings.most_at_once and not is_open:
            raise busy("TooMuchUnderWay", f"{self.settings.most_at_once} requests are under way here: try again")
        access = EVERYTHING if self.keys is None or is_open else self.keys.access(headers)
        if access.key is None:
            return await self._routed(route, rest, scope, headers, receive, access)
        self.limits.enter(access.key.id)
        try:
            return await self._routed(route, rest, scope, headers, receive, access)
        finally:
            self.limits.leave(access.key.id)

    async def _routed(
        self, route: Route, rest: str, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, access: Access
    ) -> Answer:
        """The answer of a route to a request that is let in."""
        path, body = scope["path"], b""
        if scope["method"] == "POST":
            is_arrow(headers)
            body = await self._bodies.read(scope, receive, headers)
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

    def check_host(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse names that are not the server's: a page in a browser may have made one stand for this host."""
        if not self.settings.hosts:
            return
        name = headers.get(b"host", b"").decode("latin-1")
        host, _, _ = name.rpartition(":")
        if host and not name.endswith("]"):
            name = host
        if name not in self.settings.hosts and name.lower() not in self.settings.hosts:
            raise other(421, "WrongHost", "the Host header does not name this server")
