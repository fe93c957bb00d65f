"""Results as JSON documents: what is encoded once for many columns says of each what the result does."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.serving.answers import json_answer
from headwater.serving.metrics import VALUES, Metrics, merged
from headwater.testing import rounds
from headwater.types import STATUSES
from headwater.wire.json_results import STATUSES_ALONE, encoded_result, to_json_document

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
FIRST = hw.FeatureView(
    "first",
    entity=USER,
    source=hw.PushSource(event_time="at"),
    features=[hw.Feature("a", hw.Int64), hw.Feature("b", hw.Int64, freshness_sla="1h"), hw.Feature("c", hw.Float64)],
    ttl="3h",
)
SECOND = hw.FeatureView(
    "second", entity=USER, source=hw.PushSource(event_time="at"), features=[hw.Feature("d", hw.String)]
)
ROWS = st.dictionaries(
    st.integers(0, 5),
    st.tuples(st.integers(0, 4), st.none() | st.integers(-9, 9), st.none() | st.just(0.5), st.none() | st.just("x")),
)


@settings(max_examples=rounds(40), deadline=None)
@given(ROWS, st.lists(st.integers(0, 6) | st.none(), max_size=40), st.sampled_from(["flag", "drop"]), st.booleans())
def test_the_statuses_of_a_document_are_the_result_s(
    rows: dict[int, Any], users: list[int | None], stale: str, whole: bool
) -> None:
    if whole:  # all PRESENT, which is written without looking at each
        rows = {user: (min(hours, 1), a or 1, c or 0.5, d or "x") for user, (hours, a, c, d) in rows.items()}
        users = [user for user in users if user in rows]
    with hw.FeatureStore.in_memory([FIRST, SECOND], clock=lambda: NOON) as store:
        for user, (hours, a, c, d) in rows.items():
            at = NOON - timedelta(hours=hours)
            store.write("first", [{"user": user, "at": at, "a": a, "b": 1, "c": c}])
            store.write("second", [{"user": user, "at": at, "d": d}])
        result = store.get_online_features(["first:*", "second:*"], {"user": users}, stale=stale)
        data = encoded_result(result, STATUSES_ALONE)
        assert data == json_answer(to_json_document(result, ["statuses"])).body
        document = json.loads(data)
        statuses = result.statuses
        assert not result.all_present or {*chain(*statuses.values())} <= {"PRESENT"}
        assert result.all_present or not whole or len({*users}) < len(users)
        assert document == {"columns": result.to_dict(), "statuses": statuses}
        assert list(document["statuses"]) == list(statuses) == ["a", "b", "c", "d"]
        codes = {name: [STATUSES[code] for code in column.tolist()] for name, column in result.status_codes().items()}
        assert codes == statuses
        counts: Counter[tuple[str, str]] = Counter()
        for name, column in statuses.items():
            counts.update(("second" if name == "d" else "first", status) for status in column)
        metrics = Metrics()
        metrics.served(result)
        served = merged(metrics.memory).items()
        assert counts == {
            (name[1], status): count
            for name, values in served
            if name[0] == VALUES.name
            for status, count in zip(STATUSES, values, strict=True)
            if count
        }


MIXED = hw.FeatureView(
    "mixed",
    entity=USER,
    source=hw.PushSource(event_time="at"),
    features=[
        hw.Feature("x", hw.Float64),
        hw.Feature("y", hw.Float32),
        hw.Feature("n", hw.Int64),
        hw.Feature("z", hw.Float64),
        hw.Feature("text", hw.String),
        hw.Feature("flag", hw.Bool),
        hw.Feature("seen", hw.Timestamp),
        hw.Feature("tags", hw.Array(hw.Float64)),
    ],
)
OTHER = hw.FeatureView(
    "other", entity=USER, source=hw.PushSource(event_time="at"), features=[hw.Feature("w", hw.Float64)]
)
NUMBERS = st.floats() | st.floats(allow_nan=False, allow_infinity=False)
COLUMNS = st.sampled_from(
    [
        *(["mixed:*"], ["mixed:x"], ["mixed:z", "mixed:x"], ["mixed:y", "mixed:n"], ["mixed:text"]),
        *(["mixed:x", "second:d"], ["mixed:z", "other:w", "mixed:y"]),
    ]
)


@settings(max_examples=rounds(60), deadline=None)
@given(
    st.lists(st.tuples(NUMBERS, st.floats(width=32), st.integers(-(2**60), 2**60)), min_size=1, max_size=30),
    st.lists(st.integers(0, 29), max_size=60),
    COLUMNS,
    st.booleans(),
)
def test_columns_are_written_the_same_however_many_rows_there_are(
    rows: list[tuple[float, float, int]], users: list[int], features: list[str], finite: bool
) -> None:
    if finite:
        rows = [(x if math.isfinite(x) else 1e16, y if math.isfinite(y) else -0.0, n) for x, y, n in rows]
    others = {"at": NOON, "text": '%b"\x7fä', "flag": True, "seen": NOON, "tags": [1e22, -0.0]}
    with hw.FeatureStore.in_memory([MIXED, SECOND, OTHER], clock=lambda: NOON) as store:
        written = [{"user": i, "x": x, "y": y, "n": n, "z": -x, **others} for i, (x, y, n) in enumerate(rows)]
        store.write("mixed", written)
        store.write("second", [{"user": i, "at": NOON, "d": "x"} for i in range(len(rows))])
        store.write("other", [{"user": i, "at": NOON, "w": i / 3} for i in range(len(rows))])
        for asked in (users, users[:1], [0]):
            result = store.get_online_features(features, {"user": [user % len(rows) for user in asked]})
            assert encoded_result(result, STATUSES_ALONE) == json_answer(to_json_document(result, ["statuses"])).body
