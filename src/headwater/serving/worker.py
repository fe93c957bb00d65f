"""One worker: the application on an event loop, on a socket that the supervisor opened."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from typing import Any

import msgspec
import uvicorn

from headwater.async_store import AsyncFeatureStore
from headwater.clock import system_clock
from headwater.errors import HeadwaterError
from headwater.serving.access import READ_EVERY, KeyRing
from headwater.serving.app import App
from headwater.serving.connection import BoundedConnection
from headwater.serving.metrics import Metrics
from headwater.serving.repeated import repeat
from headwater.serving.server_log import ServerLog
from headwater.serving.settings import ServerSettings
from headwater.serving.slots import Memory

_COUNTED_EVERY = 1.0
"""Seconds."""
_COLLECTED_EVERY = 10_000
"""New objects that could be part of a cycle; a request makes and drops some fifty."""
REFUSED = 3
"""The exit code of a worker that its project does not let begin: another would not do better."""


class _Server(uvicorn.Server):
    """Stops in two steps: what comes is refused while what is under way ends."""

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: Any) -> None:
        """A signal to stop; the second one does not wait."""
        self._app.draining = True
        super().handle_exit(sig, frame)


def serve(project: str, settings: ServerSettings, listening: socket.socket, metrics: Metrics) -> None:
    """Answer requests until a signal ends it.

    Args:
        project: the project's folder.
        settings: how.
        listening: a bound socket.
        metrics: counts what is answered.

    Raises:
        HeadwaterError: the store cannot be opened.
    """
    store = AsyncFeatureStore(project)
    keys = None
    if settings.keys:
        keys = KeyRing(store.sync.registry.api_keys.all, system_clock)
    app = App(store, settings, keys, metrics=metrics)
    config = uvicorn.Config(
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
    ServerLog(app.log, app.metrics).install()
    server = _Server(config, app)

    async def counted() -> None:
        # others see what this worker's reads did
        app.count_reads()

    async def run() -> None:
        _spare_the_collector()
        repeated = [asyncio.create_task(repeat(app.log, "counting reads", _COUNTED_EVERY, counted))]
        if keys is not None:
            await keys.read()
            repeated.append(asyncio.create_task(repeat(app.log, "reading API keys", READ_EVERY, keys.read)))
        try:
            await server.serve(sockets=[listening])
        finally:
            for task in repeated:
                task.cancel()
            await store.close()

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(run())


def _spare_the_collector() -> None:
    """Have the garbage collector look at what requests leave, seldom, and never again at what is there already."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTED_EVERY)


def main() -> None:
    """`python -m headwater.serving.worker PROJECT SETTINGS SOCKET MEMORY SLOT`; the supervisor's own."""
    project, text, descriptor, memory, slot = sys.argv[1:6]
    settings = msgspec.json.decode(text, type=ServerSettings)
    # the supervisor decides when to stop: Ctrl-C reaches every process of the terminal
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        metrics = Metrics(Memory(int(memory)), int(slot))
        serve(project, settings, socket.socket(fileno=int(descriptor)), metrics)
    except HeadwaterError as bad:
        sys.stderr.write(f"{type(bad).__name__}: {bad}\n")
        raise SystemExit(REFUSED) from None


if __name__ == "__main__":
    main()
