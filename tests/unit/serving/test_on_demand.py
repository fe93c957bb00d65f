"""On-demand features as requests over HTTP ask for them: values, keys by what they are made of, and what is listed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import headwater as hw
from headwater.serving.access import KeyRing
from headwater.wire.status import status_in
from tests.unit.serving.conftest import DELAYS, EVENTS, NOON, ROW, Caller, caller_of


@hw.on_demand(inputs=[EVENTS["x"], hw.RequestField("k", hw.Float64)], features=[hw.Feature("scaled", hw.Float64)])
def scaled(x: Any, k: Any) -> dict[str, Any]:
    return {"scaled": x * k}


@hw.on_demand(inputs=[scaled, DELAYS["late"]], features=[hw.Feature("both", hw.Float64)], nulls="pass", mode="rows")
def both(row: dict[str, Any]) -> dict[str, Any]:
    return {"both": row["scaled"]}


@hw.on_demand(inputs=[hw.RequestField("when", hw.Timestamp)], features=[hw.Feature("hour", hw.Int64)], mode="rows")
def hour(row: dict[str, Any]) -> dict[str, Any]:
    return {"hour": row["when"].hour}


@pytest.fixture
def call() -> Iterator[Caller]:
    service = hw.FeatureService("scores", [both, hour])
    with caller_of([EVENTS, DELAYS, scaled, both, hour, service]) as made:
        assert made("POST", "/v1/features:write", {"view": "events", "rows": [ROW | {"x": 2.0}]}).status == 200
        yield made


def read(call: Caller, headers: dict[str, str] | None = None, **body: Any) -> Any:
    return call("POST", "/v1/features:read", body, headers or {})


def test_values_of_a_request(call: Caller) -> None:
    reply = read(call, features=["scaled:scaled", "events:x"], entities=[7, 8], request={"k": [1.5, 2]})
    assert reply.json["columns"] == {"user": [7, 8], "scaled": [3.0, 1.0], "x": [2.0, 0.5]}
    assert reply.json["statuses"] == {"scaled": ["PRESENT", "PRESENT"], "x": ["PRESENT", "NOT_FOUND"]}
    reply = read(call, features=["hour:hour"], entities=[{}, {}], request={"when": "2026-01-01T10:00:00Z"})
    assert reply.json["columns"] == {"hour": [10, 10]}
    assert read(call, features=["scaled:*"], entities=[7], request={"k": "NaN"}).json["columns"]["scaled"] == ["NaN"]


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (None, 400, "no 'k' (float64), which 'scaled' needs"),
        ({"q": 1}, 400, "takes 'q'"),
        ({"k": "x"}, 400, "request: 'k'"),
        ({"k": [1, 2]}, 400, "'k' has 2 values for 1 entity"),
        ({"k": {"a": 1}}, 400, "'k'"),
    ],
)
def test_requests_that_mean_nothing(call: Caller, request_: Any, status: int, words: str) -> None:
    body = {} if request_ is None else {"request": request_}
    reply = read(call, features=["scaled:*"], entities=[7], **body)
    assert (reply.status, words in reply.json["detail"]) == (status, True), reply.json


def test_a_function_that_raises_is_a_problem_of_the_request(call: Caller) -> None:
    reply = read(call, features=["hour:hour"], entities=[{}], request={"when": None})
    assert reply.json["columns"] == {"hour": [None]}
    reply = read(call, features=["scaled:*"], entities=[7], request={"k": 1e308})
    assert reply.json["columns"]["scaled"] == ["Infinity"]


def test_keys_cover_what_features_are_made_of(call: Caller) -> None:
    keys = call.app.store.sync.registry.api_keys
    ring = call.app.requests.keys = KeyRing(keys.all, lambda: NOON)

    def made(name: str, **options: Any) -> dict[str, str]:
        key, _ = keys.create(name, ("read",), **options)
        call.runner.run(ring.read())
        return {"Authorization": f"Bearer {key}"}

    events, every, own = made("e", views=["events"]), made("a", views=["events", "delays"]), made("o", views=["hour"])
    service = made("s", services=["scores"])
    asked = {"entities": [{"user": 7, "origin": "a", "dest": "b"}], "request": {"k": 2}}
    when = {"when": "2026-01-01T10:00:00Z"}
    held = {"events": events, "every": every, "own": own, "service": service}
    statuses = {
        name: (
            read(call, key, features=["scaled:*"], entities=[7], request={"k": 2}).status,
            read(call, key, features=["both:*"], **asked).status,
            read(call, key, features=["hour:*"], entities=[{}], request=when).status,
            read(call, key, service="scores", **(asked | {"request": {"k": 2, **when}})).status,
            call("GET", "/v1/views/scaled", headers=key).status,
        )
        for name, key in held.items()
    }
    assert statuses == {
        "events": (200, 403, 403, 403, 200),
        "every": (200, 200, 403, 403, 200),
        "own": (403, 403, 200, 403, 403),
        "service": (403, 403, 403, 200, 403),
    }
    shown = [view["name"] for view in call("GET", "/v1/views", headers=events).json["views"]]
    assert shown == ["events", "scaled"]
    call.app.store.sync.registry.log_model("scorer", ("scores", "1.0.0"), uri="m", training_set=None, now=NOON)
    listed = {name: call("GET", "/v1/models", headers=key).json["models"] for name, key in held.items()}
    assert {name: [model["name"] for model in found] for name, found in listed.items()} == {
        "events": [],
        "every": [],
        "own": [],
        "service": ["scorer"],
    }
    assert "uri" not in listed["service"][0]
    for name, key in held.items():
        for model, query in (("scorer", ""), ("scorer", "version=1"), ("nobody", "")):
            status = call("GET", f"/v1/models/{model}", query=query, headers=key).status
            assert status == (200 if model == "scorer" and listed[name] else 403), (name, model)
    stand = call("GET", "/v1/status", headers=events).json["on_demand"]
    assert stand == [{"view": "scaled", "version": "1.0.0", "state": "live"}]
    # by its own name it is not covered, whatever it is called
    named = made("n", views=["scaled", "both"])
    assert read(call, named, features=["scaled:*"], entities=[7], request={"k": 2}).status == 403


def test_what_is_listed(call: Caller) -> None:
    views = {view["name"]: view for view in call("GET", "/v1/views").json["views"]}
    assert (views["both"]["source"], views["both"]["request_fields"]) == ("on_demand", {"k": "float64"})
    assert views["both"]["join_keys"] == {"user": "int64", "origin": "string", "dest": "string"}
    stand = status_in(json.dumps(call("GET", "/v1/status").json).encode())
    assert {(v.view, v.state) for v in stand.on_demand} >= {("scaled", "live"), ("both", "live")}
    assert call("GET", "/v1/services/scores").json["request_fields"] == {"k": "float64", "when": "timestamp"}
    assert call("GET", "/v1/features/scaled:scaled").json["request_fields"] == {"k": "float64"}
    # the examples of the document are of views that can be written to
    assert "request" in call("GET", "/openapi.json").json["components"]["schemas"]["ReadBody"]["properties"]
