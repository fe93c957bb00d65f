"""What a worker does again and again goes on after a round that failed."""

from __future__ import annotations

import asyncio
import io

from headwater.errors import Unavailable
from headwater.registry.api_keys import APIKey
from headwater.serving.access import KeyRing
from headwater.serving.logs import Log
from headwater.serving.repeated import repeat
from tests.unit.serving.conftest import NOON


def test_a_round_that_fails_is_logged_and_ends_nothing() -> None:
    lines = io.StringIO()
    errors = [None, ValueError("7"), KeyError("k"), Unavailable("away"), None, ValueError("8"), None]
    done = []

    async def step() -> None:
        error = errors[len(done)]
        done.append(error)
        if len(done) == len(errors):
            raise asyncio.CancelledError
        if error is not None:
            raise error

    async def until_cancelled() -> None:
        try:
            await repeat(Log(stream=lines), "a step", 0.0, step)
        except asyncio.CancelledError:
            return

    asyncio.run(until_cancelled())
    assert len(done) == len(errors)
    logged = lines.getvalue().splitlines()
    # those that fail one after the other have one line, and no line has the error's own words
    assert len(logged) == 2 and all("task=a step" in line and "error=ValueError" in line for line in logged)


def test_keys_are_read_again_after_a_row_that_cannot_be_read() -> None:
    reads: list[int] = []
    all_read = asyncio.Event()

    def load() -> list[APIKey]:
        reads.append(1)
        if len(reads) == 2:
            raise ValueError("a row of the table")
        return []

    async def step() -> None:
        try:
            await ring.read()
        finally:
            if len(reads) >= 4:
                all_read.set()

    async def several() -> None:
        task = asyncio.create_task(repeat(Log(stream=io.StringIO()), "reading API keys", 0.0, step))
        await asyncio.wait_for(all_read.wait(), 60)
        task.cancel()

    ring = KeyRing(load, lambda: NOON)
    asyncio.run(several())
