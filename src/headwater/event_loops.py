"""What event loops have: one thing each, which ends with the loop; and threads for what would block them."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Generic, ParamSpec, TypeVar

from headwater import forks

T = TypeVar("T")
P = ParamSpec("P")


class _Held(Generic[T]):
    """One of these, which ends with its event loop.

    A loop that shuts down (as `asyncio.run` does at its end) closes the asynchronous generators that were begun on it:
    so one of them holds the thing.
    """

    def __init__(self, thing: T, end: Callable[[T], Awaitable[object]]) -> None:
        self.thing, self._end = thing, end
        self._holding = self._hold()
        with suppress(StopIteration):
            self._holding.__anext__().send(None)

    async def _hold(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._end(self.thing)

    async def close(self) -> None:
        """End it; twice is a no-op."""
        await self._holding.aclose()


class PerLoop(forks.OfOneProcess, Generic[T]):
    """One thing for each event loop, made when it is first asked for; a child of a fork has none.

    Args:
        make: makes it, on the running loop.
        end: ends it, on its loop.
    """

    def __init__(self, make: Callable[[], T], end: Callable[[T], Awaitable[object]]) -> None:
        self._make, self._end = make, end
        self._held: dict[asyncio.AbstractEventLoop, _Held[T]] = {}
        forks.after_fork(self, PerLoop._in_child)

    def _in_child(self) -> None:
        # to end what is of the parent's event loop would take its sockets from that loop
        forks.abandon(self._held)
        self._held = {}

    def get(self) -> T:
        """The running loop's."""
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is None:
            for other in [other for other in self._held if other.is_closed()]:
                self._held.pop(other, None)
            held = self._held[loop] = _Held(self._make(), self._end)
        return held.thing

    def existing(self) -> T | None:
        """What `get` made for the running loop; None where it was not asked for there."""
        held = self._held.get(asyncio.get_running_loop())
        return None if held is None else held.thing

    async def close(self) -> None:
        """End those of every loop; twice is a no-op."""
        held, self._held = self._held, {}
        here = asyncio.get_running_loop()
        for loop, one in held.items():
            if loop is here:
                await one.close()
            elif loop.is_running():
                # of another thread
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(one.close(), loop))


class Threads:
    """Threads of one purpose, for all event loops of a process: work that blocks on them delays no other purpose's.

    Args:
        purpose: names the threads.
        most: how many; what is more waits for one of them.
    """

    def __init__(self, purpose: str, most: int) -> None:
        self._purpose, self._most = purpose, most
        self._lock = forks.lock()
        self._pool: ThreadPoolExecutor | None = None
        forks.after_fork(self, Threads._in_child)

    def _in_child(self) -> None:
        forks.abandon(self._pool)
        self._pool = None

    async def run(self, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Call a function on one of the threads; as `asyncio.to_thread`, which has one pool for everything.

        A call that has begun goes on to its end where the task is cancelled.
        """
        call = partial(contextvars.copy_context().run, partial(work, *args, **options))
        return await asyncio.get_running_loop().run_in_executor(self._executor(), call)

    def _executor(self) -> ThreadPoolExecutor:
        pool = self._pool
        if pool is None:
            with self._lock:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(self._most, thread_name_prefix=f"headwater-{self._purpose}")
                pool = self._pool
        return pool


READS = Threads("reads", 16)
"""For reads of online stores whose client blocks."""
WRITES = Threads("writes", 8)
"""For writes and deletes, which may wait long for a lock."""
RUNS = Threads("runs", 8)
"""For changes of the registry, materialize and history, which take as long as they take."""
LOOKUPS = Threads("look-ups", 8)
"""For looks at the registry: definitions, API keys, secrets of sessions."""
REPORTS = Threads("reports", 4)
"""For reports, which ask every store: status and metrics."""


def settle(future: asyncio.Future[T], answer: T | BaseException) -> None:
    """Give a future its result, or the error that it ends with; one that was cancelled stays as it is."""
    if future.done():
        return
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)
