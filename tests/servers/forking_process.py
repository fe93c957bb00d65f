"""Forks programs from a process that has imported what they need: to import it takes a second of the processor each.

A program is given as JSON over a socket on stdin, with its three streams, and its process id is the answer. Its parent
is gone once it runs, so that it becomes a child of whoever asked, which takes such orphans (`tests.forked`).
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from headwater.cli import main

_IMPORTED = [
    "headwater.cli.serving",
    "headwater.offline.engines.duckdb.engine",
    "headwater.offline.join.result",
    "headwater.online.stores.lmdb.store",
    "headwater.serving.supervisor",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "sqlalchemy.dialects.sqlite",
]
_LONGEST = 1 << 20


def serve(asked: socket.socket) -> dict[str, Any] | None:
    """Fork a program for each request; what to run, in a forked child; None: nobody asks any more."""
    while True:
        text, streams, _, _ = socket.recv_fds(asked, _LONGEST, 3)
        if not text:
            return None
        answer, told = os.pipe()
        between = os.fork()
        if not between:
            program = os.fork()
            if program:
                os.write(told, str(program).encode())
                os._exit(0)
            os.close(answer)
            os.close(told)
            asked.close()
            for stream, number in enumerate(streams):
                os.dup2(number, stream)
            for number in set(streams) - {0, 1, 2}:
                os.close(number)
            return dict(json.loads(text))
        os.waitpid(between, 0)
        for number in streams:
            os.close(number)
        os.close(told)
        with os.fdopen(answer, "rb") as said:
            asked.sendall(said.read())


def begin(asked: dict[str, Any]) -> None:
    """Be in the state of a new process that runs a program, and run it."""
    if asked["new_session"]:
        os.setsid()
    if asked["folder"] is not None:
        os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    paths = asked["environment"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in paths if path and path not in sys.path]
    first, *more = asked["arguments"]
    if Path(first).name == "headwater":
        sys.argv = [first, *more]
        sys.path.insert(0, str(Path(first).parent))
        sys.exit(main())
    names = {"__name__": "__main__", "__spec__": None, "__builtins__": __builtins__}
    if first == "-c":
        text, sys.argv = more[0], ["-c", *more[1:]]
        sys.path.insert(0, "")
        program = compile(text, "<string>", "exec")
    else:
        sys.argv = [first, *more]
        sys.path.insert(0, str(Path(first).resolve().parent))
        program, names["__file__"] = compile(Path(first).read_bytes(), first, "exec"), first
    module = globals()
    module.clear()
    module.update(names)
    exec(program, module)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in _IMPORTED:
        importlib.import_module(name)
    # a forked program that looked through what was imported would have a copy of it
    gc.collect()
    gc.freeze()
    link = socket.socket(fileno=os.dup(0))
    if (asked := serve(link)) is not None:
        begin(asked)
