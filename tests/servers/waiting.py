"""Waiting for what servers do in their own time."""

import time
from collections.abc import Callable


def wait_until(true: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Wait until a function gives something true; fail with `what` when it takes too long."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(0.005)
