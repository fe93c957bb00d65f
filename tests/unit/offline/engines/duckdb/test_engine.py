"""Sources as DuckDB reads them, errors that name place, column and both types, and memory that is bounded."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.clock import MIN_MICROS
from headwater.errors import HeadwaterError, SourceError, SpineError, Unavailable
from headwater.offline.base import ChangeCounts, ChangesRequest, LogPart, LogSlice, ViewInput
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.files.footers import null_count, read_footers, time_range
from headwater.planning.resolve import whole_view
from headwater.planning.watermark import Watermark
from tests.unit.offline.asking import ask, at, registered, spine, table, view

FLOAT = hw.Feature("temp", hw.Float64)


@pytest.fixture
def engine(tmp_path):
    engine = DuckDBEngine(tmp_path)
    yield engine
    engine.close()


def values(engine, source, *features, rows=(("JFK", 1), ("EWR", 1)), **options):
    found = ask(engine, spine(*rows), [view(source, *features, **options)]).to_arrow()
    return found.drop_columns(["airport", "timestamp"]).to_pylist()


def rows(**columns):
    columns = {"airport": ["JFK"], "happened": [at(0)]} | columns
    return hw.TableSource(table=pa.table(columns), event_time="happened")


def test_parquet_file_folder_glob_and_partitions(engine, tmp_path):
    for day, temp in ((9, 1.0), (10, 2.0)):
        part = pa.table({"airport": ["JFK"], "happened": [at(0).replace(day=day)], "temp": [temp]})
        (tmp_path / f"data/day={day}").mkdir(parents=True)
        pq.write_table(part, tmp_path / f"data/day={day}/part.parquet")
    (tmp_path / "data/_temporary").mkdir()
    (tmp_path / "data/_temporary/part.parquet").write_bytes(b"not parquet")
    day = hw.Feature("day", hw.Int64)
    for path in ("data", "data/*/part.parquet", str(tmp_path / "data/day=*/*.parquet")):
        found = values(engine, hw.ParquetSource(path, event_time="happened"), FLOAT, day, rows=[("JFK", 1)])
        assert found == [{"temp": 2.0, "day": 10}]
    with pytest.raises(SourceError, match=r"view 'weather' \(1\.0\.0\).*is text, such as CSV"):
        values(engine, hw.ParquetSource("data/_temporary", event_time="happened"))
    one = hw.ParquetSource("data/day=9/part.parquet", event_time="happened")
    assert values(engine, one, FLOAT, rows=[("JFK", 1)]) == [{"temp": 1.0}]


def test_files_of_one_source_may_differ_in_columns(engine, tmp_path):
    pq.write_table(pa.table({"airport": ["JFK"], "happened": [at(0)], "temp": [1.0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"temp": [2.0], "happened": [at(0)], "airport": ["EWR"], "n": [3]}), tmp_path / "b.parquet")
    found = values(engine, hw.ParquetSource("*.parquet", event_time="happened"), FLOAT, hw.Feature("n", hw.Int64))
    assert found == [{"temp": 1.0, "n": None}, {"temp": 2.0, "n": 3}]


def test_an_object_store_is_read_through_pyarrow(engine, tmp_path, s3_server):
    bucket = s3_server.make_bucket()
    pq.write_table(pa.table({"airport": ["JFK"], "happened": [at(0)], "temp": [1.0]}), tmp_path / "a.parquet")
    for name in ("a.parquet", "d/a.parquet", "d/_temporary/b.parquet"):
        s3_server.client.upload_file(str(tmp_path / "a.parquet"), bucket, name)
    for path in ("a.parquet", "d", "d/", "d/*.parquet", "**/a.parquet"):
        source = hw.ParquetSource(s3_server.url(f"{bucket}/{path}"), event_time="happened")
        assert values(engine, source)[0] == {"temp": 1.0}
    with pytest.raises(SourceError, match=r"no file at s3://"):
        values(engine, hw.ParquetSource(s3_server.url(f"{bucket}/*/*/*/*.parquet"), event_time="happened"))


CSV = """airport,happened,seen,temp,n,ok,day,list
JFK,2024-03-10 11:00:00,2024-03-10T11:30:00Z,NA,12.0,true,2024-03-10,"[1, 2]"
EWR,2024-03-10T13:00:00+02:00,2024-03-10,2.5,,false,,
NULL,2024-03-10,2024-03-10,1,1,true,2024-03-10,
"""
CSV_FEATURES = [
    FLOAT,
    hw.Feature("n", hw.Int64),
    hw.Feature("ok", hw.Bool),
    hw.Feature("day", hw.Date),
    hw.Feature("list", hw.Array(hw.Int64)),
]


def test_csv_columns_are_cast_to_the_declared_dtypes(engine, tmp_path):
    (tmp_path / "a.csv").write_text(CSV)
    source = hw.CSVSource("a.csv", event_time="happened", created_time="seen")
    first, second = values(engine, source, *CSV_FEATURES)
    assert first == {"temp": None, "n": 12, "ok": True, "day": at(0).date(), "list": [1, 2]}
    assert second == {"temp": 2.5, "n": None, "ok": False, "day": None, "list": None}
    assert engine.source_schema(source).names == ["airport", "happened", "seen", "temp", "n", "ok", "day", "list"]


@pytest.mark.parametrize(
    ("text", "feature", "words"),
    [
        ("2.5", hw.Feature("temp", hw.Int64), "'2.5' is not int64"),
        ("warm", FLOAT, "'warm' is not float64"),
        ("2024-13-01", hw.Feature("temp", hw.Date), "is not date"),
        ("9999999999", hw.Feature("temp", hw.Int32), "is not int32"),
    ],
)
def test_csv_text_that_is_no_such_value(engine, tmp_path, text, feature, words):
    (tmp_path / "a.csv").write_text(f"airport,happened,temp\nJFK,2024-03-10,{text}\n")
    with pytest.raises(SourceError, match=f"a.csv: line 2, column 'temp': .*{words}"):
        values(engine, hw.CSVSource("a.csv", event_time="happened"), feature)


def test_csv_times_finer_than_microseconds_round_up(engine, tmp_path):
    (tmp_path / "a.csv").write_text("airport,happened,temp\nJFK,2024-03-10 12:00:00.0000001,1\n")
    source = hw.CSVSource("a.csv", event_time="happened")
    assert values(engine, source, rows=[("JFK", 0)]) == [{"temp": None}]
    (tmp_path / "a.csv").write_text("airport,happened,temp\nJFK,soon,1\n")
    with pytest.raises(SourceError, match="'soon' is not a time"):
        values(engine, source)


def test_a_query_over_other_sources(engine, tmp_path):
    (tmp_path / "a.csv").write_text(CSV)
    readings = table(("JFK", at(0), 3), ("JFK", at(0), 4), columns="airport happened n")
    query = "WITH x AS (SELECT * FROM readings) SELECT airport, x.happened, sum(x.n) AS temp FROM x "
    query += "JOIN facts USING (airport) GROUP BY airport, x.happened;"
    tables = {"readings": readings, "facts": hw.CSVSource("a.csv")}
    source = hw.SQLSource(query, tables=tables, event_time="happened")
    assert values(engine, source, hw.Feature("temp", hw.Int64))[0] == {"temp": 7}


def test_a_query_that_does_not_run_says_what_duckdb_said(engine):
    source = hw.SQLSource("SELECT nothing FROM t", tables={"t": rows(temp=[1.0])}, event_time="happened")
    with pytest.raises(SourceError, match=r"view 'weather' \(1\.0\.0\): its query does not run.*nothing"):
        values(engine, source)


def test_a_push_source_without_writes_has_no_rows(engine):
    assert values(engine, hw.PushSource(event_time="happened")) == [{"temp": None}] * 2


@pytest.mark.parametrize(
    ("column", "dtype", "value"),
    [
        (pa.array([16_777_217], pa.int64()), hw.Float64, 16_777_217.0),
        (pa.nulls(1), hw.Bool, None),
    ],
)
def test_columns_fit_though_their_type_may_lose_something(engine, column, dtype, value):
    found = ask(engine, spine(("JFK", 1)), [view(rows(temp=column), hw.Feature("temp", dtype))]).to_arrow()
    assert found.column("temp").to_pylist() == [value] and found.schema.field("temp").type == dtype.arrow


@pytest.mark.parametrize(
    ("column", "dtype", "words"),
    [
        (pa.array([2**40], pa.int64()), hw.Int32, "1099511627776 in row 0 does not fit int32"),
        (pa.array([1e39], pa.float64()), hw.Float32, r"1e\+39 in row 0 does not fit float32"),
        (pa.array([1.5], pa.float64()), hw.Int64, "1.5 in row 0 does not fit int64: not a whole number"),
        (pa.array(["7"]), hw.Int64, "is string, which does not fit int64"),
        (pa.array([2**53 + 1]), hw.Float64, "9007199254740993 in row 0 does not fit"),
        (pa.array([[1.5]], pa.list_(pa.float32())), hw.Embedding(2), "1 numbers, not 2"),
        (pa.array([[1.5, None]], pa.list_(pa.float32())), hw.Embedding(2), "a vector with a NULL"),
        (pa.array([1], pa.timestamp("ns")), hw.Timestamp, "finer than a microsecond"),
    ],
)
def test_what_would_lose_something_is_an_error(engine, column, dtype, words):
    with pytest.raises(SourceError, match=f"view 'weather' .*feature 'temp'.*column 'temp'.*{words}"):
        values(engine, rows(temp=column), hw.Feature("temp", dtype))


def test_a_wider_float_becomes_the_nearest_float32(engine):
    source = table(("JFK", at(0), 1.111, [0.1, 0.2]), columns="airport happened temp vector")
    features = [hw.Feature("temp", hw.Float32), hw.Feature("vector", hw.Embedding(2))]
    found = values(engine, source, *features)[0]
    assert found["temp"] == pytest.approx(1.111) and found["vector"] == pytest.approx([0.1, 0.2])


def test_what_a_source_lacks_is_named(engine):
    with pytest.raises(SourceError, match="did you mean 'temp'"):
        values(engine, rows(temp=[1.0]), hw.Feature("tmp", hw.Float64))
    with pytest.raises(SourceError, match=r"no file at .*nowhere\.parquet"):
        values(engine, hw.ParquetSource("nowhere.parquet", event_time="happened"))
    with pytest.raises(SourceError, match="join key is string"):
        values(engine, rows(airport=[1], temp=[1.0]))
    with pytest.raises(SourceError, match="not a timestamp"):
        values(engine, rows(happened=["noon"], temp=[1.0]))
    with pytest.raises(SourceError, match="lives in the store object"):
        values(engine, hw.TableSource(table=None, event_time="happened"))


def test_ranges_of_time_come_from_the_file_itself(tmp_path):
    stamps = pa.array([-1500, None, 1500], pa.timestamp("ns"))
    pq.write_table(pa.table({"t": stamps}), tmp_path / "ns.parquet")
    assert time_range(read_footers([tmp_path / "ns.parquet"], "here"), "t") == (-1, 2)
    pq.write_table(pa.table({"t": stamps.cast(pa.timestamp("us"), safe=False)}), tmp_path / "us.parquet", version="1.0")
    assert time_range(read_footers([tmp_path / "us.parquet"], "here"), "t") == (-1, 1)
    pq.write_table(pa.table({"t": stamps}), tmp_path / "none.parquet", write_statistics=False)
    assert time_range(read_footers([tmp_path / "none.parquet"], "here"), "t") is None
    pq.write_table(pa.table({"t": stamps}), tmp_path / "old.parquet", use_deprecated_int96_timestamps=True)
    assert time_range(read_footers([tmp_path / "old.parquet"], "here"), "t") is None


def test_nulls_are_told_by_the_file(tmp_path):
    pq.write_table(pa.table({"t": [None, 1, None], "u": [1, 2, 3]}), tmp_path / "a.parquet", row_group_size=2)
    pq.write_table(pa.table({"t": pa.nulls(1, pa.int64())}), tmp_path / "b.parquet")
    both = read_footers([tmp_path / "a.parquet", tmp_path / "b.parquet"], "here")
    assert (null_count(both, "t"), null_count(both, "u")) == (3, None)
    pq.write_table(pa.table({"t": [None]}), tmp_path / "c.parquet", write_statistics=False)
    assert null_count(read_footers([tmp_path / "c.parquet"], "here"), "t") is None


def changed(engine, source, log=None, keys=None, after=MIN_MICROS):
    snapshot = registered([view(source)])
    whole = whole_view(snapshot.view("weather"), snapshot.view("weather").version())
    micros = int(at(10).timestamp() * 1_000_000)
    counts = ChangeCounts()
    request = ChangesRequest(ViewInput(whole, source, log), micros, after, Watermark(), 2**62, keys)
    found = [row for batch in engine.changes(request, counts) for row in batch.to_pylist()]
    return {row["airport"]: row["temp"] for row in found}, counts


def test_changes_are_the_newest_row_of_each_key_and_count_what_is_left_out(engine):
    source = table(
        ("JFK", at(0), 1.0),
        ("JFK", at(5), 2.0),
        ("JFK", at(20), 3.0),
        ("EWR", at(1), 4.0),
        (None, at(0), 5.0),
        ("LGA", None, 6.0),
    )
    found, counts = changed(engine, source)
    assert found == {"JFK": 2.0, "EWR": 4.0}
    assert (counts.rows, counts.null_keys, counts.null_times, counts.future) == (3, 1, 1, 1)
    assert changed(engine, source, keys=pa.table({"airport": ["EWR", "ORD"]}))[0] == {"EWR": 4.0}


def test_row_groups_known_before_the_run_are_not_read(engine, tmp_path):
    """Their bytes are damaged: who reads them fails."""
    happened = [at(i) if i < 8 else at(i - 8) for i in range(12)]
    learnt = [at(i + 1) if i < 8 else at(i) for i in range(12)]
    rows = {"airport": [f"k{i % 3}" for i in range(12)], "happened": happened, "learnt": learnt}
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table(rows | {"temp": [float(i) for i in range(12)]}), file, row_group_size=4)
    old = pq.read_metadata(file).row_group(0)
    data = bytearray(file.read_bytes())
    for part in (old.column(i) for i in range(old.num_columns)):
        start = min(filter(None, (part.dictionary_page_offset, part.data_page_offset)))
        data[start : start + part.total_compressed_size] = b"\xff" * part.total_compressed_size
    file.write_bytes(data)
    source = hw.ParquetSource("a.parquet", event_time="happened", created_time="learnt")
    with pytest.raises(HeadwaterError):
        changed(engine, source)
    # of the groups that are read one happened late, the other was learnt late of; its last row is not known yet
    found, counts = changed(engine, source, after=int(at(4.5).timestamp() * 1_000_000))
    assert found == {"k0": 6.0, "k1": 7.0, "k2": 5.0} and (counts.rows, counts.future) == (7, 1)


def test_changes_skip_log_rows_without_the_columns(engine):
    part = pa.table({"airport": ["JFK"], "happened": [at(6)], "other": [1], "__position": [1], "__arrival": [0]})
    log = LogSlice((LogPart(frozenset({"airport", "happened", "other"}), part),), position=1)
    found, counts = changed(engine, table(("JFK", at(0), 1.0)), log)
    assert found == {"JFK": 1.0} and counts.skipped == 1


def test_tables_larger_than_memory_go_to_the_temporary_folder(tmp_path):
    query = "SELECT 'k' || (i % 100000) AS airport, make_timestamp(1710000000000000 + i) AS happened, random() AS temp"
    duckdb.sql(f"COPY ({query} FROM range(2000000) t(i)) TO '{tmp_path}/big.parquet'")
    small = DuckDBEngine(tmp_path, memory_limit="120MB", threads=1, temp_folder=tmp_path / "temp")
    source = hw.SQLSource(
        "SELECT * FROM big ORDER BY temp", tables={"big": hw.ParquetSource("big.parquet")}, event_time="happened"
    )
    asked = ask(
        small, "SELECT 'k' || i AS airport, TIMESTAMP '2024-03-11' AS timestamp FROM range(200000) t(i)", [view(source)]
    )
    assert sum(batch.num_rows for batch in asked.to_batches()) == 200_000
    assert asked.metadata.views["weather"].matched == 100_000
    small.close()
    assert not list((tmp_path / "temp").iterdir())


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("CAST(CASE WHEN i = 500000 THEN 'x' ELSE '1' END AS INTEGER)", "Conversion Error"),
        ("CASE WHEN i = 500000 THEN error('boom') ELSE '1' END", "boom"),
    ],
)
def test_an_error_far_down_in_an_answer_is_headwaters_own(engine, value, error):
    query = f"SELECT 'JFK' AS airport, TIMESTAMP '2024-03-11' AS timestamp, {value} AS x FROM range(1000000) t(i)"
    with pytest.raises(SpineError, match=error):
        ask(engine, query, [view(rows(temp=[1.0]))]).to_arrow()


def test_an_answer_that_is_read_ends_where_the_engine_is_closed(engine):
    with engine.workspace() as space:
        batches = space.stream_sql("SELECT i, random() AS x FROM range(1000000000) t(i)", 10_000)
        with ThreadPoolExecutor(1) as pool:
            reader = pool.submit(lambda: sum(batch.num_rows for batch in batches))
            time.sleep(0.2)
            engine.close()
            with pytest.raises(Unavailable, match="closed"):
                reader.result()


def test_a_run_leaves_no_tables_behind(engine):
    asked = ask(engine, spine(("JFK", 1)), [view(rows(temp=[1.0]))])
    asked.to_arrow()
    next(asked.to_batches(1))
    with engine.workspace() as space:
        assert space.fetch("SELECT count(*) FROM information_schema.tables") == [(0,)]


def test_an_engine_that_nobody_closes_leaves_no_folder_behind(tmp_path):
    program = (
        "from headwater.offline.engines.duckdb.engine import DuckDBEngine\n"
        f"engine = DuckDBEngine(temp_folder={str(tmp_path)!r})\nprint(engine.temp_folder)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert Path(told.stdout.strip()).parent == tmp_path
    assert not list(tmp_path.iterdir())


def test_decimals_that_duckdb_would_round_are_refused(engine, tmp_path):
    column = pa.array([Decimal("1.10")], pa.decimal256(50, 2))
    pq.write_table(rows(temp=column).table, tmp_path / "w.parquet")
    source = hw.ParquetSource(str(tmp_path / "w.parquet"), event_time="happened")
    with pytest.raises(SourceError, match=r"w\.parquet: column 'temp' is decimal256\(50, 2\).* at most 38 digits"):
        values(engine, source, hw.Feature("temp", hw.Float64))
