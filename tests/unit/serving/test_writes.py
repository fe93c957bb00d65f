"""Writes and deletes over HTTP: bounded before anything is made of them, and never on the event loop."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headwater as hw
from headwater.compute.reading.prepared import PreparedReader
from headwater.definitions.names import CREATED
from headwater.registry.reader import REFRESH
from headwater.serving import routes as routes_module
from headwater.serving.access import KeyRing
from headwater.serving.idempotency import _each_has_one
from headwater.wire.arrow_streams import MOST_COLUMNS
from headwater.wire.json_values import from_json, read_rows
from tests.unit.serving.conftest import NOON, ROW, Caller

JSON = {"content-type": "application/json"}
DELAY = {"origin": "a", "dest": "b", "at": "2026-01-01T11:00:00Z", "late": 1.5}


def write(call: Caller, rows: Any, view: str = "events", **body: Any) -> Any:
    return call("POST", "/v1/features:write", {"view": view, "rows": rows, **body})


def peak_of(work: Callable[[], Any]) -> tuple[Any, int]:
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("rows", [60_000, 90_000])
def test_rows_that_lack_columns_take_no_memory_for_them(call: Caller, rows: int) -> None:
    call.bound(most_rows=70_000)
    wide = json.dumps({f"c{i}": 0 for i in range(400)})
    body = f'{{"view":"events","rows":[{wide}{",{}" * (rows - 1)}]}}'.encode()
    answer, peak = peak_of(lambda: call("POST", "/v1/features:write", body))
    assert answer.status == (413 if rows > 70_000 else 422)
    # a cell for each name and row would be 190 MB
    assert peak < 120e6


def test_more_columns_than_a_table_may_have_are_refused(call: Caller) -> None:
    names = [f"c{i}" for i in range(MOST_COLUMNS + 1)]
    for rows in ([{name: 0} for name in names], {name: [0] for name in names}):
        answer = write(call, rows)
        assert answer.status == 413 and "columns" in answer.json["detail"]
    # each unknown column is named for its row, and looked up once
    some = write(call, [{name: 0} for name in names[:50]], errors="report")
    assert some.json["rejected"] == 50


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                "nxs", st.sampled_from([None, 1, 1.5, "NaN", "7", "x", "2026-01-01T00:00:00Z", True, [1], {}])
            ),
        )
    )
)
def test_rows_are_read_as_their_columns_are(rows: list[dict[str, Any]]) -> None:
    dtypes = {"n": hw.Int64, "x": hw.Float64, "s": hw.Timestamp}
    columns = {name: from_json([row.get(name) for row in rows], dtypes[name], strict=False) for name in dtypes}
    wanted = [{name: columns[name][i] for name in row} for i, row in enumerate(rows)]
    read_rows(rows, dtypes)
    assert repr(rows) == repr(wanted)


def test_a_large_body_is_read_on_a_thread(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    read_by = []

    def decoded(body: bytes, kind: Any, *more: Any) -> Any:
        read_by.append((len(body) > 1_000_000, threading.current_thread() is threading.main_thread()))
        return decode(body, kind, *more)

    decode = routes_module.decoded
    monkeypatch.setattr(routes_module, "decoded", decoded)
    assert write(call, [ROW]).status == 200
    assert write(call, [{**ROW, "name": "x" * 1_000_000}]).status == 200
    assert read_by == [(False, True), (True, False)]


def test_writes_that_wait_keep_no_read_waiting(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    assert write(call, [ROW]).status == 200
    store, free = call.app.store.sync, threading.Event()
    do = store.write

    def waiting(*args: Any, **options: Any) -> Any:
        assert free.wait(60)
        return do(*args, **options)

    monkeypatch.setattr(store, "write", waiting)
    writing = json.dumps({"view": "events", "rows": [ROW]}).encode()
    reading = json.dumps({"features": ["events:n"], "entities": [7]}).encode()

    async def while_they_wait() -> None:
        writes = [asyncio.ensure_future(call.call("POST", "/v1/features:write", [writing], JSON)) for _ in range(40)]
        try:
            for _ in range(3):
                # a reader is due to look at the registry, on a thread
                monkeypatch.setattr(PreparedReader, "due", property(lambda self: True))
                found = await call.call("POST", "/v1/features:read", [reading], JSON)
                assert found.status == 200 and found.json["columns"]["n"] == [ROW["n"]]
            other = json.dumps({"features": ["delays:late"], "entities": {"origin": ["a"], "dest": ["b"]}}).encode()
            assert (await call.call("POST", "/v1/features:read", [other], JSON)).status == 200
            assert (await call.call("GET", "/v1/views", [b""], JSON)).status == 200
            assert (await call.call("GET", "/v1/status", [b""], JSON)).status == 200
            assert (await call.call("GET", "/metrics", [b""], JSON)).status == 200
            assert not any(task.done() for task in writes)
        finally:
            free.set()
        assert {answer.status for answer in await asyncio.gather(*writes)} == {200}

    call.runner.run(while_they_wait())


def test_who_gave_no_answer_is_named(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    call.bound(deadline=0.2)
    free = threading.Event()
    monkeypatch.setattr(call.app.store.sync.services, "reader", lambda *_: free.wait(60))
    try:
        answer = call.read(features=["events:n"], entities=[7])
    finally:
        free.set()
    assert (answer.status, answer.json["detail"]) == (503, "the registry gave no answer within 0.2 s")


@pytest.mark.parametrize("path", ["read", "write", "show"])
def test_a_registry_that_does_not_answer_holds_up_no_other_request(call: Caller, path: str) -> None:
    """Keys with patterns have it looked at, and it is read again in time: by one request, on a thread."""
    registry, free, asking = call.app.store.sync.registry, threading.Event(), threading.Event()
    key, _ = registry.api_keys.create("some", ["read", "write"], views=["events"])
    call.app.requests.keys = KeyRing(registry.api_keys.all, lambda: NOON)
    call.runner.run(call.app.requests.keys.read())
    call.headers["Authorization"] = f"Bearer {key}"
    assert call.read(features=["events:n"], entities=[7]).status == 200
    real = registry.snapshot

    def slow(*args: Any) -> Any:
        asking.set()
        assert free.wait(60)
        return real(*args)

    def ask() -> Any:
        if path == "show":
            return call.call("GET", "/v1/views/events", [b""], call.headers)
        body = {"features": ["events:n"], "entities": [7]} if path == "read" else {"view": "events", "rows": [ROW]}
        headers = {"content-type": "application/json"} | call.headers
        return call.call("POST", f"/v1/features:{path}", [json.dumps(body).encode()], headers)

    async def while_it_hangs() -> None:
        registry.snapshot = slow  # type: ignore[method-assign]
        registry._checked = time.monotonic() - 1.5 * REFRESH.total_seconds()
        try:
            waits = asyncio.create_task(ask())
            while not asking.is_set():
                await asyncio.sleep(0.01)
            body = json.dumps({"features": ["events:n"], "entities": [7]}).encode()
            headers = {"content-type": "application/json"} | call.headers
            assert (await call.call("POST", "/v1/features:read", [body], headers)).status == 200
            assert not waits.done()
        finally:
            free.set()
            del registry.snapshot
        assert (await waits).status == 200

    call.runner.run(while_it_hangs())


CREATED_AT = {CREATED: "2026-01-01T11:30:00Z"}


@pytest.mark.parametrize("to", ["both", "online"])
@pytest.mark.parametrize("columns", [False, True])
def test_the_reserved_column_of_created_times_is_read_as_a_time(call: Caller, to: str, columns: bool) -> None:
    row = DELAY | CREATED_AT
    rows = {name: [value] for name, value in row.items()} if columns else [row]
    answer = call("POST", "/v1/features:write", {"view": "delays", "rows": rows, "to": to}, {"Idempotency-Key": to})
    assert (answer.status, answer.json.get("applied")) == (200, 1), answer.body
    read = call.read(features=["delays:late"], entities={"origin": ["a"], "dest": ["b"]}, include=["created_times"])
    assert read.json["created_times"]["delays"] == ["2026-01-01T11:30:00.000000Z"]


def test_an_arrow_row_has_a_created_time_in_the_reserved_column(call: Caller) -> None:
    def answer(created: datetime | None, key: str) -> int:
        table = pa.table(
            {
                "origin": ["a"],
                "dest": ["b"],
                "at": pa.array([NOON - timedelta(hours=1)]),
                "late": pa.array([1.5], pa.float32()),
                CREATED: pa.array([created], pa.timestamp("us", tz="UTC")),
            }
        ).replace_schema_metadata({b"headwater": json.dumps({"view": "delays", "to": "online"}).encode()})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        headers = {"content-type": "application/vnd.apache.arrow.stream", "Idempotency-Key": key}
        return call("POST", "/v1/features:write", sink.getvalue().to_pybytes(), headers).status

    assert answer(datetime(2026, 1, 1, 11, 30, tzinfo=UTC), "a") == 200
    assert answer(None, "b") == 422


@given(st.lists(st.tuples(st.sampled_from([None, 1]), st.sampled_from([None, 1])), min_size=1))
def test_each_row_has_a_created_time_in_every_form(values: list[tuple[int | None, int | None]]) -> None:
    wanted = all(one is not None or other is not None for one, other in values)
    columns = {name: [pair[i] for pair in values] for i, name in enumerate("ab")}
    rows = [dict(zip("ab", pair, strict=True)) for pair in values]
    table = pa.table({name: pa.array(column, pa.int64()) for name, column in columns.items()})
    for form in (columns, rows, table):
        assert _each_has_one(form, ["a", "b"]) is wanted
        assert _each_has_one(form, ["c"]) is False
