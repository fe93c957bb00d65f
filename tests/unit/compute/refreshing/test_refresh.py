"""Reads that refresh stale rows first: what they recompute, within their budget, and what asks a worker instead."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.clock import to_micros
from headwater.compute.reading.async_reads import AsyncPreparedReader
from headwater.compute.refreshing import requests
from headwater.compute.refreshing.requests import READS
from headwater.errors import Unavailable
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.online.meta import read_watermarks
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.testing import SCALE
from tests.servers.waiting import at_most
from tests.unit.compute.conftest import AIRPORT, T0, Bench, row, weather

STALE, PRESENT = hw.Status.STALE, hw.Status.PRESENT
HOURS = [T0 + timedelta(hours=n) for n in range(50)]


class Gate(DuckDBEngine):
    """An engine that waits to be let through, and counts."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.open = threading.Event()
        self.open.set()
        self.asked: list[int] = []

    def changes(self, request: Any, counts: Any) -> Any:
        self.asked.append(-1 if request.keys is None else request.keys.num_rows)
        self.open.wait(60)
        return super().changes(request, counts)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Bench]:
    """A bench at four o'clock with a view of an hour's SLA, whose rows of midnight are online and stale."""
    bench = Bench(tmp_path)
    bench.open(offline=(gate := Gate(tmp_path)))
    prepared(bench)
    yield bench
    gate.open.set()
    bench.close()
    gate.close()


def prepared(bench: Bench, **options: Any) -> None:
    bench.apply(AIRPORT, weather(**{"freshness_sla": "1h", **options}))
    bench.rows["weather"] = [row("A", 1.0), row("B", 2.0)]
    bench.materialize()
    bench.at = HOURS[4]


def engine(bench: Bench) -> Gate:
    assert isinstance(bench.context.engine, Gate)
    engine = bench.context.engine
    return engine


def told(result: Any) -> list[tuple[Any, Any]]:
    return list(zip(result.to_dict()["temp"], result.statuses["temp"], strict=True))


def refresh(bench: Bench, keys: Any, **options: Any) -> list[tuple[Any, Any]]:
    return told(bench.reader(["weather:temp"]).read(keys, **{"stale": "refresh", "refresh_budget": "20s", **options}))


def waiting(bench: Bench) -> list[str]:
    """The keys that wait in the queue, with how often they were asked for."""
    bench.store.flush_refresh_requests()
    found = bench.context.refresh_queue.claim(["weather"], 100, bench.context.now(), 0)
    return sorted(f"{c.hint.key[9:].decode()}{c.hint.asked}" for c in found)


def test_stale_rows_are_recomputed_before_the_answer_and_only_they(slow: Bench) -> None:
    slow.rows["weather"] += [row("A", 9.0, HOURS[3]), row("A", 8.0, HOURS[2]), row("B", 7.0, HOURS[2]), row("C", 3.0)]
    mark = read_watermarks(slow.context.online, "test", [("weather", "1.0.0")])
    assert refresh(slow, ["A", "C", "A"]) == [(9.0, PRESENT), (None, hw.Status.NOT_FOUND), (9.0, PRESENT)]
    assert engine(slow).asked == [-1, 1]
    assert read_watermarks(slow.context.online, "test", [("weather", "1.0.0")]) == mark
    # the others are as they were; history agrees on what was refreshed
    assert told(slow.reader(["weather:temp"]).read(["A", "B"])) == [(9.0, PRESENT), (2.0, STALE)]
    # a row that is newer, and stale all the same, stays flagged
    assert refresh(slow, ["B"]) == [(7.0, STALE)]
    assert slow.materialize().runs[0].keys == 3


def test_nothing_stale_recomputes_nothing(slow: Bench) -> None:
    slow.at = HOURS[1]
    assert refresh(slow, ["A", "B", "missing", None])[0] == (1.0, PRESENT)
    assert refresh(slow, ["A"], max_age="2h") == [(1.0, PRESENT)] and engine(slow).asked == [-1]
    slow.rows["weather"].append(row("A", 5.0, HOURS[1]))
    assert refresh(slow, ["A"], max_age="59m") == [(5.0, PRESENT)]


def test_rows_past_their_ttl_are_refreshed_those_never_seen_are_not(bench: Bench) -> None:
    prepared(bench, ttl="2h")
    bench.rows["weather"] += [row("A", 5.0, HOURS[4]), row("new", 6.0, HOURS[4])]
    expected = [(5.0, PRESENT), (None, hw.Status.EXPIRED), (None, hw.Status.NOT_FOUND)]
    assert refresh(bench, ["A", "B", "new"]) == expected


def test_a_refresh_that_finds_nothing_newer_does_not_ask_again_at_once(slow: Bench) -> None:
    assert refresh(slow, ["A"]) == [(1.0, STALE)] and engine(slow).asked == [-1, 1]
    slow.rows["weather"].append(row("A", 9.0, HOURS[4]))
    assert refresh(slow, ["A", "A"]) == [(1.0, STALE)] * 2 and engine(slow).asked == [-1, 1]
    assert waiting(slow) == []
    slow.at += timedelta(minutes=1)
    assert refresh(slow, ["A"]) == [(9.0, PRESENT)]


def test_the_budget_holds_and_what_is_late_goes_on(slow: Bench) -> None:
    slow.rows["weather"].append(row("A", 9.0, HOURS[4]))
    engine(slow).open.clear()
    began = time.monotonic()
    with at_most(1.0):
        assert refresh(slow, ["A"], refresh_budget="100ms") == [(1.0, STALE)]
    assert time.monotonic() - began >= 0.1
    assert waiting(slow) == ["A1"]
    with at_most(1.0):
        assert refresh(slow, ["A"], deadline="50ms") == [(1.0, STALE)]
        assert refresh(slow, ["A"], refresh_budget="0s") == [(1.0, STALE)]
    settings_ = slow.context.settings
    refreshing = replace(settings_.refreshing, budget=timedelta(milliseconds=30))
    slow.change(settings=replace(settings_, refreshing=refreshing))
    assert told(slow.reader(["weather:temp"]).read(["A"], stale="refresh")) == [(1.0, STALE)]
    engine(slow).open.set()
    until = time.monotonic() + 20
    while slow.values("weather:temp", ["A"]) != [9.0] and time.monotonic() < until:
        time.sleep(0.01)
    assert slow.values("weather:temp", ["A"]) == [9.0]
    # all of these reads shared one recomputation
    assert engine(slow).asked == [-1, 1]


def test_concurrent_reads_share_recomputations(slow: Bench) -> None:
    slow.rows["weather"] += [row("A", 9.0, HOURS[4]), row("B", 8.0, HOURS[4])]
    engine(slow).open.clear()
    with ThreadPoolExecutor(12) as pool:
        reads = [pool.submit(refresh, slow, [key]) for key in "AABABBAABABB"]
        until = time.monotonic() + 20
        lines = slow.store.services.refresher._lines
        while time.monotonic() < until:
            found = [b for line in list(lines.values()) for b in (line.running, line.following) if b is not None]
            if {key[9:] for batch in found for key in batch.keys} == {b"A", b"B"}:
                break
            time.sleep(0.005)
        time.sleep(0.2)
        engine(slow).open.set()
        answers = [read.result() for read in reads]
    assert answers == [[(9.0 if key == "A" else 8.0, PRESENT)] for key in "AABABBAABABB"]
    assert 1 < len(engine(slow).asked) <= 3


def test_a_failing_source_leaves_the_value_flagged_and_asks_a_worker(slow: Bench) -> None:
    slow.source_tables["weather"] = [{"nothing": 1}]
    assert refresh(slow, ["A"]) == [(1.0, STALE)]
    assert "weather@1.0.0" in slow.store.services.refresher.problem and waiting(slow) == ["A1"]
    runs = slow.store.services.refresher.runs
    assert refresh(slow, ["A"]) == [(1.0, STALE)] and slow.store.services.refresher.runs == runs
    del slow.source_tables["weather"]
    slow.rows["weather"].append(row("A", 9.0, HOURS[4]))
    slow.at += timedelta(seconds=6)
    assert refresh(slow, ["A"]) == [(9.0, PRESENT)] and slow.store.services.refresher.problem == ""


def test_a_read_in_the_past_puts_nothing_known_later(bench: Bench) -> None:
    prepared(bench)
    bench.rows["weather"] += [row("A", 5.0, HOURS[2]), row("A", 9.0, HOURS[4])]
    assert refresh(bench, ["A"], now=HOURS[3]) == [(5.0, PRESENT)]
    assert refresh(bench, ["A"]) == [(9.0, PRESENT)]


def test_a_deleted_key_and_a_retired_version(bench: Bench) -> None:
    prepared(bench)
    reader = bench.reader(["weather:temp"])
    bench.delete("weather", ["A"])
    assert refresh(bench, ["A"]) == [(None, hw.Status.NOT_FOUND)]
    bench.rows["weather"].append(row("B", 9.0, HOURS[4]))
    bench.apply(AIRPORT, weather(freshness_sla="1h", ttl="9h"))
    bench.materialize(["weather@2.0.0"])
    bench.context.versions.promote("weather", "2.0.0", watermarks={}, now=bench.at, force=True)
    bench.context.versions.retire("weather", "1.0.0", now=bench.at)
    bench.registry.refresh()
    assert told(reader.read(["B"], stale="refresh")) == [(2.0, STALE)]


def test_composite_long_and_absent_keys(bench: Bench) -> None:
    route = hw.Entity("route", join_keys={"origin": hw.String, "day": hw.Date, "n": hw.Int32})
    view = hw.FeatureView(
        "delay",
        entity=route,
        source=hw.TableSource(event_time="at"),
        features=[hw.Feature("temp", hw.Float64)],
        freshness_sla="1h",
    )
    globe = hw.FeatureView(
        "globe",
        entity=(),
        source=hw.TableSource(event_time="at"),
        features=[hw.Feature("world", hw.Int64)],
        freshness_sla="1h",
    )
    bench.apply(route, view, globe)
    day, long = T0.date(), "é" * 400
    keys = [{"origin": long, "day": day, "n": -3}, {"origin": "", "day": day, "n": 7}]
    bench.rows["delay"] = [{**key, "temp": 1.0, "at": T0} for key in keys]
    bench.rows["globe"] = [{"world": 1, "at": T0}]
    bench.materialize()
    mark = read_watermarks(bench.context.online, "test", [("globe", "1.0.0")])
    bench.at = HOURS[4]
    bench.rows["delay"] += [{**key, "temp": 2.0 + i, "at": HOURS[4]} for i, key in enumerate(keys)]
    bench.rows["globe"].append({"world": 2, "at": HOURS[4]})
    reader = bench.reader(["delay:temp", "globe:world"])
    found = reader.read(keys, stale="refresh", refresh_budget="20s").to_dict()
    assert found["temp"] == [2.0, 3.0] and found["world"] == [2, 2]
    assert read_watermarks(bench.context.online, "test", [("globe", "1.0.0")]) == mark


def test_sessions_and_aliases(bench: Bench) -> None:
    prepared(bench)
    bench.rows["weather"] += [row("A", 9.0, HOURS[4]), row("B", 8.0, HOURS[4])]
    view = bench.registry.refresh().view("weather").version().view
    dest = view.alias("dest", join_key_map={"airport": "to"})
    reader = bench.reader(["weather:temp", dest["temp"]])
    session = hw.Session(bench.context.store_name)
    options: dict[str, Any] = {"session": session, "consistency": "session", "refresh_budget": "20s"}
    found = reader.read([{"airport": "A", "to": "B"}], stale="refresh", **options).to_dict()
    assert (found["temp"], found["dest__temp"]) == ([9.0], [8.0])


def test_refresh_on_an_event_loop(slow: Bench) -> None:
    slow.rows["weather"] += [row("A", 9.0, HOURS[4]), row("B", 8.0, HOURS[4])]

    async def read() -> None:
        reader = AsyncPreparedReader(slow.reader(["weather:temp"]), slow.store.services.async_clients.fetcher)
        engine(slow).open.clear()
        with at_most(1.0):
            late = await reader.read(["A"], stale="refresh", refresh_budget="50ms")
        assert told(late) == [(1.0, STALE)]
        cut = asyncio.ensure_future(reader.read(["A"], stale="refresh", refresh_budget="20s"))
        reads = [asyncio.ensure_future(reader.read([k], stale="refresh", refresh_budget="20s")) for k in "AABB"]
        await asyncio.sleep(0.05)
        cut.cancel()
        engine(slow).open.set()
        assert [told(r) for r in await asyncio.gather(*reads)] == [[(9.0, PRESENT)]] * 2 + [[(8.0, PRESENT)]] * 2
        assert cut.cancelled()

    asyncio.run(read())


@settings(max_examples=3 * SCALE, deadline=None)
@given(
    events=st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 9), st.integers(0, 99)), max_size=12),
    before=st.integers(0, 5),
    keys=st.lists(st.sampled_from("ABCD"), min_size=1, max_size=6),
)
def test_refreshed_rows_are_what_history_has(
    tmp_path_factory: pytest.TempPathFactory, events: Any, before: int, keys: list[str]
) -> None:
    bench = Bench(tmp_path_factory.mktemp("bench"), MemoryOnlineStore(), "sqlite://")
    bench.apply(AIRPORT, weather(freshness_sla="1h"))
    rows = [row(key, float(value), HOURS[hour]) for key, hour, value in events]
    bench.at = HOURS[before]
    bench.rows["weather"] = [r for r in rows if r["at"] <= bench.at]
    bench.materialize()
    seen = {r["origin"] for r in bench.rows["weather"]}
    bench.rows["weather"], bench.at = rows, HOURS[9]
    found = refresh(bench, keys)
    for key, (value, status) in zip(keys, found, strict=True):
        mine = sorted((r["at"], r["temp_f"]) for r in rows if r["origin"] == key)
        if key not in seen:
            assert status is hw.Status.NOT_FOUND
        else:
            assert value == mine[-1][1] and (status is STALE) == (mine[-1][0] < HOURS[8])
    bench.close()


def hinting(bench: Bench) -> Any:
    bench.open(settings="[freshness]\nrefresh = true\n")
    return bench.reader(["weather:temp"])


@pytest.mark.parametrize("policy", ["flag", "drop"])
def test_flagged_and_dropped_reads_ask_for_a_refresh_where_that_is_on(bench: Bench, policy: str) -> None:
    prepared(bench)
    bench.reader(["weather:temp"]).read(["A"], stale=policy)
    assert waiting(bench) == []
    reader = hinting(bench)
    reader.read(["A", "B", "A", None, "C"], stale=policy)
    reader.read(["A"], stale=policy)
    assert waiting(bench) == ["A2", "B1"]


def test_reads_without_stale_rows_leave_no_hint(bench: Bench) -> None:
    prepared(bench)
    reader = hinting(bench)
    bench.at = HOURS[1]
    reader.read(["A"])
    reader.read(["A"], max_age="2h")
    bench.at = HOURS[4]
    reader.read(["A"], max_age="9h")
    assert waiting(bench) == []
    reader.read(["A"], max_age="1m")
    bench.store.flush_refresh_requests()
    (claim,) = bench.context.refresh_queue.claim(["weather"], 9, to_micros(bench.at), 0)
    assert claim.hint.sla == 60_000_000


def test_more_reads_than_can_be_looked_at_are_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(bench)
    reader = hinting(bench)
    monkeypatch.setattr(requests, "Flusher", lambda requests: SimpleNamespace(close=lambda: None))  # nobody looks
    for _ in range(READS + 5):
        reader.read(["A"])
    assert bench.store.services.requests.overlooked == 5
    assert waiting(bench) == [f"A{READS}"]
    assert dict(bench.context.refresh_records.read().totals) == {"overlooked": 5}


def test_asynchronous_reads_leave_hints_too(bench: Bench) -> None:
    prepared(bench)
    reader = AsyncPreparedReader(hinting(bench), bench.store.services.async_clients.fetcher)
    asyncio.run(reader.read(["B"]))
    assert waiting(bench) == ["B1"]


def test_an_outage_after_the_refresh_leaves_what_was_read(slow: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    slow.rows["weather"].append(row("A", 9.0, HOURS[4]))
    reader = slow.reader(["weather:temp"])
    told_first = reader.read(["A"])
    recompute = engine(slow).changes

    def then_gone(request: Any, counts: Any) -> Any:
        yield from recompute(request, counts)
        monkeypatch.setattr(slow.store.services.fetcher, "rows", gone)

    def gone(keys: Any, ask: Any) -> Any:
        raise Unavailable("the store went away")

    monkeypatch.setattr(engine(slow), "changes", then_gone)
    found = reader.read(["A"], stale="refresh", refresh_budget="20s")
    assert told(found) == told(told_first) == [(1.0, STALE)]
