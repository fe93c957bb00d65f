"""Connections of a client of an online store: how many are open, and what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable
from weakref import WeakSet

from headwater import forks
from headwater.values import Value


class ConnectionCounts(Value, frozen=True):
    """The connections of a client just now.

    Attributes:
        idle: open, for whoever asks next.
        in_use: on which something is asked.
    """

    idle: int = 0
    in_use: int = 0

    @classmethod
    def total(cls, counts: Iterable[ConnectionCounts]) -> ConnectionCounts:
        """Of several clients together."""
        listed = list(counts)
        return cls(sum(each.idle for each in listed), sum(each.in_use for each in listed))


@runtime_checkable
class Pooled(Protocol):
    """A store, or its reads on an event loop, that keeps connections."""

    def connections(self) -> ConnectionCounts:
        """How many it has now."""
        ...


class MadeConnections:
    """The connections that a client has made and not dropped; nothing is noted while they are used.

    Args:
        is_open: whether one is connected.
    """

    def __init__(self, is_open: Callable[[Any], bool]) -> None:
        self._is_open = is_open
        self._lock = forks.lock()
        self._made: WeakSet[Any] = WeakSet()

    def add(self, connection: Any) -> Any:
        """Note a connection that was made; it."""
        with self._lock:
            self._made.add(connection)
        return connection

    def counts(self, idle: int) -> ConnectionCounts:
        """How many there are, of which so many are idle."""
        with self._lock:
            made = list(self._made)
        return ConnectionCounts(idle, max(sum(map(self._is_open, made)) - idle, 0))

    def clear(self) -> None:
        """Forget them, in a child of a fork: they are the parent's."""
        self._made = WeakSet()
