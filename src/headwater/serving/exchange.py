"""One request on a connection and its answer: ASGI's two functions, for requests and answers that are sent whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from headwater.serving.bodies import BODY, GONE, READING


class Exchange(RequestResponseCycle):
    """uvicorn's, with fewer steps where a body has come with its head, and one write for an answer."""

    _taken = False
    """Whether a part of the body was given away."""
    _status = 0
    _head: tuple[tuple[bytes, bytes], ...] = ()
    _parts: tuple[bytes, ...] = ()

    async def receive(self) -> Any:
        """The body, or the part of it that has come."""
        self._taken = True
        return await super().receive()

    def offer(self) -> None:
        """Give the application the whole body with the request, where it is there before anybody asked for it."""
        if not (self._taken or self.waiting_for_100_continue):
            cast("dict[str, Any]", self.scope)[BODY] = bytes(self.body)
            self.body = bytearray()
            self.message_event.clear()

    def leave(self) -> None:
        """The client went away: what only reads for it ends, a write goes on."""
        self.disconnected = True
        scope = cast("dict[str, Any]", self.scope)
        task = scope.get(READING)
        if task is not None:
            scope[GONE] = True
            task.cancel()

    async def send(self, message: Any) -> None:
        """Take an answer's head, then its body; what there is goes out once the body is complete."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start" and not self.response_started:
            self.response_started, self.waiting_for_100_continue = True, False
            self._status, self._head = message["status"], tuple(message["headers"])
        elif message["type"] == "http.response.body" and self.response_started and not self.response_complete:
            self._parts = (*self._parts, message["body"])
            if not message.get("more_body"):
                self._answer(b"".join(self._parts) if len(self._parts) > 1 else self._parts[0])
        else:
            raise RuntimeError(f"an answer's {message['type']} is out of turn")

    def _answer(self, body: bytes) -> None:
        sent, lines = {}, [STATUS_LINE[self._status]]
        for name, value in (*self.default_headers, *self._head):
            if b"\n" in value or b"\r" in value:
                raise RuntimeError(f"header {name!r} has a line break")
            sent[name] = value
            lines += (name, b": ", value, b"\r\n")
        if sent.get(b"connection") == b"close":
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        if self.scope["method"] != "HEAD":
            lines.append(self._whole(sent, body))
        self.transport.write(b"".join(lines))
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _whole(self, sent: Mapping[bytes, bytes], body: bytes) -> bytes:
        if int(sent[b"content-length"]) != len(body):
            raise RuntimeError("an answer's body is not as long as its Content-Length says")
        return body
