"""One Redis node, synchronous and asynchronous: pipelines over connections that are kept, and errors in our words.

The only file that imports redis-py. It speaks to the connections themselves: a pipeline is one write and as many
answers, and a connection that was left in mid-answer (a time-out, a cancelled task) is never used again.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from redis.asyncio.connection import Connection as AsyncConnection
from redis.asyncio.connection import SSLConnection as AsyncSSLConnection
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.retry import Retry

from headwater import forks
from headwater.deferred import deferred
from headwater.errors import FormatError, StorageFull, StoreError, Unavailable, was_closed
from headwater.online.base import too_late
from headwater.online.connections import ConnectionCounts, MadeConnections
from headwater.online.guard import NEWER_ROW
from headwater.online.stores.redis.errors import Moved, NotPrimary, NotReached
from headwater.online.stores.redis.scripts import LATE, NEWER, Script
from headwater.online.stores.redis.until import ServerTime, Until, elapsed
from headwater.online.stores.redis.url import Address, RedisLocation

if TYPE_CHECKING:
    from headwater.online.stores.redis import lines
else:
    lines = deferred("headwater.online.stores.redis.lines")

Command = tuple[Any, ...]
_AWAY = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    OSError,
)
_NOT_NOW_ERRORS = (redis.exceptions.ClusterDownError, redis.exceptions.MasterDownError)
_NOT_NOW = ("MASTERDOWN", "LOADING", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY")


def _options(location: RedisLocation, sentinel: bool) -> dict[str, Any]:
    """What connections are made with."""
    user = location.sentinel_user if sentinel else location.user
    password = location.sentinel_password if sentinel else location.password
    options: dict[str, Any] = {
        "db": 0 if sentinel else location.db,
        "username": user or None,
        "password": password or None,
        "socket_timeout": location.timeout,
        "socket_connect_timeout": location.connect_timeout,
        "protocol": 2,
    }
    if location.tls:
        options |= {
            "ssl_cert_reqs": "required" if location.verify else "none",
            "ssl_check_hostname": location.verify,
            "ssl_ca_certs": location.ca or None,
            "ssl_certfile": location.cert or None,
            "ssl_keyfile": location.key or None,
        }
    return options


def _elsewhere(bad: redis.exceptions.ResponseError) -> Exception:
    """What a node of a cluster says of another one: older clients have classes for it in their cluster's part alone."""
    kind, _, rest = str(bad).partition(" ")
    if kind == "ASK":
        return redis.exceptions.AskError(rest)
    if kind == "MOVED":
        return redis.exceptions.MovedError(rest)
    return redis.exceptions.TryAgainError(str(bad)) if kind == "TRYAGAIN" else bad


def translated(bad: Exception, address: Address) -> Exception:
    """An error of the client or the server in our words."""
    where = f"redis {address[0]}:{address[1]}"
    if type(bad) is redis.exceptions.ResponseError:
        bad = _elsewhere(bad)
    text = str(bad)
    if isinstance(bad, redis.exceptions.AuthenticationError):
        return StoreError(f"{where}: {text.removesuffix('.')}; check user and password in [online] url")
    if isinstance(bad, redis.exceptions.AskError):
        # of redis-py's classes MOVED is a kind of ASK
        asking = not isinstance(bad, redis.exceptions.MovedError)
        # a node that does not know another one's host names none: it is its own
        return Moved(f"{where}: slot {text} is elsewhere", (bad.host or address[0], bad.port), asking)
    if isinstance(bad, redis.exceptions.TryAgainError):
        return Moved(f"{where}: {text}")
    if isinstance(bad, redis.exceptions.OutOfMemoryError) or text.startswith("OOM"):
        return StorageFull(f"{where}: {text}; raise maxmemory")
    if NEWER in text:
        return FormatError(NEWER_ROW)
    if LATE in text:
        return too_late(where)
    if isinstance(bad, redis.exceptions.ReadOnlyError) or "READONLY" in text or "read only replica" in text:
        return NotPrimary(f"{where}: {text}")
    if isinstance(bad, (*_AWAY, *_NOT_NOW_ERRORS)) or text.startswith(_NOT_NOW):
        return Unavailable(f"{where}: {text or type(bad).__name__}")
    return StoreError(f"{where}: {text or type(bad).__name__}")


def _checked(answers: list[Any], address: Address, each: bool = False) -> list[Any]:
    for i, answer in enumerate(answers):
        if isinstance(answer, Exception):
            bad = translated(answer, address)
            if not each or not isinstance(bad, Moved):
                raise bad from answer
            answers[i] = bad
    return answers


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
        self._options = _options(location, sentinel)
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
        connection, used = self._take(sound=not _repeatable(commands))
        pending = Pending(commands, timeout, connection, used)
        try:
            self._start(pending)
        except (*_AWAY, redis.exceptions.RedisError) as bad:
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
            return _checked(answers, self.address, each)
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
                if not pending.used or late or not _repeatable(pending.commands):
                    raise
                self._forget()
                again = Pending(pending.commands, pending.timeout, self._take()[0], False)
                try:
                    self._start(again)
                except BaseException:
                    again.connection.disconnect()
                    raise
                return self._finish(again)
        except (*_AWAY, redis.exceptions.RedisError) as bad:
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
        except (*_AWAY, redis.exceptions.RedisError) as bad:
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


_ASKING = frozenset(
    {"GET", "MGET", "INFO", "ROLE", "HMGET", "HLEN", "SCAN", "SENTINEL", "CLUSTER", "READONLY", "READWRITE", "ASKING"}
)


def _repeatable(commands: Sequence[Command]) -> bool:
    """Whether to send commands twice is the same as once."""
    return all(command[0] in _ASKING for command in commands)


def check_client() -> None:
    """Refuse to read on an event loop without the package that it takes.

    Raises:
        MissingExtra: hiredis is not installed.
    """
    _ = lines.Line


class AsyncNode:
    """The same for one event loop.

    Args:
        location: how to connect.
        address: where it is.
        sentinel: whether it is a Sentinel.
    """

    def __init__(self, location: RedisLocation, address: Address, *, sentinel: bool = False) -> None:
        self.address = address
        self.where = f"redis {address[0]}:{address[1]}"
        self._kind = AsyncSSLConnection if location.tls else AsyncConnection
        self._options = _options(location, sentinel)
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
                if not used or not _repeatable(commands):
                    raise
                answers = await (await self._connected(timeout)).ask(commands, timeout)
            return _checked(answers, self.address, each)
        except (*_AWAY, redis.exceptions.RedisError) as bad:
            raise translated(bad, self.address) from bad

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
