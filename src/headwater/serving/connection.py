"""Connections: uvicorn's, with bounds on how long the head of a request is, and on how long it takes to arrive."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headwater.serving.answers import Answer, headers_of
from headwater.serving.bodies import BODY
from headwater.serving.exchange import Exchange, head_of
from headwater.serving.heads import Head
from headwater.serving.quick import Quick, Waiting
from headwater.serving.requests import Requests
from headwater.serving.server_log import INVALID
from headwater.wire.names import READ
from headwater.wire.problems import Problem

MOST_HEAD = 131_072
"""Bytes of a request's first line and headers: twice those of the longest session."""
HEAD_SECONDS = 10.0
"""In which they must have arrived, from their first byte on."""
SILENT_SECONDS = 75.0
"""In which a new connection must begin its first request."""
_SHORT = 128
"""Bytes up to which a request's target is looked up among those that came before."""
_NO_HTTP = Problem(400, "InvalidHTTP", "the request is not valid HTTP/1.1")
_NO_HOST = Problem(400, "InvalidHTTP", "a request must have one Host header")
_CONNECT = Problem(400, "InvalidHTTP", "CONNECT is for proxies; this is a server")
_TOO_LARGE = Problem(431, "HeadTooLarge", f"the request's first line and headers are longer than {MOST_HEAD:,} bytes")
_TOO_SLOW = Problem(408, "RequestTimeout", f"the request's headers did not arrive within {HEAD_SECONDS:g} s")


class _Refusal(Exception):
    """Ends the parsing of a request that was refused."""


class BoundedConnection(HttpToolsProtocol):
    """A connection whose requests have bounded heads; what follows a head is bounded by the application.

    The parser calls `on_…` as a request arrives. Once its head is complete an `Exchange` begins, which the application
    answers in a task of its own; one that comes before the answer to the one before it waits in `pipeline`.

    One timer looks after the connection from its beginning to its end: at a head that is under way, else at how long
    nothing was asked for.

    No other protocol is switched to: `Upgrade` is passed over, as a server may. Java's client offers HTTP/2 in its
    first request; the parser takes a request that offers another protocol for one without a body.
    """

    _head_since: float | None = None
    """When a head began that is not complete; None: there is none."""
    _segment = 0
    """Bytes of the segment that came last."""
    _least = _most = 0
    """Bounds on the bytes that came of the last head."""
    _offered = False
    """Whether the request that is being parsed offers another protocol: it is parsed again without that."""
    _deaf = False
    """Whether what comes is not listened to any more."""
    _answering: Exchange | Waiting | None = None
    """The last one that was begun to be answered; `cycle`, as uvicorn calls it, is the last one that came."""
    _fresh: tuple[Exchange, Any] | None = None
    """One whose head has come, and its application: it is begun once all that came was parsed, or it is complete."""
    _head: Head | None = None
    """Its head, where it asks for a plain read that may be answered without a task."""
    _between = True
    """Whether what comes next begins a request."""
    _timer: asyncio.TimerHandle | None = None
    _served = False
    """Whether an answer was given."""
    _since = 0.0
    """When the last answer was given; at first, when the connection began."""

    cycle: Any
    pipeline: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        proxied = isinstance(self.app, ProxyHeadersMiddleware)
        # of the two only requests that a proxy has forwarded need the first
        self._direct_app: Any = self.app.app if proxied else self.app
        self._quick: Quick = self._direct_app.quick
        self._requests: Requests = self._direct_app.requests

    # its life

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request, for a while."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._look_in(SILENT_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more; a read that nobody waits for ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.connections.discard(self)
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        # it holds on to this connection
        self.parser = None  # type: ignore[assignment]
        for exchange in {self._answering, self.cycle}:
            if exchange is not None:
                exchange.leave()

    def _look(self) -> None:
        """End a connection whose head is under way for too long, or on which nothing was asked for a while."""
        since, patience = self._since, self.timeout_keep_alive if self._served else SILENT_SECONDS
        if self._head_since is not None:
            since, patience = self._head_since, HEAD_SECONDS
        elif self._busy:
            since = self.loop.time()
        left = since + patience - self.loop.time()
        if left > 0:
            self._look_in(left)
        elif self.transport.is_closing():
            # what is left of the answer is not taken
            self.transport.abort()
        elif self._head_since is not None:
            self._refuse(_TOO_SLOW)
        else:
            self.transport.close()
            self._look_in(HEAD_SECONDS)

    def _look_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # an answer that is given meanwhile asks for no other timer
        self._timer = self.loop.call_later(min(seconds, self.timeout_keep_alive), self._look)

    @property
    def _busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    # a request, as it arrives

    def data_received(self, data: bytes) -> None:
        """Take some bytes; a head that is too long, or takes too long, ends the connection."""
        if self._deaf:
            return
        cycle = self.cycle
        alone = self._between and (cycle is None or cycle.response_complete)
        if alone and not self.transport.is_closing():
            known = self._quick.find(data)
            if known is not None and self._answer_quickly(*known):
                return
        begun, self._segment = self._head_since is not None, len(data)
        self._least = self._least + len(data) if begun else len(data)
        self._most += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            if not self._deaf:
                self.logger.warning(INVALID)
                self._refuse(_NO_HTTP)
            return
        finally:
            if self._fresh is not None:
                self._begin(*self._fresh)
        if alone and self._between and self._head is not None:
            self._quick.keep(data, self._head)
        if self._head_since is None:
            return
        if self._least > MOST_HEAD:
            self._refuse(_TOO_LARGE)
        elif not begun:
            self._look_in(HEAD_SECONDS)

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offered:
                # parsed once more, as a request that offers nothing; its body and what follows are still to come
                data = self._head_again() + data[offered.args[0] :]
                self.parser, self._offered = _parser(self), False

    def _head_again(self) -> bytes:
        """The head of the last request without its offer of another protocol."""
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += (b"%s: %s" % header for header in self.headers if header[0] != b"upgrade")
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_message_begin(self) -> None:
        """A head begins."""
        self._head_since = self.loop.time()
        self._between, self._head = False, None
        self._most = self._segment
        self.url, self.headers = b"", []

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; those behind a body are passed over."""
        if self._head_since is not None:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """It is complete."""
        self._head_since = None
        parser, version = self.parser, self.parser.get_http_version()
        names = dict(self.headers)
        self._check_head(names, version)
        if parser.should_upgrade():
            self._offered = True
            return
        path, raw_path, query = (_known_target if len(self.url) <= _SHORT else _target)(self.url)
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "scheme": self.scheme,
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": self.headers,
            "server": self.server,
            "client": self.client,
        }
        held_back = b"expect" in names and names[b"expect"].lower() == b"100-continue"
        before, exchange = self.cycle, Exchange(self, scope, _is_kept(parser, version), held_back)
        self.cycle = exchange
        app = self.app if b"x-forwarded-for" in names or b"x-forwarded-proto" in names else self._direct_app
        plain = exchange.keep_alive and not held_back and app is self._direct_app and len(names) == len(self.headers)
        if plain and path == READ and scope["method"] == "POST":
            self._head = self._quick.head_of(names)
        if before is None or before.response_complete:
            self._fresh = exchange, app
        else:
            # a request that came before the answer to the one before it
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, app))

    def _check_head(self, names: dict[bytes, bytes], version: str) -> None:
        """Refuse a head that is too long, or does not name one host.

        Args:
            names: the headers; of several of a name the last one.
            version: of HTTP.
        """
        refused = None
        if self._most > MOST_HEAD and self._head_size() > MOST_HEAD:
            refused = _TOO_LARGE
        elif (b"host" not in names or len(names) < len(self.headers)) and not self._names_its_host(version):
            refused = _NO_HOST
        elif self.parser.should_upgrade() and b"upgrade" not in names:
            refused = _CONNECT
        if refused is not None:
            self._refuse(refused)
            raise _Refusal

    def _head_size(self) -> int:
        """Bytes of the request's first line and headers."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _names_its_host(self, version: str) -> bool:
        """Whether a request has one Host header; of HTTP/1.0 also none."""
        hosts = sum(name == b"host" for name, _ in self.headers)
        return hosts == 1 or (hosts == 0 and version == "1.0")

    def on_body(self, body: bytes) -> None:
        """A part of the body; what comes after the answer is passed over."""
        if not self.cycle.response_complete:
            self.cycle.add(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._offered:
            return
        self._least, self._between = 0, True
        exchange = self.cycle
        if exchange.response_complete:
            return
        exchange.complete()
        if self._fresh is not None:
            head = None if self.transport.is_closing() else self._head
            if head is None or not self._answer_quickly(head, exchange.scope[BODY]):
                self._begin(*self._fresh)
            else:
                exchange.response_complete = True
                self._fresh = None

    # its answer

    def _answer_quickly(self, head: Head, body: bytes) -> bool:
        """Answer a plain read without a task, or begin to; whether it was."""
        if self.flow.write_paused:
            return False
        found = self._quick.begin(head, body, self.loop, self._send_late)
        if found is None:
            return False
        if isinstance(found, Waiting):
            self.cycle = self._answering = found
        else:
            self._send(*found, close=False)
            self.on_response_complete()
        return True

    def _send_late(self, waiting: Waiting, answer: Answer, request_id: bytes) -> None:
        """Send the answer to a plain read whose rows have come."""
        if self.transport.is_closing():
            return
        close = not waiting.keep_alive or self._requests.draining
        self._send(answer, request_id, close)
        if close:
            self.transport.close()
        self.on_response_complete()

    def _send(self, answer: Answer, request_id: bytes, close: bool) -> None:
        if answer.status == 200 and not close:
            # of all plain reads
            head = _READ_HEAD % (len(answer.body), request_id)
        else:
            headers = headers_of(answer, request_id)
            head = head_of(answer.status, [*headers, (b"connection", b"close")] if close else headers)
        self.transport.write(head + answer.body)

    def _begin(self, exchange: Exchange, app: Any) -> None:
        self._fresh = None
        self._answering = exchange
        exchange.task = self.loop.create_task(exchange.run(app))
        self.tasks.add(exchange.task)

    def on_response_complete(self) -> None:
        """An answer is given: the next request of those that wait, or silence for a while."""
        self.server_state.total_requests += 1
        self._served = True
        self._since = self.loop.time()
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            exchange, app = self.pipeline.pop()
            self._begin(exchange, app)

    def _refuse(self, problem: Problem) -> None:
        """Answer a request that cannot be answered otherwise, and end the connection."""
        self._deaf, self._head_since = True, None
        answer, request_id = self._requests.refusal(problem)
        if self._busy and (self.pipeline or not self.cycle.more_body):
            # the answer to a request before it is the last one
            self.cycle.keep_alive = False
        elif not self.transport.is_closing():
            headers = [*headers_of(answer, request_id), (b"connection", b"close")]
            self.transport.write(head_of(answer.status, headers) + answer.body)
            self.transport.close()


_READ_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nheadwater-request-id: %b\r\n\r\n"
)
_ASGI = {"version": "3.0", "spec_version": "2.3"}


def _parser(connection: BoundedConnection) -> Any:
    made = httptools.HttpRequestParser(connection)
    # as uvicorn's; older releases of httptools have nothing to be lenient about
    with suppress(AttributeError):
        made.set_dangerous_leniencies(lenient_data_after_close=True)
    return made


def _is_kept(parser: Any, version: str) -> bool:
    """Whether a connection is kept after the request that was parsed."""
    return version != "1.0" and bool(parser.should_keep_alive())


def _target(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, path as it came, and query of a request's target."""
    parsed = httptools.parse_url(url)
    raw: bytes = parsed.path
    path = raw.decode("ascii")
    return (unquote(path) if "%" in path else path), raw, parsed.query or b""


_known_target = lru_cache(maxsize=256)(_target)
