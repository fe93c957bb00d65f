"""Work that ends in time, and reads that leave most of a store's time to others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_PATIENCE = 5.0
"""Seconds that work has to end in, before its thread is left to itself."""


class TookTooLong(Exception):
    """Work that did not give its result in time."""


class Stop:
    """Tells work that it should end: by `is_set`, which it looks at, and by functions that are called."""

    def __init__(self) -> None:
        self._lock, self._set = threading.Lock(), False
        self._calls: list[Callable[[], object]] = []

    def is_set(self) -> bool:
        """Whether the work should end."""
        return self._set

    def calls(self, end: Callable[[], object]) -> None:
        """Have a function called that ends what the work waits for; at once, where the work should end already.

        Args:
            end: is called in another thread, and must not wait.
        """
        with self._lock:
            self._calls.append(end)
            late = self._set
        if late:
            end()

    def set(self) -> None:
        """Say that the work should end."""
        with self._lock:
            self._set = True
            calls = list(self._calls)
        for end in calls:
            end()


def within(seconds: float, work: Callable[[Stop], T], *, patience: float = _PATIENCE) -> T:
    """Do some work in a thread of its own, for so long and no longer; Ctrl-C in the caller ends it too.

    Args:
        seconds: how long it may take.
        work: is given what says that it should end.
        patience: seconds it then has to end; after these its thread is left to itself.

    Returns:
        What the work gave, also where it ended by itself once it should end.

    Raises:
        TookTooLong: it was ended, or did not end.
    """
    stop = Stop()
    box: Future[T] = Future()

    def run() -> None:
        try:
            box.set_result(work(stop))
        except BaseException as bad:
            box.set_exception(bad)

    thread = threading.Thread(target=run, name="headwater-measure", daemon=True)
    thread.start()
    try:
        box.exception(max(0.0, seconds))
    except TimeoutError:
        stop.set()
        thread.join(patience)
        # an engine may say in any words that it was ended
        if not box.done() or box.exception() is not None:
            raise TookTooLong from None
    except BaseException:
        stop.set()
        thread.join(patience)
        raise
    return box.result()


@dataclass(frozen=True)
class Pace:
    """How much of a store's time reads may take.

    Attributes:
        share: of the time, at most.
        rows: rows a second, at most.
        burst: seconds that reads follow one another without a rest.
    """

    share: float = 0.5
    rows: float = 20_000.0
    burst: float = 0.05

    def rest(self, busy: float, rows: int) -> float:
        """Seconds to rest after reads that took `busy` seconds and asked for so many rows."""
        return max(0.0, busy * (1 / self.share - 1), rows / self.rows - busy)

    def over(self, busy: float, rows: int) -> bool:
        """Whether a burst is over."""
        return busy >= self.burst or rows >= self.rows * self.burst
