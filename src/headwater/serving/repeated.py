"""What a worker does again and again: one round that fails is logged, and the next one follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from headwater.serving.logs import Log

LOGGED_EVERY = 60.0
"""Seconds between two lines about rounds that fail one after the other."""


async def repeat(log: Log, what: str, seconds: float, step: Callable[[], Awaitable[None]]) -> None:
    """Take a step again and again, until the task is cancelled.

    Args:
        log: has a line where a step fails; of steps that fail one after the other a line a minute.
        what: the step, for the log.
        seconds: between two steps.
        step: taken each time.
    """
    logged = float("-inf")
    while True:
        await asyncio.sleep(seconds)
        try:
            await step()
        except Exception as bad:
            if time.monotonic() - logged >= LOGGED_EVERY:
                logged = time.monotonic()
                log.failure("background task failed", bad, task=what)
        else:
            logged = float("-inf")
