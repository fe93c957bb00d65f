"""Connections: uvicorn's, with bounds on how long the head of a request is, and on how long it takes to arrive."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD = 65_536
"""Bytes of a request's first line and headers."""
HEAD_SECONDS = 10.0
"""In which they must have arrived, from their first byte on."""
SILENT_SECONDS = 75.0
"""In which a new connection must begin its first request."""
_REFUSED = (
    b"HTTP/1.1 %d %s\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
)
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
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request, for a while."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(SILENT_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take some bytes; a head that is too long, or takes too long, ends the connection."""
        begun = self._head is not None
        super().data_received(data if self._in_body else _without_upgrade(data))
        if self._head is None:
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
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """It is complete."""
        self._head, self._in_body = None, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._in_body = False
        super().on_message_complete()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int, phrase: bytes) -> None:
        self._stop()
        if not self.transport.is_closing():
            self.transport.write(_REFUSED % (status, phrase, len(phrase), phrase))
            self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """The beginning of a request, or a part of its head, with the name of `Upgrade` replaced by one of no meaning."""
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[:end]
    if b"pgrade" not in head and b"PGRADE" not in head:
        return data
    return _UPGRADE.sub(b"ignored", head) + data[len(head) :]
