"""Blocks that take too long end with a TimeoutError, others are left alone."""

import asyncio

import pytest

from headwater.serving.deadlines import Deadlines


def test_a_block_that_takes_too_long_ends_and_the_task_goes_on() -> None:
    async def run() -> str:
        deadlines = Deadlines()
        with deadlines.within(10):
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError), deadlines.within(0.1):
            await asyncio.sleep(60)
        await asyncio.sleep(0.2)
        with deadlines.within(10):
            await asyncio.sleep(0.1)
        deadlines.close()
        return "on"

    assert asyncio.run(asyncio.wait_for(run(), 10)) == "on"


def test_an_error_of_the_block_and_a_cancellation_from_outside_are_what_they_are() -> None:
    async def run() -> None:
        deadlines = Deadlines()
        with pytest.raises(KeyError), deadlines.within(10):
            raise KeyError

        async def waiting() -> None:
            with deadlines.within(10):
                await asyncio.sleep(60)

        task = asyncio.create_task(waiting())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        deadlines.close()

    asyncio.run(run())


def test_many_blocks_each_by_its_own_time() -> None:
    async def run() -> list[str]:
        deadlines = Deadlines()

        async def one(seconds: float) -> str:
            try:
                with deadlines.within(seconds):
                    await asyncio.sleep(0.5)
            except TimeoutError:
                return "late"
            return "done"

        found = await asyncio.gather(*(one(seconds) for seconds in (0.1, 5.0) * 20))
        deadlines.close()
        return found

    assert asyncio.run(run()) == ["late", "done"] * 20
