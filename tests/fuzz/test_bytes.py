"""Bytes that are not requests, or are more than anybody would send: refused or ended, and the server goes on."""

from __future__ import annotations

import http.client
import json
import random
import re
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

import headwater as hw
from headwater.serving.connection import HEAD_SECONDS
from headwater.testing import SCALE
from tests.servers.headwater_server import HeadwaterServer

READ = {"features": ["events:n"], "entities": [1]}
BODY = json.dumps(READ).encode()
HEAD = b"POST /v1/features:read HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadwaterServer]:
    folder: Path = tmp_path_factory.mktemp("fuzzed")
    user = hw.Entity("user", join_keys={"user": hw.Int64})
    view = hw.FeatureView(
        "events", entity=user, source=hw.PushSource(event_time="at"), features=[hw.Feature("n", hw.Int64)]
    )
    with hw.FeatureStore(folder) as store:
        store.apply([view])
        store.write("events", [{"user": 1, "at": datetime(2026, 1, 1, tzinfo=UTC), "n": 10}])
    (folder / "headwater.toml").write_text('[server]\nbody = "1MB"\nbody_timeout = "2s"\n')
    with HeadwaterServer(folder) as server:
        for _ in range(200):
            answers(server)
        yield server


@pytest.fixture(autouse=True)
def unharmed(server: HeadwaterServer) -> Iterator[None]:
    """Whatever a test sends: no worker dies, none keeps twice the memory, and the answer is right afterwards."""
    workers, before = server.workers(), memory(server)
    yield
    answers(server)
    assert server.workers() == workers
    until = time.monotonic() + 20
    while memory(server) > 2 * before:
        assert time.monotonic() < until, (memory(server), before)
        time.sleep(0.2)


def memory(server: HeadwaterServer) -> int:
    return sum(psutil.Process(worker).memory_info().rss for worker in server.workers())


def answers(server: HeadwaterServer) -> None:
    assert server("POST", "/v1/features:read", READ)[1]["columns"]["n"] == [10]


def send(server: HeadwaterServer, data: bytes, seconds: float = 10) -> bytes:
    """What the server says to some bytes, until it closes the connection or is silent for half a second."""
    with socket.create_connection(("127.0.0.1", server.port), seconds) as connection:
        with suppress(OSError):
            connection.sendall(data)
        connection.settimeout(0.5)
        said = b""
        with suppress(OSError):
            while part := connection.recv(65_536):
                said += part
        return said


def statuses(said: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


def test_random_bytes(server: HeadwaterServer) -> None:
    rng = random.Random(1)
    for _ in range(15 * SCALE):
        said = send(server, rng.randbytes(rng.choice([1, 10, 1_000, 20_000])))
        assert all(status == 400 for status in statuses(said)), said


def test_requests_with_bytes_changed(server: HeadwaterServer) -> None:
    """One byte or a stretch of a right request is another: anything but a 500."""
    rng = random.Random(2)
    whole = HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(BODY) + BODY
    for _ in range(30 * SCALE):
        place, length = rng.randrange(len(whole)), rng.choice([0, 1, 1, 5])
        changed = whole[:place] + rng.randbytes(rng.choice([0, 1, 1, 3])) + whole[place + length :]
        assert not any(status >= 500 for status in statuses(send(server, changed))), changed


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(99_000)), 431),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 2_000_000, 431),
        (b"GET /" + b"a" * 2_000_000, 431),
        (HEAD + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5000000\r\n\r\n", 413),
        (HEAD + b"Content-Length: -5\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"a" * 65_536 + b"\r\n" * 2, 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"a" * 65_536 + b"\r\n") * 40, 413),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", 400),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ],
    ids=["headers", "header", "path", "length", "long body", "negative", "bad chunk", "chunks", "two lengths", "both"],
)
def test_what_is_too_much_is_refused(server: HeadwaterServer, request_bytes: bytes, status: int) -> None:
    said = send(server, request_bytes)
    assert statuses(said)[:1] in ([status], []), said[:300]


def test_a_body_that_does_not_arrive_is_cut_off(server: HeadwaterServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n")
        began = time.monotonic()
        while True:
            assert time.monotonic() - began < 60
            time.sleep(0.25)
            try:
                connection.sendall(b" ")
            except OSError:
                break
            connection.settimeout(0.01)
            with suppress(TimeoutError):
                if said := connection.recv(65_536):
                    assert statuses(said) == [408]
                    break
        assert time.monotonic() - began > 1.5


def test_a_head_without_end_is_refused_before_it_fills_the_memory(server: HeadwaterServer) -> None:
    before, sent = memory(server), 0
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        with suppress(OSError):
            for n in range(2_000):
                connection.sendall(b"X-%d: " % n + b"a" * 50_000 + b"\r\n")
                sent += 50_000
    assert sent < 100_000_000 and memory(server) < before + 30_000_000


def test_a_head_that_takes_too_long_ends_its_connection(server: HeadwaterServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        began = time.monotonic()
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        assert statuses(connection.recv(65_536)) == [408]
        assert time.monotonic() - began > HEAD_SECONDS - 1


def test_requests_in_one_packet_are_answered_in_order(server: HeadwaterServer) -> None:
    one = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    said = send(server, one * 50)
    assert statuses(said) == [200] * 50


def test_deep_and_odd_json(server: HeadwaterServer) -> None:
    odd = ["[" * 100_000, '{"a":' * 50_000, "1e999", '"' * 7, "\x00", "{}{}", "nul"]
    odd += [f'{{"entities": [{value}], "features": ["events:n"]}}' for value in ("9" * 5_000, "NaN", "1e5000", "{}")]
    for text in odd:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        data = text.encode("utf-8", "replace")
        connection.request("POST", "/v1/features:read", data, {"content-type": "application/json"})
        assert connection.getresponse().status == 400, text[:50]
        connection.close()


def test_ten_thousand_idle_connections_keep_nobody_out(server: HeadwaterServer) -> None:
    count = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)
    with ExitStack() as opened:
        for n in range(count):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", server.port), 60))
            if n % 3 == 0:
                connection.sendall(b"GET /healthz HT")
            if n % 1_000 == 0:
                answers(server)
        began = time.monotonic()
        answers(server)
        assert time.monotonic() - began < 60
