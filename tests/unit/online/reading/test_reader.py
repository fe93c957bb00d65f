"""Reads: which status, value and time stand for each key, told by a ten-line reference."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.clock import FIRST_MICROS, LAST_MICROS, from_micros
from headwater.definitions.feature import Feature
from headwater.definitions.view import FeatureView
from headwater.errors import EntityKeyError, FeatureNotFound, UsageError
from headwater.freshness import Freshness, FreshnessFunction
from headwater.online.guard import deleted_row
from headwater.online.reading.reader import AHEAD, ANY_TIME, ClockCounts
from headwater.online.reading.staleness import may_be_stale, stale_rows
from headwater.online.rows.codec import emptied, sequence_of
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.testing import rounds
from headwater.types import (
    STATUSES,
    Array,
    Bool,
    Date,
    Embedding,
    Float32,
    Float64,
    Int32,
    Int64,
    StalePolicy,
    Status,
    String,
    Timestamp,
)
from tests.unit.online.support import DAY, HOUR, NOW, SECOND, batch, make_view, put, reader, rows_of

LATER = (0, 1, SECOND, HOUR, HOUR + 1, 2 * HOUR, 30 * DAY)
TIMES = st.sampled_from([NOW + d for d in (*LATER, -1, -HOUR, -HOUR - 1, -2 * HOUR, -2 * HOUR - 1, -DAY, -DAY - 1)])
ROW = st.fixed_dictionaries(
    {
        "event": TIMES,
        "created": TIMES,
        "deleted": st.none() | st.none() | TIMES,
        "a": st.none() | st.integers(0, 5),
        "b": st.none() | st.just(2.5),
    }
)


class CountingStore(MemoryOnlineStore):
    """Counts round trips and keys."""

    calls: list[int]

    def multi_get(self, keys: Any) -> list[bytes | None]:
        self.calls = [*getattr(self, "calls", []), len(keys)]
        return super().multi_get(keys)


def expected(
    row: Any, feature: str, sla: int, default: Any, drop: bool, ahead: int
) -> tuple[Status, Any, int, int | None]:
    """Status, value, the instant that they hold for, and the event time where there is a value."""
    if row is None:
        return Status.NOT_FOUND, default, NOW, None
    known, deleted = max(row["event"], row["created"]), row["deleted"]
    hidden = deleted is not None and known <= deleted
    last = deleted if hidden else max(known, known if deleted is None else deleted)
    if last > NOW + ahead:
        return Status.NOT_KNOWN, None, NOW, None
    at = max(NOW, last)
    if hidden:
        return Status.NOT_FOUND, default, at, None
    if row["event"] < at - DAY:
        return Status.EXPIRED, default, at, None
    if row[feature] is None:
        return Status.NULL, None, at, row["event"]
    if at - row["event"] > sla:
        return Status.STALE, None if drop else row[feature], at, row["event"]
    return Status.PRESENT, row[feature], at, row["event"]


@settings(deadline=None, max_examples=rounds(50))
@given(
    st.dictionaries(st.sampled_from("uvwxyz"), ROW),
    st.lists(st.none() | st.sampled_from("uvwxyz"), max_size=25),
    st.booleans(),
    st.sampled_from([0, AHEAD, ANY_TIME]),
)
def test_status_value_and_time_of_every_key(
    rows: dict[str, Any], keys: list[str | None], drop: bool, ahead: int
) -> None:
    view = make_view(
        [Feature("a", Int64, default=9, freshness_sla="2h"), Feature("b", Float64)], ttl="1d", freshness_sla="1h"
    )
    store, counts = MemoryOnlineStore(), ClockCounts()
    put(store, view, [{"user": key, **row} for key, row in rows.items()])
    for key, row in rows.items():
        if row["deleted"] is not None:
            delete(store, view, key, row["deleted"])
    policy = StalePolicy.DROP if drop else StalePolicy.FLAG
    prepared = reader(store, ["view:*"], view, counts=counts)
    plan = prepared.plan_keys(keys)
    result = prepared.decode(plan, store.multi_get(plan.keys), now=NOW, ahead=ahead, stale=policy)
    told = [
        [expected(rows.get(key or ""), f, sla, d, drop, ahead) for key in keys]
        for f, sla, d in (("a", 2 * HOUR, 9), ("b", HOUR, None))
    ]
    assert result.to_dict() == {
        "user": keys,
        "a": [value for _, value, _, _ in told[0]],
        "b": [value for _, value, _, _ in told[1]],
    }
    statuses = {"a": [status for status, *_ in told[0]], "b": [status for status, *_ in told[1]]}
    assert result.statuses == statuses
    assert {n: [STATUSES[c] for c in codes] for n, codes in result.status_codes().items()} == statuses
    assert result.read_at == {"view": [from_micros(at) for *_, at, _ in told[0]]}
    events = [event for *_, event in told[0]]
    assert result.event_times == {"view": [None if event is None else from_micros(event) for event in events]}
    scores = [None if event is None else max(0.0, 1 - (at - event) / HOUR) for *_, at, event in told[0]]
    assert result.freshness() == {"view": [None if s is None else pytest.approx(s) for s in scores]}
    matrix = result.to_numpy("float64", missing=-7)
    assert matrix.shape == (len(keys), 2)
    for place, column in enumerate(told):
        wanted = [-7 if value is None else float(value) for _, value, _, _ in column]
        np.testing.assert_array_equal(matrix[:, place], wanted)
    assert result.to_arrow().to_pydict() == result.to_dict()
    vectors = result.vectors()
    assert [vector.features for vector in vectors] == [
        {name: row[name] for name in ("a", "b")} for row in result.to_pylist()
    ]
    assert [vector.calculate_freshness() for vector in vectors] == [pytest.approx(score or 0.0) for score in scores]
    assert [vector.feature_timestamp for vector in vectors] == result.event_times["view"]
    assert [vector.metadata["statuses"]["a"] for vector in vectors] == statuses["a"]
    distinct = {key: expected(rows.get(key), "a", HOUR, 9, drop, ahead) for key in keys if key is not None}
    later = [at for *_, at, _ in distinct.values() if at > NOW]
    unknown = sum(status is Status.NOT_KNOWN for status, *_ in distinct.values())
    # who gives the instant asks for what is not known then
    assert (counts.later, counts.not_known) == ((len(later), unknown) if ahead else (0, 0))
    assert counts.most == (max(later, default=NOW) - NOW if ahead else 0)
    aged = {key for key, (*_, at, event) in distinct.items() if event is not None and at - event > HOUR}
    aged |= {key for key, (status, *_) in distinct.items() if status is Status.EXPIRED}
    found = stale_rows(plan, None)
    assert {rows_of(view).keys.decode(key, b"")[0] for part in found for key in part.keys} == aged
    assert may_be_stale(plan, None) or not aged


def delete(store: MemoryOnlineStore, view: FeatureView, user: str, through: int) -> None:
    (key,) = rows_of(view).stored_keys(batch(view, [{"user": user}]))
    assert key is not None
    (row,) = store.multi_get([key])
    new = deleted_row(row, through, 1)
    assert new is None or store.compare_and_put(key, sequence_of(row), new)


def test_damage_and_long_keys_beside_rows_that_are_later() -> None:
    view = make_view([Feature("x", Int64, default=7), Feature("s", String)])
    store, long = MemoryOnlineStore(), "k" * 1_000
    rows = [{"user": user, "x": 1, "s": "text", "event": NOW + HOUR} for user in ("cut", "whole", long, "odd")]
    put(store, view, rows)
    keys = rows_of(view).stored_keys(batch(view, rows))
    store._rows[keys[0] or b""] = store._rows[keys[0] or b""][:-1]
    store._rows[keys[3] or b""] = store._rows[keys[3] or b""][:20]
    for count in (0, 20):
        asked = ["cut", "whole", long, "odd", "none", None, *["none"] * count]
        prepared = reader(store, ["view:*"], view)
        exact = prepared.read(asked, now=NOW)
        # what is not known then is no damage; of a row without a header nobody knows
        statuses = [Status.NOT_KNOWN] * 3 + [Status.UNAVAILABLE] + [Status.NOT_FOUND] * (2 + count)
        assert exact.statuses["x"] == statuses
        assert exact.to_dict()["x"] == [None] * 4 + [7] * (2 + count)
        later = prepared.read(asked, now=NOW, ahead=AHEAD)
        assert later.statuses["x"][:5] == [
            Status.UNAVAILABLE,
            Status.PRESENT,
            Status.PRESENT,
            Status.UNAVAILABLE,
            Status.NOT_FOUND,
        ]
        assert later.read_at["view"][1:5] == [from_micros(NOW + HOUR)] * 2 + [from_micros(NOW)] * 2


def test_views_without_times_or_keys_are_read_at_their_instants_too() -> None:
    facts = make_view([Feature("x", Int64, default=7)], timed=False, name="facts")
    overall = make_view([Feature("y", Int64, default=8)], {}, name="overall", ttl="1h")
    store = MemoryOnlineStore()
    put(store, facts, [{"user": "u", "x": 1, "created": NOW + 5}, {"user": "v", "x": 2, "created": NOW}])
    put(store, overall, [{"y": 3, "event": NOW - HOUR, "created": NOW + 9}])
    prepared = reader(store, ["facts:x", "overall:y"], facts, overall)
    exact = prepared.read(["u", "v"], now=NOW)
    assert exact.to_dict() == {"user": ["u", "v"], "x": [None, 2], "y": [None, None]}
    assert exact.statuses == {"x": [Status.NOT_KNOWN, Status.PRESENT], "y": [Status.NOT_KNOWN] * 2}
    later = prepared.read(["u", "v"], now=NOW, ahead=AHEAD)
    assert later.to_dict() == {"user": ["u", "v"], "x": [1, 2], "y": [8, 8]}
    assert later.statuses == {"x": [Status.PRESENT] * 2, "y": [Status.EXPIRED] * 2}
    assert later.read_at == {
        "facts": [from_micros(NOW + 5), from_micros(NOW)],
        "overall": [from_micros(NOW + 9)] * 2,
    }
    assert [vector.calculate_freshness() for vector in later.vectors()] == [0.0, 0.0]
    assert prepared.read(["u"], now=NOW + 9).statuses == {"x": [Status.PRESENT], "y": [Status.EXPIRED]}


@pytest.mark.parametrize("now", [FIRST_MICROS, LAST_MICROS])
@pytest.mark.parametrize("ahead", [0, AHEAD, ANY_TIME])
def test_the_first_and_the_last_instant(now: int, ahead: int) -> None:
    longest = timedelta.max
    view = make_view({"x": Int64}, ttl=longest, freshness_sla=longest)
    store = MemoryOnlineStore()
    events = {"first": FIRST_MICROS, "now": NOW, "last": LAST_MICROS}
    put(store, view, [{"user": user, "x": 1, "event": event} for user, event in events.items()])
    for count in (0, 20):
        prepared = reader(store, ["view:x"], view)
        plan = prepared.plan_keys([*events, *map(str, range(count))])
        result = prepared.decode(plan, store.multi_get(plan.keys), now=now, ahead=ahead)
        there = [event <= now + ahead for event in events.values()]
        assert result.statuses["x"][:3] == [Status.PRESENT if known else Status.NOT_KNOWN for known in there]
        assert result.read_at["view"][:3] == [
            from_micros(max(now, event) if known else now) for event, known in zip(events.values(), there, strict=True)
        ]
        assert all(score is None or 0 <= score <= 1 for score in result.freshness()["view"])
        assert result.vectors() and not stale_rows(plan, None) and stale_rows(plan, 1) is not None


def test_a_read_makes_one_round_trip_and_gets_each_key_once() -> None:
    user = make_view({"age": Int64}, {"user": Int64}, name="users")
    item = make_view({"price": Float64}, {"item": Int64}, name="items")
    pair = make_view({"seen": Int64}, {"user": Int64, "item": Int64}, name="pairs")
    everyone = make_view({"day": Int64}, {}, name="globals")
    store = CountingStore()
    put(store, user, [{"user": 7, "age": 40}])
    put(store, item, [{"item": i, "price": float(i)} for i in range(200)])
    put(store, pair, [{"user": 7, "item": 3, "seen": 1}])
    put(store, everyone, [{"day": 5}])
    prepared = reader(store, ["users:*", "items:*", "pairs:*", "globals:*"], user, item, pair, everyone)
    assert list(prepared.join_keys) == ["user", "item"]
    items = [*range(200), 3, 3, 500]
    result = prepared.read({"user": 7, "item": items}, now=NOW)
    assert store.calls == [1 + 201 + 201 + 1]
    found = result.to_dict()
    assert found["user"] == [7] * 203
    assert found["age"] == [40] * 203
    assert found["price"] == [*map(float, range(200)), 3.0, 3.0, None]
    assert [i for i, seen in enumerate(found["seen"]) if seen] == [3, 200, 201]
    assert found["day"] == [5] * 203
    assert len(result.to_numpy(columns=["seen", "price"])) == 203
    assert prepared.read({"user": 7, "item": []}, now=NOW).to_dict() == {
        c: [] for c in ("user", "item", "age", "price", "seen", "day")
    }


def test_order_and_repeats_of_keys_are_kept() -> None:
    view, store = make_view({"x": Int64}), MemoryOnlineStore()
    put(store, view, [{"user": f"u{i}", "x": i} for i in range(100)])
    keys = [f"u{i * 37 % 120}" for i in range(300)]
    found = reader(store, ["view:x"], view).read(keys, now=NOW).to_dict()
    assert found == {"user": keys, "x": [i if (i := int(key[1:])) < 100 else None for key in keys]}


def test_a_key_out_of_what_its_type_holds_is_refused() -> None:
    view, store = make_view({"x": Int64}, {"n": Int64}), MemoryOnlineStore()
    put(store, view, [{"n": n, "x": n} for n in range(60)])
    for count in (1, 60):
        with pytest.raises(EntityKeyError, match=rf"row {count}: join key 'n' is -{2**70}, an integer beyond 64 bits"):
            reader(store, ["view:x"], view).read([*range(count), -(2**70), 2**63], now=NOW)


def test_a_damaged_row_is_named_and_the_rest_is_served() -> None:
    view, store = make_view({"x": Int64, "s": String}, {"a": String, "b": Int64}), MemoryOnlineStore()
    put(store, view, [{"a": f"u{i}", "b": 1, "x": i, "s": str(i)} for i in range(40)])
    keys = rows_of(view).stored_keys(batch(view, [{"a": "u3", "b": 1}, {"a": "u5", "b": 1}]))
    store._rows[keys[0] or b""] = store._rows[keys[0] or b""][:-1]
    store._rows[keys[1] or b""] = b"junk"
    for count in (8, 40):
        result = reader(store, ["view:*"], view).read({"a": [f"u{i}" for i in range(count)], "b": 1}, now=NOW)
        wanted = [None if i in (3, 5) else i for i in range(count)]
        assert result.to_dict()["x"] == wanted
        assert result.statuses["x"] == [Status.UNAVAILABLE if i in (3, 5) else Status.PRESENT for i in range(count)]
        assert list(result.problems) == [("u3", 1), ("u5", 1)]
        assert "view 1.0.0: the stored row is" in result.problems["u5", 1]
        assert result.event_times["view"][3] is None
        assert np.isnan(result.to_numpy(columns=["x"])[[3, 5], 0]).all()


def test_an_unavailable_value_is_none_never_the_default() -> None:
    view, store = make_view([Feature("x", Int64, default=7)]), MemoryOnlineStore()
    put(store, view, [{"user": "u", "x": 1}])
    (key,) = store._rows
    store._rows[key] = b"junk"
    result = reader(store, ["view:x"], view).read(["u", "v"], now=NOW)
    assert result.to_dict()["x"] == [None, 7]
    assert list(result.problems) == ["u"]


def test_a_deleted_row_is_not_found_and_takes_the_default() -> None:
    view, store = make_view([Feature("x", Int64, default=7)]), MemoryOnlineStore()
    put(store, view, [{"user": "u", "x": 1}])
    (key,) = store._rows
    assert store.compare_and_put(key, sequence_of(store._rows[key]), emptied(store._rows[key], NOW))
    result = reader(store, ["view:x"], view).read(["u"], now=NOW)
    assert (result.to_dict()["x"], result.statuses["x"]) == ([7], [Status.NOT_FOUND])


def test_a_view_without_event_time_never_expires_nor_goes_stale() -> None:
    view, store = make_view({"x": Int64}, timed=False, ttl="1s", freshness_sla="1s"), MemoryOnlineStore()
    put(store, view, [{"user": "u", "x": 1}])
    result = reader(store, ["view:x"], view).read(["u"], now=NOW, max_age=1)
    assert (result.to_dict()["x"], result.statuses["x"]) == ([1], [Status.PRESENT])
    assert result.event_times == {"view": [None]}
    assert result.freshness() == {"view": [1.0]}
    (vector,) = result.vectors()
    assert vector.feature_timestamp is None
    assert vector.calculate_freshness() == 1.0


def test_max_age_is_the_sla_of_one_read() -> None:
    view, store = make_view({"x": Int64}, freshness_sla="1d"), MemoryOnlineStore()
    put(store, view, [{"user": "u", "x": 1, "event": NOW - HOUR}])
    prepared = reader(store, ["view:x"], view)
    assert prepared.read(["u"], now=NOW).statuses["x"] == [Status.PRESENT]
    assert prepared.read(["u"], now=NOW, max_age=HOUR).statuses["x"] == [Status.PRESENT]
    strict = prepared.read(["u"], now=NOW, max_age=HOUR - 1)
    assert strict.statuses["x"] == [Status.STALE]
    assert strict.to_dict()["x"] == [1]


def test_long_keys_are_read_by_their_digest() -> None:
    view, store = make_view({"x": Int64}), MemoryOnlineStore()
    keys = ["k" * 1000 + str(i) for i in range(30)]
    put(store, view, [{"user": key, "x": i} for i, key in enumerate(keys)])
    prepared = reader(store, ["view:x"], view)
    for count in (3, 30):
        assert prepared.read([*keys[:count], "k" * 1000], now=NOW).to_dict()["x"] == [*range(count), None]
    stored = dict(store._rows)
    first, second = list(stored)[:2]
    store._rows[first] = stored[second]
    assert prepared.read(keys, now=NOW).statuses["x"].count(Status.NOT_FOUND) == 1


def test_views_of_the_same_join_keys_share_the_work_and_not_the_rows() -> None:
    views = [make_view({f"x{v}": Int64}, name=f"view{v}") for v in range(3)]
    store, long = CountingStore(), "k" * 1000
    for v, view in enumerate(views):
        put(store, view, [{"user": user, f"x{v}": 10 * v + i} for i, user in enumerate(("a", long, "b"))][v:])
    keys = ["b", None, long, "a", "b", "c"] * 5
    result = reader(store, ["view0:*", "view1:*", "view2:*"], *views).read(keys, now=NOW)
    assert store.calls == [3 * 4]
    assert result.to_dict() == {
        "user": keys,
        "x0": [2, None, 1, 0, 2, None] * 5,
        "x1": [12, None, 11, None, 12, None] * 5,
        "x2": [22, None, None, None, 22, None] * 5,
    }
    assert np.isnan(result.to_numpy(columns=["x2", "x0"])[3]).tolist() == [True, False]


def test_the_same_view_by_two_columns() -> None:
    airport, store = make_view({"elevation": Float64}, {"airport": String}, name="airports"), MemoryOnlineStore()
    put(store, airport, [{"airport": "JFK", "elevation": 13.0}, {"airport": "DEN", "elevation": 5431.0}])
    features = [airport.alias(name, join_key_map={"airport": name})["elevation"] for name in ("origin", "dest")]
    result = reader(store, features, airport).read(
        [{"origin": "JFK", "dest": "DEN"}, {"origin": "DEN", "dest": "XXX"}], now=NOW
    )
    assert result.to_dict() == {
        "origin": ["JFK", "DEN"],
        "dest": ["DEN", "XXX"],
        "origin__elevation": [13.0, 5431.0],
        "dest__elevation": [5431.0, None],
    }
    assert list(result.event_times) == ["origin", "dest"]
    assert result.versions == {"origin": "1.0.0", "dest": "1.0.0"}


def test_defaults_are_values_of_their_dtype_and_not_shared() -> None:
    features = [
        Feature("f", Float64, default=1),
        Feature("s", Float32, default=1.111),
        Feature("t", Timestamp, default=datetime(2024, 1, 1)),
        Feature("a", Array(Float64), default=[1, None]),
        Feature("e", Embedding(2), default=(1, 2)),
        Feature("d", Date),
    ]
    view = make_view(features)
    found = reader(MemoryOnlineStore(), ["view:*"], view).read(["u", "v"], now=NOW).to_dict()
    assert {name: column[0] for name, column in found.items()} == {
        "user": "u",
        "f": 1.0,
        "s": float(np.float32(1.111)),
        "t": datetime(2024, 1, 1, tzinfo=UTC),
        "a": [1.0, None],
        "e": [1.0, 2.0],
        "d": None,
    }
    assert isinstance(found["f"][0], float)
    assert found["a"][0] is not found["a"][1]


def test_vectors_carry_times_versions_and_statuses() -> None:
    first, second = (
        make_view({"x": Int64}, name="a", freshness_sla="2h"),
        make_view({"y": Int64}, name="b", freshness_sla="4h"),
    )
    store = MemoryOnlineStore()
    put(store, first, [{"user": "u", "x": 1, "event": NOW - HOUR, "created": NOW - HOUR + 5}])
    put(store, second, [{"user": "u", "y": 2, "event": NOW - 3 * HOUR}])
    found, missing = reader(store, ["a:x", "b:y"], first, second).read(["u", "v"], now=NOW).vectors()
    assert (found.entity_id, found.features) == ("u", {"x": 1, "y": 2})
    assert found.feature_timestamp == from_micros(NOW - 3 * HOUR)
    assert found.feature_timestamps == {"a": from_micros(NOW - HOUR), "b": from_micros(NOW - 3 * HOUR)}
    assert found.computation_timestamp == from_micros(NOW - HOUR + 5)
    assert found.version_info == {"a": "1.0.0", "b": "1.0.0"}
    assert found.metadata["statuses"] == {"x": Status.PRESENT, "y": Status.PRESENT}
    assert found.calculate_freshness() == pytest.approx(0.25)
    assert found.calculate_freshness(from_micros(NOW - 3 * HOUR)) == 1.0
    assert found.calculate_freshness(from_micros(NOW + DAY)) == 0.0
    assert missing.feature_timestamp is None
    assert missing.computation_timestamp is None
    assert missing.calculate_freshness() == 0.0
    composite = make_view({"x": Int64}, {"a": String, "b": Int64})
    (vector,) = reader(store, ["view:x"], composite).read([{"a": "u", "b": 1}], now=NOW).vectors()
    assert vector.entity_id == {"a": "u", "b": 1}


def test_freshness_follows_the_function_of_the_project() -> None:
    view, store = make_view({"x": Int64}, freshness_sla="1h"), MemoryOnlineStore()
    put(store, view, [{"user": "u", "x": 1, "event": NOW - HOUR}])
    halves = Freshness(FreshnessFunction.EXPONENTIAL)
    result = reader(store, ["view:x"], view, freshness=halves).read(["u"], now=NOW)
    assert result.freshness() == {"view": [0.5]}
    assert result.vectors()[0].calculate_freshness() == 0.5


def test_frames_keep_the_dtypes() -> None:
    view, store = make_view({"i": Int64, "f": Float32, "s": String, "e": Embedding(2)}), MemoryOnlineStore()
    put(store, view, [{"user": "u", "i": 2**60 + 1, "f": 1.111, "s": "x", "e": [1.111, 2.0]}])
    result = reader(store, ["view:*"], view).read(["u", "v"], now=NOW)
    near = float(np.float32(1.111))
    table = result.to_arrow()
    for found in (result.to_dict(), table.to_pydict()):
        assert (found["e"][0], found["f"][0]) == ([near, 2.0], near)
    assert result.vectors()[0].features["f"] == result.to_pylist()[0]["f"] == near
    frame = result.to_pandas()
    assert frame.dtypes.astype(str).to_dict() == {
        "user": "string",
        "i": "Int64",
        "f": "float32",
        "s": "string",
        "e": "object",
    }
    assert frame["i"].tolist()[0] == 2**60 + 1
    assert str(result.to_pandas(types="numpy").dtypes["i"]) == "float64"
    assert "int64" in str(result.to_pandas(types="arrow").dtypes["i"])
    with pytest.raises(UsageError, match="nullable"):
        result.to_pandas(types="odd")


def test_a_matrix_takes_numbers_alone() -> None:
    view, store = make_view({"i": Int64, "s": String, "f": Float32}), MemoryOnlineStore()
    put(store, view, [{"user": str(n), "i": n, "s": "x", "f": n / 2} for n in range(50)])
    for count in (3, 50):
        result = reader(store, ["view:*"], view).read([*map(str, range(count)), "?"], now=NOW)
        with pytest.raises(UsageError, match="feature 's' is string"):
            result.to_numpy()
        matrix = result.to_numpy("float64", columns=["f", "i"], missing=-1)
        assert matrix.tolist() == [[n / 2, n] for n in range(count)] + [[-1, -1]]
        with pytest.raises(FeatureNotFound, match="did you mean 'f'"):
            result.to_numpy(columns=["ff"])


def test_a_matrix_loses_nothing_unless_a_dtype_is_given() -> None:
    features = {"i": Int64, "n": Int32, "f": Float32, "b": Bool, "d": Float64}
    view, store = make_view(features), MemoryOnlineStore()
    rows = [
        {"user": "a", "i": 2**53, "n": 16_777_217, "f": 0.1, "b": True, "d": 0.1},
        {"user": "b", "i": 2**53 + 1, "n": None, "f": None, "b": False, "d": 0.2},
    ]
    put(store, view, rows)
    read = reader(store, ["view:*"], view).read
    first = read(["a", "?"], now=NOW)
    matrix = first.to_numpy()
    assert matrix.dtype == np.float64
    assert matrix[0].tolist() == [2.0**53, 16_777_217.0, float(np.float32(0.1)), 1.0, 0.1]
    assert np.isnan(matrix[1]).all()
    narrow = first.to_numpy(columns=["f", "b"])
    assert narrow.dtype == np.float32 and narrow[0].tolist() == matrix[0, 2:4].tolist()
    both = read(["a", "b"], now=NOW)
    with pytest.raises(UsageError, match=r"feature 'i' is 9007199254740993 in row 1, an integer beyond 2\*\*53"):
        both.to_numpy()
    assert both.to_numpy(columns=["d"]).tolist() == [[0.1], [0.2]]
    assert both.to_numpy("int64", columns=["i"]).tolist() == [[2**53], [2**53 + 1]]


def test_an_embedding_spans_its_columns_of_a_matrix() -> None:
    view = make_view([Feature("e", Embedding(3)), Feature("x", Float32), Feature("g", Embedding(2), default=[7, 8])])
    store = MemoryOnlineStore()
    put(
        store,
        view,
        [{"user": "a", "e": [0.1, 2, 3], "x": 5, "g": None}, {"user": "b", "e": None, "x": None, "g": [1, 2]}],
    )
    result = reader(store, ["view:*"], view).read(["b", "?", "a", "b"], now=NOW)
    matrix = result.to_numpy(missing=-1)
    assert matrix.dtype == np.float32
    near = float(np.float32(0.1))
    b = [-1, -1, -1, -1, 1, 2]
    assert matrix.tolist() == [b, [-1, -1, -1, -1, 7, 8], [near, 2, 3, 5, -1, -1], b]
    assert result.to_numpy(columns=["x", "e"], missing=0).tolist()[2] == [5, near, 2, 3]
    assert result.to_numpy(columns=["g"]).shape == (4, 2)


def test_a_notebook_shows_a_table() -> None:
    view, store = make_view([Feature("x", Float32, default=0.5), Feature("s", String)]), MemoryOnlineStore()
    put(store, view, [{"user": "<u>", "x": 1.111, "s": "a&b"}])
    html = reader(store, ["view:*"], view).read(["<u>", *map(str, range(30))], now=NOW)._repr_html_()
    assert "1.111<" in html
    assert "&lt;u&gt;" in html
    assert "a&amp;b" in html
    assert "NOT_FOUND" in html
    assert "11 more rows" in html


def test_wrong_use_is_told_before_anything_is_read() -> None:
    view, store = make_view({"user_id": Int64}, {"user": String}), CountingStore()
    with pytest.raises(EntityKeyError, match="not valid UTF-8"):
        reader(store, ["view:*"], view).read(["\ud800"], now=NOW)
    with pytest.raises(EntityKeyError, match="row 0"):
        reader(store, ["view:*"], view).read([3], now=NOW)
    assert not hasattr(store, "calls")
    clash = make_view({"user": Int64}, {"user": String})
    with pytest.raises(UsageError, match="would be named 'user'"):
        reader(store, ["view:*"], clash)
