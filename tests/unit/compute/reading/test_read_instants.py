"""The instant of a read: exact where it is given, by the clock else; every form and every way of reading."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headwater as hw
from headwater.clock import FIRST_MICROS, LAST_MICROS, from_micros
from headwater.online.stores.memory.store import MemoryOnlineStore

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND, HOUR, TICK = timedelta(seconds=1), timedelta(hours=1), timedelta(microseconds=1)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
NOT_KNOWN, PRESENT, STALE = hw.Status.NOT_KNOWN, hw.Status.PRESENT, hw.Status.STALE
X = hw.Feature("x", hw.Float64, default=-1.0)


class Moved:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> datetime:
        return self.at


def view(**options: Any) -> hw.FeatureView:
    return hw.FeatureView(
        "v", entity=USER, source=hw.PushSource(event_time="at", created_time="seen"), features=[X], **options
    )


@pytest.fixture
def clock() -> Moved:
    return Moved()


@pytest.fixture
def open_store(tmp_path: Path, clock: Moved) -> Iterator[Any]:
    opened = []

    def open_it(*views: hw.FeatureView, settings: str = "") -> hw.FeatureStore:
        (tmp_path / "headwater.toml").write_text('project = "p"\n[online]\nurl = "memory:"\n' + settings)
        opened.append(hw.FeatureStore(tmp_path, clock=clock))
        opened[-1].apply([USER, *(views or (view(),))])
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


def row(user: int, at: datetime, x: float, seen: datetime | None = None) -> dict[str, Any]:
    return {"user": user, "at": at, "seen": seen or at, "x": x}


def told(result: Any) -> list[Any]:
    return list(zip(result.to_dict()["x"], result.statuses["x"], result.read_at["v"], strict=True))


def history(store: hw.FeatureStore, at: datetime, user: int = 1) -> Any:
    spine = [{"user": user, "timestamp": at}]
    return store.get_historical_features(spine, ["v:x"]).to_arrow().to_pydict()["x"][0]


def test_a_given_instant_is_exact_and_the_clock_gives_way_to_what_is_there(open_store: Any, clock: Moved) -> None:
    store = open_store()
    for seconds, x in ((-10, 1.0), (3, 2.0)):
        store.write("v", [row(1, NOON + seconds * SECOND, x)])
    later = NOON + 3 * SECOND
    assert told(store.get_online_features(["v:x"], [1, 2], now=NOON)) == [
        (None, NOT_KNOWN, NOON),
        (-1.0, hw.Status.NOT_FOUND, NOON),
    ]
    assert history(store, NOON) == 1.0
    assert told(store.get_online_features(["v:x"], [1, 2])) == [
        (2.0, PRESENT, later),
        (-1.0, hw.Status.NOT_FOUND, NOON),
    ]
    assert told(store.get_online_features(["v:x"], [1], now=later)) == [(2.0, PRESENT, later)]
    assert history(store, later) == 2.0


def test_writes_and_deletes_at_one_instant_of_a_clock_that_stands(open_store: Any, clock: Moved) -> None:
    plain = hw.FeatureView("v", entity=USER, source=hw.PushSource(event_time="at"), features=[X])
    store = open_store(plain)
    store.write("v", [{"user": 1, "at": NOON - HOUR, "x": 1.0}])
    store.delete("v", [1])
    ((value, status, at),) = told(store.get_online_features(["v:x"], [1]))
    assert (value, status) == (-1.0, hw.Status.NOT_FOUND) and history(store, at) == -1.0
    store.write("v", [{"user": 1, "at": NOON - HOUR, "x": 3.0}])
    ((value, status, at),) = told(store.get_online_features(["v:x"], [1]))
    assert (value, status) == (3.0, PRESENT) and NOON < at <= NOON + 3 * TICK
    assert history(store, at) == 3.0
    for now in (NOON, at - TICK, at):
        ((value, status, _),) = told(store.get_online_features(["v:x"], [1], now=now))
        assert (value, status) == ((3.0, PRESENT) if now == at else (None, NOT_KNOWN))
    assert history(store, at - TICK) == -1.0


def test_the_store_keeps_one_row_a_key(clock: Moved) -> None:
    rows = [{"user": 1, "at": NOON - hours * HOUR, "seen": NOON - hours * HOUR, "x": float(hours)} for hours in (3, 1)]
    with hw.FeatureStore.in_memory([view()], sources={"v": rows}, clock=clock) as store:
        store.materialize()
        then = NOON - 2 * HOUR
        assert told(store.get_online_features(["v:x"], [1], now=then)) == [(None, NOT_KNOWN, then)]
        assert history(store, then) == 3.0
        assert told(store.get_online_features(["v:x"], [1], now=NOON - HOUR)) == [(1.0, PRESENT, NOON - HOUR)]


def test_every_form_of_what_is_not_known(open_store: Any) -> None:
    store = open_store()
    store.write("v", [row(1, NOON, 1.0)])
    result = store.get_online_features(["v:x"], [1, 2], now=NOON - TICK)
    assert result.to_pylist() == [{"user": 1, "x": None}, {"user": 2, "x": -1.0}]
    assert result.to_arrow().to_pydict()["x"] == [None, -1.0]
    assert result.to_pandas()["x"].isna().tolist() == [True, False]
    assert np.isnan(result.to_numpy()).tolist() == [[True], [False]] and result.to_numpy(missing=-9)[0, 0] == -9
    assert result.event_times == {"v": [None, None]} and result.freshness() == {"v": [None, None]}
    vector = result.vectors()[0]
    assert vector.features == {"x": None} and vector.metadata["statuses"] == {"x": NOT_KNOWN}
    assert vector.feature_timestamps == {"v": None} and vector.computation_timestamp is None
    assert vector.calculate_freshness() == 0.0
    assert "NOT_KNOWN" in result._repr_html_() and not result.problems
    dropped = store.get_online_features(["v:x"], [1], now=NOON - TICK, stale="drop", max_age="1s")
    assert told(dropped) == [(None, NOT_KNOWN, NOON - TICK)]


def test_an_event_loop_reads_the_same(open_store: Any, tmp_path: Path, clock: Moved) -> None:
    store = open_store()
    store.write("v", [row(1, NOON + 2 * SECOND, 1.0), row(2, NOON, 2.0)])

    async def read() -> None:
        async with hw.AsyncFeatureStore(tmp_path, online=store.context.online, clock=clock) as other:
            for options in ({}, {"now": NOON}, {"now": NOON + 2 * SECOND}, {"now": NOON - HOUR}):
                found = await other.get_online_features(["v:x"], [1, 2], **options)
                assert told(found) == told(store.get_online_features(["v:x"], [1, 2], **options))
            assert other.sync.status().reads.later == 1

    asyncio.run(read())


def test_how_far_ahead_of_the_clock_a_row_may_be(open_store: Any, clock: Moved) -> None:
    store = open_store(view(ttl="90m", freshness_sla="30m"))
    clock.at = NOON + 2 * HOUR
    store.write("v", [row(1, NOON, 1.0), row(2, NOON + HOUR, 2.0, NOON + 2 * HOUR), row(3, NOON, 3.0, NOON + 2 * HOUR)])
    store.delete("v", [9])
    # a host whose clock is behind that of the one that wrote
    clock.at = NOON + HOUR
    counts = store.status().reads
    assert (counts.later, counts.not_known) == (0, 0)
    expected = [
        # a ttl and an SLA count from the instant that stands for now
        (1.0, STALE, NOON + HOUR),
        (2.0, STALE, NOON + 2 * HOUR),
        (-1.0, hw.Status.EXPIRED, NOON + 2 * HOUR),
        (-1.0, hw.Status.NOT_FOUND, NOON + 2 * HOUR),
    ]
    result = store.get_online_features(["v:x"], [1, 2, 3, 9])
    assert told(result)[:3] == expected[:3] and told(result)[3][:2] == expected[3][:2]
    assert result.freshness()["v"] == [0.0, 0.0, None, None]
    status = store.status()
    assert (status.reads.later, status.reads.not_known) == (3, 0)
    assert HOUR <= status.reads.most_ahead <= HOUR + SECOND
    assert any("after this host's clock, by up to 1h" in warning for warning in status.warnings)
    clock.at -= SECOND
    found = store.get_online_features(["v:x"], [1, 2, 3, 9])
    assert [status for _, status, _ in told(found)] == [STALE, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN]
    assert store.status().reads.not_known == 3
    assert any("too long after this host's clock" in warning for warning in store.status().warnings)
    session = store.session()
    assert [status for _, status, _ in told(store.get_online_features(["v:x"], [1, 2, 3, 9], session=session))] == [
        status for _, status, _ in expected
    ]
    clock.at = NOON - 300 * 24 * HOUR
    assert told(store.get_online_features(["v:x"], [2], session=session)) == [(2.0, STALE, NOON + 2 * HOUR)]
    assert told(store.get_online_features(["v:x"], [2], session=session, now=NOON)) == [(None, NOT_KNOWN, NOON)]
    before = store.status().reads
    assert before == store.status().reads  # what is asked for exactly is no sign of a wrong clock


def test_kept_rows_are_judged_at_each_read(open_store: Any, clock: Moved) -> None:
    store = open_store(settings='cache = "1h"\n')
    store.write("v", [row(1, NOON + 2 * SECOND, 1.0)])
    reader = store.prepare(["v:x"])
    for options, expected in (
        ({}, (1.0, PRESENT, NOON + 2 * SECOND)),
        ({"now": NOON}, (None, NOT_KNOWN, NOON)),
        ({"now": NOON + 2 * SECOND}, (1.0, PRESENT, NOON + 2 * SECOND)),
    ):
        assert told(reader.read([1], **options)) == [expected]
    assert store.status().reads.cache_hits == 2


class Overtaken(MemoryOnlineStore):
    """Somebody writes a newer row between the two reads of a refresh."""

    def __init__(self) -> None:
        super().__init__()
        self.then: Any = None

    def put(self, *args: Any, **options: Any) -> Any:
        outcomes = super().put(*args, **options)
        if self.then is not None:
            then, self.then = self.then, None
            then()
        return outcomes


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_refresh_at_an_instant_in_the_past_keeps_what_was_known_then(
    tmp_path: Path, clock: Moved, asynchronous: bool
) -> None:
    rows = [row(1, NOON - 5 * HOUR, 1.0), row(2, NOON - 5 * HOUR, 2.0)]
    online = Overtaken()
    source = hw.TableSource(rows, event_time="at", created_time="seen")
    flags = hw.FeatureView("v", entity=USER, source=source, features=[X], freshness_sla="1h")
    with hw.FeatureStore(tmp_path, online=online, clock=clock) as store:
        clock.at = NOON - 4 * HOUR
        store.apply([USER, flags])
        store.materialize()
        clock.at = NOON
        rows.append(row(1, NOON - 3 * HOUR, 5.0))
        with hw.FeatureStore(tmp_path, online=online, clock=clock) as other:
            other.apply([USER, flags])
            online.then = lambda: other.write("v", [row(2, NOON - HOUR, 9.0)])
            now = NOON - 2 * HOUR
            read: dict[str, Any] = {"stale": "refresh", "now": now, "refresh_budget": "20s"}
            if asynchronous:
                result = asyncio.run(_read(tmp_path, online, clock, rows, read))
            else:
                result = store.prepare(["v:x"]).read([1, 2], **read)
            assert told(result) == [(5.0, PRESENT, now), (2.0, STALE, now)]
            assert told(store.get_online_features(["v:x"], [2], now=now)) == [(None, NOT_KNOWN, now)]
            assert told(store.get_online_features(["v:x"], [2])) == [(9.0, PRESENT, NOON)]


async def _read(folder: Path, online: Any, clock: Moved, rows: Any, options: dict[str, Any]) -> Any:
    source = hw.TableSource(rows, event_time="at", created_time="seen")
    flags = hw.FeatureView("v", entity=USER, source=source, features=[X], freshness_sla="1h")
    async with hw.AsyncFeatureStore(folder, online=online, clock=clock) as store:
        store.sync.apply([USER, flags])
        return await (await store.prepare(["v:x"])).read([1, 2], **options)


@pytest.mark.parametrize("past", [datetime.min, datetime.min.replace(tzinfo=UTC), "0001-01-01"])
@pytest.mark.parametrize("future", [datetime.max, datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999999"])
def test_the_first_and_the_last_year(open_store: Any, past: Any, future: Any) -> None:
    store = open_store(view(ttl="400d", freshness_sla="300d"))
    store.write("v", [row(1, NOON, 1.0)])
    found = {}
    for now in (past, future):
        result = store.get_online_features(["v:x"], [1, 2], now=now, max_age=timedelta.max)
        found[now] = told(result)
        assert result.to_numpy().shape == (2, 1) and len(result.vectors()) == 2 and len(result.freshness()["v"]) == 2
        assert store.prepare(["v:x"]).read([1], now=now, stale="refresh").statuses
        assert store.status(now).versions
    first, last = from_micros(FIRST_MICROS), from_micros(LAST_MICROS)
    assert found[past] == [(None, NOT_KNOWN, first), (-1.0, hw.Status.NOT_FOUND, first)]
    assert found[future] == [(-1.0, hw.Status.EXPIRED, last), (-1.0, hw.Status.NOT_FOUND, last)]


@pytest.mark.parametrize(
    "now",
    [
        datetime.min.replace(tzinfo=timezone(HOUR)),
        datetime.max.replace(tzinfo=timezone(-HOUR)),
        "0001-01-01T00:00:00+01:00",
        "yesterday",
        5,
    ],
)
def test_what_is_not_an_instant_is_an_error_of_headwaters_own(open_store: Any, now: Any) -> None:
    store = open_store()
    reader = store.prepare(["v:x"])
    for call in (reader.read, reader.explain):
        with pytest.raises(hw.errors.UsageError):
            call([1], now=now)
    with pytest.raises(hw.errors.UsageError):
        store.status(now)
