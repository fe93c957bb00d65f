"""Reads that come at the same time share one round trip, and each key of small ones is read once."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from headwater import forks
from headwater.deferred import deferred

if TYPE_CHECKING:
    import asyncio

    from headwater import event_loops
else:
    asyncio = deferred("asyncio")
    event_loops = deferred("headwater.event_loops")

Rows = list[bytes | None]
Took: TypeAlias = Callable[[Rows | BaseException], None]
Begin: TypeAlias = Callable[[Sequence[bytes], Callable[[Rows | None], None]], bool]
MOST_KEYS = 512
"""Reads of more keys than this go alone; where so many have come together, those that follow wait for the next trip."""

_SMALL = 16
"""Keys up to which a read shares those that others ask for as well."""

_LOOK = 0.1
"""Seconds after which a read that waits for another's round trip looks whether that is under way."""


class _Batch:
    """Distinct keys of several reads of threads."""

    def __init__(self) -> None:
        self.places: dict[bytes, int] = {}

    def add(self, keys: Sequence[bytes]) -> None:
        places = self.places
        for key in keys:
            places.setdefault(key, len(places))

    def part(self, keys: Sequence[bytes], rows: Rows) -> Rows:
        """The rows of one read."""
        return [rows[self.places[key]] for key in keys]


class _Turn(msgspec.Struct, eq=False):
    """One round trip of threads."""

    batch: _Batch = msgspec.field(default_factory=_Batch)
    done: threading.Event = msgspec.field(default_factory=threading.Event)
    rows: Rows = msgspec.field(default_factory=list)
    failed: BaseException | None = None


class Coalescer:
    """For threads: reads that come while a round trip is under way share the next one, which the first of them runs.

    Args:
        get: one round trip.

    Attributes:
        reads, trips: how many reads came, and how many round trips they took.
    """

    def __init__(self, get: Callable[[Sequence[bytes]], Rows]) -> None:
        self._get = get
        self._lock = forks.lock()
        self._under_way = forks.lock()
        self._next: _Turn | None = None
        self.reads = 0
        self.trips = 0
        forks.after_fork(self, Coalescer._in_child)

    def _in_child(self) -> None:
        # nobody is left to run it
        self._next = None

    def __call__(self, keys: Sequence[bytes]) -> Rows:
        """The rows of some keys, in order."""
        if len(keys) > MOST_KEYS:
            return self._get(keys)
        with self._lock:
            self.reads += 1
            turn, first = self._next, False
            if turn is None or len(turn.batch.places) > MOST_KEYS:
                turn = self._next = _Turn()
                first = True
            turn.batch.add(keys)
        if first:
            self._run(turn)
        else:
            while not turn.done.wait(_LOOK):
                if not self._under_way.locked():
                    # who was to run it was interrupted before it began, or before it could say that it was done
                    self._run(turn)
            if turn.failed is not None and not isinstance(turn.failed, Exception):
                # who ran it was interrupted, by Ctrl-C say: that is not said to the others
                return self._get(keys)
        if turn.failed is not None:
            raise turn.failed
        return turn.batch.part(keys, turn.rows)

    def _run(self, turn: _Turn) -> None:
        try:
            with self._under_way:
                if turn.done.is_set():
                    return
                with self._lock:
                    self.trips += 1
                    self._begin(turn)
                turn.rows = self._get(list(turn.batch.places))
        except BaseException as bad:
            turn.failed = bad
        finally:
            # also where it was interrupted before its turn came: nobody joins it any more, and those that did go on
            with self._lock:
                self._begin(turn)
            turn.done.set()

    def _begin(self, turn: _Turn) -> None:
        if self._next is turn:
            self._next = None


class _LoopTurn:
    """The reads of one turn of an event loop, each with what takes its rows.

    Keys of small reads are asked for once; to look for those of larger ones among others costs more than to ask again.
    """

    def __init__(self) -> None:
        self._small: list[tuple[Sequence[bytes], Took]] = []
        self._large: list[tuple[Sequence[bytes], Took]] = []
        self._places: dict[bytes, int] = {}
        self.size = 0

    def add(self, keys: Sequence[bytes], took: Took) -> None:
        (self._small if len(keys) <= _SMALL else self._large).append((keys, took))
        self.size += len(keys)

    def keys(self) -> Sequence[bytes]:
        """Those of all reads."""
        if not self._small and len(self._large) == 1:
            return self._large[0][0]
        if not self._large and len(self._small) == 1:
            return self._small[0][0]
        self._places = {key: i for i, key in enumerate(dict.fromkeys(key for keys, _ in self._small for key in keys))}
        asked = list(self._places)
        for keys, _ in self._large:
            asked += keys
        return asked

    def give(self, rows: Rows) -> None:
        """Give each read its rows, of those under `keys()`."""
        if len(self._small) + len(self._large) == 1:
            for _, took in (*self._small, *self._large):
                took(rows)
            return
        places, start = self._places, len(self._places)
        for keys, took in self._small:
            took([rows[places[key]] for key in keys])
        for keys, took in self._large:
            took(rows[start : start + len(keys)])
            start += len(keys)

    def fail(self, bad: BaseException) -> None:
        """Give each read the error."""
        for _, took in (*self._small, *self._large):
            took(bad)


class AsyncCoalescer:
    """For tasks of one event loop: reads that come in one turn of it share a round trip; none waits for another's.

    A task that is cancelled leaves the round trip to the others. One that fails, fails for all who share it.

    Args:
        get: one round trip.
        begin: begins one without a task, as `powers.Begun.begin`; where it cannot, or gives no rows, `get` does.

    Attributes:
        reads, trips: how many reads came, and how many round trips they took.
    """

    def __init__(self, get: Callable[[Sequence[bytes]], Awaitable[Rows]], begin: Begin | None = None) -> None:
        self._get, self._begin_trip = get, begin
        # looked up once: `asyncio` is loaded at its first use
        self._loop = asyncio.get_running_loop
        self._next: _LoopTurn | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self.reads = 0
        self.trips = 0
        forks.after_fork(self, AsyncCoalescer._in_child)

    def _in_child(self) -> None:
        forks.abandon(self._next, self._under_way)
        self._next, self._under_way = None, set()

    async def __call__(self, keys: Sequence[bytes]) -> Rows:
        """The rows of some keys, in order."""
        if len(keys) > MOST_KEYS:
            return await self._get(keys)
        coming: asyncio.Future[Rows] = self._loop().create_future()
        self.join(keys, partial(event_loops.settle, coming))
        return await coming

    def join(self, keys: Sequence[bytes], took: Took) -> None:
        """As a call, for who does not wait.

        Args:
            keys: whose rows are wanted, in order.
            took: is given the rows, or the error, later; once, and never within this call. It raises nothing.
        """
        loop, turn = self._loop(), self._next
        if len(keys) > MOST_KEYS:
            alone = _LoopTurn()
            alone.add(keys, took)
            self._go(loop, alone)
            return
        self.reads += 1
        if turn is None or turn.size > MOST_KEYS:
            turn = self._next = _LoopTurn()
            loop.call_soon(self._begin, loop, turn)
        turn.add(keys, took)

    def _begin(self, loop: asyncio.AbstractEventLoop, turn: _LoopTurn) -> None:
        if self._next is turn:
            self._next = None
        self.trips += 1
        self._go(loop, turn)

    def _go(self, loop: asyncio.AbstractEventLoop, turn: _LoopTurn) -> None:
        keys = turn.keys()
        if self._begin_trip is None or not self._begin_trip(keys, partial(self._came, loop, turn, keys)):
            self._run_in_task(loop, turn, keys)

    def _came(self, loop: asyncio.AbstractEventLoop, turn: _LoopTurn, keys: Sequence[bytes], rows: Rows | None) -> None:
        if rows is None:
            self._run_in_task(loop, turn, keys)
        else:
            turn.give(rows)

    def _run_in_task(self, loop: asyncio.AbstractEventLoop, turn: _LoopTurn, keys: Sequence[bytes]) -> None:
        task = loop.create_task(self._run(turn, keys))
        # a loop itself holds its tasks but weakly
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _run(self, turn: _LoopTurn, keys: Sequence[bytes]) -> None:
        try:
            rows = await self._get(keys)
        except BaseException as bad:
            turn.fail(bad)
            if not isinstance(bad, Exception):
                raise
        else:
            turn.give(rows)
