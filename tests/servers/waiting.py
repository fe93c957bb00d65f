"""Waiting for what servers do in their own time, and how long a call took of its own."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.servers.closing import Closing

_LOOK = 0.01
"""Seconds between two looks at how late the machine is."""
_BUSY, _STALL = 4.0, 60.0
"""Processes for each core from which on a host may stop a call for a while, and the seconds that it then may take."""


class HostTime(Closing):
    """Seconds in which this host let its threads run: while a loaded machine holds them all up, hardly any pass.

    For what has to be done within a time by another thread, such as to renew a lease.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._ended = threading.Event()
        self._running = threading.Thread(target=self._run, name="host time", daemon=True)
        self._running.start()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(_LOOK):
            now = time.monotonic()
            self.seconds += min(now - before, 2 * _LOOK)
            before = now

    def sleep(self, seconds: float) -> None:
        """Wait until so many have passed."""
        until = self.seconds + seconds
        while self.seconds < until:
            time.sleep(_LOOK)

    def close(self) -> None:
        self._ended.set()
        self._running.join()


def wait_until(true: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Wait until a function gives something true; fail with `what` when it takes too long."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(0.005)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """The block takes no longer than that of its own: what a loaded machine adds is not counted.

    A thread that sleeps a hundredth of a second at a time knows how late it is woken; on an idle machine never. It does
    not see what holds up a server alone: on a host that runs many times as many processes as it has cores, the bound is
    a minute.
    """
    ended, late = threading.Event(), [0.0]

    def look() -> None:
        while True:
            before = time.monotonic()
            if ended.wait(_LOOK):
                return
            late[0] += max(0.0, time.monotonic() - before - 2 * _LOOK)

    looking = threading.Thread(target=look, name="looking", daemon=True)
    looking.start()
    began = time.monotonic()
    try:
        yield
        took = time.monotonic() - began
    finally:
        ended.set()
        looking.join()
    if os.getloadavg()[0] > _BUSY * (os.cpu_count() or 1):
        seconds = max(seconds, _STALL)
    # the block has been held up as often as this thread, and its servers too
    assert took - 2 * late[0] < seconds, f"it took {took:.2f} s, and the machine was late by {late[0]:.2f} s"
