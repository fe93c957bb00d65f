"""The server's log: a line for each event, as JSON for machines or as text; no key, value or entity is in it."""

from __future__ import annotations

import os
import sys
import traceback
from datetime import datetime
from typing import Any, TextIO

import msgspec

from headwater.clock import Clock, system_clock
from headwater.errors import printable

LEVELS = ("error", "warning", "info")
"""From the fewest lines to the most; `info` has one for each request."""
_COLOURS = {"error": "31", "warning": "33", "info": "2"}


class Log:
    """Writes lines.

    Args:
        form: `json` or `text`.
        level: the least important that is written.
        stream: where to; default: standard error.
        clock: tells the time.
    """

    def __init__(
        self, form: str = "text", level: str = "warning", stream: TextIO | None = None, clock: Clock = system_clock
    ) -> None:
        self._json = form == "json"
        self._most = LEVELS.index(level)
        self._stream = stream or sys.stderr
        self._clock = clock
        self._coloured = not self._json and self._stream.isatty() and "NO_COLOR" not in os.environ
        self.requests = level == "info"
        """Whether there is a line for each request."""

    def error(self, event: str, **fields: Any) -> None:
        """What should not happen."""
        self._write("error", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """What somebody may want to look at."""
        self._write("warning", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """What happens all the time."""
        self._write("info", event, fields)

    def failure(self, event: str, bad: BaseException, **fields: Any) -> None:
        """An error, with where it came from: code alone, for its message may hold values."""
        trace = traceback.extract_tb(bad.__traceback__)
        places = [f"{place.filename}:{place.lineno} {place.name}" for place in trace]
        self.error(event, error=type(bad).__name__, trace=places[-12:], **fields)

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if LEVELS.index(level) > self._most:
            return
        now: datetime = self._clock()
        if self._json:
            line = msgspec.json.encode(
                {"at": now, "level": level, "event": event, "process": os.getpid(), **fields}
            ).decode()
        else:
            told = " ".join(f"{name}={printable(str(value))}" for name, value in fields.items())
            line = f"{now:%Y-%m-%d %H:%M:%SZ} {level:<7} {event} {told}".rstrip()
            if self._coloured:
                line = f"\x1b[{_COLOURS[level]}m{line}\x1b[0m"
        try:
            self._stream.write(f"{line}\n")
            self._stream.flush()
        except (OSError, ValueError):
            # whoever read the log is gone: requests go on
            return
