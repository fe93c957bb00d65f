"""Connections from the socket that the workers share: each takes one where no other worker has fewer."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from headwater.serving.slots import Shares

PATIENCE = 0.01
"""Seconds that a connection is left to a worker which has fewer."""
_LOOK = 0.001
"""Seconds between two looks at whether it has done so."""
_PAUSE = 1.0
"""Seconds without new connections where the process has no more file descriptors."""


class Acceptor:
    """Takes connections for one worker, in the place of an event loop's server.

    The kernel wakes every worker for a connection, and the first to run would take all that wait: a client that opens
    eight at once would have one worker answer them all while the others have none.

    Args:
        listening: the socket, bound and listening.
        make: makes the protocol of a connection.
        tls: its certificate; None: no TLS.
        open_ones: this worker's connections.
        shares: how many each worker has.
    """

    def __init__(
        self,
        listening: socket.socket,
        make: Callable[[], asyncio.BaseProtocol],
        tls: ssl.SSLContext | None,
        open_ones: Collection[Any],
        shares: Shares,
    ) -> None:
        self._listening, self._make, self._tls = listening, make, tls
        self._open_ones, self._shares = open_ones, shares
        self._loop = asyncio.get_running_loop()
        self._left = 1
        """How many are taken once others have left one: twice as many each time, since they may not answer."""
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._beginning: set[asyncio.Task[Any]] = set()
        listening.setblocking(False)
        self.note()
        self._listen()

    def note(self) -> None:
        """Tell the other workers how many connections this one has."""
        self._shares.note(len(self._open_ones) + len(self._beginning))

    def close(self) -> None:
        """Take no more connections; twice is a no-op."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
        self._shares.leave()

    async def wait_closed(self) -> None:
        """As an event loop's server: connections that have just been taken begin."""
        if self._beginning:
            await asyncio.wait(self._beginning)

    def _listen(self) -> None:
        self._timer = None
        self._loop.add_reader(self._listening, self._ready)

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._listening)
        self._timer = self._loop.call_later(seconds, then)

    def _ready(self) -> None:
        """A connection is there, unless another worker has taken it."""
        self.note()
        if self._shares.has_most:
            self._until = self._loop.time() + PATIENCE
            self._wait(_LOOK, self._look)
        else:
            self._left = 1
            self._accept()

    def _look(self) -> None:
        """Whether others have taken what was left to them."""
        if not self._shares.has_most:
            self._listen()
        elif self._loop.time() >= self._until:
            self._nobody_else()
        else:
            self._timer = self._loop.call_later(_LOOK, self._look)

    def _nobody_else(self) -> None:
        """Take what others have left."""
        self._listen()
        for _ in range(self._left):
            if not self._accept():
                self._left = 1
                return
        self._left *= 2

    def _accept(self) -> bool:
        """Take a connection; whether there was one."""
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError:
            # too many open files, say: those that wait are taken later
            self._wait(_PAUSE, self._listen)
            return False
        connection.setblocking(False)
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._begin(connection))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)
        self.note()
        return True

    async def _begin(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make, connection, ssl=self._tls)
        except (TimeoutError, OSError):
            # the client went away, or its handshake failed
            connection.close()
