"""One request on a connection and its answer: ASGI's two functions, for requests and answers that are sent whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from headwater.serving.bodies import BODY, GONE, READING

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MOST_WAITING = 65_536
"""Bytes of a body that nobody has asked for yet; then the connection is not read for a while."""
_STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}


class Exchange:
    """A request and its answer.

    A body that comes with its head is given to the application with the request (`BODY` in the scope), so that it need
    not wait for it; an answer is written at once.

    Args:
        connection: where it came.
        scope: ASGI's.
        keep_alive: whether the connection is kept after the answer.
        held_back: whether the client waits to be asked for the body (`Expect: 100-continue`).

    Attributes:
        task: answers it; None: not yet.
        more_body: whether some of the body is still to come.
        response_complete: whether it was answered.
    """

    __slots__ = (
        "_asked",
        "_connection",
        "_gone",
        "_head",
        "_held_back",
        "_parts",
        "_size",
        "_waiting",
        "keep_alive",
        "more_body",
        "response_complete",
        "scope",
        "task",
    )

    def __init__(self, connection: HttpToolsProtocol, scope: dict[str, Any], keep_alive: bool, held_back: bool) -> None:
        self._connection, self.scope, self.keep_alive = connection, scope, keep_alive
        self._held_back = held_back
        self.task: asyncio.Task[None] | None = None
        self.more_body = True
        self.response_complete = self._gone = self._asked = False
        self._head: dict[str, Any] | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._waiting: asyncio.Future[None] | None = None

    # the request

    def add(self, body: bytes) -> None:
        """Take a part of the body."""
        self._parts.append(body)
        self._size += len(body)
        if self._size > _MOST_WAITING:
            self._connection.flow.pause_reading()
        self._wake()

    def complete(self) -> None:
        """Nothing more of the body comes."""
        self.more_body = False
        if not self._asked and not self._held_back:
            self.scope[BODY] = self._taken()
        self._wake()

    def leave(self) -> None:
        """The client went away: what only reads for it ends, a write goes on."""
        self._gone = True
        self._wake()
        if self.scope.get(READING) and self.task is not None and not self.response_complete:
            self.scope[GONE] = True
            self.task.cancel()

    async def receive(self) -> dict[str, Any]:
        """The body, or the part of it that has come."""
        self._asked = True
        if self._held_back and not self._connection.transport.is_closing():
            self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._held_back = False
        while not (self._parts or self._gone or self.response_complete or not self.more_body):
            self._connection.flow.resume_reading()
            self._waiting = self._connection.loop.create_future()
            await self._waiting
        if self._gone or self.response_complete:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self._taken(), "more_body": self.more_body}

    def _taken(self) -> bytes:
        parts, self._parts, self._size = self._parts, [], 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # the answer

    async def run(self, app: Any) -> None:
        """Have it answered."""
        connection = self._connection
        try:
            await app(self.scope, self.receive, self.send)
            if not (self.response_complete or self._gone):
                raise RuntimeError("a request was not answered")
        except BaseException as bad:
            connection.logger.error("Exception in ASGI application\n", exc_info=bad)
            if not self.response_complete:
                connection.transport.close()
        finally:
            connection.tasks.discard(self.task)
            self.task = None

    async def send(self, message: dict[str, Any]) -> None:
        """Take an answer's head, then its whole body, with which both go out."""
        if message["type"] == "http.response.start":
            self._head = message
            return
        flow = self._connection.flow
        if flow.write_paused and not self._gone:
            await flow.drain()
        if self._gone:
            return
        if self._head is None or self.response_complete or message.get("more_body"):
            raise RuntimeError("an answer is a head and one body")
        self._answer(self._head["status"], self._head["headers"], message["body"])

    def _answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        if (b"connection", b"close") in headers:
            self.keep_alive = False
        elif not self.keep_alive:
            headers = [*headers, (b"connection", b"close")]
        connection = self._connection
        head = head_of(status, headers)
        connection.transport.write(head if self.scope["method"] == "HEAD" else head + body)
        self.response_complete = True
        self._wake()
        if not self.keep_alive:
            connection.transport.close()
        connection.on_response_complete()


def head_of(status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The first line and the headers of an answer.

    Raises:
        RuntimeError: a header has a line break: what comes from a request must not make further ones.
    """
    lines = [_STATUS_LINES[status]]
    for name, value in headers:
        lines += (name, b": ", value, b"\r\n")
    lines.append(b"\r\n")
    head = b"".join(lines)
    if not head.count(b"\n") == head.count(b"\r") == len(headers) + 2:
        raise RuntimeError("a header of an answer has a line break")
    return head
