"""What errors over HTTP say: in the words of requests, not of Python."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from headwater.planning.resolved import FULL_NAMES
from headwater.planning.value_checks import PARSE_TIMES
from headwater.serving.writes import _time_columns, row_versions
from headwater.wire.problems import error_of, problem_of
from headwater.wire.words import _WORDS, for_client, over_http
from tests.unit.serving.conftest import ROW, Caller

OF_PYTHON = re.compile(r"store\.session|\.session\b|pandas|fromisoformat|full_names=True|rename\(\)|request=")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2026-11-28T12:00:00", ": it has no offset; write 2026-11-28T12:00:00Z or 2026-11-28T12:00:00+01:00"),
        ("2026-11-28T12:00", ": it has no offset; write 2026-11-28T12:00:00Z or 2026-11-28T12:00:00+01:00"),
        ("2026-11-28", ": it has no offset; write 2026-11-28T00:00:00Z or 2026-11-28T00:00:00+01:00"),
        ("2026-11-28 12:00:00.5", ": it has no offset; write 2026-11-28T12:00:00.5Z or 2026-11-28T12:00:00.5+01:00"),
        ("2026-11-28T12:00:00.1234567Z", ": it is finer than a microsecond; write 2026-11-28T12:00:00.123456Z"),
        ("2026-11-28T12:00:00+0100", "; write 2026-11-28T12:00:00+01:00"),
        ("2026-02-30T12:00:00Z", ": there is no such date or time of day"),
        ("28.11.2026", "; write it as RFC 3339 has it: 2026-11-28T10:00:00Z or 2026-11-28T11:00:00+01:00"),
        ("yesterday", "; write it as RFC 3339 has it: 2026-11-28T10:00:00Z or 2026-11-28T11:00:00+01:00"),
    ],
)
@pytest.mark.parametrize("shape", ["rows", "columns"])
@pytest.mark.parametrize("column", ["at", "seen"])
def test_a_time_of_another_form_is_refused_with_the_one_to_write(
    call: Caller, column: str, shape: str, text: str, says: str
) -> None:
    row = {**ROW, column: text}
    rows = [row] if shape == "rows" else {name: [value] for name, value in row.items()}
    reply = call("POST", "/v1/features:write", {"view": "events", "rows": rows})
    kind = "not a time" if column == "at" else "not a timestamp"
    assert (reply.status, reply.json["errors"]) == (422, [f"row 0: column {column!r}: {text!r} is {kind}{says}"])
    if "write 2026" in says:
        # what it says to write is taken
        given = {**ROW, column: says.partition("write ")[2].split(" or ")[0]}
        assert call("POST", "/v1/features:write", {"view": "events", "rows": [given]}).status == 200


def test_a_text_is_not_marked_as_no_time_where_a_version_reads_it_as_text() -> None:
    user = hw.Entity("user", join_keys={"user": hw.Int64})

    def seen(version: str, dtype: hw.DType) -> hw.FeatureView:
        source = hw.PushSource(event_time="at")
        return hw.FeatureView("seen", entity=user, version=version, source=source, features=[hw.Feature("when", dtype)])

    with hw.FeatureStore.in_memory([seen("1.0.0", hw.Timestamp)]) as store:
        assert _time_columns(row_versions(store, "seen")) == {"at", "when", "created_time"}
        store.apply([seen("2.0.0", hw.String)])
        assert _time_columns(row_versions(store, "seen")) == {"at", "created_time"}


@pytest.mark.parametrize(
    "body",
    [
        {"features": ["events:n"], "consistency": "session"},
        {"features": ["events:n", "events:n"]},
        {"features": ["events:n"], "request": {"hour": 1}},
        {"features": ["events:*", "delays:*"], "entities": {"user": [1], "origin": ["a"], "dest": ["b"]}},
    ],
)
def test_an_error_of_a_read_speaks_of_requests(call: Caller, body: Any) -> None:
    reply = call.read(**{"entities": [1], **body})
    assert not OF_PYTHON.search(reply.body.decode()), reply.json


def test_sessions_are_spoken_of_as_a_header(call: Caller) -> None:
    reply = call.read(features=["events:n"], entities=[1], consistency="session")
    assert "send the header Headwater-Session" in reply.json["detail"]


@pytest.mark.parametrize(("store", "server", "client"), _WORDS)
def test_each_words_are_translated_and_a_client_has_its_own(store: str, server: str, client: str) -> None:
    assert over_http(f"x: {store}.") == f"x: {server}."
    assert not OF_PYTHON.search(server)
    problem = problem_of(hw.RowsRejected(f"x: {store}", [f"row 0: {store}"]))
    again = error_of(problem.document, problem.status)
    assert isinstance(again, hw.RowsRejected)
    assert str(again) == f"x: {client}\n  row 0: {client}" and again.problems == (f"row 0: {client}",)
    assert for_client("nothing of this") == "nothing of this"


def test_each_translated_phrase_is_one_that_a_store_says() -> None:
    sources = [file.read_text() for file in Path(hw.__file__).parent.rglob("*.py") if file.parent.name != "wire"]
    said = (_WORDS[0][0], _WORDS[1][0], PARSE_TIMES, FULL_NAMES)
    for phrase, _, _ in _WORDS:
        assert phrase.startswith(said) or any(phrase.strip("; ") in source for source in sources), phrase
    assert all(any(phrase in source for source in sources) for phrase in said[:2])


def test_a_read_without_entities_says_what_a_global_view_takes(call: Caller) -> None:
    reply = call("POST", "/v1/features:read", {"features": ["events:n"]})
    assert reply.status == 400 and reply.json["detail"].endswith('write "entities": {}')
