"""After a wrong clock: what was refused, and what a repair brings back to now, in the log and online."""

from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.clock import to_micros
from headwater.compute.context import RUN
from headwater.compute.reading.historical import historical
from headwater.compute.repair import repair_clock
from headwater.compute.status import status
from headwater.online.hints import Hint, Outcome, OutcomeKind
from headwater.online.meta import read_purges
from headwater.online.rows.codec import Header, header
from headwater.testing import SCALE
from tests.unit.compute.conftest import AIRPORT, T0, Bench, row, weather

YEAR = timedelta(days=365)
PUSHED = weather(source=hw.PushSource(event_time="at"))


def history(bench: Bench, *keys: str) -> list[float | None]:
    spine = pa.table({"airport": list(keys), "timestamp": pa.array([bench.at] * len(keys), pa.timestamp("us", "UTC"))})
    found: list[float | None] = historical(bench.context, spine, ["weather:temp"]).to_arrow()["temp"].to_pylist()
    return found


def headers(bench: Bench) -> list[Header]:
    return [found for _, row in bench.context.online.scan(b"") if (found := header(row)) is not None]


def test_one_write_of_a_year_ahead_hides_nothing_once_the_clock_is_repaired(bench: Bench) -> None:
    bench.apply(AIRPORT, PUSHED)
    bench.write("weather", [row("A", 10.0, at=T0)])
    bench.at = T0 + YEAR
    bench.write("weather", [row("Z", 0.0, at=bench.at)])
    bench.at = T0 + timedelta(minutes=1)
    with pytest.raises(hw.ClockError) as refused:
        bench.write("weather", [row("A", 11.0, at=bench.at)])
    assert (refused.value.log_clock, refused.value.now) == (T0 + YEAR, bench.at)
    for change in (
        lambda: bench.delete("weather", ["A"]),
        lambda: bench.materialize(),
        lambda: bench.write("weather", [row("A", 11.0, at=bench.at)], to="online"),
    ):
        with pytest.raises(hw.ClockError):
            change()
    assert "repair-clock" in status(bench.context, to_micros(bench.at), {}).warnings[0]
    done = repair_clock(bench.context)
    assert (done.now, done.ahead, done.rows, done.views) == (bench.at, YEAR - timedelta(minutes=1), 1, ("weather",))
    assert bench.context.log.clock_warning() is None
    assert bench.write("weather", [row("A", 11.0, at=bench.at)]).applied == 1
    assert bench.values("weather:temp", ["A"]) == [11.0]
    bench.pass_time(days=100)
    bench.materialize()
    assert bench.values("weather:temp", ["A"]) == [11.0]


def test_rows_and_deletes_of_the_time_ahead_are_of_now_online_too(bench: Bench) -> None:
    bench.apply(AIRPORT, PUSHED)
    bench.write("weather", [row(key, 1.0) for key in "ABCDE"])
    bench.at = T0 + YEAR
    bench.write("weather", [row("A", 2.0)])
    bench.delete("weather", ["B", "C"])
    bench.delete("weather", ["D"], purge=True)
    bench.write("weather", [row("C", 3.0)])
    bench.write("weather", [row("E", 4.0)], to="online")
    bench.materialize()
    bench.at = T0 + timedelta(minutes=1)
    done = repair_clock(bench.context)
    # A's row and C's, in the log; three deletes; every key online has one of these, or the cache-only row
    assert (done.rows, done.deletes, done.keys) == (2, 3, 5)
    limit = to_micros(bench.at) + 10
    assert max(max(found.known_at, found.through) for found in headers(bench)) <= limit
    ((_, through, _),) = read_purges(bench.context.online, "test", "weather")
    assert through <= limit
    bench.pass_time(seconds=1)
    assert bench.values("weather:temp", list("ABCDE")) == [2.0, None, 3.0, None, 4.0]
    assert history(bench, *"ABCDE") == [2.0, None, 3.0, None, 1.0]
    # what is written now counts, where a D of a year ahead would have hidden it
    bench.write("weather", [row(key, 5.0) for key in "ABCDE"])
    assert bench.values("weather:temp", list("ABCDE")) == [5.0] * 5 == history(bench, *"ABCDE")
    bench.materialize()
    assert bench.values("weather:temp", list("ABCDE")) == [5.0] * 5
    assert repair_clock(bench.context).keys == 0


def test_rows_of_a_source_that_a_run_took_too_early_wait_for_their_time(bench: Bench) -> None:
    due = T0 + timedelta(days=180)
    bench.rows["weather"] = [row("A", 1.0), row("A", 2.0, at=due), row("B", 3.0, at=due)]
    bench.apply(AIRPORT, weather())
    bench.at = T0 + YEAR
    bench.materialize()
    bench.at = T0 + timedelta(minutes=1)
    with pytest.raises(hw.ClockError):
        bench.materialize()
    repair_clock(bench.context)
    assert bench.values("weather:temp", ["A", "B"]) == [1.0, None]
    told = bench.materialize()["weather"]
    assert any("later than the offline log's clock" in text for text in told.warnings)
    assert bench.values("weather:temp", ["A", "B"]) == [1.0, None]
    bench.at = due + timedelta(minutes=1)
    bench.materialize()
    assert bench.values("weather:temp", ["A", "B"]) == [2.0, 3.0]


def test_a_repair_that_was_interrupted_is_made_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.apply(AIRPORT, PUSHED)
    bench.write("weather", [row("A", 1.0), row("B", 1.0)])
    bench.at = T0 + YEAR
    bench.write("weather", [row("A", 2.0)])
    bench.delete("weather", ["B"])
    bench.at = T0 + timedelta(minutes=1)
    with monkeypatch.context() as broken:
        broken.setattr("headwater.compute.repair.repair_online", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            repair_clock(bench.context)
    bench.pass_time(seconds=1)
    done = repair_clock(bench.context)
    assert (done.rows, done.deletes, done.keys, done.ahead) == (0, 0, 2, timedelta(0))
    bench.pass_time(seconds=1)
    bench.write("weather", [row("A", 3.0), row("B", 3.0)])
    assert bench.values("weather:temp", ["A", "B"]) == [3.0, 3.0] == history(bench, "A", "B")


@pytest.mark.filterwarnings("ignore:offline log in:UserWarning")
@settings(max_examples=2 * SCALE, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["write", "write", "delete", "purge", "run", "slow", "fast", "right"]),
            st.sampled_from("AB"),
        ),
        max_size=12,
    )
)
def test_online_equals_history_after_any_wrong_clocks_and_a_repair(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]
) -> None:
    bench = Bench(tmp_path_factory.mktemp("clocks"))
    bench.apply(AIRPORT, PUSHED)
    true, wrong = T0, timedelta(0)
    for number, (step, key) in enumerate(steps):
        true += timedelta(minutes=1)
        wrong = {"slow": -YEAR, "fast": YEAR, "right": timedelta(0)}.get(step, wrong)
        bench.at = true + wrong
        try:
            if step == "write":
                bench.write("weather", [row(key, float(number), at=T0)])
            elif step in ("delete", "purge"):
                bench.delete("weather", [key], purge=step == "purge")
            elif step == "run":
                bench.materialize()
        except hw.ClockError:
            pass
    bench.at = true + timedelta(minutes=1)
    repair_clock(bench.context)
    bench.pass_time(seconds=1)
    bench.materialize()
    assert bench.values("weather:temp", ["A", "B"]) == history(bench, "A", "B")
    bench.write("weather", [row("A", -1.0), row("B", -2.0)])
    assert bench.values("weather:temp", ["A", "B"]) == [-1.0, -2.0] == history(bench, "A", "B")
    bench.close()


def test_leases_and_cool_downs_of_a_fast_clock_end(bench: Bench) -> None:
    bench.apply(AIRPORT, PUSHED)
    bench.write("weather", [row("A", 1.0)])
    bench.at = T0 + YEAR
    context = bench.context
    # a run that was killed, a force run too, and a key for which no newer row was found
    context.leases.acquire(RUN, "materialize weather", lasts=context.settings.lease_time)
    context.forcing.begin("weather", "1.0.0", to_micros(bench.at + context.settings.lease_time))
    hint = Hint("weather", "1.0.0", b"A", 1, 1, context.now())
    context.refresh_queue.offer([hint], context.now())
    claims = context.refresh_queue.claim(["weather"], 1, context.now(), 1)
    context.refresh_queue.settle([Outcome(claims[0], OutcomeKind.REST, context.now() + 60_000_000)])
    bench.at = T0 + timedelta(minutes=1)
    bench.delete("weather", ["A"], purge=True)
    assert repair_clock(context).ended == 2
    assert repair_clock(context).ended == 0
    assert context.refresh_queue.offer([hint], context.now()) == 0
    assert context.refresh_queue.claim(["weather"], 1, context.now(), 1)
    assert context.forcing.pending("weather", "1.0.0")
    # the purge waits for the run, as long as it may last
    bench.pass_time(minutes=5)
    assert sum(run.erased for run in bench.materialize().runs) == 0
    bench.pass_time(minutes=15)
    assert sum(run.erased for run in bench.materialize().runs) == 1
    assert not context.forcing.pending("weather", "1.0.0")
