"""What some online stores can do beyond the least, each power a small protocol that the core asks a store for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from headwater.types import ConsistencyLevel
from headwater.values import Value

UNREAD = b""
"""Stands for a row that could not be read in time, or from its part of the store; its values are UNAVAILABLE."""


class Part(Protocol):
    """One part of a store that keeps an entry of its own, true of the rows of that part.

    Attributes:
        entry: what it has; None: nothing.
    """

    entry: bytes | None

    def speaks_for(self, key: bytes) -> bool:
        """Whether the entry is true of a row under this key that is missing; one that is there came with its own."""
        ...


class Parted(bytes):
    """What a read gives under a fill record's key where parts of the store have one each; as bytes it is `UNREAD`.

    Attributes:
        parts: key of each row that was read with it → its part.
    """

    parts: Mapping[bytes, Part]

    def __new__(cls, parts: Mapping[bytes, Part]) -> Parted:
        made = super().__new__(cls)
        made.parts = parts
        return made


class Reading(Value, frozen=True):
    """Rows, and where in the store's history they lie.

    Attributes:
        rows: the bytes under each key, None where there is none, `UNREAD` where that is not known; in order.
        marks: part of the store → how far it was when the rows were read. Those of a level that covers the session's
            marks (all that need a session) take their place.
    """

    rows: list[bytes | None]
    marks: Mapping[str, int]


@runtime_checkable
class LeveledReads(Protocol):
    """A store of several nodes, whose reads differ by level."""

    def read(
        self,
        keys: Sequence[bytes],
        level: ConsistencyLevel,
        marks: Mapping[str, int] | None,
        deadline: float | None = None,
    ) -> Reading:
        """The bytes under each key, as `multi_get` (which is strong), by a level's guarantee.

        Args:
            keys: order and repeats are kept.
            level: one of the store's.
            marks: what the session has seen; never None for a level that needs a session. None: there is no session,
                the marks of the answer may be empty. An eventual read with a session need not cover its marks, but
                gives those of the rows.
            deadline: seconds this may take; rows not there by then are `UNREAD`. None: the store's own time-outs.

        Raises:
            ConsistencyLost: the marks are of a history that the store has lost; carries the marks of a fresh session.
            Unavailable: no node that the level allows answers.
        """
        ...


@runtime_checkable
class Replicated(Protocol):
    """A store that can say how far its nodes are."""

    def marks(self) -> Mapping[str, int]:
        """How far the store is: every write acknowledged before this call is at or below."""
        ...

    def wait(self, replicas: int, timeout: float) -> int:
        """Wait until so many replicas have every write acknowledged before this call; how many have."""
        ...

    def lag(self, marks: Mapping[str, int] | None = None) -> Mapping[str, int]:
        """Replica → how far behind it is, in the units of marks; -1 where it does not answer, or has another history.

        Args:
            marks: behind these, 0 where it covers them; None: behind the primary now.

        Raises:
            ConsistencyLost: the marks are of a history that the store has lost.
            Unavailable: no primary answers, and the replicas alone cannot tell.
        """
        ...


@runtime_checkable
class NotedWrites(Protocol):
    """A store of several nodes whose answer to a write says what it left behind, so that nobody need be asked."""

    def last_write(self) -> Mapping[str, int] | None:
        """What this thread's last write left behind, as marks for `Replicated.lag` alone: no session may take them.

        None: nothing was written, or the store did not say; compare with how far it is now.
        """
        ...


@runtime_checkable
class Provisioned(Protocol):
    """A store that needs something made before its first write, such as a table; `apply` asks for it."""

    def provision(self) -> None:
        """Make what is not there yet; what is there stays as it is.

        Raises:
            StoreReadOnly, Unavailable: it cannot be made.
            ConfigError: what is there is not the store's, or nothing may be made.
        """
        ...


@runtime_checkable
class Removable(Protocol):
    """A store whose files may be removed under a process that uses it: its reads fail until somebody fills it again."""

    @property
    def files(self) -> str:
        """The folder of its files."""
        ...

    def is_there(self) -> bool:
        """Whether its files are there, or this process has opened it: else the next read makes an empty one."""
        ...

    def begin_again(self) -> None:
        """Begin with an empty store where the files were removed: before a write, which needs none of what was there.

        Raises:
            StoreReadOnly, Unavailable: it cannot be made.
        """
        ...


@runtime_checkable
class Movable(Protocol):
    """A store of several parts between which keys move, with their rows."""

    def narrowed(self, keys: Sequence[bytes], epoch: tuple[bytes, bytes]) -> tuple[bytes, set[bytes]]:
        """An epoch without what has moved since it began: within it nothing is put, or said, of that.

        Args:
            keys: some keys.
            epoch: the token's key, and what `OnlineStore.epoch` gave, which holds.

        Returns:
            The narrower epoch, and the keys that are not in it.
        """
        ...


@runtime_checkable
class Erasing(Protocol):
    """A store whose files on this host keep bytes of rows that were replaced or removed, and can be rid of them."""

    def erase_remains(self) -> None:
        """Leave nothing in the store's files of what was replaced or removed before this call.

        Raises:
            Unavailable, StorageFull: some may be left; the rows are as they were.
        """
        ...


@runtime_checkable
class Timed(Protocol):
    """A store with a clock of its own, by which `until` is compared in the end: hosts whose clocks differ share it."""

    def time(self) -> int:
        """The time by the store's own clock, microseconds since 1970.

        Raises:
            Unavailable: the store does not answer.
        """
        ...


@runtime_checkable
class Evicting(Protocol):
    """A store whose servers may be set to drop rows that never expire when their memory is full."""

    def evicting(self) -> Sequence[str]:
        """The servers that are set so, each with the setting; none where no server is.

        Raises:
            Unavailable: a server does not answer.
        """
        ...


@runtime_checkable
class AsyncReads(Protocol):
    """The reads of a store on an asynchronous client, of one event loop; nothing here blocks it."""

    async def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """As `OnlineStore.multi_get`."""
        ...

    async def read(
        self,
        keys: Sequence[bytes],
        level: ConsistencyLevel,
        marks: Mapping[str, int] | None,
        deadline: float | None = None,
    ) -> Reading:
        """As `LeveledReads.read`."""
        ...

    async def close(self) -> None:
        """Release the client; closing twice is a no-op."""
        ...


@runtime_checkable
class Begun(Protocol):
    """Asynchronous reads that can begin one without a task: where nothing stands between the keys and the rows."""

    def begin(self, keys: Sequence[bytes], took: Callable[[list[bytes | None] | None], None]) -> bool:
        """Begin an eventual read.

        Args:
            keys: order and repeats are kept.
            took: is given the rows later, once, never within this call; None: `AsyncReads.read` says why there are
                none. It raises nothing.

        Returns:
            Whether it was begun; else `took` is not called.
        """
        ...


@runtime_checkable
class Immediate(Protocol):
    """Asynchronous reads of a store on this machine, whose rows are there at once."""

    def now(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """As `OnlineStore.multi_get`."""
        ...


@runtime_checkable
class Asynchronous(Protocol):
    """A store with an asynchronous client."""

    def asynchronous(self) -> AsyncReads:
        """Reads for the running event loop; who asks closes them."""
        ...
