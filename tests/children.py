"""Processes that tests fork or start, and what became of them, within a bounded time."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.forked import Forked

SECONDS = 60.0


def fork_in_c() -> int:
    """Fork as uWSGI does: Python learns of it in the child alone, and not beforehand."""
    fork, interval = ctypes.PyDLL(None).fork, sys.getswitchinterval()
    # a thread that asks for the interpreter between the two calls would leave the child waiting for it
    sys.setswitchinterval(3600)
    try:
        time.sleep(0.05)
        pid: int = fork()
        if pid == 0:
            ctypes.pythonapi.PyOS_AfterFork_Child()
    finally:
        sys.setswitchinterval(interval)
    return pid


class Child:
    """A forked process that runs some work and ends without Python's farewell.

    Args:
        work: is run in the child.
        fork: forks, as `os.fork` does.
    """

    def __init__(self, work: Callable[[], Any], fork: Callable[[], int] = os.fork) -> None:
        self._told, telling = os.pipe()
        with warnings.catch_warnings():
            # newer Pythons advise against what is tested here
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = fork()
        if self.pid == 0:
            try:
                os.close(self._told)
                # where it stands, should it not end
                faulthandler.register(signal.SIGUSR1, file=telling)
                work()
            except BaseException:
                os.write(telling, traceback.format_exc().encode())
                os._exit(1)
            os._exit(0)
        os.close(telling)

    def problem(self, seconds: float = SECONDS) -> str:
        """What went wrong, or where it stands after so many seconds; empty where nothing did."""
        until = time.monotonic() + seconds
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        while not ended and time.monotonic() < until:
            time.sleep(0.005)
            ended, status = os.waitpid(self.pid, os.WNOHANG)
        if not ended:
            os.kill(self.pid, signal.SIGUSR1)
            time.sleep(1)  # it writes that down
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        with os.fdopen(self._told, "rb") as told:
            text = told.read().decode()
        if not ended:
            return f"no end in {seconds} s: {text}"
        return text or (f"exit {os.waitstatus_to_exitcode(status)}" if status else "")


def problem_in_child(work: Callable[[], Any], seconds: float = SECONDS) -> str:
    """What goes wrong where a forked child does something; empty where nothing does."""
    return Child(work).problem(seconds)


def run_program(text: str, folder: Path, *arguments: Any, seconds: float = 60.0, new: bool = False) -> Sequence[str]:
    """Run a Python program in a process of its own; the lines it prints.

    Args:
        text: the program.
        folder: where it is written.
        arguments: of the program.
        seconds: how long it may take.
        new: whether by a new interpreter, which has imported nothing.

    Raises:
        AssertionError: it fails, writes to stderr, or does not end in time.
    """
    program = folder / f"program{len(list(folder.glob('program*.py')))}.py"
    program.write_text(text)
    began = (subprocess.Popen if new else Forked)(
        [sys.executable, str(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        start_new_session=True,
    )
    try:
        out, bad = began.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        # its children too
        with suppress(ProcessLookupError):
            os.killpg(began.pid, signal.SIGKILL)
        out, bad = began.communicate()
        raise AssertionError(f"no end in {seconds} s: {out}\n{bad}") from None
    assert (began.returncode, bad) == (0, ""), f"exit {began.returncode}: {out}\n{bad}"
    return out.splitlines()
