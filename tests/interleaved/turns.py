"""Processes that take turns: one runs at a time and stops before each call of a shared part.

So any order of steps can be tried, a process killed between two of them, or held up for long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Killed(BaseException):
    """What a killed process gets from its next step; nothing it does afterwards reaches anything."""


class Process:
    """One process: work on a thread of its own, a step at a time."""

    def __init__(self, turns: Turns, name: str, work: Callable[[], Any]) -> None:
        self.name = name
        self.result: Any = None
        self.error: BaseException | None = None
        self.killed = False
        self.done = False
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._turns = turns
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._turns.local.process = self
        self._go.acquire()
        try:
            if not self.killed:
                self.result = self._work()
        except BaseException as bad:
            self.error = bad
        self.done = True
        self._back.release()

    def pause(self) -> None:
        """Called on the process's own thread, before it touches anything shared."""
        if not self.killed:
            self._back.release()
            self._go.acquire()
        if self.killed:
            raise Killed

    def step(self) -> None:
        """Let it go on to its next step, or to its end."""
        if not self.done:
            self._go.release()
            self._back.acquire()

    def finish(self) -> None:
        """Let it go on to its end."""
        while not self.done:
            self.step()

    def kill(self) -> None:
        """End it where it is."""
        self.killed = True
        self.finish()


class Turns:
    """Starts processes, and stops them at each call of the parts it wraps."""

    def __init__(self) -> None:
        self.local = threading.local()

    def start(self, name: str, work: Callable[[], Any]) -> Process:
        """A process that has not made its first step yet."""
        return Process(self, name, work)

    def pause(self) -> None:
        """A step of the process that this thread is, if it is one."""
        process: Process | None = getattr(self.local, "process", None)
        if process is not None:
            process.pause()

    def wrap(self, part: Any, *names: str) -> None:
        """Let each call of some of a part's methods be a step."""
        for name in names:
            setattr(part, name, self._stepping(getattr(part, name)))

    def _stepping(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            self.pause()
            return method(*args, **options)

        return step
