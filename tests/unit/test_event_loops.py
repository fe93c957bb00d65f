"""Threads of one purpose: a purpose whose threads all wait delays no other, and a child of a fork has its own."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from headwater.event_loops import Threads
from tests.children import problem_in_child

ASKED = contextvars.ContextVar("asked", default="")


def name() -> str:
    return threading.current_thread().name


def test_a_purpose_whose_threads_wait_delays_no_other() -> None:
    busy, other, free = Threads("busy", 2), Threads("other", 2), threading.Event()

    async def both() -> None:
        waiting = [asyncio.ensure_future(busy.run(free.wait, 60)) for _ in range(5)]
        try:
            assert (await other.run(name)).startswith("headwater-other")
            assert not any(task.done() for task in waiting)
        finally:
            free.set()
        assert all(await asyncio.gather(*waiting))

    asyncio.run(both())
    # on another event loop too
    assert asyncio.run(busy.run(name)).startswith("headwater-busy")


def test_a_call_has_its_arguments_its_context_and_its_errors() -> None:
    threads = Threads("calls", 1)

    def work(one: int, *, other: int) -> tuple[int, int, str]:
        if other < 0:
            raise ValueError("below 0")
        return one, other, ASKED.get()

    async def call() -> None:
        ASKED.set("here")
        assert await threads.run(work, 1, other=2) == (1, 2, "here")
        with pytest.raises(ValueError, match="below 0"):
            await threads.run(work, 1, other=-1)

    asyncio.run(call())


def test_a_child_of_a_fork_has_threads_of_its_own() -> None:
    threads = Threads("forked", 1)
    assert asyncio.run(threads.run(name))
    assert problem_in_child(lambda: asyncio.run(threads.run(name))) == ""
    assert asyncio.run(threads.run(name))
