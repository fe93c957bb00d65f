"""What a join would read: footers, sizes and tables tell, and nothing is read for it."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headwater as hw
from headwater.errors import SpineError
from headwater.offline.base import LogPart, LogSlice
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.estimates import SourceEstimate
from tests.unit.offline.asking import ask, at, spine, table, view

MINUTE = 60_000_000
SPINE = spine(("JFK", 30), ("EWR", 45))


@pytest.fixture
def engine(tmp_path):
    engine = DuckDBEngine(tmp_path)
    yield engine
    engine.close()


def estimate(engine, given, source, *features, log=None, **options):
    """The lines of a result, which are known without a table of DuckDB's."""
    at_all = options.pop("at", None)
    made = ask(engine, given, [view(source, *features, **options)], log=log, at=at_all)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DuckDBEngine, "workspace", lambda *_: pytest.fail("a statement ran"))
        return made.estimate()


def weather(minutes, **more):
    times = pa.array([at(minute) for minute in minutes], pa.timestamp("us", "UTC"))
    return pa.table({"airport": ["JFK"] * len(minutes), "happened": times, "temp": [1.0] * len(minutes), **more})


def size(path, groups, *columns):
    """Bytes of some columns in some row groups, by the footer."""
    footer = pq.read_metadata(path)
    chunks = [footer.row_group(g).column(c) for g in groups for c in range(footer.num_columns)]
    return sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)


USED = ("airport", "happened", "temp")


@pytest.mark.parametrize(
    ("given", "options", "groups"),
    [
        (SPINE, {}, range(5)),  # of minutes 0 to 9, 10 to 19, … 90 to 99: up to 45
        (SPINE, {"ttl": "15m"}, range(1, 5)),
        (SPINE, {"ttl": "5m"}, range(2, 5)),
        (spine(), {}, range(0)),
        (pa.table({"airport": ["JFK"]}), {"at": at(20)}, range(3)),
        (None, {"at": at(20), "ttl": "1m"}, range(3)),  # every row lists its entity
    ],
)
def test_row_groups_that_the_spine_does_not_reach_are_left_out(engine, tmp_path, given, options, groups):
    rows = weather(range(100), more=pa.array(range(100)), list=[[1.0]] * 100)
    pq.write_table(rows, tmp_path / "a.parquet", row_group_size=10)
    if "at" in options:
        options = options | {"at": hw.clock.to_micros(options["at"])}
    source = hw.ParquetSource("a.parquet", event_time="happened")
    (line,) = estimate(engine, given, source, **options)
    used = size(tmp_path / "a.parquet", groups, *USED)
    assert line == SourceEstimate("weather", "parquet a.parquet", int(bool(groups)), 10 * len(groups), used)


@given(
    st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=4), min_size=1, max_size=5),
    st.lists(st.integers(0, 300), min_size=1, max_size=4),
    st.sampled_from([None, 1, 60]),
    st.sampled_from(["ms", "us", "ns"]),
    st.booleans(),
)
def test_every_row_that_counts_is_among_those_estimated(tmp_path_factory, groups, minutes, ttl, unit, filed):
    folder = tmp_path_factory.mktemp("estimates")
    rows = weather([minute for group in groups for minute in group])
    kind = pa.timestamp(unit, "UTC")
    rows = rows.set_column(1, "happened", rows.column("happened").cast(kind))
    with pq.ParquetWriter(folder / "a.parquet", rows.schema) as writer:
        first = 0
        for group in groups:
            writer.write_table(rows.slice(first, len(group)))
            first += len(group)
    asked = spine(*[("JFK", minute) for minute in minutes])
    if filed:
        pq.write_table(asked, folder / "spine.parquet")
    engine = DuckDBEngine(folder)
    given = "spine.parquet" if filed else asked
    source = hw.ParquetSource("a.parquet", event_time="happened")
    (line,) = estimate(engine, given, source, ttl=None if ttl is None else f"{ttl}m")
    lower, upper = -1 if ttl is None else min(minutes) - ttl, max(minutes)
    reached = [i for i, group in enumerate(groups) if max(group) >= lower and min(group) <= upper]
    engine.close()
    assert line.rows == sum(len(groups[i]) for i in reached)
    assert line.bytes == size(folder / "a.parquet", reached, *USED)


def test_files_and_partitions(engine, tmp_path):
    for day in (8, 9, 10, 11):
        (tmp_path / f"data/day=2024-03-{day:02}").mkdir(parents=True)
        pq.write_table(weather([0]).drop_columns("happened"), tmp_path / f"data/day=2024-03-{day:02}/a.parquet")
    (line,) = estimate(engine, SPINE, hw.ParquetSource("data", event_time="day"), ttl="1d")
    # noon of the 10th: the 10th, the 9th (at midnight it is out of the ttl, but a day is compared as one), not the 11th
    assert (line.files, line.rows) == (2, 2)
    assert line.bytes == 2 * size(tmp_path / "data/day=2024-03-09/a.parquet", [0], "airport", "temp")


def test_times_of_a_zone_leave_nothing_out(engine, tmp_path):
    times = pa.array([at(minute).replace(tzinfo=None) for minute in (0, 500)])
    pq.write_table(weather([0, 500]).set_column(1, "happened", times), tmp_path / "a.parquet", row_group_size=1)
    source = hw.ParquetSource("a.parquet", event_time="happened", timezone="Asia/Tokyo")
    (line,) = estimate(engine, SPINE, source)
    assert line.rows == 2


def test_text_tables_and_queries(engine, tmp_path):
    (tmp_path / "a.csv").write_text("airport,happened,temp\nJFK,2024-03-10,1\n")
    (tmp_path / "a.json").write_text('{"airport": "JFK", "happened": "2024-03-10", "temp": 1}\n')
    csv, json = hw.CSVSource("a.csv", event_time="happened"), hw.JSONSource("a.json", event_time="happened")
    query = hw.SQLSource(
        "SELECT airport, happened::TIMESTAMP AS happened, temp::DOUBLE AS temp FROM a",
        tables={"a": csv},
        event_time="happened",
    )
    held = hw.TableSource(weather([0, 1], more=[1, 2]), event_time="happened")
    views = [view(source, name=f"v{i}") for i, source in enumerate((csv, json, query, held))]
    lines = ask(engine, SPINE, views, full_names=True).estimate()
    told = [(line.view, line.what, line.files, line.rows, line.bytes) for line in lines]
    assert told == [
        ("v0", "csv a.csv", 1, None, (tmp_path / "a.csv").stat().st_size),
        ("v1", "json a.json", 1, None, (tmp_path / "a.json").stat().st_size),
        ("v2", "sql", 1, None, None),
        ("v3", "table", None, 2, weather([0, 1]).nbytes),
    ]


def test_an_object_store_is_read_whole(engine, tmp_path, s3_server):
    bucket = s3_server.make_bucket()
    pq.write_table(weather(range(100), more=pa.array(range(100))), tmp_path / "a.parquet", row_group_size=10)
    s3_server.client.upload_file(str(tmp_path / "a.parquet"), bucket, "a.parquet")
    (line,) = estimate(engine, SPINE, hw.ParquetSource(s3_server.url(f"{bucket}/a.parquet"), event_time="happened"))
    assert (line.files, line.rows, line.bytes) == (1, 100, size(tmp_path / "a.parquet", range(10), *USED))


def test_the_log_has_a_line_of_its_own(engine, tmp_path):
    def logged(minutes, **more):
        numbers = pa.array(range(len(minutes)), pa.int64())
        return weather(minutes, **more).append_column("__position", numbers).append_column("__arrival", numbers)

    pq.write_table(logged([1, 2, 99]), tmp_path / "log.parquet")
    schema = weather([0]).schema
    columns = frozenset(schema.names)
    buffer = logged([5])
    parts = (
        LogPart(columns, files=(tmp_path / "log.parquet",), schema=schema, spans=((0, 2, 3),)),
        LogPart(columns, table=buffer, schema=schema),
        LogPart(columns - {"temp"}, table=buffer.drop_columns("temp"), schema=schema.remove(2)),
    )
    lines = estimate(engine, SPINE, table(("JFK", at(0), 1.0)), log=LogSlice(parts, position=3))
    read = size(tmp_path / "log.parquet", [0], *USED, "__position", "__arrival") + buffer.nbytes
    assert lines[1:] == [SourceEstimate("weather", "offline log", 1, 4, read)]
    pushed = estimate(engine, SPINE, hw.PushSource(event_time="happened"), log=LogSlice(parts, position=3))
    assert pushed == lines[1:]


def test_windows_reach_back_as_far_as_there_are_events(engine, tmp_path):
    pq.write_table(weather(range(100), wind=[1.0] * 100), tmp_path / "a.parquet", row_group_size=10)
    source = hw.ParquetSource("a.parquet", event_time="happened")
    totals = [hw.Aggregation(name, "sum", "10m") for name in ("temp", "wind")]
    columns = {"temp": hw.Float64, "wind": hw.Float64}
    windows = view(source, *totals, columns=columns)
    (line,) = ask(engine, SPINE, [windows], [windows["temp_sum_10m"]]).estimate()
    assert (line.rows, line.bytes) == (50, size(tmp_path / "a.parquet", range(5), *USED))


def test_a_spine_without_a_timestamp_is_refused_as_in_a_run(engine):
    given = pa.table({"airport": ["JFK"], "timestamp": pa.array([None], pa.timestamp("us", "UTC"))})
    with pytest.raises(SpineError, match="no timestamp"):
        ask(engine, given, [view(table(("JFK", at(0), 1.0)))]).estimate()
