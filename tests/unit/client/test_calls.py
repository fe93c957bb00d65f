"""Addresses, and which replies are errors, waits, or both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import repeat

import pytest

import headwater as hw
from headwater.client import flows
from headwater.client.addresses import parse_address
from headwater.client.calls import LONGEST_PAUSE, Call, Pause, Reply, checked, error_in, pause_before
from headwater.client.flows import client_settings
from headwater.wire.problems import CONTENT_TYPE


def problem(status: int, kind: str, headers: dict[str, str] | None = None) -> Reply:
    document = {"type": f"urn:headwater:errors#{kind}", "title": "t", "status": status, "detail": "d"}
    return Reply(status, {"content-type": CONTENT_TYPE, **(headers or {})}, json.dumps(document).encode())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://host/", "http://host:80"),
        (" https://features.example.com/store/ ", "https://features.example.com:443/store"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_addresses_of_servers(url: str, shown: str) -> None:
    assert str(parse_address(url)) == shown


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8080", "ftp://h", "http://", "http://h:x", "http://h?a=1", "http://h#a", "http://ä", 5, None]
)
def test_what_is_not_the_url_of_a_server(url: object) -> None:
    with pytest.raises(hw.UsageError, match="is not the URL of a server"):
        parse_address(url)  # type: ignore[arg-type]
    with pytest.raises(hw.UsageError, match="api_key="):
        parse_address("http://user:secret@host:8080")


@pytest.mark.parametrize(
    "arguments",
    [
        {"timeout": "0s"},
        {"timeout": "5"},
        {"retries": -1},
        {"retries": 1.5},
        {"connections": 0},
        {"form": "xml"},
        {"api_key": "a key"},
        {"api_key": "a\nkey"},
        {"api_key": 7},
    ],
)
def test_arguments_that_mean_nothing(arguments: dict[str, object]) -> None:
    for client in (hw.Client, hw.AsyncClient):
        with pytest.raises(hw.UsageError):
            client("http://127.0.0.1:1", **arguments)  # type: ignore[arg-type]
        with pytest.raises(hw.ConfigError, match="ca="):
            client("https://127.0.0.1:1", ca="/nowhere/ca.pem")


def test_an_error_is_of_the_class_that_it_names() -> None:
    assert checked(Reply(200, {}, b"x")).body == b"x"
    for kind, error in (
        ("feature-not-found", hw.FeatureNotFound),
        ("rows-rejected", hw.RowsRejected),
        ("unavailable", hw.Unavailable),
        ("shutting-down", hw.Unavailable),
        ("clock-error", hw.ClockError),
    ):
        with pytest.raises(error, match="d") as caught:
            checked(problem(503, kind))
        assert type(caught.value) is error
    lost = problem(409, "consistency-lost", {"headwater-session": hw.Session("a:b", {"n": 1}).token})
    bad = error_in(lost)
    assert isinstance(bad, hw.ConsistencyLost) and bad.session == hw.Session("a:b", {"n": 1})
    for status, kind in ((401, "unauthorized"), (403, "forbidden"), (403, "a-later-release-s-own")):
        denied = error_in(problem(status, kind))
        assert type(denied) is hw.AccessDenied and denied.authenticated == (status == 403)
    assert type(error_in(problem(500, "internal-error"))) is hw.StoreError
    for status, error in ((502, hw.Unavailable), (200, hw.StoreError), (404, hw.StoreError), (301, hw.StoreError)):
        bad = error_in(Reply(status, {"content-type": "text/html"}, b"<html>"))
        assert type(bad) is error and "not a headwater server" in str(bad)
    assert type(error_in(Reply(503, {"content-type": CONTENT_TYPE}, b"{"))) is hw.Unavailable
    assert type(error_in(Reply(500, {"content-type": CONTENT_TYPE}, b"[]"))) is hw.StoreError


def test_what_is_waited_for_and_how_long() -> None:
    assert pause_before(1, None) is not None and pause_before(3, None) is not None
    for status, kind in ((503, "unavailable"), (503, "shutting-down"), (429, "too-many-requests"), (409, "under-way")):
        found = pause_before(1, problem(status, kind, {"retry-after": "2"}))
        assert found is not None and found.seconds == 2
    found = pause_before(1, problem(503, "unavailable"))
    assert found is not None and 0 < found.seconds < 0.1
    assert pause_before(1, problem(503, "unavailable", {"retry-after": "Sat, 28 Nov 2026 20:00:00 GMT"})) is not None
    for reply in (
        problem(503, "unavailable", {"retry-after": str(LONGEST_PAUSE + 1)}),
        problem(503, "clock-error", {"retry-after": "1"}),
        problem(503, "store-read-only", {"retry-after": "1"}),
        problem(409, "consistency-lost", {"retry-after": "1"}),
        problem(409, "registry-conflict"),
        problem(400, "usage-error"),
        problem(500, "internal-error"),
        problem(422, "rows-rejected"),
        Reply(404, {}, b""),
    ):
        assert pause_before(1, reply) is None, reply
    assert pause_before(1, Reply(502, {"content-type": "text/html"}, b"")) is not None


def test_a_write_that_another_worker_has_begun_is_asked_for_until_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(flows.time, "monotonic", lambda: now[0])
    under_way = problem(409, "request-in-progress", {"retry-after": "5"})

    def driven(answers: Iterator[Reply | None], retries: int = 2) -> tuple[object, int]:
        settings = client_settings("http://127.0.0.1:1", None, "1s", "30s", retries, "json", None, 1)
        flow = flows.Flows(settings).send(Call("POST", "/", repeatable=True))
        step, sent = next(flow), 0
        try:
            while True:
                if isinstance(step, Pause):
                    now[0] += step.seconds
                    step = next(flow)
                    continue
                sent += 1
                reply = next(answers)
                step = flow.throw(hw.Unavailable("lost")) if reply is None else flow.send(reply)
        except StopIteration as done:
            return done.value, sent

    ok = Reply(200, {}, b"{}")
    # the worker was killed: the connection is lost, others wait for its time to be over
    assert driven(iter([None, *[under_way] * 18, ok]))[0] is ok
    assert now[0] < 5 + 1
    with pytest.raises(hw.RequestInProgress):
        driven(repeat(under_way))
    assert now[0] < 2 * (5 + 1) + 1
    with pytest.raises(hw.RequestInProgress):
        driven(repeat(under_way), retries=0)
