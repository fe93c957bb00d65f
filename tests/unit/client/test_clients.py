"""Clients over a network that fails: what is sent again, and how often; what is waited for; forks and threads."""

from __future__ import annotations

import asyncio
import http.server
import inspect
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

import headwater as hw
from tests.servers.ports import free_port
from tests.servers.waiting import at_most

KEYS = {"user": "int64"}
SCHEMA = {
    "keys": KEYS,
    "features": [["n", "int64", 0]],
    "views": [{"name": "events", "label": "events", "version": "1.0.0", "keys": ["user"], "timed": True, "sla": None}],
    "freshness": "linear",
    "half_life": None,
    "service": None,
    "statuses": ["PRESENT", "NOT_FOUND", "SOMETHING_NEW"],
}
DESCRIBED = {"columns": {"user": [], "n": []}, "schema": SCHEMA}
AT = "2026-01-01T12:00:00.000000Z"
ANSWER = {
    "columns": {"user": [7], "n": [1]},
    "statuses": {"n": ["SOMETHING_NEW"]},
    "event_times": {"events": [AT]},
    "created_times": {"events": [AT]},
    "read_at": {"events": [AT]},
    "problems": [],
    "schema": SCHEMA,
}
REPORT = {"applied": 1, "from_the_future": True}


class Scripted:
    """A server that answers as it is told, one request after the other."""

    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.requests.append((self.path, headers, body))
                outer.answer(self)

            do_GET = do_POST

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler: Any) -> None:
        reply = self.replies.pop(0)
        if reply == "drop":
            handler.close_connection = True
            return
        if reply == "drip":
            body = json.dumps(ANSWER).encode()
            handler.send_response(200)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(body)))
            handler.end_headers()
            with suppress(OSError):
                for byte in body:
                    handler.wfile.write(bytes([byte]))
                    time.sleep(0.2)
            return
        if isinstance(reply, float):
            time.sleep(reply)
            reply = ANSWER
        status, headers = 200, {}
        if isinstance(reply, tuple):
            status, kind, headers = reply
            reply = {"type": f"urn:headwater:errors#{kind}", "status": status, "detail": kind}
            headers = {"content-type": "application/problem+json", **headers}
        body = json.dumps(reply).encode()
        handler.send_response(status)
        for name, value in {"content-type": "application/json", **headers, "content-length": len(body)}.items():
            handler.send_header(name, str(value))
        handler.end_headers()
        handler.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.server.shutdown()
    made.server.server_close()


Ask = Callable[..., Any]


@pytest.fixture(params=["threads", "event loop"])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Calls a method of a client of either kind: `ask(url, "write", arguments, settings)`."""
    with asyncio.Runner() as runner:
        clients: list[Any] = []

        def call(url: str, method: str, arguments: tuple[Any, ...], **settings: Any) -> Any:
            kind = hw.Client if request.param == "threads" else hw.AsyncClient
            client = kind(url, **{"form": "json", "timeout": "5s", **settings})
            clients.append(client)
            found = getattr(client, method)(*arguments)
            return runner.run(found) if inspect.isawaitable(found) else found

        yield call
        for client in clients:
            for _ in range(2):
                closed = client.close()
                if closed is not None:
                    runner.run(closed)
            with pytest.raises(hw.Unavailable, match="closed"):
                found = client.write("events", [])
                if inspect.isawaitable(found):
                    runner.run(found)


READ = (["events:n"], [7])
ROWS = ("events", [{"user": 7}])
BUSY = (503, "unavailable", {"retry-after": "0"})


def test_a_read_is_sent_again(server: Scripted, ask: Ask) -> None:
    server.replies = [BUSY, DESCRIBED, "drop", (429, "too-many-requests", {"retry-after": "0.05"}), ANSWER]
    found = ask(server.url, "get_online_features", READ, api_key="secret")
    # a status that this release does not have
    assert found.to_dict() == {"user": [7], "n": [1]} and found.statuses == {"n": [hw.Status.UNAVAILABLE]}
    assert len(server.requests) == 5
    path, headers, body = server.requests[-1]
    assert path == "/v1/features:read" and headers["authorization"] == "Bearer secret"
    assert json.loads(body)["entities"] == {"user": [7]}
    assert "idempotency-key" not in headers


def test_a_write_is_sent_again_with_its_key(server: Scripted, ask: Ask) -> None:
    server.replies = [BUSY, (409, "write-under-way", {"retry-after": "0"}), REPORT]
    assert ask(server.url, "write", ROWS).applied == 1
    keys = [headers["idempotency-key"] for _, headers, _ in server.requests]
    assert len(keys) == 3 and len(set(keys)) == 1 and len(keys[0]) == 32
    server.replies = [REPORT]
    ask(server.url, "write", ROWS)
    assert server.requests[-1][1]["idempotency-key"] != keys[0]


@pytest.mark.parametrize("keys", [[7, 8], [{"user": 7}, {"user": 8}], {"user": [7, 8]}])
@pytest.mark.parametrize("form", ["arrow", "json"])
def test_a_key_that_may_write_alone_deletes(server: Scripted, ask: Ask, keys: Any, form: str) -> None:
    report = {"deleted": 2, "found": 2, "through": AT, "position": 5}
    server.replies = [(403, "forbidden", {}), BUSY, report]
    found = ask(server.url, "delete", ("events", keys), form=form)
    assert (found.deleted, found.position, found.through) == (2, 5, datetime(2026, 1, 1, 12, tzinfo=UTC))
    (path, _, _), (_, first, body), (_, second, again) = server.requests
    assert path == "/v1/views/events" and body == again
    assert first["idempotency-key"] == second["idempotency-key"]
    if first["content-type"] == "application/json":
        assert json.loads(body)["entities"] in ([7, 8], {"user": [7, 8]})
    else:
        assert pa.ipc.open_stream(body).read_all().to_pydict() == {"user": [7, 8]}


def test_a_write_to_the_online_store_alone_is_not(server: Scripted, ask: Ask) -> None:
    for reply in (BUSY, "drop"):
        server.requests, server.replies = [], [reply, REPORT]
        with pytest.raises(hw.Unavailable):
            ask(server.url, "write", (*ROWS, hw.WriteTarget.ONLINE))
        assert len(server.requests) == 1 and "idempotency-key" not in server.requests[0][1]


def test_it_is_not_tried_for_ever(server: Scripted, ask: Ask) -> None:
    server.replies = [BUSY] * 10
    with pytest.raises(hw.Unavailable, match="unavailable"):
        ask(server.url, "write", ROWS)
    assert len(server.requests) == 3
    with pytest.raises(hw.Unavailable):
        ask(server.url, "write", ROWS, retries=0)
    assert len(server.requests) == 4
    server.replies = [(503, "unavailable", {"retry-after": "3600"})]
    with pytest.raises(hw.Unavailable):
        ask(server.url, "write", ROWS)
    assert len(server.requests) == 5
    server.replies = [(503, "store-read-only", {"retry-after": "0"})]
    with pytest.raises(hw.StoreReadOnly):
        ask(server.url, "write", ROWS)
    assert len(server.requests) == 6


def test_an_answer_that_is_late_is_not_waited_for(server: Scripted, ask: Ask) -> None:
    server.replies = [DESCRIBED, 3.0]
    with at_most(2.5), pytest.raises(hw.Unavailable, match=r"no answer within 0\.3 s"):
        ask(server.url, "get_online_features", READ, timeout="300ms", retries=0)


def test_an_answer_that_comes_too_slowly_is_not_waited_for(server: Scripted, ask: Ask) -> None:
    """Each of its 600 bytes comes in time."""
    server.replies = [DESCRIBED, "drip"]
    with at_most(60), pytest.raises(hw.Unavailable, match=r"no answer within 1 s"):
        ask(server.url, "get_online_features", READ, timeout="1s", retries=0)


def test_writes_and_deletes_have_time_of_their_own(server: Scripted, ask: Ask) -> None:
    server.replies = [1.0, 1.0]
    with pytest.raises(hw.Unavailable, match=r"no answer within 0\.2 s"):
        ask(server.url, "write", ROWS, write_timeout="200ms", retries=0)
    server.replies = [1.0]
    # longer than another request may take
    ask(server.url, "write", ROWS, timeout="200ms", retries=0)


def test_all_attempts_of_a_read_with_a_deadline_share_it(server: Scripted) -> None:
    with hw.Client(server.url, form="json", timeout="60s", retries=9) as client:
        server.replies = [DESCRIBED]
        reader = client.prepare(["events:n"])
        server.replies = [(503, "unavailable", {"retry-after": "0"}), 30.0]
        with pytest.raises(hw.Unavailable, match=r"no answer within (1\.\d|0\.\d)"):
            reader.read([7], deadline="1s")
        last = server.requests[-1]
        assert len(server.requests) == 3 and last[0] == "/v1/features:read"


def test_an_answer_of_other_entities_is_refused(server: Scripted, ask: Ask) -> None:
    for entities in ([8], [7, 9], [7, 7], []):
        server.replies = [DESCRIBED, ANSWER]
        with pytest.raises(hw.StoreError, match="of other entities than were asked for"):
            ask(server.url, "get_online_features", (["events:n"], entities))


def test_nobody_listens_there(ask: Ask) -> None:
    with pytest.raises(hw.Unavailable, match=r"cannot reach http://127\.0\.0\.1:") as caught:
        ask(f"http://127.0.0.1:{free_port()}", "get_online_features", READ, api_key="secret")
    assert "secret" not in str(caught.value)


def test_answers_of_something_else(server: Scripted, ask: Ask) -> None:
    server.replies = [(404, "route-not-found", {"content-type": "text/html"})]
    with pytest.raises(hw.StoreError, match="not a headwater server"):
        ask(server.url, "write", ROWS)


def test_answers_that_cannot_be_read(server: Scripted, ask: Ask) -> None:
    for wrong in ({}, [], {**DESCRIBED, "schema": {"keys": 1}}, DESCRIBED):
        server.replies = [DESCRIBED, wrong]
        with pytest.raises(hw.StoreError, match="cannot be read"):
            ask(server.url, "get_online_features", READ)
    server.replies = [[1]]
    with pytest.raises(hw.StoreError, match="cannot be read"):
        ask(server.url, "write", ROWS)


def test_a_reader_whose_columns_change_says_so(server: Scripted) -> None:
    other = {**SCHEMA, "features": [["n", "string", 0]]}
    server.replies = [DESCRIBED, {**ANSWER, "columns": {"user": [7], "n": ["x"]}, "schema": other}, DESCRIBED]
    with hw.Client(server.url, form="json", timeout="5s") as client:
        reader = client.prepare(["events:n"])
        with pytest.raises(hw.ChangeRefused, match="prepare the reader again"):
            reader.read([7])
        reader.refresh()
        newer = {**SCHEMA, "views": [{**SCHEMA["views"][0], "version": "1.1.0"}]}
        server.replies = [{**ANSWER, "schema": newer}]
        assert reader.versions == {"events": "1.0.0"}
        reader.read([7])
        assert reader.versions == {"events": "1.1.0"}
        for thing in (client, reader):
            with pytest.raises(hw.UsageError, match="cannot be pickled"):
                pickle.dumps(thing)


def test_keys_that_have_changed_are_asked_for_again(server: Scripted) -> None:
    newer = {**SCHEMA, "keys": {"user": "int64", "shop": "string"}}
    answer = {**ANSWER, "columns": {"user": [7], "shop": ["a"], "n": [1]}, "schema": newer}
    with hw.Client(server.url, form="json", timeout="5s") as client:
        server.replies = [DESCRIBED, ANSWER]
        client.get_online_features(*READ)
        server.replies = [{**DESCRIBED, "schema": newer}, answer]
        found = client.get_online_features(["events:n"], {"user": [7], "shop": ["a"]})
        assert found.to_dict() == {"user": [7], "shop": ["a"], "n": [1]}
        server.replies = [{**DESCRIBED, "schema": newer}]
        with pytest.raises(hw.EntityKeyError, match="shop"):
            client.get_online_features(*READ)
        # refused by the server, which has newer keys yet
        server.replies = [(400, "entity-key-error", {}), DESCRIBED, ANSWER]
        with pytest.raises(hw.EntityKeyError):
            client.get_online_features(["events:n"], {"user": [7], "shop": ["a"]})


def test_connections_are_kept_and_shared_by_threads(server: Scripted) -> None:
    opened: list[Any] = []
    begin = server.server.process_request
    server.server.process_request = lambda request, client: (opened.append(client), begin(request, client))  # type: ignore[method-assign,func-returns-value]
    with hw.Client(server.url, form="json", timeout="10s") as client:
        server.replies = [DESCRIBED] + [ANSWER] * 200
        client.get_online_features(*READ)
        threads = [
            threading.Thread(target=lambda: [client.get_online_features(*READ).to_dict() for _ in range(20)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.requests) == 2 + 160 and len(opened) <= 9


def test_event_loops_one_after_the_other(server: Scripted) -> None:
    server.replies = [DESCRIBED] + [ANSWER] * 10
    client = hw.AsyncClient(server.url, form="json", timeout="5s")

    async def read() -> Any:
        found = await asyncio.gather(*[client.get_online_features(*READ) for _ in range(3)])
        return [result.to_dict()["n"] for result in found]

    async def first() -> Any:
        return (await client.get_online_features(*READ)).to_dict()["n"]

    assert asyncio.run(first()) == [1]
    assert asyncio.run(read()) == [[1]] * 3
    assert asyncio.run(read()) == [[1]] * 3
    asyncio.run(client.close())


@pytest.mark.parametrize("kind", ["threads", "event loop"])
def test_a_child_of_a_fork_has_connections_of_its_own(server: Scripted, kind: str) -> None:
    server.replies = [DESCRIBED] + [ANSWER] * 10
    client: Any = (hw.Client if kind == "threads" else hw.AsyncClient)(server.url, form="json", timeout="5s")

    def read() -> Any:
        found = client.get_online_features(*READ)
        return found if kind == "threads" else None

    if kind == "threads":
        assert read().to_dict()["n"] == [1]
        child = os.fork()
        if child == 0:
            ended = 1
            try:
                ended = 0 if read().to_dict()["n"] == [1] else 2
            finally:
                os._exit(ended)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert read().to_dict()["n"] == [1]
        client.close()
        return

    async def once() -> Any:
        return (await client.get_online_features(*READ)).to_dict()["n"]

    with asyncio.Runner() as runner:
        assert runner.run(once()) == [1]
        child = os.fork()
        if child == 0:
            ended = 1
            try:
                asyncio.events._set_running_loop(None)
                ended = 0 if asyncio.run(once()) == [1] else 2
            finally:
                os._exit(ended)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert runner.run(once()) == [1]
        runner.run(client.close())


def test_what_a_client_has_no_use_for_is_not_imported() -> None:
    unwanted = "{'duckdb', 'sqlglot', 'sqlalchemy', 'lmdb', 'pandas', 'polars', 'pyarrow.compute', 'typer', 'uvicorn'}"
    code = f"import sys, headwater as hw; hw.Client('http://127.0.0.1:1'); print({unwanted} & set(sys.modules))"
    for line in (code, code.replace("hw.Client", "hw.AsyncClient")):
        done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "set()"
