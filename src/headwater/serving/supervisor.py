"""The supervisor: opens the socket, forks the workers, replaces one that dies, and ends them all.

It has imported what they need, and opened nothing that they use: a worker begins in milliseconds, and shares the
memory of what was imported.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkProcess
from types import FrameType
from typing import Any

from headwater.errors import Unavailable
from headwater.serving.logs import Log
from headwater.serving.metrics import Metrics
from headwater.serving.settings import ServerSettings
from headwater.serving.slots import Memory, make_memory
from headwater.serving.worker import READY, REFUSED, work

_POLL = 0.1
"""Seconds between two looks at the workers."""
_QUICK = 2.0
"""Seconds: a worker that was never ready, or lives shorter, is begun again only after a pause that doubles."""
_LONGEST_PAUSE = 30.0
_ASKED_TO_END = (signal.SIGTERM, signal.SIGINT)


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
    return listening


@dataclass
class _Worker:
    """One of the workers, and what became of its last process.

    Attributes:
        link: a socket to its process, which says there that it answers, and sees there that the supervisor is gone.
        ready: whether its process has answered requests.
    """

    slot: int
    process: ForkProcess | None = None
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
        before = {number: signal.signal(number, self._stop) for number in _ASKED_TO_END}
        self._workers = [_Worker(slot) for slot in range(1, self.settings.workers + 1)]
        self._memory = make_memory(self.settings.workers + 1)
        self._metrics = Metrics(Memory(self._memory))
        # workers that looked through what was imported, for garbage, would each have a copy of it
        gc.collect()
        gc.freeze()
        try:
            while not self._stopping:
                for worker in self._workers:
                    worker.look()
                    self._served |= worker.ready
                for worker in self._workers:
                    if worker.process is None and time.monotonic() >= worker.due:
                        self._begin(worker)
                    elif worker.process is not None and worker.process.exitcode is not None:
                        if worker.process.exitcode == REFUSED and not self._served:
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
        worker.link, other = socket.socketpair()
        worker.link.setblocking(False)
        # a worker that held the supervisor's ends as well would not see that it is gone
        not_its_own = [each.link for each in self._workers if each.link is not None]
        given = (self.project, self.settings, self.listening, self._memory, worker.slot, other)
        worker.process = ForkProcess(target=_forked, args=(not_its_own, *given))
        # what comes before the worker has its own handlers waits for them
        signal.pthread_sigmask(signal.SIG_BLOCK, _ASKED_TO_END)
        try:
            with other, warnings.catch_warnings():
                # later Pythons warn of threads, of libraries too: theirs are made for forks
                warnings.filterwarnings("ignore", "This process .* multi-threaded", DeprecationWarning)
                worker.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKED_TO_END)
        worker.began = time.monotonic()

    def _ended(self, worker: _Worker) -> None:
        """Note that a worker died; it is begun again, at once where it had answered for a while."""
        assert worker.process is not None
        code = worker.process.exitcode
        assert code is not None
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
            process.join(max(0.1, until - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()


def _forked(not_its_own: Sequence[socket.socket], *given: Any) -> None:
    """Be a worker, in a process that was just forked from the supervisor.

    Args:
        not_its_own: sockets of the supervisor.
        given: to the worker.
    """
    for each in not_its_own:
        each.close()
    # the supervisor decides when to stop: Ctrl-C reaches every process of the terminal
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKED_TO_END)
    work(*given)
