"""The OpenAPI document says what the server does, and its examples work as they are."""

from __future__ import annotations

import re
from typing import Any

import pytest

from headwater.serving.access import KeyRing
from tests.unit.serving.conftest import NOON, Caller


@pytest.fixture
def document(call: Caller) -> Any:
    reply = call("GET", "/openapi.json")
    assert reply.status == 200
    return reply.json


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_reference_leads_somewhere(document: Any) -> None:
    names = {reference.removeprefix("#/components/schemas/") for reference in references(document)}
    assert names and names <= set(document["components"]["schemas"])


def test_every_route_is_there_and_answers_as_it_says(call: Caller, document: Any) -> None:
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            reply = call(method.upper(), path.replace("{name}", "nothing"), {})
            assert str(reply.status) in route["responses"], (path, reply.status)
            assert reply.status != 405
            kind = reply.headers["content-type"].partition(";")[0]
            assert kind in route["responses"][str(reply.status)]["content"], (path, kind)
    served = set(call.app.routes.exact) | {prefix + "{name}" for prefix in call.app.routes.prefixes}
    assert served - {"/docs"} == set(document["paths"])


def test_examples_work_as_they_are(call: Caller, document: Any) -> None:
    done = 0
    for path in ("/v1/features:write", "/v1/features:read", "/v1/features:delete"):
        example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert call("POST", path, example).status == 200, example
        done += 1
    assert done == 3


def test_every_field_is_described(document: Any) -> None:
    for name in ("ReadBody", "WriteBody", "DeleteBody"):
        schema = document["components"]["schemas"][name]
        assert schema["additionalProperties"] is False
        assert all(field["description"] for field in schema["properties"].values())


def test_keys_are_in_the_document_where_they_are_needed(call: Caller, document: Any) -> None:
    assert "security" not in document
    call.app.requests.keys = KeyRing(call.app.store.sync.registry.api_keys.all, lambda: NOON)
    key, _ = call.app.store.sync.registry.api_keys.create("a", ["read"])
    call.runner.run(call.app.requests.keys.read())
    headers = {"Authorization": f"Bearer {key}"}
    assert call("GET", "/openapi.json", headers=headers).json["security"] == [{"key": []}]
    call.client = ("10.0.0.1", 1)
    for path in ("/openapi.json", "/docs"):
        assert call("GET", path, headers=headers).status == 403


def test_the_page_shows_it_and_loads_nothing(call: Caller) -> None:
    reply = call("GET", "/docs", headers={"Host": "features.example:8080"})
    assert reply.status == 200 and reply.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    text = reply.body.decode()
    assert "<script" not in text and not re.search(r"(src|href)=['\"]?(https?:)?//", text)
    assert "curl -s http://features.example:8080/v1/features:read" in text and "delays:*" in text
    odd = call("GET", "/docs", headers={"Host": "<script>alert(1)</script>"}).body.decode()
    assert "<script" not in odd
