"""Requests as they come over a socket: in parts, one behind the other, with offers of other protocols."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import headwater as hw
from headwater.clock import system_clock
from headwater.serving import connection as connection_module
from headwater.serving.access import KeyRing
from headwater.serving.app import App
from headwater.serving.settings import ServerSettings
from tests.servers.threaded_server import ThreadedServer
from tests.unit.serving.conftest import DELAYS, EVENTS, NOON

BODY = b'{"features": ["events:name"], "entities": {"user": [7]},\n "include":\r\n[]}'
JAVA = b"\r\n".join(
    [
        b"POST /v1/features:read HTTP/1.1",
        b"Connection: Upgrade, HTTP2-Settings",
        b"Content-Length: %d" % len(BODY),
        b"Host: localhost",
        b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        b"Upgrade: h2c",
        b"Content-Type: application/json",
        b"\r\n",
    ]
)
TEXT = "\nUpgrade: h2c"
ROW = {"user": 7, "at": NOON, "n": 1, "x": 1.0, "name": TEXT, "raw": b"", "day": None, "seen": None, "tags": []}


@pytest.mark.parametrize(
    "parts",
    [
        [JAVA + BODY],
        [JAVA, BODY],
        [JAVA[:100], JAVA[100:], BODY[:20], BODY[20:]],
        [JAVA.replace(b"Upgrade: h2c", b"UPGRADE: h2c"), BODY],
    ],
    ids=["at once", "body later", "in parts", "in capitals"],
)
def test_an_offer_of_another_protocol_is_passed_over(parts: list[bytes]) -> None:
    store = hw.FeatureStore.in_memory([EVENTS, DELAYS], clock=lambda: NOON)
    store.write("events", [ROW])
    asynchronous = hw.AsyncFeatureStore.of(store)
    with (
        store,
        ThreadedServer(App(asynchronous, ServerSettings())) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection,
    ):
        for part in parts:
            connection.sendall(part)
            time.sleep(0.02)
        answer = b""
        while not answer.endswith(b"}}"):
            part = connection.recv(65_536)
            assert part, answer
            answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), answer
        assert json.loads(body)["columns"] == {"user": [7], "name": [TEXT]}


def test_a_body_is_left_as_it_is() -> None:
    store = hw.FeatureStore.in_memory([EVENTS, DELAYS], clock=lambda: NOON)
    app = App(hw.AsyncFeatureStore.of(store), ServerSettings())
    with store, ThreadedServer(app) as server, hw.Client(server.url, timeout="30s") as client:
        # a column's own bytes, in a body that comes in many segments
        text = "\r\nUpgrade: x\r\n" * 20_000
        client.write("events", [{**ROW, "name": text}])
        assert client.get_online_features(["events:name"], [7]).to_dict()["name"] == [text]


@contextmanager
def connected(keep_alive: int = 5) -> Iterator[socket.socket]:
    """A connection to a server of one row."""
    store = hw.FeatureStore.in_memory([EVENTS, DELAYS], clock=lambda: NOON)
    store.write("events", [ROW])
    app = App(hw.AsyncFeatureStore.of(store), ServerSettings())
    with (
        store,
        ThreadedServer(app, keep_alive) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection,
    ):
        yield connection


def request(body: bytes, *headers: bytes, version: bytes = b"1.1", method: bytes = b"POST") -> bytes:
    head = [
        method + b" /v1/features:read HTTP/" + version,
        b"Host: x",
        b"Content-Length: %d" % len(body),
        b"Content-Type: application/json",
    ]
    return b"\r\n".join([*head, *headers, b"", body])


def read_of(request_id: int) -> bytes:
    body = json.dumps({"features": ["events:n"], "entities": {"user": [7] * (request_id + 1)}}).encode()
    return request(body, b"Headwater-Request-Id: r%d" % request_id)


def answer(connection: socket.socket, rest: bytes = b"") -> tuple[dict[bytes, bytes], bytes, bytes]:
    """The head and body of the next answer, and what came behind it."""
    while b"\r\n\r\n" not in rest:
        part = connection.recv(65_536)
        assert part, rest
        rest += part
    head, _, rest = rest.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    headers = {b"status": first} | {name: value for name, _, value in (line.partition(b": ") for line in lines)}
    size = int(headers[b"content-length"])
    while len(rest) < size:
        part = connection.recv(65_536)
        assert part, rest
        rest += part
    return headers, rest[:size], rest[size:]


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
def test_requests_one_behind_the_other_are_answered_in_order(size: int) -> None:
    data = b"".join(read_of(n) for n in range(20))
    with connected() as connection:
        for start in range(0, len(data), size):
            connection.sendall(data[start : start + size])
        rest = b""
        for n in range(20):
            headers, body, rest = answer(connection, rest)
            assert headers[b"headwater-request-id"] == b"r%d" % n
            assert json.loads(body)["columns"] == {"user": [7] * (n + 1), "n": [1] * (n + 1)}
        assert rest == b""


def test_a_body_that_is_held_back_is_asked_for() -> None:
    body = b'{"features": ["events:n"], "entities": [7]}'
    whole = request(body, b"Expect: 100-continue")
    with connected() as connection:
        connection.sendall(whole[: -len(body)])
        asked = connection.recv(65_536)
        assert asked == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert json.loads(answer(connection)[1])["columns"] == {"user": [7], "n": [1]}
        connection.sendall(read_of(0))
        assert answer(connection)[0][b"headwater-request-id"] == b"r0"


@pytest.mark.parametrize(
    "last", [request(b"{}", version=b"1.0"), request(b"{}", b"Connection: close")], ids=["HTTP/1.0", "asked for"]
)
def test_the_connection_ends_where_the_client_says_so(last: bytes) -> None:
    with connected() as connection:
        connection.sendall(read_of(0) + last)
        _, _, rest = answer(connection)
        headers, _, rest = answer(connection, rest)
        assert headers[b"connection"] == b"close"
        assert rest + connection.recv(65_536) == b""


def test_a_target_that_is_none_is_refused() -> None:
    with connected() as connection:
        connection.sendall(b"GET not-a-path HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 400")


def test_who_asks_through_a_proxy_is_not_on_this_host() -> None:
    store = hw.FeatureStore.in_memory([EVENTS, DELAYS], clock=lambda: NOON)
    key, _ = store.registry.api_keys.create("reader", ["read"])
    keys = KeyRing(store.registry.api_keys.all, system_clock)
    asyncio.run(keys.read())
    app = App(hw.AsyncFeatureStore.of(store), ServerSettings(keys=True), keys)
    ask = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key.encode() + b"\r\n%s\r\n"
    with (
        store,
        ThreadedServer(app) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection,
    ):
        for forwarded, status in ((b"", b"200"), (b"X-Forwarded-For: 203.0.113.9\r\n", b"403"), (b"", b"200")):
            connection.sendall(ask % forwarded)
            assert answer(connection)[0][b"status"].split()[1] == status


def test_a_connection_that_stays_silent_ends() -> None:
    with connected(keep_alive=1) as connection:
        for n in range(3):
            connection.sendall(read_of(n))
            assert answer(connection)[0][b"headwater-request-id"] == b"r%d" % n
        assert connection.recv(65_536) == b""


def test_blank_lines_do_not_keep_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "SILENT_SECONDS", 1.0)
    with connected() as connection:
        connection.sendall(b"\r\n")
        assert connection.recv(65_536) == b""
    with connected(keep_alive=1) as connection:
        connection.sendall(read_of(0))
        assert answer(connection)[0][b"headwater-request-id"] == b"r0"
        connection.sendall(b"\r\n")
        assert connection.recv(65_536) == b""
