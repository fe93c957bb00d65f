"""The server's application over a store of this process, on a free port, answered by a thread."""

from __future__ import annotations

import socket
import threading

import uvicorn

from headwater.serving.app import App
from headwater.serving.connection import BoundedConnection
from tests.servers.closing import Closing
from tests.servers.waiting import wait_until


class ThreadedServer(Closing):
    """Answers for an application until `close`.

    Args:
        app: the application.
        keep_alive: seconds that a connection may be silent after an answer.
    """

    def __init__(self, app: App, keep_alive: int = 5) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            app,
            http=BoundedConnection,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=keep_alive,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started, "a server in a thread")

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(60)
        self._socket.close()
