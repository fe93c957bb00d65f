"""Work that ends in time, and reads that leave most of a store's time to others."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_LOOK, _POLL = 0.005, 0.2
"""Seconds between two looks at whether work waits, and until it is interrupted once more."""
_INSIST, _PATIENCE = 1.0, 5.0
"""Seconds until it is interrupted wherever it is, and until it is left to itself."""


class TookTooLong(Exception):
    """Work that was stopped since its time was over."""


class _Stopped(BaseException):
    """Raised in the thread of work that is to end."""


def within(seconds: float, work: Callable[[threading.Event], T], *, grace: float = 0.0) -> T:
    """Do some work in a thread of its own, for so long and no longer; Ctrl-C in the caller ends it too.

    Args:
        seconds: how long it may take.
        work: is given an event that is set once it should end.
        grace: seconds it then has to end by itself, before an exception is raised in its thread.

    Returns:
        What the work gave, also where it ended by itself within the grace.

    Raises:
        TookTooLong: it was stopped.
    """
    stop = threading.Event()
    box: Future[T] = Future()

    def run() -> None:
        with suppress(_Stopped):
            try:
                box.set_result(work(stop))
            except BaseException as bad:
                box.set_exception(bad)

    thread = threading.Thread(target=run, name="headwater-measure", daemon=True)
    thread.start()
    try:
        box.exception(max(0.0, seconds))
    except TimeoutError:
        # what stopped it may come out as another error: of an engine that was about to call back, say
        if _end(thread, stop, grace) and not (box.done() and box.exception() is None):
            raise TookTooLong from None
    except BaseException:
        _end(thread, stop, grace)
        raise
    return box.result()


def _end(thread: threading.Thread, stop: threading.Event, grace: float) -> bool:
    """End a thread; whether it had to be interrupted."""
    stop.set()
    thread.join(grace)
    began = time.monotonic()
    interrupted = False
    while thread.is_alive() and (spent := time.monotonic() - began) < _PATIENCE:
        # best where it waits for an engine: the engine is then told; elsewhere, in a callback say, it might get lost
        if _waits(thread) or spent > _INSIST:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Stopped))
            interrupted = True
        thread.join(_POLL if interrupted else _LOOK)
    return interrupted or thread.is_alive()


def _waits(thread: threading.Thread) -> bool:
    """Whether a thread waits for another just now."""
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_code is threading.Condition.wait.__code__


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
