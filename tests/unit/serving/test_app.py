"""What the server answers: reads, writes, deletes, lists, and every refusal."""

from __future__ import annotations

import asyncio
import json
import math
from datetime import timedelta
from typing import Any

import pytest

import headwater as hw
from tests.unit.serving.conftest import NOON, ROW, Caller


def test_what_is_written_is_read_in_the_same_forms(call: Caller) -> None:
    written = call("POST", "/v1/features:write", {"view": "events", "rows": [ROW]})
    assert (written.status, written.json["applied"]) == (200, 1)
    reply = call.read(features=["events:*"], entities={"user": [7, 8]}, include=["statuses", "event_times", "versions"])
    assert reply.status == 200 and reply.headers["content-type"] == "application/json"
    columns = reply.json["columns"]
    assert columns == {
        "user": [7, 8],
        **{name: [value, None] for name, value in ROW.items() if name not in ("user", "at", "x", "day")},
        "x": ["NaN", 0.5],
        "day": ["2026-01-01", None],
    }
    assert reply.json["statuses"]["n"] == ["PRESENT", "NOT_FOUND"]
    assert reply.json["event_times"] == {"events": ["2026-01-01T11:00:00.000000Z", None]}
    assert reply.json["versions"] == {"events": "1.0.0"}
    # and it is what Python reads
    result = call.app.store.sync.get_online_features(["events:*"], [7]).to_dict()
    assert result["n"] == [2**60] and math.isnan(result["x"][0]) and result["tags"] == [[1, None, 2**53 + 1]]


@pytest.mark.parametrize(
    "entities",
    [[7, "8"], ["7", 8], {"user": [7, 8]}, {"user": ["7", "8"]}, [{"user": 7}, {"user": "8"}]],
)
def test_entities_come_in_every_form(call: Caller, entities: Any) -> None:
    rows = {name: [value, value] for name, value in ROW.items()} | {"user": [7, "8"], "n": [1, 2]}
    assert call("POST", "/v1/features:write", {"view": "events", "rows": rows}).json["applied"] == 2
    columns = call.read(features=["events:n"], entities=entities).json["columns"]
    assert columns == {"user": [7, 8], "n": [1, 2]}


def test_a_service_is_read_by_its_name(call: Caller) -> None:
    call("POST", "/v1/features:write", {"view": "events", "rows": [ROW]})
    row = {"origin": "JFK", "dest": "BOS", "at": ROW["at"], "late": 1.5}
    call("POST", "/v1/features:write", {"view": "delays", "rows": [row]})
    reply = call.read(service="model", entities={"user": 7, "origin": ["JFK", "EWR"], "dest": "BOS"}, include=[])
    assert reply.json == {
        "columns": {
            "user": [7, 7],
            "origin": ["JFK", "EWR"],
            "dest": ["BOS", "BOS"],
            "n": [str(2**60)] * 2,
            "late": [1.5, None],
        }
    }


def test_a_deleted_entity_is_gone(call: Caller) -> None:
    call("POST", "/v1/features:write", {"view": "events", "rows": [ROW]})
    deleted = call("POST", "/v1/features:delete", {"view": "events", "entities": ["7"]})
    assert deleted.json["deleted"] == 1
    wrong = call("POST", "/v1/features:delete", {"view": "events", "entities": [{"user": 7}, {"user": "x"}]})
    assert wrong.status == 400 and "join key 'user', row 1: 'x' is not an int64" in wrong.json["detail"]
    assert call.read(features=["events:n"], entities=[7]).json["statuses"] == {"n": ["NOT_FOUND"]}


def test_what_is_registered_is_listed_and_shown(call: Caller) -> None:
    assert [view["name"] for view in call("GET", "/v1/views").json["views"]] == ["delays", "events"]
    view = call("GET", "/v1/views/events").json
    assert (view["version"], view["join_keys"], view["freshness_sla"]) == ("1.0.0", {"user": "int64"}, "1h")
    assert call("GET", "/v1/views/events", query="version=1.0.0").json == view
    assert call("GET", "/v1/services/model").json["features"][1]["reference"] == "delays@1.0.0:late"
    assert call("GET", "/v1/entities/route").json["join_keys"] == {"origin": "string", "dest": "string"}
    assert call("GET", "/v1/features/events:x").json["dtype"] == "float64"
    assert {"name": "delays:late", "version": "1.0.0"}.items() <= call("GET", "/v1/features").json["features"][
        0
    ].items()
    for path in ("/v1/views/event", "/v1/services/x", "/v1/entities/x", "/v1/features/events:y"):
        reply = call("GET", path)
        assert (reply.status, reply.json["type"].endswith("not-found")) == (404, True), path
    assert call("GET", "/v1/views/events", query="version=9.9.9").status == 404
    assert call("GET", "/v1/views/events", query="versoin=1").status == 400


def test_health_readiness_and_status(call: Caller) -> None:
    assert call("GET", "/healthz").json == {"status": "ok"}
    assert call("HEAD", "/healthz").body == b""
    assert call("GET", "/readyz").json == {"status": "ready"}
    assert {"project", "versions", "online"} <= set(call("GET", "/v1/status").json)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "not JSON"),
        (b"\xff", 400, "not JSON"),
        (b'{"entities": ' + b"[" * 100_000, 400, "not JSON"),
        (b"[]", 400, "does not have the form"),
        ({"entities": [1]}, 400, "give one of features"),
        ({"entities": [1], "features": ["events:n"], "service": "model"}, 400, "give one of features"),
        ({"entities": [1], "feature": ["events:n"]}, 400, "did you mean 'features'"),
        ({"entities": [1], "features": ["events:m"]}, 404, "events"),
        ({"entities": [1], "features": ["events"]}, 400, "events:*"),
        ({"entities": [1], "features": []}, 400, ""),
        ({"entities": [1], "service": "modle"}, 404, "did you mean 'model'"),
        ({"entities": ["x"], "features": ["events:n"]}, 400, "join key 'user', row 0: 'x' is not an int64"),
        ({"entities": [1.5], "features": ["events:n"]}, 400, "user"),
        ({"entities": {"usr": [1]}, "features": ["events:n"]}, 400, "user"),
        ({"entities": [{"user": 1}, {}], "features": ["events:n"]}, 400, "user"),
        ({"entities": [[1]], "features": ["events:n"]}, 400, ""),
        ({"entities": [1], "features": ["events:n"], "stale": "x"}, 400, "stale='x'"),
        ({"entities": [1], "features": ["events:n"], "consistency": "strnog"}, 400, "did you mean 'strong'"),
        ({"entities": [1], "features": ["events:n"], "consistency": "session"}, 400, "session"),
        ({"entities": [1], "features": ["events:n"], "max_age": "5"}, 400, "max_age"),
        ({"entities": [1], "features": ["events:n"], "now": "yesterday"}, 400, "now"),
        ({"entities": [1], "features": ["events:n"], "deadline_ms": 0}, 400, "deadline_ms"),
        ({"entities": [1], "features": ["events:n"], "include": ["status"]}, 400, "include: 'status' is not one of"),
        ({"entities": [1], "features": ["events:n"], "request": {"a": 1}}, 400, "request"),
        ({"entities": list(range(10_001)), "features": ["events:n"]}, 413, "at most 10,000"),
    ],
)
def test_a_read_that_means_nothing_is_told(call: Caller, body: Any, status: int, says: str) -> None:
    reply = call("POST", "/v1/features:read", body)
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    document = reply.json
    assert document["status"] == status and says in document["detail"], document
    assert document["request_id"] == reply.headers["headwater-request-id"]


def test_rows_that_are_wrong_are_named_one_by_one(call: Caller) -> None:
    rows = [ROW, ROW | {"n": 1.5}, ROW | {"user": None}]
    reply = call("POST", "/v1/features:write", {"view": "events", "rows": rows})
    assert reply.status == 422 and len(reply.json["errors"]) == 2, reply.json
    assert call.read(features=["events:n"], entities=[7]).json["statuses"] == {"n": ["NOT_FOUND"]}
    told = call("POST", "/v1/features:write", {"view": "events", "rows": rows, "errors": "report"}).json
    assert (told["applied"], told["rejected"], len(told["problems"])) == (1, 2, 2)
    bad = call("POST", "/v1/features:write", {"view": "events", "rows": [ROW | {"seen": "noon"}]})
    assert bad.status == 422 and "row 0: column 'seen': 'noon' is not a timestamp" in bad.json["detail"]
    assert call("POST", "/v1/features:write", {"view": "event", "rows": [ROW]}).status == 404


def test_a_row_that_lacks_a_column_is_not_one_with_a_null(call: Caller) -> None:
    lacking = {name: value for name, value in ROW.items() if name != "n"}
    reply = call("POST", "/v1/features:write", {"view": "events", "rows": [ROW, lacking]})
    assert reply.status == 422 and "n" in reply.json["detail"]


def test_other_paths_methods_and_types_are_refused(call: Caller) -> None:
    assert call("GET", "/v1/nothing").status == 404
    assert call("GET", "/v1/views/").status == 404
    wrong = call("GET", "/v1/features:read")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert call("POST", "/v1/views").headers["allow"] == "GET, HEAD"
    body = {"features": ["events:n"], "entities": [1]}
    assert call("POST", "/v1/features:read", body, {"content-type": "text/plain"}).status == 415
    assert call("POST", "/v1/features:read", body, {"content-type": "application/json; charset=utf-8"}).status == 200


def test_a_session_goes_out_as_it_came_in_and_moves_on(call: Caller) -> None:
    body = {"features": ["events:n"], "entities": [1], "consistency": "session"}
    begun = call("POST", "/v1/features:read", body, {"Headwater-Session": ""})
    token = begun.headers["headwater-session"]
    assert begun.status == 200 and hw.Session.from_token(token)
    assert call("POST", "/v1/features:read", body, {"Headwater-Session": token}).status == 200
    other = hw.Session("another store", {"a": 1}).token
    for wrong in ("x", "%%%", "a" * 20_000, other):
        reply = call("POST", "/v1/features:read", body, {"Headwater-Session": wrong})
        assert reply.status == 400, (wrong[:20], reply.body)


def test_a_request_id_that_is_given_is_kept(call: Caller) -> None:
    assert call("GET", "/healthz", headers={"Headwater-Request-Id": "a-b.c"}).headers["headwater-request-id"] == "a-b.c"
    for odd in ("", "a b", "x" * 200, "ä"):
        made = call("GET", "/healthz", headers={"Headwater-Request-Id": odd}).headers["headwater-request-id"]
        assert made not in (odd, "") and len(made) < 30


def test_bodies_are_bounded_in_size_and_time(call: Caller) -> None:
    call.bound(most_bytes=100, body_seconds=0.2)
    body = json.dumps({"features": ["events:n"], "entities": list(range(50))}).encode()
    headers = {"content-type": "application/json"}
    for parts in ([body], [body[:60], body[60:120], body[120:]]):
        reply = call.runner.run(call.call("POST", "/v1/features:read", parts, headers))
        assert (reply.status, reply.headers["connection"]) == (413, "close")
    announced = call("POST", "/v1/features:read", b"{}", {"content-length": "101"})
    assert announced.status == 413

    async def slow() -> int:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0.05)
            return {"type": "http.request", "body": b" ", "more_body": True}

        async def send(message: Any) -> None:
            sent.append(message)

        named = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/features:read", "headers": named}
        await call.app(scope, receive, send)
        return int(sent[0]["status"])

    assert call.runner.run(slow()) == 408


def test_more_at_once_than_allowed_is_refused_and_health_is_not(call: Caller) -> None:
    call.bound(most_at_once=2)
    call.app.requests.under_way = 2
    reply = call.read(features=["events:n"], entities=[1])
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert call("GET", "/healthz").status == 200
    # a name that ends as the health routes do is no health route
    for path in ("/v1/views/quiz", "/v1/healthz", "/z"):
        assert call("GET", path).status in (404, 503)
    assert call("GET", "/v1/views/quiz").status == 503
    call.app.requests.under_way = 0
    assert call.read(features=["events:n"], entities=[1]).status == 200
    assert call.app.requests.under_way == 0


def test_a_server_that_stops_refuses_what_comes(call: Caller) -> None:
    call.app.requests.draining = True
    for method, path in (("GET", "/readyz"), ("GET", "/v1/views")):
        reply = call(method, path)
        assert (reply.status, reply.headers["connection"], "retry-after" in reply.headers) == (503, "close", True)
    assert call("GET", "/healthz").status == 200


def test_a_fault_of_the_server_is_no_more_than_that(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call.app.store, "kept_reader", None)
    reply = call.read(features=["events:n"], entities=[1])
    assert reply.status == 500 and "bug in headwater" in reply.json["detail"]
    assert "NoneType" not in reply.body.decode()


def test_stale_values_and_instants(call: Caller) -> None:
    call("POST", "/v1/features:write", {"view": "events", "rows": [ROW]})
    late = (NOON + timedelta(hours=3)).isoformat()
    reply = call.read(features=["events:name"], entities=[7], now=late, include=["statuses", "freshness", "read_at"])
    assert reply.json["statuses"] == {"name": ["STALE"]} and reply.json["freshness"] == {"events": [0.0]}
    assert reply.json["read_at"] == {"events": ["2026-01-01T15:00:00.000000Z"]}
    dropped = call.read(features=["events:name"], entities=[7], now=late, stale="drop")
    assert dropped.json["columns"]["name"] == [None]


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8080", 200), ("127.0.0.1", 200), ("[::1]:8080", 200), ("evil.example", 421), ("", 421), ("[::1", 421)],
)
def test_a_server_of_this_host_is_asked_by_its_names_alone(call: Caller, host: str, status: int) -> None:
    call.bound(hosts=("localhost", "127.0.0.1", "[::1]"))
    assert call("GET", "/v1/views", headers={"Host": host}).status == status
    assert call("GET", "/healthz", headers={"Host": host}).status == 200
