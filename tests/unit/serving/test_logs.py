"""What the server logs: one line an event, by level and form, and nothing of what requests carry."""

from __future__ import annotations

import io
import json

import pytest

from headwater.serving.logs import Log
from tests.unit.serving.conftest import NOON, ROW, Caller


def log_of(call: Caller, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    call.app.requests.log = Log("json", level, stream, lambda: NOON)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_request_has_a_line_with_its_id_and_nothing_that_it_carried(call: Caller) -> None:
    stream = log_of(call)
    secret = ROW | {"name": "a secret"}
    call("POST", "/v1/features:write", {"view": "events", "rows": [secret]}, {"Authorization": "Bearer hw_key"})
    reply = call("POST", "/v1/features:read", {"features": ["events:n"], "entities": [777_777]})
    first, last = lines(stream)
    assert (first["event"], first["route"], first["status"]) == ("request", "/v1/features:write", 200)
    assert last["request_id"] == reply.headers["headwater-request-id"] and last["at"] == "2026-01-01T12:00:00Z"
    for text in ("a secret", "777777", "hw_key"):
        assert text not in stream.getvalue()


def test_at_the_default_level_requests_have_none(call: Caller) -> None:
    stream = log_of(call, "warning")
    assert call("GET", "/v1/views").status == 200 and call("GET", "/nothing").status == 404
    assert stream.getvalue() == ""


def test_a_fault_is_logged_with_its_place_and_without_its_message(
    call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = log_of(call, "error")

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("entity 777")

    monkeypatch.setattr(call.app.store, "kept_reader", broken)
    reply = call.read(features=["events:n"], entities=[7])
    (line,) = lines(stream)
    assert (line["event"], line["error"], line["request_id"]) == (
        "request failed",
        "ZeroDivisionError",
        reply.headers["headwater-request-id"],
    )
    assert "test_logs.py" in str(line["trace"]) and "777" not in stream.getvalue()


def test_text_lines_and_levels() -> None:
    stream = io.StringIO()
    log = Log("text", "warning", stream, lambda: NOON)
    log.info("request", status=200)
    log.warning("worker ended", process_id=7)
    log.error("odd", text="a\nb\x1b[31m")
    first, second = stream.getvalue().splitlines()
    assert first == "2026-01-01 12:00:00Z warning worker ended process_id=7"
    assert "\x1b" not in second


def test_a_log_that_nobody_reads_ends_nothing() -> None:
    stream = io.StringIO()
    stream.close()
    Log("json", "info", stream).info("request")
