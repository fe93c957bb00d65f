"""One worker: the application on an event loop, on a socket that the supervisor opened."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import uvicorn

from headwater.async_store import AsyncFeatureStore
from headwater.clock import system_clock
from headwater.errors import HeadwaterError
from headwater.serving.acceptor import Acceptor
from headwater.serving.access import READ_EVERY, KeyRing
from headwater.serving.app import App
from headwater.serving.connection import BoundedConnection
from headwater.serving.metrics import Metrics
from headwater.serving.repeated import repeat
from headwater.serving.server_log import ServerLog
from headwater.serving.settings import ServerSettings
from headwater.serving.slots import Memory, Shares

_COUNTED_EVERY = 1.0
"""Seconds."""
_COLLECTED_EVERY = 10_000
"""New objects that could be part of a cycle; a request makes and drops some fifty."""
REFUSED = 3
"""The exit code of a worker that its project does not let begin: another would not do better."""


READY = b"r"
"""What a worker tells the supervisor once it answers."""


class _Server(uvicorn.Server):
    """Stops in two steps: what comes is refused while what is under way ends."""

    acceptors: Sequence[Acceptor] = ()

    def __init__(self, config: uvicorn.Config, app: App, link: socket.socket, shares: Shares) -> None:
        super().__init__(config)
        self._app, self._link, self._shares = app, link, shares

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and tell the supervisor."""
        await super().startup([])

        def connection() -> BoundedConnection:
            return BoundedConnection(self.config, self.server_state, self.lifespan.state)

        open_ones, tls = self.server_state.connections, self.config.ssl
        self.acceptors = [Acceptor(each, connection, tls, open_ones, self._shares) for each in sockets or []]
        self.servers: list[Any] = list(self.acceptors)
        with suppress(OSError):
            self._link.send(READY)

    async def stop_with_supervisor(self) -> None:
        """Stop as after a signal where the supervisor is gone: nobody would replace this worker, or end it."""
        self._link.setblocking(False)
        with suppress(OSError):
            while await asyncio.get_running_loop().sock_recv(self._link, 1):
                """It has nothing to say."""
        self._app.requests.log.warning("the supervisor is gone: this worker stops")
        self._app.requests.draining = self.should_exit = True

    def handle_exit(self, sig: int, frame: Any) -> None:
        """A signal to stop.

        uvicorn's own notes it, and raises it once more at its end: the process would end before its store is closed.
        """
        self._app.requests.draining = self.should_exit = True


def _uvicorn(app: App, settings: ServerSettings) -> uvicorn.Config:
    """What uvicorn does, which is little: sockets, the stop, TLS."""
    return uvicorn.Config(
        app,
        http=BoundedConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.grace),
        limit_concurrency=None,
        backlog=2048,
        ssl_certfile=settings.certificate or None,
        ssl_keyfile=settings.private_key or None,
    )


def serve(
    project: str,
    settings: ServerSettings,
    listening: socket.socket,
    metrics: Metrics,
    link: socket.socket,
    shares: Shares,
) -> None:
    """Answer requests until a signal ends it.

    Args:
        project: the project's folder.
        settings: how.
        listening: a bound socket.
        metrics: counts what is answered.
        link: to the supervisor.
        shares: how many connections each worker has.

    Raises:
        HeadwaterError: the store cannot be opened.
    """
    store = AsyncFeatureStore(project)
    keys = None
    if settings.keys:
        keys = KeyRing(store.sync.registry.api_keys.all, system_clock)
    app = App(store, settings, keys, metrics=metrics)
    ServerLog(app.requests.log).install()
    server = _Server(_uvicorn(app, settings), app, link, shares)

    async def counted() -> None:
        # others see what this worker's reads did, and that it is there
        app.routes.count_reads()
        for acceptor in server.acceptors:
            acceptor.note()

    async def opened() -> None:
        # one that is opened by its first read only would take a store that was removed meanwhile for an empty one
        with suppress(HeadwaterError):
            await store.ping()

    async def run() -> None:
        _spare_the_collector()
        beside: list[asyncio.Task[None]] = [
            asyncio.create_task(repeat(app.requests.log, "counting reads", _COUNTED_EVERY, counted)),
            asyncio.create_task(server.stop_with_supervisor()),
            asyncio.create_task(opened()),
        ]
        if keys is not None:
            await keys.read()
            beside.append(asyncio.create_task(repeat(app.requests.log, "reading API keys", READ_EVERY, keys.read)))
        try:
            await server.serve(sockets=[listening])
        finally:
            for task in beside:
                task.cancel()
            await store.close()

    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(run())


def _spare_the_collector() -> None:
    """Have the garbage collector look at what requests leave, seldom, and never again at what is there already."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTED_EVERY)


def work(
    project: str, settings: ServerSettings, listening: socket.socket, memory: int, slot: int, link: socket.socket
) -> None:
    """Be one of a server's workers: answer requests until a signal ends it.

    Args:
        project: the project's folder.
        settings: how.
        listening: a bound socket.
        memory: the descriptor of the server's memory.
        slot: which one in it is this worker's.
        link: to the supervisor.

    Raises:
        SystemExit: the store cannot be opened, which standard error says.
    """
    try:
        shared = Memory(memory)
        serve(project, settings, listening, Metrics(shared, slot), link, Shares(shared, slot))
    except HeadwaterError as bad:
        sys.stderr.write(f"{type(bad).__name__}: {bad}\n")
        raise SystemExit(REFUSED) from None
