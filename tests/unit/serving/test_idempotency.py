"""`Idempotency-Key` over HTTP."""

from __future__ import annotations

import asyncio
import json

import pytest

from headwater.serving.access import KeyRing
from tests.unit.serving.conftest import NOON, ROW, Caller, Reply

WRITE = {"view": "events", "rows": [ROW]}
DELETE = {"view": "events", "entities": [7]}


def send(call: Caller, body: object, key: str, path: str = "write", **headers: str) -> Reply:
    return call("POST", f"/v1/features:{path}", body, {"Idempotency-Key": key} | headers)


@pytest.mark.parametrize(("path", "body"), [("write", WRITE), ("delete", DELETE)])
def test_a_request_that_is_sent_again_is_done_once(call: Caller, path: str, body: object) -> None:
    first = send(call, body, "a", path)
    assert first.status == 200 and "idempotency-replayed" not in first.headers
    again = send(call, body, "a", path, **{"Headwater-Session": ""})
    assert again.json == first.json and again.headers["idempotency-replayed"] == "true"
    assert again.headers["headwater-session"]
    assert call.app.store.sync.context.log.head_position() == 1


def test_what_a_key_cannot_stand_for_is_refused(call: Caller) -> None:
    assert send(call, WRITE, "a").status == 200
    other = send(call, WRITE | {"errors": "report"}, "a")
    assert other.status == 422 and other.json["type"].endswith("#idempotency-key-reused")
    assert send(call, DELETE, "a", "delete").status == 422
    for key in ("", "x" * 256, "ä"):
        assert send(call, WRITE, key).status == 400
    cached = send(call, WRITE | {"to": "online"}, "c")
    assert cached.status == 422 and "created time" in cached.json["detail"]


def test_keys_of_one_api_key_say_nothing_to_another(call: Caller) -> None:
    keys = call.app.store.sync.registry.api_keys
    secrets = [keys.create(name, ["write"])[0] for name in "ab"]
    call.app.requests.keys = KeyRing(keys.all, lambda: NOON)
    call.runner.run(call.app.requests.keys.read())
    answers = [send(call, WRITE, "a", Authorization=f"Bearer {secret}") for secret in (*secrets, secrets[0])]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert ["idempotency-replayed" in answer.headers for answer in answers] == [False, False, True]


def test_of_several_at_the_same_time_one_does_it(call: Caller) -> None:
    headers = {"content-type": "application/json", "idempotency-key": "a"}

    async def all_at_once() -> list[Reply]:
        body = [json.dumps(WRITE).encode()]
        return await asyncio.gather(*(call.call("POST", "/v1/features:write", body, headers) for _ in range(6)))

    answers = call.runner.run(all_at_once())
    fresh = [a for a in answers if a.status == 200 and "idempotency-replayed" not in a.headers]
    assert len(fresh) == 1
    for answer in answers:
        if answer.status != 200:
            assert answer.status == 409 and 1 <= int(answer.headers["retry-after"]) <= 5
            assert answer.json["type"].endswith("#request-in-progress")
    assert call.app.store.sync.context.log.head_position() == 1


@pytest.mark.parametrize(
    ("path", "body", "empty"),
    [
        ("write", WRITE, {"rows": []}),
        ("write", WRITE, {"rows": [{**ROW, "at": "x"}], "errors": "report"}),
        ("delete", DELETE, {"entities": []}),
    ],
)
def test_a_key_stands_for_one_request_also_where_another_adds_nothing(
    call: Caller, path: str, body: dict[str, object], empty: dict[str, object]
) -> None:
    first = send(call, body, "a", path)
    reused = send(call, {**body, **empty}, "a", path)
    assert reused.status == 422 and reused.json["type"].endswith("#idempotency-key-reused")
    again = send(call, body, "a", path)
    assert (again.status, again.json) == (200, first.json)
    alone = send(call, {**body, **empty}, "b", path)
    assert alone.status == 200


def test_two_different_keys_in_one_request_are_refused(call: Caller) -> None:
    async def sent(*headers: tuple[bytes, bytes]) -> int:
        answers: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": json.dumps(WRITE).encode()}

        async def take(message: dict[str, object]) -> None:
            answers.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/features:write", "client": ("127.0.0.1", 1)}
        await call.app({**scope, "headers": [(b"content-type", b"application/json"), *headers]}, receive, take)
        status = answers[0]["status"]
        assert isinstance(status, int)
        return status

    a, b = (b"idempotency-key", b"a"), (b"idempotency-key", b"b")
    assert call.runner.run(sent(a, b)) == 400
    assert call.runner.run(sent(a, a)) == 200
    assert call.runner.run(sent(b, (b"content-type", b"text/plain"))) == 400
    assert call.runner.run(sent(b, (b"accept", b"text/html"), (b"accept", b"application/json"))) == 200
