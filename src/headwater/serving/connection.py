"""Connections: uvicorn's, with bounds on how long the head of a request is, and on how long it takes to arrive."""

from __future__ import annotations

import asyncio
import re
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headwater.serving.exchange import Exchange

MOST_HEAD = 65_536
"""Bytes of a request's first line and headers."""
HEAD_SECONDS = 10.0
"""In which they must have arrived, from their first byte on."""
SILENT_SECONDS = 75.0
"""In which a new connection must begin its first request."""
_REFUSED = (
    b"HTTP/1.1 %d %s\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
)
_SHORT = 128
"""Bytes up to which a request's target is looked up among those that came before."""
_UPGRADE = re.compile(rb"(?im)^upgrade(?=[ \t]*:)")


class BoundedConnection(HttpToolsProtocol):
    """A connection whose requests have bounded heads; what follows a head is bounded by the application.

    No other protocol is switched to: `Upgrade` is passed over, as a server may. Java's client offers HTTP/2 in its
    first request; the parser takes a request that offers another protocol for one without a body.
    """

    _in_body = False
    """Whether a head is complete, and what follows it is not."""
    _head: int | None = None
    """Bytes of a head that has begun and is not complete; None: there is none."""
    _exchange: Exchange | None = None
    """The last one that began."""
    _timer: asyncio.TimerHandle | None = None
    _idle_since: float | None = None
    """When the last answer was given; None: a request is under way."""
    _idle_timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        proxied = isinstance(self.app, ProxyHeadersMiddleware)
        # of the two only requests that a proxy has forwarded need the first
        self._direct_app: Any = self.app.app if proxied else self.app

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request, for a while."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(SILENT_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take some bytes; a head that is too long, or takes too long, ends the connection."""
        begun = self._head is not None
        super().data_received(data if self._in_body else _without_upgrade(data))
        if self._head is None:
            if self.cycle is not None:
                self._stop()
        elif not begun:
            self._stop()
            self._timer = self.loop.call_later(HEAD_SECONDS, self._refuse, 408, b"Request Timeout")
        else:
            self._head += len(data)
            if self._head > MOST_HEAD:
                self._refuse(431, b"Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        """A head begins."""
        # blank lines between requests begin none
        self._head, self._idle_since = 0, None
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """It is complete."""
        self._head, self._in_body = None, True
        scope, parser, version = self.scope, self.parser, self.parser.get_http_version()
        scope["method"], scope["http_version"] = parser.get_method().decode("ascii"), version
        target = _known_target if len(self.url) <= _SHORT else _target
        scope["path"], scope["raw_path"], scope["query_string"] = target(self.url)
        names = dict(self.headers)
        exchange = Exchange(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        before, self.cycle, self._exchange = self.cycle, exchange, exchange
        app = self.app if b"x-forwarded-for" in names or b"x-forwarded-proto" in names else self._direct_app
        if before is None or before.response_complete:
            self._answer(exchange, app)
        else:
            # a request that came before the answer to the one before it
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, app))

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._in_body = False
        super().on_message_complete()
        if self._exchange is not None and not self._exchange.response_complete:
            self._exchange.offer()

    def on_response_complete(self) -> None:
        """An answer is given: the next request of those that wait, or silence for a while."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._answer(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._look)

    def _answer(self, exchange: Any, app: Any) -> None:
        # older releases of uvicorn have no method for this
        task = self.loop.create_task(exchange.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _look(self) -> None:
        """End a connection on which nothing came for a while: one timer for all its requests."""
        since, now = self._idle_since, self.loop.time()
        left = self.timeout_keep_alive if since is None else since + self.timeout_keep_alive - now
        if left <= 0:
            self.transport.close()
        else:
            self._idle_timer = self.loop.call_later(left, self._look)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int, phrase: bytes) -> None:
        self._stop()
        if not self.transport.is_closing():
            self.transport.write(_REFUSED % (status, phrase, len(phrase), phrase))
            self.transport.close()


def _target(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, path as it came, and query of a request's target."""
    parsed = httptools.parse_url(url)
    raw: bytes = parsed.path
    path = raw.decode("ascii")
    return (unquote(path) if "%" in path else path), raw, parsed.query or b""


_known_target = lru_cache(maxsize=256)(_target)


def _without_upgrade(data: bytes) -> bytes:
    """The beginning of a request, or a part of its head, with the name of `Upgrade` replaced by one of no meaning."""
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[:end]
    if b"pgrade" not in head and b"PGRADE" not in head:
        return data
    return _UPGRADE.sub(b"ignored", head) + data[len(head) :]
