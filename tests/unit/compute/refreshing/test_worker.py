"""Workers on the refresh queue: batches by view, rests, retries, dead letters, housekeeping, and what status tells."""

import shutil
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from headwater.compute.refreshing import worker
from headwater.compute.refreshing.worker import Step, Worker, dead_letters
from headwater.compute.status import RefreshStatus, status
from headwater.errors import FeatureViewNotFound, Unavailable
from headwater.online.hints import Hint
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.online.stores.redis.store import RedisOnlineStore
from tests.unit.compute.conftest import AIRPORT, T0, Bench, row, weather

LOAD = hw.FeatureView(
    "load",
    entity=AIRPORT,
    source=hw.TableSource(event_time="at"),
    features=[hw.Feature("planes", hw.Int64)],
    freshness_sla="2h",
)


@pytest.fixture(params=["memory", "redis"])
def stale(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """A bench at four o'clock whose rows of midnight are online, stale, and asked for."""
    online = None
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        server.client.flushdb()
        online = RedisOnlineStore(server.url)
    bench = Bench(tmp_path, online)
    bench.open(settings="[freshness]\nrefresh = true\nrefresh_tries = 2\n")
    bench.apply(AIRPORT, weather(freshness_sla="1h"), LOAD)
    bench.rows["weather"] = [row(key, 1.0) for key in "ABC"]
    bench.rows["load"] = [{"airport": key, "planes": 1, "at": T0} for key in "ABC"]
    bench.materialize()
    bench.at = T0 + timedelta(hours=4)
    ask(bench)
    yield bench
    bench.close()


def ask(bench: Bench) -> None:
    bench.reader(["weather:temp"]).read(["A", "B"])
    bench.reader(["load:planes"]).read(["A"])
    bench.store.flush_refresh_requests()


def refreshing(bench: Bench) -> RefreshStatus:
    return status(bench.context, bench.context.now(), {}).refresh


def work(bench: Bench, **options: Any) -> tuple[Any, list[Step]]:
    steps: list[Step] = []
    return Worker(bench.context, on_step=steps.append, **options).run(once=True), steps


def test_a_worker_refreshes_what_was_asked_for_a_view_at_a_time(stale: Bench) -> None:
    stale.rows["weather"] += [row("A", 9.0, stale.at), row("B", 8.0, stale.at), row("C", 7.0, stale.at)]
    assert refreshing(stale).waiting == 3 and refreshing(stale).queue == stale.context.refresh_queue.kind
    stale.pass_time(seconds=3)
    assert refreshing(stale).oldest == timedelta(seconds=3)
    report, steps = work(stale)
    assert (report.keys, report.newer, report.unchanged) == (3, 2, 1)
    assert sorted((s.about, s.keys, s.newer, s.unchanged) for s in steps) == [
        ("load@1.0.0", 1, 0, 1),
        ("weather@1.0.0", 2, 2, 0),
    ]
    found = refreshing(stale)
    assert (found.waiting, found.claimed, found.resting, found.dead, found.oldest) == (0, 0, 1, 0, None)
    assert dict(found.totals) == {"newer": 2, "unchanged": 1}
    assert found.time_to_fresh.count == 2 and found.time_to_fresh.p95 == timedelta(seconds=3)
    # this read asks for C again
    assert stale.values("weather:temp", ["A", "B", "C"]) == [9.0, 8.0, 1.0]


def test_a_key_without_newer_data_is_left_alone_as_long_as_its_sla(stale: Bench) -> None:
    work(stale)
    assert refreshing(stale).resting == 3
    stale.rows["load"].append({"airport": "A", "planes": 5, "at": stale.at})
    stale.pass_time(minutes=61)
    ask(stale)
    report, _ = work(stale)
    assert (report.keys, report.newer) == (2, 0)
    stale.pass_time(minutes=60)
    ask(stale)
    assert work(stale)[0].newer == 1
    assert stale.values("load:planes", ["A"]) == [5]


def test_what_somebody_else_refreshed_is_done_without_a_run(stale: Bench) -> None:
    stale.rows["weather"] += [row("A", 9.0, stale.at), row("B", 8.0, stale.at)]
    stale.materialize()
    stale.source_tables["weather"] = [{"nothing": 1}]
    report, _ = work(stale, views=["weather"])
    assert (report.keys, report.newer, report.failed) == (2, 2, 0)
    assert refreshing(stale).time_to_fresh.count == 0 and refreshing(stale).waiting == 1


def test_failures_are_tried_again_later_and_die_in_the_end(stale: Bench) -> None:
    stale.source_tables["weather"] = [{"nothing": 1}]
    report, steps = work(stale)
    assert (report.failed, report.dead, report.unchanged) == (2, 0, 1)
    assert any("origin" in step.error for step in steps)
    assert work(stale)[0].keys == 0 and refreshing(stale).waiting == 2
    stale.pass_time(seconds=2)
    assert work(stale)[0].dead == 2
    found = status(stale.context, stale.context.now(), {})
    assert found.refresh.dead == 2 and any("2 dead letters" in warning for warning in found.warnings)
    letters = dead_letters(stale.context, 10)
    assert sorted(letter.entity["airport"] for letter in letters) == ["A", "B"]
    assert letters[0].view == "weather" and letters[0].tries == 2 and "origin" in letters[0].error
    assert dead_letters(stale.context, 10, ["load"]) == []
    del stale.source_tables["weather"]
    stale.rows["weather"] += [row("A", 9.0, stale.at), row("B", 8.0, stale.at)]
    assert stale.context.refresh_queue.replay(["weather"], stale.context.now()) == 2
    assert work(stale)[0].newer == 2 and refreshing(stale).dead == 0
    assert dict(refreshing(stale).totals)["failed"] == 4


def test_hints_of_a_version_that_is_not_fed_any_more_are_dropped(stale: Bench) -> None:
    stale.apply(AIRPORT, weather(freshness_sla="1h", ttl="9d"), LOAD)
    stale.context.versions.promote("weather", "2.0.0", watermarks={}, now=stale.at, force=True)
    stale.context.versions.retire("weather", "1.0.0", now=stale.at)
    report, steps = work(stale)
    assert report.keys == 3 and report.newer == 0 and "no longer updated" in "".join(step.error for step in steps)
    assert refreshing(stale).waiting == 0


def test_a_worker_erases_purges_and_rolls_the_log(stale: Bench) -> None:
    stale.write("weather", [row("A", 5.0, T0 - timedelta(hours=1)), row("C", 5.0, T0 - timedelta(hours=1))])
    stale.delete("weather", ["A"], purge=True)
    stale.pass_time(minutes=11)
    report, steps = work(stale, views=["weather"])
    assert report.erased == 1 and [step.what for step in steps] == ["erase", "refresh"]
    # the purged key is in the queue no more, in clear or not
    assert report.keys == 1
    assert list((stale.folder / "log").rglob("*.parquet"))
    assert stale.materialize().runs[0].erased == 0


def test_a_worker_claims_a_restored_log_before_it_removes_files(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    first = Bench(tmp_path)
    first.apply(AIRPORT, weather())
    first.write("weather", [row("A", 1.0)])
    first.materialize()
    first.close()
    shutil.copy(tmp_path / "registry.db", tmp_path / "copy.db")
    second = Bench(tmp_path, online := MemoryOnlineStore())
    second.write("weather", [row("B", 2.0)])
    second.materialize()
    second.registry.close()
    for file in tmp_path.glob("registry.db*"):
        file.unlink()
    shutil.copy(tmp_path / "copy.db", tmp_path / "registry.db")
    lost = next(folder.glob("log-*-weather-2-2-*.parquet"))
    third = Bench(tmp_path, online)
    work(third)
    assert not lost.exists() and (folder / f"restored-{lost.name}").exists()
    (gap,) = third.context.log.gaps()
    assert gap.lo == 1 and third.context.log.head_position() >= gap.hi
    third.close()


def test_workers_stop_when_told_after_what_they_have_begun(stale: Bench) -> None:
    stale.rows["weather"].append(row("A", 9.0, stale.at))
    worker = Worker(stale.context)
    worker.on_step = lambda step: worker.stopping.set()
    assert worker.run().keys == 3
    assert refreshing(stale).claimed == 0


def test_a_worker_waits_a_broken_queue_out(stale: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = stale.context.refresh_queue.claim
    times = iter(range(2))

    def broken(*given: Any) -> Any:
        if next(times, None) is not None:
            raise Unavailable("gone for a moment")
        return claim(*given)

    monkeypatch.setattr(stale.context.refresh_queue, "claim", broken)
    steps: list[Step] = []
    worker = Worker(stale.context, on_step=steps.append)
    thread = threading.Thread(target=worker.run)
    thread.start()
    until = time.monotonic() + 20
    while not any(step.what == "refresh" for step in steps) and time.monotonic() < until:
        time.sleep(0.01)
    worker.stopping.set()
    thread.join()
    assert [step.error for step in steps if step.what == "queue"] == ["gone for a moment"] * 2


def test_views_must_exist(stale: Bench) -> None:
    with pytest.raises(FeatureViewNotFound, match="weather"):
        work(stale, views=["wether"])


def test_a_process_can_work_its_own_hints_off(stale: Bench) -> None:
    stale.open(settings="[freshness]\nrefresh = true\nrefresh_worker = true\n")
    stale.rows["weather"].append(row("A", 9.0, stale.at))
    reader = stale.reader(["weather:temp"])
    until = time.monotonic() + 20
    while reader.read(["A"]).to_dict()["temp"] != [9.0] and time.monotonic() < until:
        time.sleep(0.05)
    assert reader.read(["A"]).to_dict()["temp"] == [9.0]
    stale.store.close()
    names = [thread.name for thread in threading.enumerate()]
    assert "headwater-worker" not in names and "headwater-hints" not in names


def test_a_key_that_is_none_keeps_no_other_up(stale: Bench) -> None:
    stale.rows["weather"] += [row("A", 9.0, stale.at), row("B", 8.0, stale.at)]
    odd = [Hint("weather", "1.0.0", key, 0, 1, 1) for key in (b"", b"\xff" * 20, b"weather")]
    odd += [Hint("gone", "1.0.0", b"x", 0, 1, 1), Hint("weather", "9.9.9", b"y", 0, 1, 1)]
    stale.context.refresh_queue.offer(odd, stale.context.now())
    report, steps = work(stale)
    assert (report.newer, report.dead) == (2, 3) and stale.values("weather:temp", ["A", "B"]) == [9.0, 8.0]
    assert any("3 keys cannot be read" in step.error for step in steps)
    letters = dead_letters(stale.context, 10)
    assert sorted(letter.entity["key"] for letter in letters) == ["", "77656174686572", "ff" * 20]
    assert all("is not a key" in letter.error for letter in letters)


def test_a_fault_of_a_view_keeps_no_other_up(stale: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before = worker.recompute

    def fails(context: object, view: Any, *more: Any) -> Any:
        if view.name == "weather":
            raise ValueError("odd")
        return before(context, view, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(worker, "recompute", fails)
    report, steps = work(stale)
    assert report.failed == 2 and report.unchanged == 1 and "ValueError: 'odd'" in {step.error for step in steps}
