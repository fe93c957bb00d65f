"""Bounds on how long parts of requests take, for a microsecond each: one look at all of them, again and again.

`asyncio.timeout` makes a timer for each block; here the blocks under way are looked at together, so that one that takes
too long is ended up to `TICK` later.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Protocol

TICK = 0.05
"""Seconds between two looks."""


class Bounded(Protocol):
    """What ends at an instant of the event loop's clock, unless it ended before.

    Attributes:
        until: the instant.
    """

    until: float

    def over(self) -> None:
        """Its time is over; called once."""
        ...


class Block:
    """One bounded `with` block of a task."""

    __slots__ = ("_all", "fired", "task", "until")

    def __init__(self, all_of_them: dict[Bounded, None], task: asyncio.Task[Any], until: float) -> None:
        self._all, self.task, self.until = all_of_them, task, until
        self.fired = False

    def end(self) -> None:
        """Let its time be over; it ends with the next look."""
        self.until = float("-inf")

    def over(self) -> None:
        """Cancel the task."""
        self.fired = True
        self.task.cancel()

    def __enter__(self) -> None:
        self._all[self] = None

    def __exit__(
        self, kind: type[BaseException] | None, bad: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._all.pop(self, None)
        # cancelled here, and by nobody else at the same time
        if self.fired and self.task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from bad


class Deadlines:
    """The bounded blocks of one event loop, and what else is bounded there."""

    def __init__(self) -> None:
        self._all: dict[Bounded, None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> Block:
        """A `with` block of the running task that raises `TimeoutError` where it takes longer."""
        # naming the loop spares a second look for it
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._see_to(loop)
        return Block(self._all, task, loop.time() + seconds)

    def add(self, bounded: Bounded, loop: asyncio.AbstractEventLoop) -> None:
        """Have something end that is no block of a task; `discard` once it has ended by itself."""
        if self._loop is not loop:
            self._see_to(loop)
        self._all[bounded] = None

    def discard(self, bounded: Bounded) -> None:
        """It ended; twice is a no-op."""
        self._all.pop(bounded, None)

    def _see_to(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            self.close()
            self._loop = loop
            self._look()

    def close(self) -> None:
        """End the looks."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop = None
        self._all = {}

    def _look(self) -> None:
        assert self._loop is not None
        now = self._loop.time()
        for bounded in [bounded for bounded in self._all if bounded.until < now]:
            if bounded in self._all:
                del self._all[bounded]
                bounded.over()
        self._timer = self._loop.call_later(TICK, self._look)
