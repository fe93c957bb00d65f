"""Requests as they come over a socket: in parts, one behind the other, with offers of other protocols."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

import headwater as hw
from headwater.clock import system_clock
from headwater.compute.reading.async_reads import AsyncPreparedReader
from headwater.serving import connection as connections
from headwater.serving.access import KeyRing
from headwater.serving.app import App
from headwater.serving.logs import Log
from headwater.serving.metrics import REQUESTS, merged
from headwater.serving.settings import ServerSettings
from tests.servers.threaded_server import ThreadedServer
from tests.servers.waiting import wait_until
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
    monkeypatch.setattr(connections, "SILENT_SECONDS", 1.0)
    with connected() as connection:
        connection.sendall(b"\r\n")
        assert connection.recv(65_536) == b""
    with connected(keep_alive=1) as connection:
        connection.sendall(read_of(0))
        assert answer(connection)[0][b"headwater-request-id"] == b"r0"
        connection.sendall(b"\r\n")
        assert connection.recv(65_536) == b""


@pytest.mark.parametrize("cut", range(0, 2 * len(JAVA + BODY), 29))
def test_offers_are_passed_over_wherever_a_segment_ends(cut: int) -> None:
    data = (JAVA + BODY) * 2
    with connected() as connection:
        connection.sendall(data[:cut])
        time.sleep(0.002)
        connection.sendall(data[cut:])
        rest = b""
        for _ in range(2):
            headers, given, rest = answer(connection, rest)
            assert headers[b"status"].endswith(b"200 OK") and json.loads(given)["columns"]["name"] == [TEXT]


def test_a_body_behind_the_last_byte_of_its_head_is_left_as_it_is() -> None:
    body = b'{"features": ["events:n"], "entities": [7],\nupgrade: 1}'
    whole = request(body)
    with connected() as connection:
        end = whole.index(b"\r\n\r\n") + 3
        connection.sendall(whole[:end])
        time.sleep(0.02)
        connection.sendall(whole[end:])
        headers, given, _ = answer(connection)
        # as it is it is not JSON, and the error says at which byte
        assert headers[b"status"].split()[1] == b"400"
        assert b"byte %d" % body.index(b"upgrade") in given


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"\r\n\r\n", b"GET"], ids=["nothing", "a line", "two", "a head"])
@pytest.mark.parametrize("asked", [False, True], ids=["new", "after an answer"])
def test_a_connection_ends_where_no_request_comes(sent: bytes, asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SILENT_SECONDS", 75.0 if asked else 1.0)
    monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)
    with connected(keep_alive=1) as connection:
        if asked:
            connection.sendall(read_of(0))
            answer(connection)
        last = b""
        # it may have ended before this came
        with suppress(ConnectionError):
            connection.sendall(sent)
            while part := connection.recv(65_536):
                last += part
        assert last == b"" or (sent == b"GET" and last.startswith(b"HTTP/1.1 408"))


def test_a_connection_ends_where_the_rest_of_a_body_is_all_that_comes() -> None:
    with connected(keep_alive=1) as connection:
        connection.sendall(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx")
        assert answer(connection)[0][b"status"].split()[1] == b"404"
        ended, began = False, time.monotonic()
        while not ended and time.monotonic() < began + 60:
            try:
                connection.sendall(b"x")
                time.sleep(0.2)
            except OSError:
                ended = True
        assert ended


@pytest.mark.parametrize("pause", [0.0, 0.05])
@pytest.mark.parametrize("size", [140_000, 180_000])
def test_heads_are_bounded_however_they_come(size: int, pause: float) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * size
    for data in (head + b"\r\n\r\n", head):
        with connected() as connection:
            connection.sendall(read_of(0))
            answer(connection)
            # what is not read any more may take the answer with it
            with suppress(ConnectionError):
                connection.sendall(data[:1_000])
                time.sleep(pause)
                connection.sendall(data[1_000:])
                assert connection.recv(65_536).startswith(b"HTTP/1.1 431")
    with connected() as connection:
        # many requests in one segment are not a long head
        connection.sendall(read_of(0) * 1_000)
        rest = b""
        for _ in range(1_000):
            headers, _, rest = answer(connection, rest)
            assert headers[b"status"].endswith(b"200 OK")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: x\r\n", b"400"),
        (b"GET /healthz HTTP/1.0\r\nHost: x\r\nhost: y\r\n", b"400"),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n", b"400"),
        (b"GET /healthz HTTP/1.0\r\n", b"200"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nAccept: a\r\nAccept: b\r\n", b"200"),
        (b"GET /healthz HTTP/1.1\r\nHost:\r\n", b"200"),
    ],
)
def test_a_request_names_one_host(head: bytes, status: bytes) -> None:
    with connected() as connection:
        connection.sendall(head + b"\r\n")
        assert answer(connection)[0][b"status"].split()[1] == status


@pytest.mark.parametrize(
    ("sent", "status", "title", "detail"),
    [
        (b"no HTTP\r\n\r\n", 400, "InvalidHTTP", "the request is not valid HTTP/1.1"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "InvalidHTTP", "a request must have one Host header"),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 140_000, 431, "HeadTooLarge", "longer than 131,072 bytes"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", 408, "RequestTimeout", "did not arrive within"),
    ],
    ids=["no HTTP", "no host", "long", "slow"],
)
def test_what_is_no_whole_request_gets_a_problem_document_and_is_counted(
    sent: bytes, status: int, title: str, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    store = hw.FeatureStore.in_memory([EVENTS], clock=lambda: NOON)
    app = App(hw.AsyncFeatureStore.of(store), ServerSettings())
    with (
        store,
        ThreadedServer(app) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection,
    ):
        connection.sendall(sent)
        headers, body, _ = answer(connection)
        document = json.loads(body)
        assert headers[b"status"].split()[1] == b"%d" % status and headers[b"connection"] == b"close"
        assert headers[b"content-type"] == b"application/problem+json"
        assert document["status"] == status and detail in document["detail"]
        assert document["request_id"].encode() == headers[b"headwater-request-id"]
        assert merged(app.requests.metrics.memory)["headwater_refused_requests", title] == [1.0]


def test_halves_of_bodies_keep_nobody_out() -> None:
    store = hw.FeatureStore.in_memory([EVENTS, DELAYS], clock=lambda: NOON)
    store.write("events", [ROW])
    app = App(hw.AsyncFeatureStore.of(store), ServerSettings(most_at_once=3))
    with store, ThreadedServer(app, keep_alive=60) as server, ExitStack() as open_ones:

        def connect() -> socket.socket:
            return open_ones.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))

        whole = read_of(0)
        halves = []
        for n in range(3):
            halves.append(connect())
            halves[-1].sendall(whole[:-5])
            wait_until(lambda n=n: app.requests.under_way == n + 1, "the half", 60)
        for _ in range(5):
            other = connect()
            other.sendall(whole)
            assert answer(other)[0][b"status"].endswith(b"200 OK")
        # one more, and the one that began first is given up; the others go on
        late = connect()
        late.sendall(whole[:-5])
        headers, body, _ = answer(halves[0])
        assert headers[b"status"].split()[1] == b"503" and b"began first" in body
        for one in (*halves[1:], late):
            one.sendall(whole[-5:])
            assert answer(one)[0][b"status"].endswith(b"200 OK")
        wait_until(lambda: not app.requests.under_way, "the end of all", 60)


def test_a_refused_request_takes_no_answer_from_the_one_before_it() -> None:
    with connected() as connection:
        connection.sendall(read_of(3) + b"GET /healthz HTTP/1.1\r\n\r\n" + read_of(1))
        headers, body, rest = answer(connection)
        assert headers[b"headwater-request-id"] == b"r3" and len(json.loads(body)["columns"]["n"]) == 4
        assert rest + connection.recv(65_536) == b""


def test_head_says_how_long_the_body_is() -> None:
    with connected() as connection:
        connection.sendall(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        rest = b""
        while rest.count(b"\r\n\r\n") < 2 or not rest.endswith(b"}"):
            rest += connection.recv(65_536)
        head, _, rest = rest.partition(b"\r\n\r\n")
        _, body, rest = answer(connection, rest)
        assert b"content-length: %d" % len(body) in head and rest == b""


def counted(app: App, status: str) -> float:
    return sum(
        values[0]
        for name, values in merged(app.requests.metrics.memory).items()
        if name[0] == REQUESTS.name and name[2] == status
    )


@pytest.mark.parametrize("whole", [False, True], ids=["in the body", "after it"])
def test_a_client_that_goes_away_ends_its_read(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, left, log = threading.Event(), threading.Event(), io.StringIO()

    async def endless(*args: object, **options: object) -> None:
        begun.set()
        try:
            await asyncio.sleep(3_600)
        except asyncio.CancelledError:
            left.set()
            raise

    store = hw.FeatureStore.in_memory([EVENTS, DELAYS], clock=lambda: NOON)
    app = App(hw.AsyncFeatureStore.of(store), ServerSettings(deadline=3_000), log=Log(stream=log))
    monkeypatch.setattr(AsyncPreparedReader, "read", endless)
    data = read_of(0)
    with store, ThreadedServer(app) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(data if whole else data[:-5])
            wait_until(lambda: begun.is_set() if whole else app.requests.under_way, "the request", 60)
        wait_until(lambda: not app.requests.under_way, "the end of the read", 60)
        wait_until(lambda: counted(app, "gone") == 1, "its count", 60)
        assert left.is_set() is whole
        assert counted(app, "5xx") == 0 and log.getvalue() == ""


def test_a_client_that_goes_away_leaves_its_write(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, free = threading.Event(), threading.Event()
    store = hw.FeatureStore.in_memory([EVENTS, DELAYS], clock=lambda: NOON)
    do = store.write

    def waiting(*args: Any, **options: Any) -> Any:
        begun.set()
        assert free.wait(60)
        return do(*args, **options)

    monkeypatch.setattr(store, "write", waiting)
    app = App(hw.AsyncFeatureStore.of(store), ServerSettings())
    row = json.dumps({"view": "events", "rows": [{**ROW, "at": "2026-01-01T11:00:00Z", "raw": ""}]}).encode()
    with store, ThreadedServer(app) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(request(row).replace(b":read", b":write", 1))
            assert begun.wait(60)
        assert app.requests.under_way == 1
        free.set()
        wait_until(lambda: not app.requests.under_way, "the end of the write", 60)
        assert counted(app, "2xx") == 1
        assert store.get_online_features(["events:n"], [7]).to_dict()["n"] == [1]
