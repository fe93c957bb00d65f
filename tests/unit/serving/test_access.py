"""Keys: what each may do, and that a refusal says of nothing whether it exists."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from headwater.errors import Unavailable
from headwater.serving import access
from headwater.serving.access import KeyRing
from tests.unit.serving.conftest import NOON, ROW, Caller

Make = Callable[..., dict[str, str]]


@pytest.fixture
def make(call: Caller) -> Make:
    """Makes a key; gives the header with it."""
    keys = call.app.store.sync.registry.api_keys
    ring = call.app.requests.keys = KeyRing(keys.all, lambda: NOON)
    call.runner.run(ring.read())

    def made(name: str, *scopes: str, **options: Any) -> dict[str, str]:
        key, _ = keys.create(name, scopes, **options)
        call.runner.run(ring.read())
        return {"Authorization": f"Bearer {key}"}

    return made


def read(call: Caller, headers: dict[str, str], **body: Any) -> int:
    return call("POST", "/v1/features:read", {"entities": [7]} | body, headers).status


def write(call: Caller, headers: dict[str, str], view: str = "events") -> int:
    return call("POST", "/v1/features:write", {"view": view, "rows": [ROW]}, headers).status


def delete(call: Caller, headers: dict[str, str], view: str = "events") -> int:
    return call("POST", "/v1/features:delete", {"view": view, "entities": [7]}, headers).status


def test_without_a_key_nothing_is_answered_but_health(call: Caller, make: Make) -> None:
    for headers in ({}, {"Authorization": "Basic x"}, {"Authorization": "Bearer "}, {"Authorization": "Bearer hw_x"}):
        for method, path in (("GET", "/v1/views"), ("GET", "/v1/views/events"), ("POST", "/v1/features:read")):
            reply = call(method, path, {"features": ["events:n"], "entities": [7]}, headers)
            assert (reply.status, reply.headers["www-authenticate"][:6]) == (401, "Bearer")
    assert call("GET", "/healthz").status == call("GET", "/readyz").status == 200


def test_scopes(call: Caller, make: Make) -> None:
    reads, writes, admin = make("r", "read"), make("w", "write"), make("a", "admin")
    done = {
        name: (
            read(call, key, features=["events:n"]),
            write(call, key),
            delete(call, key),
            call("GET", "/v1/views", headers=key).status,
        )
        for name, key in {"read": reads, "write": writes, "admin": admin}.items()
    }
    assert done == {"read": (200, 403, 403, 200), "write": (403, 200, 200, 403), "admin": (200, 200, 200, 200)}
    both = make("b", "read", "write")
    assert (read(call, both, features=["events:n"]), write(call, both)) == (200, 200)


def test_patterns_of_views_and_services(call: Caller, make: Make) -> None:
    events = make("events", "read", "write", views=["ev*"])
    assert read(call, events, features=["events:n", "events@1.0.0:x"]) == 200
    assert read(call, events, features=["events:n", "delays:late"]) == 403
    assert read(call, events, features=["evening:n"]) == 404
    assert read(call, events, service="model") == 403
    assert (write(call, events), write(call, events, "delays"), delete(call, events, "delays")) == (200, 403, 403)
    model = make("model", "read", services=["mod*"])
    keys = {"user": [7], "origin": ["a"], "dest": ["b"]}
    assert read(call, model, service="model", entities=keys) == 200
    assert read(call, model, service="model@1.0.0", entities=keys) == 200
    assert read(call, model, service="modest") == 404
    assert read(call, model, features=["events:n"]) == 403
    # every view behind it
    views = make("views", "read", views=["events", "delays"])
    assert read(call, views, service="model", entities=keys) == 200


def test_lists_show_what_a_key_may_read(call: Caller, make: Make) -> None:
    key = make("events", "read", views=["events"])
    names = {
        kind: [one["name"] for one in call("GET", f"/v1/{kind}", headers=key).json[kind]]
        for kind in ("views", "services", "entities", "features")
    }
    assert names["views"] == ["events"] and names["services"] == [] and names["entities"] == ["user"]
    assert {name.partition(":")[0] for name in names["features"]} == {"events"}
    paths = (
        "views/events",
        "views/delays",
        "services/model",
        "entities/user",
        "entities/route",
        "features/delays:late",
    )
    status = {path: call("GET", f"/v1/{path}", headers=key).status for path in paths}
    assert list(status.values()) == [200, 403, 403, 200, 403, 403]


def test_known_and_unknown_are_refused_alike(call: Caller, make: Make) -> None:
    key = make("none", "read", "write", views=["nothing"])
    bodies = [
        ("POST", "/v1/features:read", {"features": ["{}:n"], "entities": [7]}, ("events", "nobody")),
        ("POST", "/v1/features:read", {"service": "{}", "entities": [7]}, ("model", "nobody")),
        ("POST", "/v1/features:write", {"view": "{}", "rows": [ROW]}, ("events", "nobody")),
        ("POST", "/v1/features:delete", {"view": "{}", "entities": [7]}, ("events", "nobody")),
        ("GET", "/v1/views/{}", b"", ("events", "nobody")),
        ("GET", "/v1/services/{}", b"", ("model", "nobody")),
        ("GET", "/v1/entities/{}", b"", ("user", "nobody")),
        ("GET", "/v1/features/{}:n", b"", ("events", "nobody")),
    ]

    def asked(body: Any, name: str) -> Any:
        if isinstance(body, dict):
            return {field: asked(value, name) for field, value in body.items()}
        if isinstance(body, list):
            return [asked(value, name) for value in body]
        return body.replace("{}", name) if isinstance(body, str) else body

    for method, path, body, names in bodies:
        replies = [call(method, path.format(name), asked(body, name), key) for name in names]
        texts = [{k: v for k, v in reply.json.items() if k != "request_id"} for reply in replies]
        assert texts[0] == texts[1] and texts[0]["status"] == 403, (path, texts)


def test_what_is_not_registered_is_told_without_the_names_of_others(call: Caller, make: Make) -> None:
    key = make("e", "read", "write", views=["*v*"], services=["mod*"])
    asked = [
        ("POST", "/v1/features:read", {"features": ["evening:n"], "entities": [7]}),
        ("POST", "/v1/features:read", {"features": ["events:n", "evening"], "entities": [7]}),
        ("POST", "/v1/features:read", {"service": "modes", "entities": [7]}),
        ("POST", "/v1/features:read", {"service": "modes@1.0.0", "entities": [7]}),
        ("POST", "/v1/features:write", {"view": "evening", "rows": [ROW]}),
        ("POST", "/v1/features:delete", {"view": "evening", "entities": [7]}),
        ("GET", "/v1/views/evening", b""),
        ("GET", "/v1/services/modes", b""),
        ("GET", "/v1/features/evening:n", b""),
    ]
    for method, path, body in asked:
        reply = call(method, path, body, key)
        assert reply.status == 404, (path, reply.json)
        assert "delays" not in reply.json["detail"], (path, reply.json)
    admin = make("a", "admin")
    assert "delays" in call("GET", "/v1/views/evening", headers=admin).json["detail"]
    late = make("late", "read", views=["la*"], services=["la*"])
    for body in ({"features": ["late"], "entities": [7]}, {"service": "late", "entities": [7]}):
        reply = call("POST", "/v1/features:read", body, late)
        assert reply.status == 404 and "delays" not in reply.json["detail"], reply.json


def test_a_refusal_takes_as_long_for_what_is_known(call: Caller, make: Make) -> None:
    key = make("none", "read", views=["nothing"])
    took: dict[str, list[float]] = {"events": [], "nobody": []}
    for _ in range(300):
        for name, times in took.items():
            began = time.perf_counter()
            read(call, key, features=[f"{name}:n"])
            times.append(time.perf_counter() - began)
    known, unknown = (statistics.median(times) for times in took.values())
    assert 0.5 < known / unknown < 2


def test_expired_and_revoked_keys(call: Caller, make: Make) -> None:
    past = make("past", "read", expires_at=NOON)
    ahead = make("ahead", "read", expires_at=NOON + timedelta(minutes=1))
    assert read(call, past, features=["events:n"]) == 401 and read(call, ahead, features=["events:n"]) == 200
    call.app.store.sync.registry.api_keys.revoke("ahead")
    assert call.app.requests.keys is not None
    call.runner.run(call.app.requests.keys.read())
    assert read(call, ahead, features=["events:n"]) == 401


def test_while_the_registry_is_away_known_keys_hold_for_a_while(
    call: Caller, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make("known", "read")
    ring = call.app.requests.keys
    assert ring is not None

    def away() -> Any:
        raise Unavailable("away")

    keys = ring._keys
    monkeypatch.setattr(keys, "_read", away)
    call.runner.run(ring.read())
    unknown = {"Authorization": "Bearer hw_" + "0" * 12 + "_" + "a" * 43}
    assert read(call, key, features=["events:n"]) == 200 and read(call, unknown, features=["events:n"]) == 401
    monkeypatch.setattr(keys, "_read_at", keys._read_at - access._FRESH - 1)
    assert read(call, key, features=["events:n"]) == 200 and read(call, unknown, features=["events:n"]) == 503
    assert call("GET", "/readyz").status == 200
    monkeypatch.setattr(keys, "_read_at", keys._read_at - access._HELD)
    assert read(call, key, features=["events:n"]) == 503
    assert (call("GET", "/readyz").status, call("GET", "/healthz").status) == (503, 200)


def test_status_is_for_operators(call: Caller, make: Make) -> None:
    reads, admin = make("r", "read"), make("a", "admin")
    call.client = ("10.1.2.3", 1)
    assert call("GET", "/v1/status", headers=reads).status == 403
    assert call("GET", "/v1/status", headers=admin).status == 200
    call.client = ("127.0.0.1", 1)
    assert call("GET", "/v1/status", headers=reads).status == 200


def test_what_is_for_operators_names_no_view_that_a_key_does_not_cover(call: Caller, make: Make) -> None:
    for name, options, seen in [
        ("events", {"views": ["ev*"]}, {"events"}),
        ("nothing", {"views": ["other*"]}, set()),
        ("model", {"services": ["model"]}, set()),
        ("all", {}, {"events", "delays"}),
    ]:
        key = make(name, "read", **options)
        status = call("GET", "/v1/status", headers=key)
        assert {version["view"] for version in status.json["versions"]} == seen
        assert set(status.json["services"]) == ({"model"} if name in ("model", "all") else set())
        for hidden in {"events", "delays"} - seen:
            for path in ("/v1/status", "/openapi.json", "/docs"):
                assert hidden not in call("GET", path, headers=key).body.decode().replace("events:", ""), path
        assert call("GET", "/metrics", headers=key).status == (200 if name == "all" else 403)
    admin = make("admin", "admin", views=["ev*"])
    assert {version["view"] for version in call("GET", "/v1/status", headers=admin).json["versions"]} == seen
    assert call("GET", "/metrics", headers=admin).status == 200


def test_without_keys_operators_ask_from_this_host(call: Caller) -> None:
    paths = ("/metrics", "/v1/status", "/docs", "/openapi.json")
    for address, status in (("127.0.0.1", 200), ("::1", 200), ("203.0.113.9", 403)):
        call.client = (address, 4711)
        answers = [call("GET", path) for path in paths]
        assert [answer.status for answer in answers] == [status] * len(paths)
        assert call("GET", "/healthz").status == call("GET", "/v1/views").status == 200
    assert "server's own host" in answers[0].json["detail"]
