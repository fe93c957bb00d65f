"""Bounds on how long parts of requests take, for a microsecond each: one look at all of them, again and again.

`asyncio.timeout` makes a timer for each block; here the blocks under way are looked at together, so that one that takes
too long is ended up to `TICK` later.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

TICK = 0.05
"""Seconds between two looks."""


class _Block:
    """One bounded `with` block of a task."""

    __slots__ = ("_all", "fired", "task", "until")

    def __init__(self, all_of_them: set[_Block], until: float) -> None:
        self._all, self.until = all_of_them, until
        self.fired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self._all.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, bad: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._all.discard(self)
        # cancelled here, and by nobody else at the same time
        if self.fired and self.task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from bad


class Deadlines:
    """The bounded blocks of one event loop."""

    def __init__(self) -> None:
        self._blocks: set[_Block] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> _Block:
        """A `with` block of the running task that raises `TimeoutError` where it takes longer."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self.close()
            self._loop = loop
            self._look()
        return _Block(self._blocks, loop.time() + seconds)

    def close(self) -> None:
        """End the looks."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop = None
        self._blocks = set()

    def _look(self) -> None:
        assert self._loop is not None
        now = self._loop.time()
        for block in [block for block in self._blocks if block.until < now and not block.fired]:
            block.fired = True
            block.task.cancel()
        self._timer = self._loop.call_later(TICK, self._look)
