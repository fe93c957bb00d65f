"""Programs that need headwater, in processes that are forked where it is imported already.

`Forked` is `subprocess.Popen`, of the command `headwater`, of `[sys.executable, "-c", text, …]` or of
`[sys.executable, file, …]`. What a test proves of a new interpreter (what is imported, options, the host's settings) is
proved with `subprocess`.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.servers.keeper import keep

_SERVER = str(Path(__file__).parent / "servers" / "forking_process.py")
_TAKE_ORPHANS = 36
"""PR_SET_CHILD_SUBREAPER: processes below this one whose parent ends become its children."""
_servers: dict[int, tuple[subprocess.Popen[bytes], socket.socket]] = {}
"""Of each process: a forked child begins its own."""
_lock = threading.Lock()


def _server() -> socket.socket:
    if os.getpid() not in _servers:
        mine, other = socket.socketpair()
        with other:
            # without its folder in the path: `redis` there is no client
            process = subprocess.Popen([sys.executable, "-P", _SERVER], stdin=other, stdout=subprocess.DEVNULL)
        keep(process)
        _servers[os.getpid()] = process, mine
    return _servers[os.getpid()][1]


def _fork(asked: dict[str, Any], streams: list[int]) -> int:
    prctl = ctypes.CDLL(None).prctl
    with _lock:
        link = _server()
        prctl(_TAKE_ORPHANS, 1, 0, 0, 0)
        try:
            socket.send_fds(link, [json.dumps(asked).encode()], streams)
            return int(link.recv(100))
        finally:
            prctl(_TAKE_ORPHANS, 0, 0, 0, 0)


class Forked(subprocess.Popen[Any]):
    """A process that runs a program; see `subprocess.Popen`."""

    def _execute_child(self, args: Any, *more: Any) -> None:
        # as in subprocess.py from Python 3.11 to 3.14
        (folder, environment), pipes, session = more[4:6], more[9:15], more[20]
        words = [str(word) for word in args]
        streams = [number if number != -1 else stream for stream, number in enumerate((pipes[0], pipes[3], pipes[5]))]
        self.pid = _fork(
            {
                "arguments": words[1:] if words[0] == sys.executable else words,
                "folder": str(folder or Path.cwd()),
                "environment": dict(os.environ if environment is None else environment),
                "new_session": session,
            },
            streams,
        )
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def run_forked(arguments: Any, *, timeout: float | None = None, check: bool = False, **more: Any) -> Any:
    """What `subprocess.run(arguments, capture_output=True, text=True, …)` gives."""
    with Forked(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more) as process:
        try:
            out, problems = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, out, problems)
    if check:
        done.check_returncode()
    return done
