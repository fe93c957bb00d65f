"""Requests that name very much: refused before anything is made of it, in answers that are short."""

from __future__ import annotations

from typing import Any

import pytest

from headwater.wire.arrow_streams import MOST_COLUMNS
from tests.unit.serving.conftest import ROW, Caller

LONG = "x" * 10**6
MANY = 100_000


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"features": ["events:n"] * MANY}, 413, f"{MANY:,} in one request, at most {MOST_COLUMNS:,}"),
        ({"features": [f"events:n{i}" for i in range(MANY)]}, 413, "read them in parts"),
        ({"features": ["events:n"] * MOST_COLUMNS}, 400, "'events:n' is requested twice"),
        ({"features": ["events:*"] * MOST_COLUMNS}, 400, "'events:*' is requested twice"),
        ({"features": ["events:*", *(f"events:n{i}" for i in range(4_000))]}, 404, "view 'events'"),
        ({"features": [f"events:{LONG}"]}, 404, "view 'events' (1.0.0) has n, x, name"),
        ({"features": [LONG]}, 404, "is not a view"),
        ({"features": [f"{LONG}:n"]}, 404, "registered views: delays, events"),
        ({"features": [f"events@{LONG}:n"]}, 404, "it has 1.0.0"),
        ({"service": LONG}, 404, "registered services: model"),
        ({"features": ["events:n"], LONG: 1}, 400, "unknown field"),
        ({"features": ["events:n"], "include": [LONG]}, 400, "include: "),
        ({"features": ["events:n"], "include": ["statuses"] * MANY}, 200, ""),
        ({"features": ["events:n"], "request": {f"r{i}": i for i in range(MANY)}}, 400, "and 99,970 others"),
        ({"features": ["events:n"], "entities": {f"k{i}": 1 for i in range(MANY)}}, 400, "'k0' is not a join key"),
        ({"features": ["events:n"], "entities": [{f"k{i}": 1 for i in range(MANY)}]}, 400, "is not a join key"),
        ({"features": ["events:n"], "entities": [LONG]}, 400, "row 0"),
        ({"features": ["events:n"], "stale": LONG}, 400, "stale="),
        ({"features": ["events:n"], "consistency": LONG}, 400, "consistency="),
        ({"features": ["events:n"], "max_age": LONG}, 400, "max_age"),
        ({"features": ["events:n"], "now": LONG}, 400, "now"),
    ],
)
def test_a_read_that_names_very_much_is_answered_briefly(call: Caller, body: Any, status: int, says: str) -> None:
    reply = call.read(**{"entities": [1], **body})
    assert reply.status == status and len(reply.body) < 10_000
    assert says in reply.json.get("detail", "")


@pytest.mark.parametrize("shape", ["rows", "columns"])
def test_rows_with_many_unknown_columns_name_some_of_them(call: Caller, shape: str) -> None:
    row = {**ROW, **{f"c{i}": 1 for i in range(4_000)}}
    rows = [row] * 5 if shape == "rows" else {name: [value] * 5 for name, value in row.items()}
    reply = call("POST", "/v1/features:write", {"view": "events", "rows": rows})
    assert reply.status == 422 and len(reply.body) < 2_000
    assert reply.json["errors"] == [
        "rows 0 to 4: " + "; ".join(f"unknown column 'c{i}'" for i in range(6)) + "; and 3,994 other unknown columns"
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"view": LONG, "rows": []},
        {"view": "events", "rows": [ROW], "to": LONG},
        {"view": "events", "rows": [ROW], "errors": LONG},
        {"view": "events", "rows": [ROW], "created": LONG},
        {"view": "events", "rows": [{**ROW, LONG: 1}]},
        {"view": "events", "rows": [{**ROW, "at": LONG}]},
        {"view": "events", "rows": [{**ROW, "n": [LONG]}]},
    ],
)
def test_a_write_of_long_texts_is_refused_briefly(call: Caller, body: Any) -> None:
    reply = call("POST", "/v1/features:write", body)
    assert 400 <= reply.status < 500 and len(reply.body) < 10_000


def test_rows_with_too_many_sets_of_columns_are_refused_before_they_are_checked(call: Caller) -> None:
    rows = [{**ROW, f"c{i}": 1} for i in range(1_001)]
    reply = call("POST", "/v1/features:write", {"view": "events", "rows": rows})
    assert reply.status == 413
    assert "1,001 different sets of columns in one request, at most 1,000" in reply.json["detail"]
    reply = call("POST", "/v1/features:write", {"view": "events", "rows": rows[:1_000]})
    assert reply.status == 422


@pytest.mark.parametrize("kind", ["views", "features", "entities", "services"])
def test_names_in_paths_are_not_echoed_at_length(call: Caller, kind: str) -> None:
    assert len(call("GET", f"/v1/{kind}/{LONG}").body) < 10_000
    assert len(call("GET", f"/v1/{kind}/a:{LONG}").body) < 10_000
    assert len(call("GET", f"/{LONG}").body) < 10_000
    assert len(call("GET", "/v1/views/events", query=f"{LONG}=1").body) < 10_000
