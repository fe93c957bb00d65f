"""moto's DynamoDB as a program: prints its port, then serves; takes orders to fail, as the real one does under load.

Requests go straight to moto's handler of them: its own server takes a fifth of the time to find it.
One request at a time: moto looks at an item's condition and then writes, with nothing to keep two threads apart.
`POST /faults` with `{"operation": "UpdateItem", "kind": "throttle", "times": 3}` makes the next three of them fail.
"""

import gc
import io
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from moto.core.request import Request
from moto.dynamodb.responses import DynamoHandler

_PREFIX = "com.amazonaws.dynamodb.v20120810#"
_ERRORS = {
    "throttle": ("400 Bad Request", "ProvisionedThroughputExceededException", "too many requests"),
    "denied": ("400 Bad Request", "AccessDeniedException", "User: somebody is not authorized to perform this"),
    "internal": ("500 Internal Server Error", "InternalServerError", "try again"),
}


class Received(Request):
    """A request as moto's own server hands it on."""

    from_wsgi_server = True


def handled(environ: dict[str, Any], start: Any) -> list[bytes]:
    """moto's answer to a request."""
    request = Received(environ)
    status, headers, body = DynamoHandler.dispatch(request, request.raw_url, dict(request.headers))
    data = body if isinstance(body, bytes) else body.encode()
    start(str(status), [("Content-Type", "application/x-amz-json-1.0"), *headers.items()])
    return [data]


class Faulty:
    """A WSGI application in front of another: answers some requests itself, holds some back."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._orders: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if environ["PATH_INFO"] == "/faults":
            order = json.loads(body)
            self._orders = [] if order["kind"] == "none" else [*self._orders, order]
            return _answer(start, "200 OK", {})
        operation = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")[2]
        kind, seconds = self._next(operation)
        if kind == "lost":
            self._ask(environ, lambda *_: None, body)
            kind = "internal"
        if kind in _ERRORS:
            status, name, message = _ERRORS[kind]
            return _answer(start, status, {"__type": _PREFIX + name, "message": message})
        if kind == "half":
            return self._half(environ, start, json.loads(body))
        if kind == "late":
            time.sleep(seconds)
        return self._ask(environ, start, body)

    def _next(self, operation: str) -> tuple[str, float]:
        with self._lock:
            for order in self._orders:
                if order["operation"] == operation and order["times"] > 0:
                    order["times"] -= 1
                    return order["kind"], order.get("seconds", 0.0)
        return "", 0.0

    def _ask(self, environ: dict[str, Any], start: Any, body: bytes) -> list[bytes]:
        environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
        with self._lock:
            return [b"".join(self._inner(environ, start))]

    def _half(self, environ: dict[str, Any], start: Any, asked: dict[str, Any]) -> list[bytes]:
        """Do half of a batch, and hand back the rest as not processed."""
        ((table, wanted),) = asked["RequestItems"].items()
        reads = isinstance(wanted, dict)
        items = wanted["Keys"] if reads else wanted
        done, left = items[: len(items) // 2], items[len(items) // 2 :]
        name = "UnprocessedKeys" if reads else "UnprocessedItems"
        rest = {table: {**wanted, "Keys": left} if reads else left}
        if not done:
            return _answer(start, "200 OK", {"Responses": {}, name: rest})
        asked["RequestItems"] = {table: {**wanted, "Keys": done} if reads else done}
        (told,) = self._ask(environ, lambda *_: None, json.dumps(asked).encode())
        return _answer(start, "200 OK", {**json.loads(told), name: rest})


def _answer(start: Any, status: str, body: dict[str, Any]) -> list[bytes]:
    data = json.dumps(body).encode()
    start(status, [("Content-Type", "application/x-amz-json-1.0"), ("Content-Length", str(len(data)))])
    return [data]


class _Handler(BaseHTTPRequestHandler):
    """Hands requests to the application, over connections that stay open as the real service's do."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one piece
    app: Faulty

    def do_POST(self) -> None:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": self.path,
            "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(self.server.server_address[1]),
            "SERVER_PROTOCOL": self.request_version,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "wsgi.input": io.BytesIO(self.rfile.read(int(self.headers.get("Content-Length") or 0))),
            "wsgi.errors": sys.stderr,
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
        }
        environ["CONTENT_LENGTH"] = str(environ["wsgi.input"].getbuffer().nbytes)
        environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in self.headers.items()}
        told: list[Any] = []
        body = b"".join(self.app(environ, lambda status, headers, *_: told.extend((status, headers))))
        status, headers = told
        self.send_response(int(status.split()[0]))
        for name, value in headers:
            if name.lower() not in ("content-length", "status"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 256


if __name__ == "__main__":
    _Handler.app = Faulty(handled)
    server = _Server(("127.0.0.1", 0), _Handler)
    # moto's modules stay: the collector need not look at them with every hundredth request
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    print(server.server_port, flush=True)
    server.serve_forever()
