"""What uvicorn says, as lines of the server's log: who sends no HTTP can have few of them written."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from headwater.serving.logs import Log

EVERY = 10.0
"""Seconds between two lines of the same text."""
INVALID = "Invalid HTTP request received."
_MOST_TEXTS = 100


class ServerLog(logging.Handler):
    """Takes uvicorn's messages.

    Args:
        log: takes a line for each, at most one of a text in a while, with how many there were since the one before.
        now: seconds, of a clock that never goes back.
    """

    def __init__(self, log: Log, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._log, self._now = log, now
        self._written: dict[str, float] = {}
        self._since: dict[str, int] = {}

    def install(self) -> None:
        """Take them instead of whoever would else."""
        logger = logging.getLogger("uvicorn.error")
        logger.handlers, logger.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        """Take one; arguments, which may hold what a client sent, are left out."""
        text = str(record.msg)
        now = self._now()
        if text not in self._written and len(self._written) >= _MOST_TEXTS:
            return
        self._since[text] = self._since.get(text, 0) + 1
        if now - self._written.get(text, float("-inf")) < EVERY:
            return
        count, self._written[text], self._since[text] = self._since[text], now, 0
        write = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        more = {"error": record.exc_info[0].__name__} if record.exc_info and record.exc_info[0] else {}
        write("an invalid HTTP request" if text == INVALID else text.split("\n")[0][:200], count=count, **more)
