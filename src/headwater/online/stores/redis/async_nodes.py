"""One Redis node for an event loop: all its tasks share one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
from redis.asyncio.connection import Connection as AsyncConnection
from redis.asyncio.connection import SSLConnection as AsyncSSLConnection
from redis.backoff import NoBackoff

from headwater import forks
from headwater.deferred import deferred
from headwater.errors import was_closed
from headwater.online.connections import ConnectionCounts
from headwater.online.stores.redis.answers import AWAY, Command, checked, connection_options, repeatable, translated
from headwater.online.stores.redis.url import Address, RedisLocation

if TYPE_CHECKING:
    from headwater.online.stores.redis import lines
else:
    lines = deferred("headwater.online.stores.redis.lines")


def check_client() -> None:
    """Refuse to read on an event loop without the package that it takes.

    Raises:
        MissingExtra: hiredis is not installed.
    """
    _ = lines.Line


class AsyncNode:
    """A Redis server, asked over one connection on one event loop; see `Node`.

    Args:
        location: how to connect.
        address: where it is.
        sentinel: whether it is a Sentinel.
    """

    def __init__(self, location: RedisLocation, address: Address, *, sentinel: bool = False) -> None:
        self.address = address
        self.where = f"redis {address[0]}:{address[1]}"
        self._kind = AsyncSSLConnection if location.tls else AsyncConnection
        self._options = connection_options(location, sentinel)
        self._line: lines.Line | None = None
        self._connecting: asyncio.Task[lines.Line] | None = None
        self._closed = False
        forks.after_fork(self, AsyncNode._in_child)

    def _in_child(self) -> None:
        # they belong to an event loop of the parent's
        forks.abandon(self._line, self._connecting)
        self._line = self._connecting = None

    def connections(self) -> ConnectionCounts:
        """The one, where it is open."""
        if self._line is None or self._line.ended:
            return ConnectionCounts()
        return ConnectionCounts(in_use=1) if self._line.busy else ConnectionCounts(idle=1)

    async def run(self, commands: Sequence[Command], timeout: float | None = None, each: bool = False) -> list[Any]:
        """As `Node.run`, and `Node.receive`."""
        try:
            line, used = self._line, True
            if line is None or line.ended:
                line, used = await self._connected(timeout), False
            try:
                answers = await line.ask(commands, timeout)
            except ConnectionError:
                # it may have been closed by the server long ago
                if not used or not repeatable(commands):
                    raise
                answers = await (await self._connected(timeout)).ask(commands, timeout)
            return checked(answers, self.address, each)
        except (*AWAY, redis.exceptions.RedisError) as bad:
            raise translated(bad, self.address) from bad

    def begin(self, command: Command, took: Callable[[Any], None]) -> bool:
        """Send a command for who does not wait, where the connection is open; whether it was.

        Args:
            command: name and arguments.
            took: is given the answer later; None where there is none, or it is an error, which `run` says.
        """
        line = self._line
        if line is None or line.ended:
            return False

        def taken(answers: list[Any] | Exception) -> None:
            refused = isinstance(answers, Exception) or isinstance(answers[0], Exception)
            took(None if refused else answers[0])  # type: ignore[index]

        line.send((command,), taken, at_once=True)
        return True

    async def _connected(self, timeout: float | None) -> lines.Line:
        """A connection, which all who want one at this time share.

        Raises:
            Unavailable: the node was closed, before or meanwhile.
        """
        if self._closed:
            raise was_closed(f"{self.where} was closed")
        if self._line is not None and not self._line.ended:
            return self._line
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(self._after_connecting)
        connecting = self._connecting
        try:
            # the deadline holds for the way there too
            return await asyncio.wait_for(asyncio.shield(connecting), timeout)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._closed or not connecting.cancelled() or (task is not None and task.cancelling()):
                raise
            # not who waits was cancelled, but what it waited for
            raise was_closed(f"{self.where} was closed") from None

    def _after_connecting(self, task: asyncio.Task[lines.Line]) -> None:
        self._connecting = None
        if not task.cancelled():
            # where everybody who waited was cancelled nobody else looks at it
            task.exception()

    async def _connect(self) -> lines.Line:
        host, port = self.address
        retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
        connection: Any = self._kind(host=host, port=port, retry=retry, **self._options)
        await connection.connect()
        transport, error_of = connection._writer.transport, connection._parser.parse_error
        self._line = lines.Line(transport, connection._close, error_of, connection.socket_timeout)
        return self._line

    async def close(self) -> None:
        """End the connection; nothing is asked any more."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._connecting
        if self._line is not None:
            self._line.end(ConnectionError("closed"))
