"""headwater's own server, as `headwater serve` runs it, on a free port."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.forked import Forked
from tests.servers.closing import Closing
from tests.servers.keeper import keep
from tests.servers.ports import free_port
from tests.servers.waiting import wait_until

COMMAND = str(Path(sys.executable).with_name("headwater"))


class HeadwaterServer(Closing):
    """A server of a project; `with` or `close()` ends it.

    Args:
        project: the project's folder.
        options: of the command.
        workers: how many.
        tls: the certificate of the authority by which the server is known; None: no TLS.
        port: where it listens; None: on a free one.
    """

    def __init__(
        self, project: Path, *options: str, workers: int = 1, tls: Path | None = None, port: int | None = None
    ) -> None:
        self.tls = tls
        self.port = free_port() if port is None else port
        self.log = project / f"server-{self.port}.log"
        line = [COMMAND, "serve", "--project", str(project), "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = Forked(
                [*line, "--workers", str(workers), *options], stdout=log, stderr=log, start_new_session=True
            )
            keep(self.process)
        try:
            wait_until(self._answers, f"a server on port {self.port}", 60)
        except BaseException:
            self.close()
            raise

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def __call__(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 30
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, decoded body and headers of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        if self.tls is not None:
            context = ssl.create_default_context(cafile=self.tls)
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=context)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"content-type": "application/json"} | dict(headers or {}))
            answer = connection.getresponse()
            text = answer.read()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, json.loads(text) if text else None, named
        finally:
            connection.close()

    def workers(self) -> Sequence[int]:
        """The process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(child) for child in children.split()]

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 30) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """End it and its workers with SIGKILL."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """End it and its workers."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
