"""An HTTP proxy with a password: it forwards requests that name a whole address, and makes tunnels."""

from __future__ import annotations

import base64
import http.client
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class HTTPProxy(ThreadingHTTPServer):
    """Listens on a free port of 127.0.0.1 while a `with` block runs.

    Attributes:
        asked: what it was asked for: `POST http://host:port/`, `CONNECT host:port`.
        url: with user and password.
    """

    daemon_threads = True

    def __init__(self, user: str = "me", password: str = "p@ss") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.expected = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
        self.url = f"http://{user}:{password.replace('@', '%40')}@127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        super().__exit__(*error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HTTPProxy

    def _let_in(self) -> bool:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(f"{self.command} {self.path}")
        self.body = body
        if self.headers.get("Proxy-Authorization") == self.server.expected:
            return True
        self.send_error(407)
        return False

    def do_POST(self) -> None:
        if not self._let_in():
            return
        parts = urlsplit(self.path)
        assert parts.hostname is not None
        target = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=10)
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        target.request("POST", parts.path, self.body, headers)
        answer = target.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        target.close()

    def do_CONNECT(self) -> None:
        if not self._let_in():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as target:
            self.send_response(200)
            self.end_headers()
            ends = [self.connection, target]
            while True:
                ready, _, _ = select.select(ends, [], [], 10)
                for end in ready:
                    data = end.recv(65_536)
                    if not data:
                        self.close_connection = True
                        return
                    ends[1 - ends.index(end)].sendall(data)

    def log_message(self, *_: Any) -> None:
        pass
