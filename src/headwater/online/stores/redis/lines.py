"""A connection to Redis on an event loop: commands of several tasks one behind the other, answered in that order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from headwater.errors import needs_package
from headwater.event_loops import settle

with needs_package("hiredis", "redis"):
    import hiredis

_NOT_YET = object()
_FEW = 24
"""Parts of a command up to which hiredis packs it faster."""
_BYTES = {bytes}
_LOST = "the server closed the connection"


Took: TypeAlias = "Callable[[list[Any] | Exception], None]"
"""Takes the answers to some commands, or why there are none; it raises nothing."""


def packed_command(command: tuple[Any, ...]) -> bytes:
    """A command as Redis takes it; of many keys of one length, as those of most reads, in a part of hiredis's time."""
    if len(command) > _FEW and set(map(type, command[1:])) == _BYTES:
        name, *keys = command
        size = len(keys[0])
        if set(map(len, keys)) == {size}:
            between = b"\r\n$%d\r\n" % size
            first = b"*%d\r\n$%d\r\n%b" % (len(command), len(name), name.encode())
            return b"%b%b%b\r\n" % (first, between, between.join(keys))
    packed: bytes = hiredis.pack_command(command)
    return packed


class _Asked:
    """Commands that were sent together, and those of their answers that have come."""

    __slots__ = ("answers", "count", "sent", "took", "until")

    def __init__(self, took: Took | None, count: int, sent: float, until: float) -> None:
        self.took, self.count, self.sent, self.until = took, count, sent, until
        self.answers: list[Any] = []

    def give(self, answer: list[Any] | Exception) -> None:
        """Give the answers, or the error, to who asked; once."""
        took, self.took = self.took, None
        if took is not None:
            took(answer)


class Line(asyncio.Protocol):
    """An open connection, taken over from whoever opened it.

    A task that is cancelled, or waits no longer, leaves the answers of the others as they are. A server that has not
    answered for `patience` ends the line, and everything that waits on it.

    Args:
        transport: of the connection; nothing is under way on it.
        close: ends the connection.
        error_of: makes an exception of the text of an error that the server answers.
        patience: seconds that an answer may take.

    Attributes:
        ended: whether nothing can be asked any more.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        close: Callable[[], None],
        error_of: Callable[[str], Exception],
        patience: float,
    ) -> None:
        self._transport, self._close, self._patience = transport, close, patience
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=error_of, notEnoughData=_NOT_YET)
        self._asked: deque[_Asked] = deque()
        self._unsent: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.ended = False
        transport.set_protocol(self)

    @property
    def busy(self) -> bool:
        """Whether answers are still to come."""
        return bool(self._asked)

    async def ask(self, commands: Sequence[tuple[Any, ...]], timeout: float | None = None) -> list[Any]:
        """The answers to some commands, sent at once; one that is refused has an exception.

        Args:
            commands: name and arguments of each.
            timeout: seconds that the answers may take, where that is less than `patience`.

        Raises:
            ConnectionError, TimeoutError: there is no answer.
        """
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self.send(commands, partial(settle, future), timeout)
        return await future

    def send(
        self, commands: Sequence[tuple[Any, ...]], took: Took, timeout: float | None = None, *, at_once: bool = False
    ) -> None:
        """As `ask`, for who does not wait: the answers, or the error, are given later.

        Args:
            commands: name and arguments of each.
            took: is given them, once, and never within this call.
            timeout: seconds that the answers may take, where that is less than `patience`.
            at_once: whether to send them at once; else with what else is asked in this turn of the event loop.

        Raises:
            ConnectionError: nothing can be asked any more.
        """
        if self.ended:
            raise ConnectionError(_LOST)
        packed = list(map(packed_command, commands))
        now = self._loop.time()
        until = now + (self._patience if timeout is None else min(timeout, self._patience))
        self._asked.append(_Asked(took, len(packed), now, until))
        if at_once:
            self._unsent += packed
            self._send()
        else:
            if not self._unsent:
                self._loop.call_soon(self._send)
            self._unsent += packed
        if self._timer is None or until < self._due:
            self._look_at(until)

    def _send(self) -> None:
        """Send what was asked in one turn of the event loop: each packet costs both ends more than a command does."""
        unsent, self._unsent = self._unsent, []
        if unsent and not self.ended:
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def data_received(self, data: bytes) -> None:
        """Answers, or parts of one."""
        reader, waiting = self._reader, self._asked
        try:
            reader.feed(data)
            answer = reader.gets()
            while answer is not _NOT_YET:
                if not waiting:
                    raise hiredis.ProtocolError("an answer to nothing that was asked")
                asked = waiting[0]
                asked.answers.append(answer)
                if len(asked.answers) == asked.count:
                    waiting.popleft()
                    asked.give(asked.answers)
                answer = reader.gets()
        except hiredis.HiredisError as bad:
            self.end(ConnectionError(f"not Redis's protocol: {bad}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of the connection, whoever wanted it."""
        self.end(ConnectionError(str(exc) if exc is not None and str(exc) else _LOST))

    def end(self, why: Exception) -> None:
        """End the connection, and what waits on it with an error; twice is a no-op."""
        if self.ended:
            return
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close()
        waiting, self._asked = self._asked, deque()
        for asked in waiting:
            asked.give(why)

    def _look_at(self, when: float) -> None:
        """Look for what has waited for too long: one timer for all."""
        if self._timer is not None:
            self._timer.cancel()
        self._due = when
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._asked:
            return
        now = self._loop.time()
        if self._asked[0].sent + self._patience <= now:
            self.end(TimeoutError("no answer in time"))
            return
        for asked in list(self._asked):
            if asked.until <= now:
                asked.give(TimeoutError("no answer in time"))
        first = self._asked[0].sent + self._patience
        self._look_at(min([first, *(asked.until for asked in self._asked if asked.took is not None)]))
