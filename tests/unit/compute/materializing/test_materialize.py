"""Materialize: what a run takes, where its watermark stands, force, versions, deletes, purges, lost folders."""

import random
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.clock import to_micros
from headwater.compute.reading.historical import historical
from headwater.compute.writing import swap
from headwater.errors import ChangeRefused, EntityKeyError, FeatureViewNotFound, SourceError, UsageError
from headwater.observer import Progress
from headwater.online.base import Change
from headwater.online.meta import read_watermarks, watermark_entry
from headwater.online.rows.codec import header, replaced
from headwater.online.rows.encoder import RowEncoder
from headwater.online.stores.lmdb.store import LMDBOnlineStore
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.planning.resolve import whole_view
from headwater.planning.resolved import ResolvedView
from headwater.planning.watermark import Watermark
from tests.unit.compute.conftest import AIRPORT, T0, Bench, row, weather

TEMP = hw.Feature("temp", hw.Float64, column="temp_f")
WIND = hw.Feature("wind", hw.Float64)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def mark(bench: Bench, version: str = "1.0.0", view: str = "weather") -> Watermark | None:
    return read_watermarks(bench.context.online, "test", [(view, version)])[view, version]


def temps(bench: Bench, *keys: str) -> list[Any]:
    return bench.values("weather:temp", list(keys))


def test_the_newest_known_row_of_each_key_is_put(bench: Bench) -> None:
    bench.rows["weather"] = [
        row("A", 1.0, T0 - HOUR),
        row("A", 2.0, T0),
        row("B", 3.0, T0),
        row("C", 4.0, T0 + HOUR),
        row(None, 5.0, T0),
        row("D", None, T0),
    ]
    bench.apply(AIRPORT, weather())
    run = bench.materialize()["weather"]
    assert temps(bench, "A", "B", "C", "D") == [2.0, 3.0, None, None]
    assert (run.keys, run.applied, run.superseded, run.null_keys, run.watermark) == (3, 3, 0, 1, T0)
    assert run.rows_per_second >= 0
    found = mark(bench)
    assert found == Watermark(to_micros(T0), 0)
    assert bench.registry.watermarks()["weather", "1.0.0"][0] == found
    bench.pass_time(hours=2)
    again = bench.materialize()["weather"]
    assert temps(bench, "A", "B", "C", "D") == [2.0, 3.0, 4.0, None]
    assert again.watermark == bench.at


def test_only_what_is_new_is_read_but_for_the_lookback(bench: Bench) -> None:
    bench.rows["weather"] = [row("A", 1.0, T0 - 3 * DAY)]
    bench.apply(AIRPORT, weather())
    bench.materialize()
    # late within the lookback: taken; behind it: not, but for force
    bench.rows["weather"] += [row("B", 2.0, T0 - 12 * HOUR), row("C", 3.0, T0 - 2 * DAY)]
    bench.pass_time(hours=1)
    run = bench.materialize()["weather"]
    assert temps(bench, "A", "B", "C") == [1.0, 2.0, None] and run.keys == 1
    bench.materialize(force=True)
    assert temps(bench, "A", "B", "C") == [1.0, 2.0, 3.0]


def test_a_later_value_is_never_overwritten_by_a_run(bench: Bench) -> None:
    bench.rows["weather"] = [row("A", 1.0, T0 - HOUR)]
    bench.apply(AIRPORT, weather())
    bench.write("weather", [row("A", 9.0, T0)])
    run = bench.materialize()["weather"]
    assert temps(bench, "A") == [9.0] and run.keys == 1
    bench.write("weather", [row("B", 9.0)], to="online")
    bench.rows["weather"] += [row("B", 1.0, T0 - HOUR)]
    run = bench.materialize(force=True)["weather"]
    assert temps(bench, "B") == [1.0]


def test_rows_of_the_log_that_were_not_put_are_put(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.write("weather", [row("A", 1.0)], to="offline")
    bench.write("weather", [row("B", 2.0, T0 + HOUR)])
    run = bench.materialize()["weather"]
    assert temps(bench, "A", "B") == [1.0, None]
    assert mark(bench) == Watermark(to_micros(T0), 2) and run.future == 1
    bench.pass_time(hours=2)
    bench.materialize()
    # its position was looked at before, its time has come since
    assert temps(bench, "A", "B") == [1.0, 2.0]
    assert list((bench.folder / "log").glob("*.parquet")), "the head was rolled"


def test_an_end_moves_the_watermark_forward_only(bench: Bench) -> None:
    bench.rows["weather"] = [row("A", 1.0, T0 - 5 * HOUR), row("A", 2.0, T0 - HOUR)]
    bench.apply(AIRPORT, weather())
    bench.materialize(end=T0 - 3 * HOUR)
    assert temps(bench, "A") == [1.0] and mark(bench) == Watermark(to_micros(T0 - 3 * HOUR), 0)
    bench.write("weather", [row("B", 2.0)], to="offline")
    bench.materialize(end=T0 - 4 * HOUR)
    assert mark(bench) == Watermark(to_micros(T0 - 3 * HOUR), 0)
    bench.materialize(end=T0 + DAY)
    assert temps(bench, "A", "B") == [2.0, 2.0] and mark(bench) == Watermark(to_micros(T0), 1)


def test_a_start_or_entities_leave_the_watermark(bench: Bench) -> None:
    bench.rows["weather"] = [row("A", 1.0, T0 - 5 * DAY), row("B", 2.0, T0 - 2 * DAY), row("C", 3.0, T0)]
    bench.apply(AIRPORT, weather())
    bench.write("weather", [row("L", 1.0, T0 - 2 * DAY, created_time=T0 - 2 * DAY)], to="offline")
    bench.materialize("weather", start=T0 - 2 * DAY, end="2023-12-31")
    assert temps(bench, "A", "B", "C", "L") == [None, 2.0, None, 1.0] and mark(bench) is None
    bench.materialize(["weather"], entities=["A"])
    assert temps(bench, "A", "B", "C") == [1.0, 2.0, None] and mark(bench) is None
    bench.materialize()
    bench.rows["weather"] += [row("A", 9.0, T0 - 4 * DAY)]
    bench.materialize(start=T0 - 5 * DAY)
    assert temps(bench, "A") == [9.0] and mark(bench) == Watermark(to_micros(T0), 1)


def test_force_makes_keys_equal_to_history(bench: Bench) -> None:
    bench.rows["weather"] = [row("A", 1.0, T0 - HOUR), row("B", 2.0, T0 - HOUR), row("C", 3.0, T0 - HOUR)]
    bench.apply(AIRPORT, weather())
    bench.materialize()
    # corrected to earlier and to nothing
    bench.rows["weather"] = [row("A", 5.0, T0 - 2 * HOUR), row("C", 6.0, T0 - 2 * HOUR)]
    bench.write("weather", [row("L", 7.0)])
    run = bench.materialize(entities=["A", "B"], force=True)["weather"]
    assert temps(bench, "A", "B", "C", "L") == [5.0, None, 3.0, 7.0]
    assert (run.applied, run.superseded, run.removed) == (1, 0, 1)
    run = bench.materialize(force=True)["weather"]
    assert temps(bench, "A", "B", "C", "L") == [5.0, None, 6.0, 7.0]
    assert run.removed == 0
    with pytest.raises(UsageError, match="force"):
        bench.materialize(force=True, start=T0)


def test_force_keeps_what_the_log_took_after_its_start(bench: Bench) -> None:
    bench.rows["weather"] = [row("A", 1.0, T0 - HOUR)]
    bench.apply(AIRPORT, weather())
    written = []

    def observe(progress: Progress) -> None:
        if not written and not progress.finished:
            written.append(bench.write("weather", [row("A", 8.0), row("New", 9.0)]))

    bench.change(observer=observe)
    bench.materialize(force=True)
    assert written and temps(bench, "A", "New") == [8.0, 9.0]


@pytest.mark.parametrize("many", [7, 30])
def test_corrected_values_are_put_many_at_once_and_again_where_others_were_faster(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    keys = [f"K{i:02}" for i in range(many)]
    bench.rows["weather"] = [row(key, 1.0, T0 - HOUR) for key in keys]
    bench.apply(AIRPORT, weather())
    bench.materialize()
    monkeypatch.setattr(swap, "CHUNK", 10)
    calls: list[int] = []
    before = MemoryOnlineStore.compare_and_put_all

    def swaps(self: MemoryOnlineStore, changes: Sequence[Change], **more: Any) -> list[bool]:
        calls.append(len(changes))
        if len(calls) == 1:
            # somebody else writes two of the rows between the reading and the swap
            for key, sequence, wanted in changes[2:5:2]:
                assert wanted is not None
                assert self.compare_and_put(key, sequence, replaced(wanted, wanted[:-1] + b"?"))
        return before(self, changes, **more)

    monkeypatch.setattr(MemoryOnlineStore, "compare_and_put_all", swaps)
    bench.rows["weather"] = [row(key, 2.0, T0 - HOUR) for key in keys]
    run = bench.materialize()["weather"]
    assert temps(bench, *keys) == [2.0] * many and (run.applied, run.superseded) == (many, 0)
    assert calls == ([7, 2] if many == 7 else [10, 10, 10, 2])


def test_force_counts_the_rows_that_it_removed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"K{i}" for i in range(6)]
    bench.rows["weather"] = [row(key, 1.0, T0 - HOUR) for key in keys]
    bench.apply(AIRPORT, weather())
    bench.materialize()
    # three rows are empty, of which the log knows no delete
    bench.delete("weather", keys[:3])
    monkeypatch.setattr(type(bench.context.log), "deletes_after", lambda *_: None)
    before = MemoryOnlineStore.compare_and_put_all
    lost: list[bytes] = []

    def swaps(self: MemoryOnlineStore, changes: Sequence[Change], **more: Any) -> list[bool]:
        kept = [change for change in changes if lost or header(self.multi_get([change[0]])[0]).emptied is False]  # type: ignore[union-attr]
        lost.extend(change[0] for change in changes if change not in kept)
        done = iter(before(self, kept, **more))
        return [change in kept and next(done) for change in changes]

    monkeypatch.setattr(MemoryOnlineStore, "compare_and_put_all", swaps)
    bench.rows["weather"] = []
    assert bench.materialize(force=True)["weather"].removed == 3 and len(lost) == 3
    assert list(bench.context.online.scan(RowEncoder("test", view_of(bench)).prefix)) == []


def view_of(bench: Bench) -> ResolvedView:
    record = bench.registry.refresh().view("weather")
    return whole_view(record, record.version("1.0.0"))


def test_force_keeps_d(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.write("weather", [row("A", 1.0)])
    bench.delete("weather", ["A"])
    bench.write("weather", [row("A", 2.0)], to="online")
    bench.pass_time(seconds=1)
    bench.materialize(force=True)
    assert temps(bench, "A") == [None]
    assert bench.write("weather", [row("A", 1.0, created_time=T0)], to="online").superseded == 1


def test_a_source_without_times_is_taken_whole(bench: Bench) -> None:
    facts = hw.FeatureView(
        "facts", entity=AIRPORT, source=hw.TableSource(event_time=None), features=[hw.Feature("alt", hw.Int64)]
    )
    bench.rows["facts"] = [{"airport": "A", "alt": 1}, {"airport": "B", "alt": 2}]
    bench.apply(AIRPORT, facts)
    bench.materialize()
    bench.rows["facts"] = [{"airport": "A", "alt": 5}]
    bench.pass_time(days=10)
    run = bench.materialize()["facts"]
    assert bench.values("facts:alt", ["A", "B"]) == [5, None] and run.removed == 1
    bench.write("facts", [{"airport": "A", "alt": 6}, {"airport": "C", "alt": 7}])
    bench.materialize()
    assert bench.values("facts:alt", ["A", "B", "C"]) == [6, None, 7]


def test_every_version_is_fed_and_goes_live_by_itself(bench: Bench) -> None:
    bench.rows["weather"] = [row("A", 1.0, T0 - HOUR, wind=2.0)]
    bench.apply(AIRPORT, weather())
    bench.materialize()
    bench.apply(weather(features=[TEMP, WIND]))
    assert bench.registry.refresh().view("weather").live == "1.0.0"
    bench.pass_time(hours=1)
    report = bench.materialize()
    assert bench.registry.refresh().view("weather").live == "1.1.0"
    assert [(run.version, run.live) for run in report.runs] == [("1.0.0", False), ("1.1.0", True)]
    assert bench.read(["weather:*"], ["A"]) == {"airport": ["A"], "temp": [1.0], "wind": [2.0]}
    assert report["weather@1.0.0"].version == "1.0.0" and report["weather"].version == "1.1.0"
    with pytest.raises(KeyError):
        report["wether"]
    assert "1.1.0" in report._repr_html_()
    only = bench.materialize("weather@1.0.0")
    assert [run.version for run in only.runs] == ["1.0.0"]


class Ticking(Bench):
    """A bench whose clock goes on with every look, as the system's does."""

    def clock(self) -> datetime:
        self.pass_time(milliseconds=1)
        return self.at


@pytest.fixture
def ticking(tmp_path: Path) -> Iterator[Bench]:
    made = Ticking(tmp_path)
    yield made
    made.close()


def test_the_versions_of_a_view_are_taken_equally_far(ticking: Bench) -> None:
    ticking.rows["weather"] = [row("A", 1.0, T0 - HOUR, wind=2.0)]
    ticking.apply(AIRPORT, weather())
    ticking.materialize()
    ticking.apply(weather(features=[TEMP, WIND]))
    ticking.write("weather", [row("A", 3.0, T0, wind=4.0)])
    ticking.materialize()
    assert ticking.registry.refresh().view("weather").live == "1.1.0"
    assert mark(ticking, "1.0.0") == mark(ticking, "1.1.0") is not None
    # the one before goes on being read, as a service that pins it does, and can be promoted
    assert ticking.values("weather@1.0.0:temp", ["A"]) == [3.0]
    marks = ticking.context.watermarks(ticking.registry.refresh())
    ticking.context.versions.promote("weather", "1.0.0", watermarks=marks, now=ticking.at)
    assert ticking.registry.refresh().view("weather").live == "1.0.0"


def test_a_version_reads_on_where_a_purge_came_between_two_runs(ticking: Bench) -> None:
    ticking.rows["weather"] = [row("A", 1.0, T0 - HOUR, wind=2.0), row("B", 5.0, T0 - HOUR, wind=2.0)]
    ticking.apply(AIRPORT, weather())
    ticking.materialize()
    ticking.apply(weather(features=[TEMP, WIND]))
    done: list[Progress] = []

    def purge_after_the_first(progress: Progress) -> None:
        if progress.finished and not done:
            done.append(progress)
            ticking.delete("weather", ["A"], purge=True)

    ticking.change(observer=purge_after_the_first)
    ticking.materialize()
    first, second = mark(ticking, "1.0.0"), mark(ticking, "1.1.0")
    assert done and first is not None and second is not None and second.reaches(first)
    assert second.position > first.position
    for version in ("1.0.0", "1.1.0"):
        ticking.materialize()
        assert ticking.values(f"weather@{version}:temp", ["A", "B"]) == [None, 5.0]


def test_a_version_waits_until_it_is_as_far(bench: Bench) -> None:
    bench.rows["weather"] = [row("A", 1.0, T0 - HOUR, wind=2.0)]
    bench.apply(AIRPORT, weather())
    bench.materialize()
    bench.apply(weather(features=[TEMP, WIND]))
    bench.pass_time(hours=1)
    bench.materialize("weather@1.0.0")
    report = bench.materialize("weather@1.1.0", end=T0)
    assert bench.registry.refresh().view("weather").live == "1.0.0"
    assert any("weather" in why for why in report.waiting)


def test_rows_that_a_version_lacks_columns_for_are_skipped(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.apply(weather(features=[TEMP, WIND]))
    bench.write("weather", [row("A", 1.0), row("B", 2.0, wind=1.0)], to="offline")
    assert {run.version: run.skipped for run in bench.materialize().runs} == {"1.0.0": 0, "1.1.0": 1}
    assert bench.registry.refresh().view("weather").live == "1.1.0"
    assert bench.values("weather:temp", ["A", "B"]) == [None, 2.0]
    assert bench.values("weather@1.0.0:temp", ["A", "B"]) == [1.0, 2.0]


@pytest.mark.parametrize("seed", range(4))
def test_a_row_that_a_version_lacks_columns_for_is_counted_by_one_run(bench: Bench, seed: int) -> None:
    choice = random.Random(seed)
    bench.apply(AIRPORT, weather())
    bench.apply(weather(features=[TEMP, WIND]))
    unseen, skipped = 0, 0
    for _ in range(12):
        step = choice.choice(["narrow", "wide", "roll", "1.0.0", "1.1.0"])
        if step in ("narrow", "wide"):
            more = {"wind": 1.0} if step == "wide" else {}
            count = choice.randrange(1, 4)
            bench.write("weather", [row("A", 1.0, **more)] * count, to="offline")
            unseen += count if step == "narrow" else 0
        elif step == "roll":
            bench.context.log.roll(["weather"])
        else:
            (run,) = bench.materialize(f"weather@{step}").runs
            assert run.skipped == (unseen if step == "1.1.0" else 0)
            unseen, skipped = (0, skipped + unseen) if step == "1.1.0" else (unseen, skipped)
        bench.pass_time(seconds=1)
    (run,) = bench.materialize("weather@1.1.0", force=True).runs
    assert run.skipped == skipped + unseen


def test_deletes_hold_and_are_put_again(bench: Bench) -> None:
    bench.rows["weather"] = [row("A", 1.0, T0 - HOUR), row("B", 1.0, T0 - HOUR)]
    bench.apply(AIRPORT, weather())
    bench.materialize()
    bench.pass_time(minutes=1)
    # the mark alone, as a crash between the log and the online store leaves it
    bench.context.log.delete("weather", pa.table({"airport": ["A"]}), [to_micros(T0)])
    bench.context.log.delete("weather", pa.table({"airport": ["B"]}), [to_micros(T0)], purge=True)
    assert temps(bench, "A", "B") == [1.0, 1.0]
    run = bench.materialize()["weather"]
    assert temps(bench, "A", "B") == [None, None] and run.deleted == 2
    assert bench.materialize(force=True)["weather"].keys == 0
    assert temps(bench, "A", "B") == [None, None]


def test_a_purge_is_worked_off_by_a_later_run(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.write("weather", [row("secret", 1.0), row("B", 2.0)])
    bench.delete("weather", ["secret"], purge=True)
    assert bench.materialize()["weather"].erased == 0
    bench.pass_time(minutes=30)
    assert bench.materialize()["weather"].erased == 1
    assert temps(bench, "secret", "B") == [None, 2.0]
    stored = [file.read_bytes() for file in (bench.folder / "log").glob("*.parquet")]
    assert stored and not any(b"secret" in content for content in stored)


def test_a_lost_or_old_online_folder_is_made_whole(tmp_path: Path) -> None:
    bench = Bench(tmp_path, LMDBOnlineStore(tmp_path / "online", sync=False))
    bench.rows["weather"] = [row("A", 1.0, T0 - 30 * DAY)]
    bench.apply(AIRPORT, weather())
    bench.write("weather", [row("B", 2.0, T0 - 20 * DAY), row("C", 2.0, T0 - 20 * DAY)])
    bench.materialize()
    bench.context.online.close()
    shutil.copytree(tmp_path / "online", tmp_path / "old")

    def reopen() -> None:
        bench.open(LMDBOnlineStore(tmp_path / "online", sync=False))

    reopen()
    bench.pass_time(days=3)
    bench.rows["weather"] += [row("A", 5.0, T0 + HOUR)]
    bench.write("weather", [row("B", 6.0, T0 + HOUR)])
    bench.delete("weather", ["C"])
    bench.materialize()
    bench.context.online.close()
    shutil.rmtree(tmp_path / "online")
    shutil.copytree(tmp_path / "old", tmp_path / "online")
    reopen()
    assert temps(bench, "A", "B", "C") == [1.0, 2.0, 2.0]
    bench.pass_time(seconds=1)
    bench.materialize()
    assert temps(bench, "A", "B", "C") == [5.0, 6.0, None]
    bench.context.online.close()
    shutil.rmtree(tmp_path / "online")
    reopen()
    bench.materialize()
    assert temps(bench, "A", "B", "C") == [5.0, 6.0, None]
    # D is back too
    assert bench.write("weather", [row("C", 1.0, created_time=T0)]).superseded == 1
    bench.close()


def test_a_restored_registry_gives_no_position_twice(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.context.online.put_meta(watermark_entry("test", "weather", "1.0.0", Watermark(to_micros(T0 - DAY), 100)))
    bench.materialize()
    assert bench.write("weather", [row("A", 1.0)]).position > 101
    assert [gap.lo for gap in bench.context.log.gaps()] == [0]


def test_parquet_sources_and_progress(bench: Bench) -> None:
    count = 5000
    table = pa.table(
        {
            "origin": [f"k{i % 100}" for i in range(count)],
            "at": pa.array([T0 - timedelta(seconds=i) for i in range(count)], pa.timestamp("us", "UTC")),
            "temp_f": [float(i) for i in range(count)],
        }
    )
    pq.write_table(table, bench.folder / "w.parquet")
    bench.apply(AIRPORT, weather(source=hw.ParquetSource("w.parquet", event_time="at")))
    seen: list[Progress] = []
    bench.change(observer=seen.append)
    run = bench.materialize()["weather"]
    assert (run.rows, run.keys) == (count, 100) and seen[-1].finished and seen[-1].done == count
    assert temps(bench, "k0", "k99") == [0.0, 99.0]
    (bench.folder / "w.parquet").unlink()
    with pytest.raises(SourceError, match=r"w\.parquet"):
        bench.materialize()
    assert mark(bench) == Watermark(to_micros(T0), 0)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ({"views": "wether"}, FeatureViewNotFound),
        ({"entities": [None]}, EntityKeyError),
        ({"entities": [{"port": 1}]}, EntityKeyError),
        ({"start": T0 + DAY}, UsageError),
        ({"start": T0, "end": T0 - DAY}, UsageError),
        ({"end": "whenever"}, UsageError),
    ],
)
def test_wrong_use(bench: Bench, call: dict[str, Any], error: type[Exception]) -> None:
    bench.apply(AIRPORT, weather())
    with pytest.raises(error):
        bench.materialize(**call)


def test_a_retired_version_is_not_fed(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.apply(weather(features=[TEMP, WIND]))
    bench.context.versions.promote("weather", "1.1.0", watermarks={}, now=bench.at, force=True)
    bench.context.versions.retire("weather", "1.0.0", now=bench.at)
    assert [run.version for run in bench.materialize().runs] == ["1.1.0"]
    with pytest.raises(UsageError, match="retired"):
        bench.materialize("weather@1.0.0")


def test_an_instant_before_every_row(bench: Bench) -> None:
    bench.rows["weather"] = [row("A", 1.0, datetime(1970, 1, 2, tzinfo=T0.tzinfo))]
    bench.apply(AIRPORT, weather())
    bench.materialize(end=datetime(1970, 1, 1, tzinfo=T0.tzinfo))
    assert temps(bench, "A") == [None]


def test_two_runs_at_once_are_harmless(lmdb_bench: Bench) -> None:
    bench = lmdb_bench
    bench.rows["weather"] = [row(f"k{i}", float(i), T0 - timedelta(minutes=i)) for i in range(50)]
    bench.apply(AIRPORT, weather())
    problems: list[BaseException] = []

    def run(end: datetime) -> None:
        try:
            bench.materialize(end=end)
        except BaseException as bad:
            problems.append(bad)

    threads = [threading.Thread(target=run, args=(T0 - timedelta(minutes=m),)) for m in (0, 20, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems and mark(bench) == Watermark(to_micros(T0), 0)
    assert temps(bench, *[f"k{i}" for i in range(50)]) == [float(i) for i in range(50)]


def test_the_rows_of_a_retired_version_go_after_a_while(lmdb_bench: Bench) -> None:
    bench = lmdb_bench
    bench.rows["weather"] = [row(f"k{i}", float(i), T0 - HOUR, wind=1.0) for i in range(30)]
    bench.apply(AIRPORT, weather())
    bench.materialize()
    old = bench.reader(["weather@1.0.0:temp"])
    bench.apply(weather(features=[TEMP, WIND]))
    bench.materialize()
    bench.context.versions.retire("weather", "1.0.0", now=bench.at)
    bench.materialize()
    assert old.read(["k7"]).to_dict()["temp"] == [7.0]
    bench.pass_time(minutes=10)
    bench.materialize()
    assert mark(bench) is not None, "a reader whose clock is behind may still ask"
    with pytest.raises(ChangeRefused):
        old.read(["k7"])
    bench.pass_time(minutes=1)
    bench.materialize()
    assert mark(bench) is None
    assert temps(bench, "k7") == [7.0] and mark(bench, "1.1.0") == Watermark(to_micros(bench.at), 0)


def test_rows_without_a_key_or_a_time_are_counted_each_once() -> None:
    route = hw.Entity("route", join_keys={"origin": hw.String, "dest": hw.String})
    delay = hw.FeatureView(
        "delay",
        entity=route,
        source=hw.ParquetSource("none.parquet", event_time="at", created_time="known"),
        features=[hw.Feature("minutes", hw.Float64)],
    )
    whole = {"origin": "JFK", "dest": "LAX", "at": T0, "known": T0, "minutes": 1.0}
    gaps: list[dict[str, Any]] = [{}, {"origin": None}, {"dest": None}, {"at": None}, {"known": None}]
    rows = [{**whole, **gap} for gap in gaps]
    with hw.FeatureStore.in_memory([route, delay], sources={"delay": rows}, clock=lambda: T0) as store:
        run = store.materialize()["delay"]
    assert (run.rows, run.null_keys, run.null_times) == (1, 2, 2)
    with hw.FeatureStore.in_memory([route, delay], sources={"delay": rows[-1:]}, clock=lambda: T0) as store:
        run = store.materialize()["delay"]
        assert (run.rows, run.null_times) == (0, 1)
        spine = [{"origin": "JFK", "dest": "LAX", "timestamp": T0}]
        assert store.get_historical_features(spine, ["delay:minutes"]).to_arrow()["minutes"].to_pylist() == [None]


def test_a_registry_restored_under_an_open_store_gives_no_position_twice_and_keeps_deletes(lmdb_bench: Bench) -> None:
    bench = lmdb_bench
    bench.apply(AIRPORT, weather(source=hw.PushSource(event_time="at")))
    bench.write("weather", [row(key, 1.0) for key in "ABC"])
    bench.materialize()
    with closing(sqlite3.connect(bench.folder / "registry.db")) as live, closing(sqlite3.connect(":memory:")) as copy:
        live.backup(copy)
        bench.pass_time(minutes=1)
        lost = bench.write("weather", [row("A", 2.0)]).position
        bench.delete("weather", ["B"])
        bench.write("weather", [row("A", 3.0)], to="offline")
        copy.backup(live)
    bench.pass_time(minutes=1)
    report = bench.write("weather", [row("C", 4.0)])
    assert report.applied == 1 and report.position > lost + 2
    bench.pass_time(minutes=30)
    told = bench.materialize()
    assert any("restored" in warning for warning in told.warnings)
    assert bench.values("weather:temp", list("ABC")) == [1.0, None, 4.0]
    spine = pa.table({"airport": list("ABC"), "timestamp": pa.array([bench.at] * 3, pa.timestamp("us", "UTC"))})
    assert historical(bench.context, spine, ["weather:temp"]).to_arrow()["temp"].to_pylist() == [1.0, None, 4.0]
