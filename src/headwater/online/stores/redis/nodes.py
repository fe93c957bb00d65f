"""One Redis node for threads: pipelines over connections that are kept.

Only this file, `async_nodes.py` and `answers.py` import redis-py. They speak to the connections themselves: a pipeline
is one write and as many answers, and a connection that was left in mid-answer (a time-out) is never used again.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.retry import Retry

from headwater import forks
from headwater.errors import Unavailable
from headwater.online.connections import ConnectionCounts, MadeConnections
from headwater.online.stores.redis.answers import AWAY, Command, checked, connection_options, repeatable, translated
from headwater.online.stores.redis.errors import NotReached
from headwater.online.stores.redis.scripts import Script
from headwater.online.stores.redis.until import ServerTime, Until, elapsed
from headwater.online.stores.redis.url import Address, RedisLocation


@dataclass(eq=False)
class Pending:
    """Commands that were sent, or failed to be."""

    commands: Sequence[Command]
    timeout: float | None
    connection: Any
    used: bool
    reached: bool = False
    failed: Exception | None = None


@dataclass(eq=False)
class PendingEach:
    """Commands of one slot each that were sent behind the scripts that they call."""

    commands: Sequence[Command]
    scripts: Sequence[Script]
    asking: bool
    loaded: Sequence[Script]
    pending: Pending


class Node:
    """A Redis server, asked over connections of its own; safe to use from several threads, and after a fork.

    Args:
        location: how to connect.
        address: where it is.
        sentinel: whether it is a Sentinel.
    """

    def __init__(self, location: RedisLocation, address: Address, *, sentinel: bool = False) -> None:
        self.address = address
        self.where = f"redis {address[0]}:{address[1]}"
        self._timeout = location.timeout
        self._times: WeakKeyDictionary[Any, ServerTime] = WeakKeyDictionary()
        self._loaded: set[bytes] = set()
        self._kind = SSLConnection if location.tls else Connection
        self._options = connection_options(location, sentinel)
        self._idle: deque[Any] = deque()
        self._made = MadeConnections(lambda connection: connection._sock is not None)
        self._closed = False
        forks.after_fork(self, Node._in_child)

    def _in_child(self) -> None:
        forks.abandon(self._idle)
        self._idle = deque()
        self._made.clear()

    def connections(self) -> ConnectionCounts:
        """Those that are open."""
        return self._made.counts(len(self._idle))

    def _take(self, sound: bool = False) -> tuple[Any, bool]:
        """A connection, and whether it was used before; a sound one is not known to be closed by the server."""
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if not sound or not _ended(connection):
                    return connection, True
                connection.disconnect()
        host, port = self.address
        retry = Retry(NoBackoff(), 0)
        # it may be another process that answers
        self._loaded = set()
        return self._made.add(self._kind(host=host, port=port, retry=retry, **self._options)), False

    def run(self, commands: Sequence[Command], timeout: float | None = None) -> list[Any]:
        """The answers to some commands, sent at once.

        Args:
            commands: name and arguments of each.
            timeout: seconds for each answer; None: as configured.

        Raises:
            Unavailable: the node does not answer, or cannot now.
            StoreError: it refuses a command.
        """
        return self.receive(self.send(commands, timeout))

    def send(self, commands: Sequence[Command], timeout: float | None = None) -> Pending:
        """Send commands; `receive` takes the answers, so that other nodes can be asked meanwhile."""
        # a write is not sent twice: it must not meet a connection that was closed while it was idle
        connection, used = self._take(sound=not repeatable(commands))
        pending = Pending(commands, timeout, connection, used)
        try:
            self._start(pending)
        except (*AWAY, redis.exceptions.RedisError) as bad:
            connection.disconnect()
            pending.failed = bad
        except BaseException:
            connection.disconnect()
            raise
        return pending

    def receive(self, pending: Pending, each: bool = False) -> list[Any]:
        """The answers to what `send` sent; errors as `run`, but for `Moved` with `each`, which are answers."""
        return self._checked(self._received(pending), each)

    def _checked(self, answers: list[Any], each: bool = False) -> list[Any]:
        try:
            return checked(answers, self.address, each)
        except Unavailable:
            # it may have been refused as too late by a server whose clock was set
            self._times.clear()
            raise

    def each(self, commands: Sequence[Command], scripts: Sequence[Script] = (), asking: bool = False) -> list[Any]:
        """The answers to commands of one slot each, `Moved` where it is elsewhere.

        Args:
            commands: name and arguments of each.
            scripts: those that they call; loaded first where the server may lack them.
            asking: their slots are only on their way to this node.
        """
        return self.receive_each(self.send_each(commands, scripts, asking))

    def send_each(
        self,
        commands: Sequence[Command],
        scripts: Sequence[Script] = (),
        asking: bool = False,
        timeout: float | None = None,
    ) -> PendingEach:
        """Send what `each` sends; `receive_each` takes the answers, so that other nodes can be asked meanwhile."""
        load = [script for script in scripts if script.sha not in self._loaded]
        sent = [c for command in commands for c in (("ASKING",), command)] if asking else commands
        pending = self.send([*(("SCRIPT", "LOAD", script.text) for script in load), *sent], timeout)
        return PendingEach(commands, scripts, asking, load, pending)

    def receive_each(self, sent: PendingEach) -> list[Any]:
        """The answers to what `send_each` sent."""
        answers = self._received(sent.pending)
        self._checked(answers[: len(sent.loaded)])
        self._loaded.update(script.sha for script in sent.loaded)
        answers = answers[len(sent.loaded) :]
        if sent.asking:
            answers = answers[1::2]
        unknown = [i for i, answer in enumerate(answers) if isinstance(answer, redis.exceptions.NoScriptError)]
        if unknown and len(sent.loaded) < len(sent.scripts):
            self._loaded = set()
            again = self.each([sent.commands[i] for i in unknown], sent.scripts, sent.asking)
            for i, answer in zip(unknown, again, strict=True):
                answers[i] = answer
        return self._checked(answers, each=True)

    def _received(self, pending: Pending) -> list[Any]:
        try:
            try:
                return self._finish(pending)
            except (redis.exceptions.ConnectionError, OSError) as bad:
                # a connection that was idle may have been closed by the server long ago: nothing was done on it
                late = isinstance(bad, (redis.exceptions.TimeoutError, TimeoutError))
                if not pending.used or late or not repeatable(pending.commands):
                    raise
                self._forget()
                again = Pending(pending.commands, pending.timeout, self._take()[0], False)
                try:
                    self._start(again)
                except BaseException:
                    again.connection.disconnect()
                    raise
                return self._finish(again)
        except (*AWAY, redis.exceptions.RedisError) as bad:
            why = translated(bad, self.address)
            if not pending.reached and isinstance(why, Unavailable):
                why = NotReached(str(why))
            raise why from bad

    def _start(self, pending: Pending) -> None:
        connection = pending.connection
        if pending.timeout is not None and connection._sock is None:
            # the deadline holds for the way there too
            connection.socket_connect_timeout = min(connection.socket_connect_timeout, max(pending.timeout, 1e-4))
            connection.socket_timeout = min(self._timeout, max(pending.timeout, 1e-4))
        connection.connect()
        pending.reached = True
        self._limit(connection, pending.timeout)
        commands = [self._dated(connection, command) for command in pending.commands]
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)

    def _dated(self, connection: Any, command: Command) -> Command:
        """A command as it is sent: an instant at its end by this server's clock."""
        until = command[-1]
        return (*command[:-1], self._time(connection).of(until)) if isinstance(until, Until) else command

    def _time(self, connection: Any) -> ServerTime:
        """The server's clock, asked on each connection, and again from time to time; nothing else may be under way."""
        time = self._times.get(connection)
        if time is None or not time.fresh:
            connection.send_packed_command(connection.pack_commands([("TIME",)]), check_health=False)
            seconds, micros = connection.read_response(disable_decoding=True)
            time = self._times[connection] = ServerTime(int(seconds) * 1_000_000 + int(micros), elapsed())
        return time

    def _finish(self, pending: Pending) -> list[Any]:
        if pending.failed is not None:
            raise pending.failed
        connection, done = pending.connection, False
        try:
            found = [self._answer(connection) for _ in pending.commands]
            self._limit(connection, None)
            done = True
            return found
        finally:
            # failed or interrupted in mid-answer: what is left of the answer must not be taken for another's
            self._give_back(connection, done)

    def _give_back(self, connection: Any, sound: bool) -> None:
        if sound:
            self._idle.append(connection)
            if self._closed:
                self._forget()
        else:
            connection.disconnect()

    def _limit(self, connection: Any, timeout: float | None) -> None:
        sock = getattr(connection, "_sock", None)
        if sock is not None and (timeout is not None or sock.gettimeout() != self._timeout):
            sock.settimeout(self._timeout if timeout is None else max(timeout, 1e-4))

    def _answer(self, connection: Any) -> Any:
        try:
            return connection.read_response(disable_decoding=True)
        except (redis.exceptions.ResponseError, redis.exceptions.ReadOnlyError) as refused:
            return refused

    def script(self, script: Script, commands: Sequence[Command]) -> list[Any]:
        """The answers to calls of one script (keys and values of each), which is loaded where the server lacks it."""
        calls = [("EVALSHA", script.sha, *command) for command in commands]
        found = self._received(self.send(calls))
        unknown = [i for i, answer in enumerate(found) if isinstance(answer, redis.exceptions.NoScriptError)]
        if unknown:
            again = self._received(self.send([("SCRIPT", "LOAD", script.text), *(calls[i] for i in unknown)]))[1:]
            for i, answer in zip(unknown, again, strict=True):
                found[i] = answer
        return self._checked(found)

    def stream(self, script: Script, commands: Iterator[Command], ahead: int) -> Iterator[Any]:
        """The answers to calls of one script, sent while earlier ones are still worked at.

        Args:
            script: is loaded first.
            commands: keys and values of each call.
            ahead: how many may be under way.
        """
        connection, _ = self._take(sound=True)
        done = False
        try:
            connection.connect()
            self._limit(connection, None)
            connection.send_packed_command(
                connection.pack_commands([("SCRIPT", "LOAD", script.text)]), check_health=False
            )
            connection.read_response(disable_decoding=True)
            waiting, bound = 0, dict[Any, int]()
            for command in commands:
                last = command[-1]
                if isinstance(last, Until) and last not in bound:
                    # of all calls the same: it is asked for before the first
                    bound[last] = self._time(connection).of(last)
                call = ("EVALSHA", script.sha, *command[:-1], bound.get(last, last))
                connection.send_packed_command(connection.pack_commands([call]), check_health=False)
                waiting += 1
                if waiting > ahead:
                    yield connection.read_response(disable_decoding=True)
                    waiting -= 1
            for _ in range(waiting):
                yield connection.read_response(disable_decoding=True)
            done = True
        except (*AWAY, redis.exceptions.RedisError) as bad:
            self._times.clear()
            raise translated(bad, self.address) from bad
        finally:
            self._give_back(connection, done)

    def _forget(self) -> None:
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().disconnect()

    def close(self) -> None:
        """End the connections that are idle, and each of the others after its answer."""
        self._closed = True
        self._forget()


def _ended(connection: Any) -> bool:
    """Whether there is something to read on an idle connection: its end, as nobody has asked for an answer."""
    if connection._sock is None:
        return False
    ready = select.poll()
    ready.register(connection._sock, select.POLLIN)
    return bool(ready.poll(0))
