"""A TCP proxy that a test places between two ends: it can hold back, delay and cut what passes through it."""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.servers.closing import Closing

CHUNK = 65_536


class _Direction:
    """One way of one connection; its thread reads a chunk, waits as long as the proxy says, and passes it on."""

    def __init__(self, connection: _Connection, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        self._connection, self._source, self._sink, self._answers = connection, source, sink, answers
        threading.Thread(target=self._run, daemon=True, name="proxy").start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._source.recv(CHUNK):
                allowed = self._connection.proxy._pass(self._connection, len(data), self._answers)
                self._sink.sendall(data[:allowed])
                if allowed < len(data):
                    break
        self._connection.close()


class _Connection:
    """A client's connection and the one to the target that it stands for."""

    def __init__(self, proxy: Proxy, client: socket.socket, target: socket.socket) -> None:
        self.proxy, self._ends = proxy, (client, target)
        self.open = True
        for end in self._ends:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _Direction(self, client, target, answers=False)
        _Direction(self, target, client, answers=True)

    def close(self) -> None:
        self.open = False
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.proxy._forget(self)


class Proxy(Closing):
    """Listens on a free port of 127.0.0.1 and passes everything on to a target, on threads of its own.

    Whoever connects here is the client: between a replica and its primary that is the replica, so that *answers* are
    the replication stream. `with` or `close()` ends it.

    Args:
        port: the target's port on 127.0.0.1.

    Attributes:
        port: the port it listens on.
        connections: how many were made through it so far.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._state = threading.Condition()
        self._held = False
        self._delay = 0.0
        self._left: int | None = None
        self._refused = False
        self._live: set[_Connection] = set()
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True, name="proxy")
        self._thread.start()

    def hold(self) -> None:
        """Keep back every answer that the target sends from now on, until `resume`; requests still pass."""
        with self._state:
            self._held = True

    def resume(self) -> None:
        """Let everything pass again: what was held back first, then what comes; connections are taken again."""
        with self._state:
            self._held, self._delay, self._left, self._refused = False, 0.0, None, False
            self._state.notify_all()

    def delay(self, seconds: float) -> None:
        """Let each answer pass so much later."""
        self._delay = seconds

    def cut(self) -> None:
        """Break every connection now; new ones are taken."""
        for connection in self._all():
            connection.close()

    def cut_after(self, count: int) -> None:
        """Break a connection in the middle of an answer, once so many more bytes of answers (of all) have passed."""
        with self._state:
            self._left = count

    def refuse(self) -> None:
        """Break every connection now, and every new one at once, until `resume`."""
        self._refused = True
        self.cut()

    def close(self) -> None:
        """End it and every connection through it."""
        self._refused = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.resume()
        self.cut()
        self._thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._refused:
                    client.close()
                    continue
                try:
                    target = socket.create_connection(("127.0.0.1", self._target), timeout=2)
                except OSError:
                    client.close()
                    continue
                target.settimeout(None)
                with self._state:
                    self.connections += 1
                    self._live.add(_Connection(self, client, target))

    def _all(self) -> list[_Connection]:
        with self._state:
            return list(self._live)

    def _forget(self, connection: _Connection) -> None:
        with self._state:
            self._live.discard(connection)
            self._state.notify_all()

    def _pass(self, connection: _Connection, count: int, answers: bool) -> int:
        """How many of some bytes may pass now; waits while they are held back."""
        if not answers:
            return count
        with self._state:
            if self._delay:
                self._state.wait_for(lambda: not connection.open, self._delay)
            self._state.wait_for(lambda: not self._held or not connection.open)
            if self._left is None:
                return count
            allowed = min(count, self._left)
            if allowed < count:
                self._left = None
            else:
                self._left -= count
            return allowed
