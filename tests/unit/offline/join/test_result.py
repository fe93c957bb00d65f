"""Results: frames that keep the spine as it was, whole files or none, counts, warnings."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.clock import to_micros
from headwater.errors import SourceError, StoreError, UsageError
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from tests.servers.waiting import wait_until
from tests.unit.offline.asking import ask, at, spine, table, view


@pytest.fixture(scope="module")
def engine():
    engine = DuckDBEngine()
    yield engine
    engine.close()


@pytest.fixture
def weather():
    return view(
        table(("JFK", at(-5), 1.111, 7, True), columns="airport happened temp n wet"),
        hw.Feature("temp", hw.Float32),
        hw.Feature("n", hw.Int64),
        hw.Feature("wet", hw.Bool),
    )


def test_a_pandas_spine_keeps_its_columns_and_index(engine, weather):
    given = pd.DataFrame(
        {
            "airport": pd.Categorical(["JFK", "EWR"]),
            "timestamp": pd.to_datetime(["2024-03-10 12:00:00.000000001", "2024-03-10"], format="ISO8601").as_unit(
                "ns"
            ),
            "small": np.array([1, 2], np.int8),
        },
        index=pd.Index([7, 3], name="row"),
    )
    found = ask(engine, given, [weather]).to_pandas()
    pd.testing.assert_frame_equal(found[list(given.columns)], given)
    assert [str(t) for t in found.dtypes[3:]] == ["float32", "Int64", "boolean"]
    assert found["n"].isna().tolist() == [False, True]


def test_pandas_types(engine, weather):
    asked = ask(engine, spine(("JFK", 0), ("EWR", 0)), [weather])
    assert str(asked.to_pandas(types="numpy")["n"].dtype) == "float64"
    assert isinstance(asked.to_pandas(types="arrow")["n"].dtype, pd.ArrowDtype)
    with pytest.raises(UsageError):
        asked.to_pandas(types="other")


def test_a_polars_spine_keeps_its_columns(engine, weather):
    given = pl.DataFrame({"airport": ["JFK"], "timestamp": [at()]}, schema_overrides={"airport": pl.Categorical})
    found = ask(engine, given, [weather]).to_polars()
    assert found.select("airport", "timestamp").equals(given)
    assert found["n"].to_list() == [7]


def test_parquet_is_whole(engine, weather, tmp_path):
    asked = ask(engine, spine(("JFK", 0), ("EWR", 0)), [weather])
    path = asked.to_parquet(tmp_path / "out.parquet")
    assert pq.read_table(path).equals(asked.to_arrow())
    assert [p.name for p in tmp_path.iterdir()] == ["out.parquet"]


def test_a_failed_write_leaves_nothing_and_what_was_there(engine, tmp_path):
    (tmp_path / "out.parquet").write_bytes(b"before")
    numbers = pa.table({"airport": ["JFK"], "happened": [at(-1)], "temp": pa.array([2**53 + 1])})
    broken = view(hw.TableSource(table=numbers, event_time="happened"))
    with pytest.raises(SourceError, match="9007199254740993"):
        ask(engine, spine(("JFK", 0)), [broken]).to_parquet(tmp_path / "out.parquet")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("out.parquet", b"before")]


def test_a_place_that_cannot_be_written(engine, weather, tmp_path):
    with pytest.raises(StoreError, match="cannot write"):
        ask(engine, spine(("JFK", 0)), [weather]).to_parquet(tmp_path / "nowhere" / "out.parquet")


def test_batches_have_the_size_asked_for(engine, weather):
    asked = ask(engine, spine(*[("JFK", i) for i in range(10)]), [weather])
    assert [b.num_rows for b in asked.to_batches(rows=4)] == [4, 4, 2]
    with pytest.raises(UsageError):
        asked.to_batches(rows=0)


def test_counts_add_up_to_the_spine(engine):
    source = table(("JFK", at(-60), 1.0), ("EWR", at(0), 1.0), delay="5m")
    asked = ask(engine, spine(("JFK", 0), ("EWR", 3), ("EWR", 7), ("LGA", 0), (None, 0)), [view(source, ttl="30m")])
    asked.to_arrow()
    counts = asked.metadata.views["weather"]
    assert (counts.matched, counts.expired, counts.not_known, counts.no_row) == (1, 1, 1, 2)
    assert counts.total == 5 and dict(counts)["matched"] == 1


def test_rows_without_a_time_are_counted(engine, tmp_path):
    rows = [("JFK", at(0), at(1)), ("JFK", None, at(1)), ("JFK", at(0), None), (None, None, None)]
    columns = dict(zip(("airport", "happened", "learnt"), zip(*rows, strict=True), strict=True))
    data = pa.table(columns | {"temp": [1.0] * 4})
    pq.write_table(data, tmp_path / "a.parquet")
    sources = [
        (hw.TableSource(data, event_time="happened", created_time="learnt"), 3),
        (hw.ParquetSource(str(tmp_path / "a.parquet"), event_time="happened", created_time="learnt"), 3),
        (hw.ParquetSource(str(tmp_path / "a.parquet"), event_time="happened"), 2),
        (hw.ParquetSource(str(tmp_path / "a.parquet"), event_time=None), 0),
    ]
    for source, count in sources:
        asked = ask(engine, spine(("JFK", 1)), [view(source)])
        assert asked.to_arrow()["temp"].to_pylist() == [1.0]
        assert (asked.metadata.views["weather"].null_times, asked.metadata.views["weather"].total) == (count, 1)


def test_a_spine_that_is_the_event_log_itself_warns(engine):
    source = table(*[("JFK", at(i), 1.0) for i in range(4)])
    asked = ask(engine, spine(*[("JFK", i) for i in range(4)]), [view(source)])
    asked.to_arrow()
    assert asked.metadata.views["weather"].same_instant == 4
    assert "created_time or a delay" in asked.metadata.warnings[0]


def test_a_view_that_withholds_most_rows_warns(engine):
    asked = ask(engine, spine(("JFK", 1)), [view(table(("JFK", at(0), 1.0), delay="1d"))])
    asked.to_arrow()
    assert "not known yet" in asked.metadata.warnings[0]


def test_the_html_form_shows_rows_and_counts(engine, weather):
    html = ask(engine, spine(("JFK", 0)), [weather])._repr_html_()
    assert "<td>JFK</td>" in html and "matched 1" in html


def test_sql_shows_every_statement(engine, weather):
    sql = ask(engine, spine(("JFK", 0)), [weather]).sql()
    assert "CREATE TABLE" in sql and "ORDER BY" in sql


SLOW = """
    import sys
    import headwater as hw
    from headwater.offline.engines.duckdb.engine import DuckDBEngine
    from tests.unit.offline.asking import ask, view
    query = "SELECT 'k' || (i % 9) AS airport, make_timestamp(i % 1000) AS happened, sqrt(i + j) AS temp "
    query += "FROM range(3000000000) a(i), range(1000) b(j)"
    slow = view(hw.SQLSource(query, event_time="happened"))
    print("ready", flush=True)
    ask(DuckDBEngine(), "SELECT 'k1' AS airport, now() AS timestamp", [slow]).to_parquet(sys.argv[1])
"""


def cpu_seconds(pid: int) -> float:
    """How long a process has run."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_ctrl_c_stops_a_long_join_and_leaves_nothing(tmp_path):
    """A real SIGINT: what DuckDB runs on the main thread never sees it."""
    code = textwrap.dedent(SLOW)
    running = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out.parquet")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)},
    )
    assert running.stdout is not None and running.stdout.readline() == b"ready\n"
    before = cpu_seconds(running.pid)
    wait_until(lambda: cpu_seconds(running.pid) > before + 0.3, "the join to be under way", 60)
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=100)
    assert running.returncode != 0 and b"KeyboardInterrupt" in told
    assert not list(tmp_path.glob("*.parquet")) and not list(tmp_path.glob(".*"))


def test_length_head_and_rows_as_dicts(engine, weather, tmp_path):
    rows = spine(("JFK", 0), ("EWR", 0), ("LGA", 0))
    pq.write_table(rows, tmp_path / "spine.parquet")
    for given in (rows, str(tmp_path / "spine.parquet")):
        asked = ask(engine, given, [weather])
        assert len(asked) == 3 and not asked.metadata.views  # nothing was run
        whole = asked.to_pylist()
        assert whole == asked.to_arrow().to_pylist() and whole[0]["n"] == 7
        assert asked.head(2).to_pylist() == whole[:2] and asked.head(9).to_pylist() == whole
        assert asked.head(0).num_rows == 0 and asked.head(0).schema == asked.schema
        for wrong in (-1, True, 1.5):
            with pytest.raises(UsageError, match="0 or more"):
                asked.head(wrong)
    known = ask(engine, None, [weather], at=to_micros(at(0)))
    assert len(known) == known.to_arrow().num_rows > 0 and known
