"""The same requests and answers as Arrow IPC streams."""

from __future__ import annotations

import itertools
import json
import math
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pytest

from headwater.types import STATUSES
from tests.unit.serving.conftest import NOON, ROW, Caller, Reply

ARROW = "application/vnd.apache.arrow.stream"
AT = datetime(2026, 1, 1, 11, tzinfo=UTC)
TYPED = {
    "user": 7,
    "at": AT,
    "n": 2**60,
    "x": math.nan,
    "name": "ä",
    "raw": b"\0\xff",
    "day": date(2026, 1, 1),
    "seen": datetime(2026, 1, 1, 10, 0, 0, 1, tzinfo=UTC),
    "tags": [1, None, 2**53 + 1],
}

ENDLESS = pa.Array.from_buffers(pa.null(), 2**31 - 1, [None])


def stream(columns: dict[str, Any] | pa.Table, **fields: Any) -> bytes:
    table = pa.table(columns) if isinstance(columns, dict) else columns
    table = table.replace_schema_metadata({"headwater": json.dumps(fields)})
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def post(call: Caller, what: str, body: bytes, accept: str = ARROW) -> Reply:
    return call("POST", f"/v1/features:{what}", body, {"content-type": ARROW, "accept": accept})


def written(call: Caller, rows: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    reply = post(call, "write", stream({n: [row.get(n) for row in rows] for n in names}, view="events", **fields))
    assert reply.status == 200, reply.body
    return dict(reply.json)


def table_of(reply: Reply) -> pa.Table:
    assert (reply.status, reply.headers["content-type"]) == (200, ARROW), reply.body
    return ipc.open_stream(reply.body).read_all()


def test_what_is_written_is_read_in_exact_types(call: Caller) -> None:
    assert written(call, [TYPED])["applied"] == 1
    include = ["statuses", "event_times", "created_times", "read_at", "freshness"]
    table = table_of(post(call, "read", stream({"user": [7, 8]}, features=["events:*"], include=include)))
    result = call.app.store.sync.get_online_features(["events:*"], [7, 8])
    values = table.select(range(8))
    # a NaN is equal to none
    assert values.schema.equals(result.to_arrow().schema) and repr(values.to_pydict()) == repr(
        result.to_arrow().to_pydict()
    )
    described = json.loads(table.schema.metadata[b"headwater"])
    assert described["keys"] == {"user": "int64"} and described["statuses"] == list(STATUSES)
    assert [name for name, _, _ in described["features"]] == table.column_names[1:8]
    assert described["views"][0]["version"] == "1.0.0"
    extras = {name: table.column(name).to_pylist() for name in table.column_names[8:]}
    codes = extras["__statuses"]
    for i, statuses in enumerate(result.statuses.values()):
        assert [described["statuses"][row[i]] for row in codes] == statuses
    assert extras["__event_times"] == [[AT], [None]] and extras["__read_at"] == [[NOON], [NOON]]
    assert extras["__created_times"] == [[NOON], [None]] and extras["__freshness"] == [[0.0], [None]]


def test_the_form_of_an_answer_is_what_is_accepted(call: Caller) -> None:
    body = stream({"user": [7]}, features=["events:n"])
    for accept in (ARROW, f"{ARROW}, application/json", f"application/json;q=0.5, {ARROW}", f"{ARROW};q=0.1"):
        assert table_of(post(call, "read", body, accept)).num_rows == 1
    for accept in ("application/json", "*/*", "", f"{ARROW};q=0", f"application/json, {ARROW};q=0.5", f"{ARROW};q=x"):
        assert post(call, "read", body, accept).json["columns"] == {"user": [7], "n": [None]}
    asked = {"features": ["events:n"], "entities": [7]}
    assert table_of(call("POST", "/v1/features:read", asked, {"accept": ARROW})).column("user").to_pylist() == [7]


def test_repeated_keys_stand_in_the_metadata(call: Caller) -> None:
    body = stream({"dest": ["BOS", "EWR"]}, features=["delays:late"], entities={"origin": "JFK"})
    table = table_of(post(call, "read", body))
    assert table.column("origin").to_pylist() == ["JFK", "JFK"] and table.column("dest").to_pylist() == ["BOS", "EWR"]
    alone = stream(pa.table({}), features=["events:n"], entities={"user": "7"})
    assert table_of(post(call, "read", alone)).column("user").to_pylist() == [7]
    none = stream({"user": pa.array([], pa.int64())}, features=["events:n"])
    assert table_of(post(call, "read", none)).num_rows == 0
    twice = stream({"user": [7]}, features=["events:n"], entities={"user": 8})
    assert "give it once" in post(call, "read", twice).json["detail"]


def test_rows_may_lack_a_column_and_are_deleted(call: Caller) -> None:
    rows = [TYPED, {"user": 8, "at": AT, "n": 1}]
    refused = post(call, "write", stream({"user": [8], "at": [AT], "n": [1]}, view="events"))
    assert refused.status == 422
    names = list(TYPED)
    columns = {name: [row.get(name) for row in rows] for name in names}
    absent = {name: [1] for name in names if name not in rows[1]}
    report = post(call, "write", stream(columns, view="events", errors="report", absent=absent)).json
    assert (report["applied"], report["rejected"]) == (1, 1) and "row 1" in report["problems"][0]
    for wrong in ({"z": [0]}, {"n": [2]}, {"n": [-1]}):
        assert post(call, "write", stream(columns, view="events", absent=wrong)).status == 400
    deleted = post(call, "delete", stream({"user": [7, 9]}, view="events"))
    assert (deleted.json["deleted"], deleted.json["found"]) == (2, 1)
    assert call.read(features=["events:n"], entities=[7]).json["statuses"] == {"n": ["NOT_FOUND"]}


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "does not begin with a schema"),
        (b"{}", 400, "not a whole Arrow IPC stream"),
        (stream({"user": [7]}, features=["events:n"])[:-8], 400, "cut short"),
        (stream({"user": [7]}), 400, "give one of features"),
        (stream({"user": [7]}, features=["events:n"], feature=1), 400, "did you mean 'features'"),
        (stream({"user": [7]}, features=["events:m"]), 404, "events"),
        (stream({"user": ["7"]}, features=["events:n"]), 400, "user"),
        (stream({"user": [1.5]}, features=["events:n"]), 400, "user"),
        (stream({"usr": [7]}, features=["events:n"]), 400, "'usr' is not a join key"),
        (stream({"user": pa.array(["7"]).dictionary_encode()}, features=["events:n"]), 400, "dictionary-encoded"),
        (stream({"user": list(range(10_001))}, features=["events:n"]), 413, "at most 10,000"),
        (
            stream({"user": pa.Array.from_buffers(pa.null(), 2**31 - 1, [None])}, features=["events:n"]),
            413,
            "at most 10,000",
        ),
    ],
    ids=itertools.count(),
)
def test_a_read_that_means_nothing_is_refused_in_json(call: Caller, body: bytes, status: int, says: str) -> None:
    reply = post(call, "read", body)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    assert says in reply.json["detail"]


def test_the_metadata_must_be_there_and_the_body_plain(call: Caller) -> None:
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, pa.schema([("user", pa.int64())])) as writer:
        writer.write_table(pa.table({"user": [7]}))
    assert "lacks 'headwater'" in post(call, "read", sink.getvalue().to_pybytes()).json["detail"]
    packed = {"content-type": ARROW, "content-encoding": "gzip"}
    assert call("POST", "/v1/features:read", b"\x1f\x8b", packed).status == 415
    assert call("POST", "/v1/features:read", b"", {"content-type": "text/csv"}).status == 415


def test_limits_are_those_of_json(call: Caller) -> None:
    call.bound(most_rows=2, most_bytes=4_000)
    columns = {"user": [1, 2, 3], "at": [AT] * 3, "n": [1, 2, 3]}
    assert post(call, "write", stream(columns, view="events")).status == 413
    assert post(call, "delete", stream({"user": [1, 2, 3]}, view="events")).status == 413
    tags = pa.ListArray.from_arrays([0, 3_000], pa.nulls(3_000))
    assert "values in one request" in post(call, "write", stream({"tags": tags}, view="events")).json["detail"]
    assert post(call, "write", b"x" * 4_001).status == 413
    assert call.read(features=["events:n"], entities=[ROW["user"]]).status == 200
