"""Delete and purge: what is hidden, what revives, what is erased."""

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.clock import MIN_MICROS, to_micros
from headwater.compute.reading.historical import historical
from headwater.compute.writing.erase import erase_purged
from headwater.errors import EntityKeyError, UsageError
from headwater.online.rows.codec import header
from headwater.online.rows.encoder import RowEncoder
from headwater.planning.resolve import whole_view
from tests.unit.compute.conftest import AIRPORT, T0, Bench, row, weather


def through(bench: Bench, key: str, version: str = "1.0.0") -> int | None:
    """D in a row's header; None where there is no row."""
    record = bench.registry.refresh().view("weather")
    rows = RowEncoder("test", whole_view(record, record.versions[version]))
    found = header(bench.context.online.multi_get([k for k in rows.stored_keys(pa.table({"airport": [key]})) if k])[0])
    return None if found is None else found.through


def test_a_deleted_key_is_not_found_and_what_is_learnt_later_revives_it(bench: Bench) -> None:
    bench.apply(AIRPORT, weather(features=[hw.Feature("temp", hw.Float64, column="temp_f", default=-1.0)]))
    bench.write("weather", [row("A", 1.0), row("B", 2.0)])
    bench.pass_time(seconds=1)
    report = bench.delete("weather", ["A", "Z"])
    assert (report.deleted, report.found, report.through, report.purge) == (2, 1, bench.at, False)
    found = bench.reader(["weather:temp"]).read(["A", "B", "Z"])
    assert found.statuses["temp"] == [hw.Status.NOT_FOUND, hw.Status.PRESENT, hw.Status.NOT_FOUND]
    assert found.to_dict()["temp"] == [-1.0, 2.0, -1.0]
    # known before D: superseded for good
    assert bench.write("weather", [row("A", 5.0, created_time=T0), row("Z", 5.0, created_time=T0)]).superseded == 2
    # a new statement, though of an old event
    assert bench.write("weather", [row("A", 6.0)]).applied == 1
    assert bench.values("weather:temp", ["A", "Z"]) == [6.0, -1.0]
    assert through(bench, "A") == to_micros(bench.at)


def test_a_row_ahead_of_the_clock_is_deleted_by_its_position_or_by_d(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    ahead = T0 + timedelta(seconds=3)
    bench.write("weather", [row("A", 1.0, at=ahead)])
    assert bench.delete("weather", ["A"]).through == T0
    bench.write("weather", [row("B", 1.0, at=ahead)], to="online")
    # a cache-only row has no position in the log
    assert bench.delete("weather", ["B"]).through == ahead
    for _ in range(2):
        assert bench.values("weather:temp", ["A", "B"]) == [None, None]
        bench.pass_time(minutes=1)
        bench.materialize()


def test_d_stays_through_later_puts_and_deletes(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.delete("weather", ["A"])
    first = through(bench, "A")
    bench.write("weather", [row("A", 1.0)])
    assert through(bench, "A") == first == to_micros(T0)
    bench.pass_time(hours=1)
    bench.delete("weather", ["A"])
    assert through(bench, "A") == to_micros(bench.at)


def test_every_version_forgets_retired_ones_too(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.write("weather", [row("A", 1.0)])
    bench.apply(weather(features=[hw.Feature("temp", hw.Float64, column="temp_f"), hw.Feature("wind", hw.Float64)]))
    bench.write("weather", [row("A", 1.0, wind=1.0)])
    bench.delete("weather", {"airport": ["A"]})
    for version in ("1.0.0", "1.1.0"):
        assert through(bench, "A", version) == to_micros(T0)


@pytest.mark.parametrize("entities", [["A", "A"], [{"airport": "A"}], {"airport": "A"}, pa.table({"airport": ["A"]})])
def test_keys_in_every_form(bench: Bench, entities: object) -> None:
    bench.apply(AIRPORT, weather())
    bench.write("weather", [row("A", 1.0)])
    assert bench.delete("weather", entities).deleted == 1
    assert bench.values("weather:temp", ["A"]) == [None]


@pytest.mark.parametrize("entities", [[None], [5], [{"port": "A"}], {"airport": [None]}, [{"airport": "A", "x": 1}]])
def test_bad_keys_change_nothing(bench: Bench, entities: object) -> None:
    bench.apply(AIRPORT, weather())
    with pytest.raises(EntityKeyError, match="airport"):
        bench.delete("weather", entities)
    assert bench.context.log.head_position() == 0


def test_a_global_view_is_deleted_whole(bench: Bench) -> None:
    rate = hw.FeatureView(
        "rate", entity=(), source=hw.PushSource(event_time="at"), features=[hw.Feature("usd", hw.Float64)]
    )
    bench.apply(rate)
    bench.write("rate", [{"at": T0, "usd": 1.1}])
    assert bench.delete("rate", {}).found == 1
    assert bench.read(["rate:usd"], None)["usd"] == [None]


def test_long_keys(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    long = "x" * 2000
    bench.delete("weather", [long])
    assert bench.write("weather", [row(long, 1.0, created_time=T0)]).superseded == 1
    assert bench.write("weather", [row(long, 1.0)]).applied == 1
    assert bench.values("weather:temp", [long]) == [1.0]
    bench.delete("weather", [long])
    assert bench.values("weather:temp", [long]) == [None]


def test_a_delete_during_a_change_of_version_is_done_again(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.write("weather", [row("A", 1.0)])
    stale = Bench(bench.folder, bench.context.online)
    stale.registry.snapshot()
    bench.apply(weather(features=[hw.Feature("temp", hw.Float64, column="temp_f"), hw.Feature("wind", hw.Float64)]))
    bench.write("weather", [row("A", 1.0, wind=1.0)])
    stale.delete("weather", ["A"])
    assert bench.values("weather@1.0.0:temp", ["A"]) == [None]
    assert through(bench, "A", "1.1.0") == to_micros(T0)


def test_a_session_of_another_store_is_refused(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    with pytest.raises(UsageError):
        bench.delete("weather", ["A"], session=hw.Session("another"))


def files_with(folder: Path, text: bytes) -> list[str]:
    """The files that hold some bytes, the database's own free pages aside."""
    found = []
    for file in sorted(folder.rglob("*.parquet")):
        table = pa.parquet.read_table(file)
        if any(text.decode() in str(value) for value in table.column("origin").to_pylist()):
            found.append(file.name)
    return found


def test_a_purge_is_a_delete_first_then_erases(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.write("weather", [row("secret", 1.0), row("B", 2.0)])
    bench.context.log.roll()
    bench.write("weather", [row("secret", 3.0)])
    assert bench.delete("weather", ["secret"], purge=True).purge
    assert bench.values("weather:temp", ["secret", "B"]) == [None, 2.0]
    assert bench.write("weather", [row("secret", 3.0, created_time=T0)]).superseded == 1
    cached = [row("secret", 4.0, created_time=T0), row("B", 5.0)]
    report = bench.write("weather", cached, to="online")
    assert (report.applied, report.superseded) == (1, 1)

    record = bench.registry.refresh().view("weather")
    assert erase_purged(bench.context, record) == 0, "writes begun before it may still be in flight"
    assert through(bench, "secret") == to_micros(T0)
    bench.pass_time(minutes=11)
    assert erase_purged(bench.context, record) == 1
    assert through(bench, "secret") is None
    assert files_with(bench.folder / "log", b"secret") == []
    assert not any(b"secret" in file.read_bytes() for file in bench.folder.glob("registry.db*"))
    # what the marks hide stays hidden, and what is learnt later is stored as ever
    assert bench.write("weather", [row("secret", 3.0, created_time=T0)]).superseded == 1
    assert bench.write("weather", [row("secret", 3.0, created_time=T0)], to="online").superseded == 1
    assert bench.values("weather:temp", ["secret"]) == [None]
    assert bench.write("weather", [row("secret", 7.0)]).applied == 1
    assert bench.values("weather:temp", ["secret"]) == [7.0]
    assert through(bench, "secret") == MIN_MICROS
    assert erase_purged(bench.context, record) == 0


def test_a_purge_waits_for_runs_that_began_before_it(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.write("weather", [row("secret", 1.0)])
    lease = bench.context.leases.acquire("run", "weather@1.0.0", lasts=timedelta(hours=1))
    bench.pass_time(minutes=1)
    bench.delete("weather", ["secret"], purge=True)
    bench.pass_time(minutes=30)
    record = bench.registry.refresh().view("weather")
    assert erase_purged(bench.context, record) == 0
    bench.context.leases.release(lease)
    assert erase_purged(bench.context, record) == 1


def test_what_a_purged_key_learnt_later_is_not_erased(bench: Bench) -> None:
    bench.apply(AIRPORT, weather())
    bench.write("weather", [row("secret", 1.0)])
    bench.delete("weather", ["secret"], purge=True)
    bench.write("weather", [row("secret", 2.0)])
    bench.pass_time(hours=1)
    erase_purged(bench.context, bench.registry.refresh().view("weather"))
    assert bench.values("weather:temp", ["secret"]) == [2.0]
    assert list(bench.context.log.slice("weather", ["airport"]).purges.values()) == [((2, to_micros(T0)),)]


def test_a_purge_takes_what_is_dated_ahead_too(bench: Bench) -> None:
    bench.apply(AIRPORT, weather(source=hw.PushSource(event_time="at")))
    due = T0 + timedelta(days=180)
    bench.write("weather", [row("secret", 1.0, at=due), row("other", 2.0, at=due)])
    bench.pass_time(minutes=1)
    bench.delete("weather", ["secret"], purge=True)
    bench.pass_time(hours=1)
    bench.materialize()
    parts = bench.context.log.slice("weather", ["airport"]).parts
    assert [pq.read_table(file)["origin"].to_pylist() for part in parts for file in part.files] == [["other"]]
    bench.at = due + timedelta(days=1)
    bench.materialize()
    assert bench.values("weather:temp", ["secret", "other"]) == [None, 2.0]


def test_a_delete_hides_what_was_written_before_it_and_dated_ahead(bench: Bench) -> None:
    bench.apply(AIRPORT, weather(source=hw.PushSource(event_time="at")))
    due = T0 + timedelta(days=1)
    bench.write("weather", [row("A", 1.0, at=due), row("B", 2.0, at=due)])
    bench.pass_time(minutes=1)
    bench.delete("weather", ["A"])
    bench.pass_time(minutes=1)
    bench.write("weather", [row("B", 3.0, at=due)])
    bench.at = due + timedelta(minutes=1)
    bench.materialize()
    assert bench.values("weather:temp", ["A", "B"]) == [None, 3.0]


def test_deletes_of_keys_of_one_type_leave_a_version_with_another_alone(bench: Bench) -> None:
    def of(dtype: hw.types.DType) -> list[object]:
        thing = hw.Entity("thing", join_keys={"k": dtype})
        source = hw.PushSource(event_time="at")
        return [thing, hw.FeatureView("v", entity=thing, source=source, features=[hw.Feature("x", hw.Float64)])]

    bench.apply(*of(hw.Int64))
    bench.write("v", [{"k": 1, "at": T0, "x": 1.0}, {"k": 2, "at": T0, "x": 2.0}])
    bench.delete("v", [1])
    bench.apply(*of(hw.String))
    bench.pass_time(minutes=1)
    bench.write("v", [{"k": "1", "at": T0, "x": 3.0}])
    bench.materialize()
    assert bench.registry.refresh().view("v").live == "2.0.0"
    bench.delete("v", ["2"])
    bench.materialize()
    assert bench.values("v:x", ["1", "2"]) == [3.0, None]
    assert bench.read(["v@1.0.0:x"], [1, 2])["x"] == [None, 2.0]
    spine = pa.table({"k": ["1", "2"], "timestamp": pa.array([bench.at] * 2, pa.timestamp("us", "UTC"))})
    assert historical(bench.context, spine, ["v:x"]).to_arrow()["x"].to_pylist() == [3.0, None]
