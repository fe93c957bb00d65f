"""The supervisor: opens the socket, begins the workers, replaces one that dies, and ends them all."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType

import msgspec

from headwater.errors import Unavailable
from headwater.serving.logs import Log
from headwater.serving.metrics import Metrics
from headwater.serving.settings import ServerSettings
from headwater.serving.slots import Memory, make_memory
from headwater.serving.worker import READY, REFUSED

_POLL = 0.1
"""Seconds between two looks at the workers."""
_QUICK = 2.0
"""Seconds: a worker that was never ready, or lives shorter, is begun again only after a pause that doubles."""
_LONGEST_PAUSE = 30.0


def listen(settings: ServerSettings) -> socket.socket:
    """The bound socket that all workers take connections from.

    Raises:
        Unavailable: it cannot be listened on.
    """
    listening = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as bad:
        if listening is not None:
            listening.close()
        why = f"{bad.strerror or bad}"
        way = ": give another --port (0: a free one)" if bad.errno in (errno.EADDRINUSE, errno.EACCES) else ""
        raise Unavailable(f"cannot listen on {settings.host}:{settings.port}: {why}{way}") from None
    listening.set_inheritable(True)
    return listening


@dataclass
class _Worker:
    """One of the workers, and what became of its last process.

    Attributes:
        link: a socket to its process, which says there that it answers, and sees there that the supervisor is gone.
        ready: whether its process has answered requests.
    """

    slot: int
    process: subprocess.Popen[bytes] | None = None
    link: socket.socket | None = None
    ready: bool = False
    began: float = 0.0
    pause: float = 0.0
    due: float = 0.0

    def look(self) -> None:
        """See whether its process has become ready."""
        if self.link is not None and not self.ready:
            with suppress(OSError):
                self.ready = self.link.recv(1) == READY

    def close(self) -> None:
        """Let go of its process."""
        if self.link is not None:
            self.link.close()
        self.process, self.link, self.ready = None, None, False


@dataclass
class Supervisor:
    """Runs the workers of one server.

    Attributes:
        project: the project's folder.
        settings: how.
        listening: the socket, from `listen`.
        log: takes a line for each event.
    """

    project: str
    settings: ServerSettings
    listening: socket.socket
    log: Log
    _stopping: bool = False
    _served: bool = False
    """Whether a worker was ever ready: then the project could be served, and may be again."""
    _workers: list[_Worker] = field(default_factory=list)

    def run(self) -> int:
        """Run until a signal (SIGTERM, SIGINT) ends it; the exit code.

        A second signal ends the workers at once.
        """
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        self._workers = [_Worker(slot) for slot in range(1, self.settings.workers + 1)]
        self._memory = make_memory(self.settings.workers + 1)
        self._metrics = Metrics(Memory(self._memory))
        try:
            while not self._stopping:
                for worker in self._workers:
                    worker.look()
                    self._served |= worker.ready
                for worker in self._workers:
                    if worker.process is None and time.monotonic() >= worker.due:
                        self._begin(worker)
                    elif worker.process is not None and worker.process.poll() is not None:
                        if worker.process.returncode == REFUSED and not self._served:
                            return 1
                        self._ended(worker)
                time.sleep(_POLL)
            return 0
        finally:
            self._end()
            for worker in self._workers:
                worker.close()
            self.listening.close()
            os.close(self._memory)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._stopping:
            for worker in self._workers:
                if worker.process is not None:
                    worker.process.kill()
        self._stopping = True

    def _begin(self, worker: _Worker) -> None:
        descriptor = self.listening.fileno()
        given = msgspec.json.encode(self.settings).decode()
        line = [sys.executable, "-m", "headwater.serving.worker", self.project, given, str(descriptor)]
        worker.link, other = socket.socketpair()
        worker.link.setblocking(False)
        line += [str(self._memory), str(worker.slot), str(other.fileno())]
        with other:
            worker.process = subprocess.Popen(line, pass_fds=[descriptor, self._memory, other.fileno()])
        worker.began = time.monotonic()

    def _ended(self, worker: _Worker) -> None:
        """Note that a worker died; it is begun again, at once where it had answered for a while."""
        assert worker.process is not None
        code = worker.process.returncode
        lived = time.monotonic() - worker.began
        worker.pause = 0.0 if worker.ready and lived >= _QUICK else min(_LONGEST_PAUSE, max(0.5, 2 * worker.pause))
        worker.due = time.monotonic() + worker.pause
        why = f"signal {-code}" if code < 0 else f"exit code {code}"
        if code == REFUSED:
            why = "the project cannot be opened"
        again = "at once" if not worker.pause else f"in {worker.pause:g} s"
        self._metrics.restarted()
        self.log.warning("worker ended", worker=worker.process.pid, why=why, lived=f"{lived:.1f} s", another=again)
        worker.close()

    def _end(self) -> None:
        """End the workers: asked first, then not."""
        running = [worker.process for worker in self._workers if worker.process is not None]
        for process in running:
            process.terminate()
        until = time.monotonic() + self.settings.grace + 5.0
        for process in running:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
