"""Requests as they come over a socket: offers of other protocols are passed over."""

from __future__ import annotations

import json
import socket
import time

import pytest

import headwater as hw
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
