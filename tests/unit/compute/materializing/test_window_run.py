"""Runs of window versions report what they leave out as runs of other versions do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.testing import SCALE

T0 = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEYS = hw.Entity("pair", join_keys={"one": hw.String, "two": hw.Int64})
TYPES = pa.schema(
    [("one", pa.string()), ("two", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("known", pa.timestamp("us", "UTC"))]
).append(pa.field("x", pa.float64()))
HOURS = st.integers(-3, 12)
ROW = st.fixed_dictionaries(
    {
        "one": st.sampled_from(["a", "b", None]),
        "two": st.sampled_from([1, 2, None]),
        "at": st.none() | HOURS,
        "known": st.none() | HOURS,
        "x": st.just(1.0),
    }
)
WRITTEN = st.fixed_dictionaries({"one": st.sampled_from("ab"), "two": st.just(1), "at": HOURS, "known": HOURS})
STEP = st.one_of(
    st.tuples(st.just("file"), st.lists(ROW, min_size=1, max_size=6)),
    st.tuples(st.just("write"), st.lists(WRITTEN, min_size=1, max_size=3)),
    st.tuples(st.just("wait"), st.integers(0, 5)),
)


def at_hours(rows):
    """Rows whose times are hours since T0."""
    return [r | {n: None if r[n] is None else T0 + r[n] * HOUR for n in ("at", "known")} for r in rows]


def views(source):
    features = [hw.Feature("x", hw.Float64)]
    totals = [hw.Aggregation("x", "sum", window="6h"), hw.Aggregation(None, "count", window=None, name="n")]
    return [
        hw.FeatureView("plain", entity=KEYS, source=source, features=features),
        hw.FeatureView("windows", entity=KEYS, source=source, features=totals),
    ]


def left_out(run):
    return run.null_keys, run.null_times, run.future


@settings(max_examples=6 * SCALE, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.lists(STEP, min_size=1, max_size=6), st.booleans())
def test_what_is_left_out_is_counted_as_by_other_runs(tmp_path_factory, steps, force):
    folder = tmp_path_factory.mktemp("left-out")
    (folder / "rows").mkdir()
    (folder / "headwater.toml").write_text('project = "p"\n')
    pq.write_table(TYPES.empty_table(), folder / "rows" / "first.parquet")
    now = [T0]
    with hw.FeatureStore(folder, online="memory:", clock=lambda: now[0]) as store:
        store.apply([KEYS, *views(hw.ParquetSource("rows", event_time="at", created_time="known"))])
        for i, (kind, given_) in enumerate([*steps, ("wait", 0)]):
            if kind == "file":
                pq.write_table(pa.Table.from_pylist(at_hours(given_), TYPES), folder / "rows" / f"{i}.parquet")
            elif kind == "write":
                for view in ("plain", "windows"):
                    store.write(view, [{**row, "x": 1.0} for row in at_hours(given_)], to="offline")
            else:
                now[0] += given_ * HOUR
            report = store.materialize(force=force)
            plain, windows = (
                (run.null_keys, run.null_times, run.future) for run in (report["plain"], report["windows"])
            )
            assert windows == plain, (i, kind)


def test_a_run_up_to_an_end_counts_rows_of_the_source_behind_it():
    rows = [{"one": "a", "two": 1, "at": T0 + i * HOUR, "x": 1.0} for i in range(4)]
    plain, windows = views(hw.TableSource(rows, event_time="at"))
    with hw.FeatureStore.in_memory([KEYS, plain, windows], clock=lambda: T0 + 9 * HOUR) as store:
        report = store.materialize(end=T0 + HOUR)
        assert (report["plain"].future, report["windows"].future) == (2, 2)
        assert store.materialize()["windows"].future == 0


def test_a_run_of_some_keys_counts_these_alone():
    rows = [{"one": one, "two": 1, "at": T0 + HOUR, "x": 1.0} for one in ("a", "a", "b", None)]
    with hw.FeatureStore.in_memory([KEYS, *views(hw.TableSource(rows, event_time="at"))], clock=lambda: T0) as store:
        store.materialize()
        report = store.materialize(entities=[{"one": "a", "two": 1}])
        assert report["windows"].future == report["plain"].future == 2
        assert report["windows"].null_keys == report["plain"].null_keys == 0
