"""Window views as users read them: every form of a result, mixed requests, ages, levels, over HTTP too."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

import headwater as hw
from headwater.clock import to_micros
from headwater.online.reading.reader import OnlineReader
from headwater.online.rows.codec import window_known_at
from headwater.online.rows.decoded import not_later
from headwater.serving.app import App
from headwater.serving.settings import ServerSettings
from tests.servers.threaded_server import ThreadedServer

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.String})
SPEND = hw.FeatureView(
    "spend",
    entity=USER,
    source=hw.PushSource(
        event_time="at",
        schema={
            "amount": hw.Float64,
            "small": hw.Float32,
            "items": hw.Int64,
            "shop": hw.String,
            "raw": hw.Bytes,
            "day": hw.Date,
            "seen": hw.Timestamp,
            "paid": hw.Bool,
            "tags": hw.Array(hw.Int64),
        },
    ),
    features=[
        hw.Aggregation("amount", "sum", "1h"),
        hw.Aggregation("amount", "mean", "1d", default=-1.0),
        hw.Aggregation("small", "max", "1h"),
        hw.Aggregation("items", "sum", None, name="items_ever"),
        hw.Aggregation(None, "count", "1h", name="visits"),
        hw.Aggregation("shop", "last_n", "1d", n=2, name="shops"),
        hw.Aggregation("shop", "count_distinct", "1d", name="distinct_shops"),
        hw.Aggregation("raw", "last", "1d", name="last_raw"),
        hw.Aggregation("day", "min", "1d", name="first_day"),
        hw.Aggregation("seen", "max", "1d", name="last_seen"),
        hw.Aggregation("paid", "max", "1h", name="any_paid"),
        hw.Aggregation("tags", "last_n", "1d", n=1, name="last_tags"),
        hw.Aggregation("amount", "quantile", "1d", q=0.5, name="median"),
        hw.Aggregation("amount", "max", "1h", offset="1h", name="before"),
        hw.Aggregation(None, "seconds_since_last", "1d", name="since_last"),
    ],
    freshness_sla="2h",
)
PLAIN = hw.FeatureView(
    "plain", entity=USER, source=hw.PushSource(event_time="at"), features=[hw.Feature("level", hw.Int64)]
)
ROWS: list[dict[str, Any]] = [
    {
        "user": "a",
        "at": NOON - timedelta(minutes=90 - 40 * i),
        "created_time": NOON - timedelta(minutes=90 - 40 * i),
        "amount": 2.0 * (i + 1),
        "small": 1.111 + i,
        "items": 2**52 + i,
        "shop": "ä" if i else "b",
        "raw": bytes([i]),
        "day": NOON.date() + timedelta(days=i),
        "seen": NOON - timedelta(days=i),
        "paid": i == 2,
        "tags": [i, None],
    }
    for i in range(3)
]
EXPECTED = {
    "amount_sum_1h": 10.0,
    "amount_mean_1d": 4.0,
    "small_max_1h": float(np.float32(3.111)),
    "items_ever": 3 * 2**52 + 3,
    "visits": 2,
    "shops": ["ä", "ä"],
    "distinct_shops": 2,
    "last_raw": b"\x02",
    "first_day": NOON.date(),
    "last_seen": NOON,
    "any_paid": True,
    "last_tags": [[2, None]],
    "median": 4.03125,
    "before": 2.0,
    "since_last": 600.0,
}
EMPTY: dict[str, Any] = dict.fromkeys(EXPECTED) | {
    "amount_mean_1d": -1.0,
    "visits": 0,
    "shops": [],
    "distinct_shops": 0,
    "last_tags": [],
}
NAMES = list(EXPECTED)


class Moved:
    """A store on a clock that the test moves."""

    def __init__(self) -> None:
        self.now = NOON
        self.store = hw.FeatureStore.in_memory([USER, SPEND, PLAIN], clock=lambda: self.now)
        self.store.write("spend", ROWS)
        self.store.write("plain", [{"user": "a", "at": NOON, "level": 3}])


@pytest.fixture
def moved() -> Iterator[Moved]:
    made = Moved()
    with made.store:
        yield made


def served(store: hw.FeatureStore) -> ThreadedServer:
    return ThreadedServer(App(hw.AsyncFeatureStore.of(store), ServerSettings()))


def values(result: hw.OnlineResult, row: int) -> dict[str, Any]:
    return {name: result.to_dict()[name][row] for name in NAMES}


def test_every_function_has_its_value_and_a_user_never_seen_is_one_without_events(moved):
    result = moved.store.get_online_features(["spend:*"], {"user": ["a", "never", None, "a"]})
    assert values(result, 0) == values(result, 3) == EXPECTED
    assert values(result, 1) == EMPTY
    statuses = result.statuses
    assert {statuses[name][0] for name in NAMES} == {hw.Status.PRESENT}
    assert {statuses[name][2] for name in NAMES} == {hw.Status.NOT_FOUND}
    nulls = {name for name in NAMES if statuses[name][1] is hw.Status.NULL}
    assert nulls == set(NAMES) - {"visits", "shops", "distinct_shops", "last_tags"}
    assert result.to_dict()["amount_mean_1d"][2] == -1.0 and result.to_dict()["visits"][2] is None
    assert result.event_times == {"spend": [NOON - timedelta(minutes=10), None, None, NOON - timedelta(minutes=10)]}
    assert result.problems == {}


@pytest.mark.parametrize("count", [1, 30])
def test_all_forms_have_the_same_values(moved, count):
    users = ["a", "never"] * count
    result = moved.store.get_online_features(["spend:*"], {"user": users})
    rows = result.to_arrow().to_pylist()
    assert {name: rows[0][name] for name in NAMES} == EXPECTED
    assert {name: rows[1][name] for name in NAMES} == EMPTY
    assert len(rows) == 2 * count and rows[-2] == rows[0] and rows[-1] == rows[1]
    frame = result.to_pandas()
    assert frame["visits"].tolist()[:2] == [2, 0] and frame["amount_sum_1h"].isna().tolist()[:2] == [False, True]
    matrix = result.to_numpy(columns=["amount_sum_1h", "amount_mean_1d", "visits", "any_paid"], missing=-5)
    assert matrix[:2].tolist() == [[10.0, 4.0, 2.0, 1.0], [-5.0, -1.0, 0.0, -5.0]]
    vectors = result.vectors()
    assert vectors[0].features == EXPECTED and vectors[1].feature_timestamp is None
    assert vectors[0].feature_timestamp == NOON - timedelta(minutes=10)


def test_views_of_both_kinds_and_aliases_are_one_call(moved, monkeypatch):
    store, calls = moved.store, []
    online = store.context.online
    one = type(online).multi_get
    monkeypatch.setattr(online, "multi_get", lambda keys: calls.append(len(keys)) or one(online, keys))
    friend = SPEND.alias("friend", join_key_map={"user": "other"})["amount_sum_1h", "visits"]
    asked = ["plain:level", SPEND["visits"], friend]
    result = store.get_online_features(asked, {"user": ["a", "b", None], "other": ["b", "a", "a"]})
    assert result.to_dict() == {
        "user": ["a", "b", None],
        "other": ["b", "a", "a"],
        "level": [3, None, None],
        "visits": [2, 0, None],
        "friend__amount_sum_1h": [None, 10.0, 10.0],
        "friend__visits": [0, 2, 2],
    }
    # distinct keys of each view, and the window view's record
    assert max(calls) == 1 + 2 + 2 + 2


def test_windows_decay_at_read_and_ages_count_from_what_is_complete(moved):
    store = moved.store
    later = NOON + timedelta(hours=3)
    result = store.get_online_features(["spend:*"], {"user": ["a"]}, now=later)
    assert result.to_dict()["visits"] == [0] and result.to_dict()["amount_mean_1d"] == [4.0]
    assert result.statuses["visits"] == [hw.Status.STALE] and result.freshness()["spend"] == [0.0]
    dropped = store.get_online_features(["spend:visits"], {"user": ["a"]}, now=later, stale="drop")
    assert dropped.to_dict()["visits"] == [None]
    loose = store.get_online_features(["spend:visits"], {"user": ["a"]}, now=later, max_age="1d")
    assert loose.statuses["visits"] == [hw.Status.PRESENT]
    moved.now = later
    store.materialize()
    fresh = store.get_online_features(["spend:visits"], {"user": ["a", "never"]})
    assert fresh.statuses["visits"] == [hw.Status.PRESENT] * 2 and fresh.freshness()["spend"] == [1.0, 1.0]


def test_a_read_before_the_newest_event_is_not_known(moved):
    early = moved.store.get_online_features(["spend:visits"], {"user": ["a", "b"]}, now=NOON - timedelta(minutes=30))
    assert early.statuses["visits"] == [hw.Status.NOT_KNOWN, hw.Status.PRESENT]
    assert early.to_dict()["visits"] == [None, 0]


def test_what_became_later_by_a_refresh_is_as_it_was(moved):
    reader: OnlineReader = moved.store.prepare(["spend:visits"])._reader
    (_, key) = reader.plan_keys(["a"]).keys
    (row,) = moved.store.context.online.multi_get([key])
    known = window_known_at(row)
    assert known == to_micros(NOON - timedelta(minutes=10))
    assert not_later([b"before"], [row], known - 1) == [b"before"] and not_later([b"before"], [row], known) == [row]
    moved.store.delete("spend", [{"user": "a"}])
    (row,) = moved.store.context.online.multi_get([key])
    assert window_known_at(row) >= to_micros(NOON)


def test_a_version_whose_record_is_lost_is_unavailable(moved):
    store = moved.store
    reader: OnlineReader = store.prepare(["spend:visits"])._reader
    record = reader.plan_keys(["a"]).keys[0]
    store.context.online.put_meta({record: None})
    result = store.get_online_features(["spend:visits", "plain:level"], {"user": ["a", "b"]})
    assert result.statuses["visits"] == [hw.Status.UNAVAILABLE] * 2 and result.to_dict()["visits"] == [None, None]
    assert result.to_dict()["level"] == [3, None]
    assert "not filled" in result.problems["a"] and "spend 1.0.0" in result.problems["b"]


def test_every_level_gives_the_same(moved):
    store = moved.store
    for level in ("eventual", "strong"):
        result = store.get_online_features(["spend:*"], {"user": ["a"]}, consistency=level)
        assert values(result, 0) == EXPECTED
    session = store.session()
    result = store.get_online_features(["spend:*"], {"user": ["a"]}, consistency="session", session=session)
    assert values(result, 0) == EXPECTED


def test_rows_kept_in_the_process_are_never_read_beside_a_newer_record(tmp_path):
    (tmp_path / "headwater.toml").write_text('project = "p"\n[online]\ncache = "1h"\n')
    with hw.FeatureStore(tmp_path, clock=lambda: NOON) as store:
        store.apply([USER, SPEND, PLAIN])
        asked = ["plain:level", "spend:visits"]
        for count, minutes in ((0, None), (1, 5), (2, 6)):
            if minutes is not None:
                store.write("spend", [ROWS[0] | {"at": NOON - timedelta(minutes=minutes), "created_time": None}])
            assert store.get_online_features(asked, {"user": ["a"]}).to_dict()["visits"] == [count]
            store.materialize(force=True, views=["spend"])
            assert store.get_online_features(asked, {"user": ["a"]}).to_dict()["visits"] == [count]


@pytest.mark.parametrize("form", ["json", "arrow"])
def test_a_server_answers_with_the_same_values_statuses_and_ages(moved, form):
    store = moved.store
    asked: dict[str, Any] = {"features": ["spend:*", "plain:level"], "entities": {"user": ["a", "never", None]}}
    at = NOON + timedelta(hours=1)
    with (
        ThreadedServer(App(hw.AsyncFeatureStore.of(store), ServerSettings())) as server,
        hw.Client(server.url, form=form) as client,
    ):
        mine, theirs = (s.get_online_features(**asked, now=at) for s in (store, client))
        assert theirs.to_dict() == mine.to_dict() and theirs.statuses == mine.statuses
        assert theirs.event_times == mine.event_times and theirs.freshness() == mine.freshness()
        assert theirs.read_at == mine.read_at and theirs.problems == mine.problems
        assert [v.calculate_freshness() for v in theirs.vectors()] == [v.calculate_freshness() for v in mine.vectors()]
        reader: OnlineReader = store.prepare(["spend:visits"])._reader
        store.context.online.put_meta({reader.plan_keys(["a"]).keys[0]: None})
        mine, theirs = (s.get_online_features(**asked) for s in (store, client))
        assert theirs.statuses == mine.statuses and theirs.to_dict() == mine.to_dict()
        assert theirs.problems == mine.problems and "not filled" in theirs.problems["a"]


@pytest.mark.parametrize("form", ["json", "arrow"])
def test_values_that_exceed_a_bound_are_named_one_by_one(moved, form):
    store = moved.store
    row = ROWS[0] | {"user": "long", "shop": "x" * 2_000}
    store.write("spend", [row])
    asked: dict[str, Any] = {"features": ["spend:shops", "spend:visits"], "entities": {"user": ["long", "a"]}}
    with (
        ThreadedServer(App(hw.AsyncFeatureStore.of(store), ServerSettings())) as server,
        hw.Client(server.url, form=form) as client,
    ):
        for result in (store.get_online_features(**asked), client.get_online_features(**asked)):
            assert result.to_dict() == {"user": ["long", "a"], "shops": [None, ["ä", "ä"]], "visits": [0, 2]}
            assert result.statuses["shops"] == [hw.Status.UNAVAILABLE, hw.Status.PRESENT]
            assert result.statuses["visits"] == [hw.Status.PRESENT] * 2
            (text,) = result.problems.values()
            assert text.startswith("spend 1.0.0: shops: exceeds the bounds of a row") and set(result.problems) == {
                "long"
            }


def test_the_asynchronous_store_reads_them(tmp_path):
    async def read(url: str) -> tuple[Any, Any]:
        async with hw.AsyncFeatureStore(tmp_path, clock=lambda: NOON) as store:
            result = await store.get_online_features(["spend:*"], {"user": ["a", "never"]})
            return values(result, 0), values(result, 1)

    with hw.FeatureStore(tmp_path, clock=lambda: NOON) as store:
        store.apply([USER, SPEND, PLAIN])
        store.write("spend", ROWS)
    assert asyncio.run(read("")) == (EXPECTED, EMPTY)


COUNTED = hw.FeatureView(
    "counted",
    entity=USER,
    source=hw.PushSource(event_time="at", schema={"n": hw.Int64}),
    features=[hw.Aggregation(None, "count", "1h", name="count"), hw.Aggregation("n", "sum", "1h", name="sum")],
)


def test_reads_that_share_round_trips_see_whole_rows_and_never_step_back(tmp_path):
    """Readers of a server ask for other users and views each, while events are written and runs fold and fill."""
    (tmp_path / "headwater.toml").write_text('project = "p"\n[online]\ncoalesce = true\n')
    with hw.FeatureStore(tmp_path, clock=lambda: NOON) as store:
        store.apply([USER, COUNTED, PLAIN])
        store.write("plain", [{"user": "u1", "at": NOON, "level": 3}])
        with served(store) as server, ThreadPoolExecutor(6) as pool:
            ended = threading.Event()
            readers = [pool.submit(read_counts, server.url, i, ended) for i in range(5)]
            own = pool.submit(read_counts, store, 5, ended)
            try:
                for n in range(1, 31):
                    at = NOON - timedelta(minutes=50) + timedelta(seconds=n)
                    store.write("counted", [{"user": f"u{i}", "at": at, "n": n} for i in range(4)])
                    if n % 10 == 0:
                        store.materialize(force=n == 20)
            finally:
                ended.set()
            assert sum(reader.result(60) for reader in [*readers, own]) > 6
        counts = store.prepare(["counted:*"]).services.fetcher.counts()
        assert counts.reads >= counts.round_trips > 0
        result = store.get_online_features(["counted:*"], [f"u{i}" for i in range(4)])
        assert result.to_dict()["count"] == [30] * 4 and result.to_dict()["sum"] == [465] * 4


def read_counts(asked: str | hw.FeatureStore, number: int, ended: threading.Event) -> int:
    """Read some users until the end; how often."""
    r, reads, least = random.Random(number), 0, dict.fromkeys(range(5), 0)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(hw.Client(asked)) if isinstance(asked, str) else asked
        while not reads or not ended.is_set():
            users = r.choices(range(5), k=r.choice([1, 3, 40]))
            features = ["counted:*", "plain:level"][: r.choice([1, 2])]
            result = source.get_online_features(features, {"user": [f"u{i}" for i in users]}).to_dict()
            for user, count, total in zip(users, result["count"], result["sum"], strict=True):
                assert total == (count * (count + 1) // 2 if count else None)
                assert (count >= least[user]) if user < 4 else count == 0
            for user, count in zip(users, result["count"], strict=True):
                least[user] = count
            if "level" in result:
                assert result["level"] == [3 if user == 1 else None for user in users]
            reads += 1
    return reads
