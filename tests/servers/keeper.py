"""Ends the servers of a test process that cannot end them itself: interrupted, or killed.

`keep(process)` tells the keeper of one; the keeper is a process of its own, begun with the first, which reads process
ids from a pipe and, when the pipe ends because this process has, ends those that are still the ones it was told of.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_kept: dict[int, subprocess.Popen[bytes]] = {}
"""The keeper of each process: a forked child begins its own."""


def keep(process: subprocess.Popen[bytes]) -> None:
    """Have a server ended once this process has, however it does."""
    keeper = _kept.get(os.getpid())
    if keeper is None:
        keeper = _kept[os.getpid()] = subprocess.Popen(
            [sys.executable, "-S", __file__], stdin=subprocess.PIPE, start_new_session=True
        )
    assert keeper.stdin is not None
    keeper.stdin.write(f"{process.pid} {began(process.pid)}\n".encode())
    keeper.stdin.flush()


def began(process: int) -> str:
    """When a process began, in the kernel's ticks: an id that another process has taken is told apart; empty: none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _watch() -> None:
    told = dict(line.split() for line in sys.stdin if len(line.split()) == 2)
    for number, pause in ((signal.SIGTERM, 3), (signal.SIGKILL, 0)):
        left = [int(process) for process, start in told.items() if began(int(process)) == start]
        for process in left:
            os.kill(process, number)
        time.sleep(pause if left else 0)


if __name__ == "__main__":
    _watch()
