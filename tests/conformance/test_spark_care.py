"""What else is asked of the engine on Spark: whose session is changed, what is read, what is left behind, what fails.

It runs in an environment of its own: `make test-sail`, `make test-spark`.
"""

import gc
import weakref
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlglot import exp, parse_one

import headwater as hw
from headwater.errors import SourceError
from headwater.offline.engines.spark import sessions
from headwater.offline.engines.spark.engine import SparkEngine
from headwater.testing.dense import dense_case
from headwater.testing.offline_checks import check_history
from tests.servers.spark import BRIEF, SAIL, SailServer, left_to_sail
from tests.servers.waiting import wait_until
from tests.spark_tables import placing

DAY = datetime(2024, 3, 1, tzinfo=UTC)
DRIVER = hw.Entity("driver", join_keys={"driver": hw.Int64})


def rides(source):
    return hw.FeatureView("rides", entity=DRIVER, source=source, features=[hw.Feature("km", hw.Float64)])


@pytest.fixture
def table(tmp_path, engine, spark):
    at = pa.array([datetime(2024, 3, day, tzinfo=UTC) for day in range(1, 31)], pa.timestamp("us", "UTC"))
    with placing(tmp_path, engine, spark) as place:
        rows = pa.table({"driver": pa.array([1] * 30), "at": at, "km": pa.array([float(n) for n in range(30)])})
        place(rows, "care_rides")
        yield "care_rides"


def test_the_given_session_is_left_as_it_is_and_nothing_is_left_behind(tmp_path, spark, engine, table):
    spark.conf.set("spark.sql.session.timeZone", "Asia/Kolkata")
    try:
        with hw.FeatureStore(tmp_path, offline=engine) as store:
            store.apply([DRIVER, rides(hw.SparkSource(table=table, event_time="at"))])
            spine = pa.table({"driver": [1], "timestamp": [DAY]})
            found = store.get_historical_features(spine, ["rides:km"], include=("event_time",)).to_pylist()
        assert (found[0]["km"], found[0]["rides__event_time"]) == (0.0, DAY)
        assert spark.conf.get("spark.sql.session.timeZone") == "Asia/Kolkata"
        names = [row["tableName"] for row in engine.session().spark.sql("SHOW TABLES").collect()]
        # those of queries and files stay until the engine is closed
        assert not [n for n in names if n.startswith("hw_") and not n.startswith(("hw_query_", "hw_files_"))]
        assert not list(engine.embedded.temp_folder.rglob("*.parquet"))
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")


_INSTANTS, _DAYS = (-62_135_596_800_000_001, 253_402_300_800_000_000), (-719_163, 2_932_897)
FAR = {
    "instant": (hw.Timestamp, pa.timestamp("us", "UTC"), _INSTANTS),
    "naive": (hw.Timestamp, pa.timestamp("us"), _INSTANTS),
    "day": (hw.Date, pa.date32(), _DAYS),
    "midnight": (hw.Timestamp, pa.date32(), _DAYS),
}
"""Feature → its dtype, its column's type, the last value before the year 1 and the first after 9999."""


def test_times_outside_the_years_1_to_9999_are_refused_and_those_at_their_ends_are_not(tmp_path, engine, spark):
    columns = {"low": {}, "high": {}, "ends": {}}
    for name, (_, kind, (low, high)) in FAR.items():
        whole = pa.int32() if pa.types.is_date(kind) else pa.int64()
        for table, values in {"low": [low], "high": [high], "ends": [low + 1, high - 1]}.items():
            columns[table][name] = pa.array(values, whole).cast(kind)
    views = {f"{table}_{name}": (table, [name]) for table in ("low", "high") for name in FAR} | {"ends": ("ends", FAR)}
    with placing(tmp_path, engine, spark) as place, hw.FeatureStore(tmp_path, offline=engine) as store:
        for table, values in columns.items():
            place(pa.table({"driver": pa.array(range(len(values["day"])), pa.int64()), **values}), f"far_{table}")
        features = {name: hw.Feature(name, dtype) for name, (dtype, _, _) in FAR.items()}
        made = [
            hw.FeatureView(
                view,
                entity=DRIVER,
                source=hw.SparkSource(table=f"far_{table}"),
                features=[features[name] for name in names],
            )
            for view, (table, names) in views.items()
        ]
        store.apply([DRIVER, *made])
        spine = pa.table({"driver": [0, 1], "timestamp": [DAY, DAY]})
        found = store.get_historical_features(spine, ["ends:*"]).to_arrow()
        for name in FAR:
            assert [value.year for value in found[name].to_pylist()] == [1, 9999]
        refused = [view for view in views if view != "ends"]
        for view in refused[:: 3 if BRIEF else 1]:
            with pytest.raises(SourceError, match=rf"feature '{views[view][1][0]}': .* outside the years 1 to 9999"):
                store.get_historical_features(spine, [f"{view}:*"]).to_arrow()


def test_each_row_of_a_spine_in_several_parts_is_answered_once(tmp_path, engine, spark, table):
    """Each part is numbered for itself; window views and others are brought together by the numbers."""
    hours = hw.FeatureView(
        "hours",
        entity=DRIVER,
        source=hw.SparkSource(table=table, event_time="at"),
        features=[hw.Aggregation("km", "count", "7d")],
        columns={"km": hw.Float64},
    )
    with placing(tmp_path, engine, spark) as place, hw.FeatureStore(tmp_path, offline=engine) as store:
        store.apply([DRIVER, rides(hw.SparkSource(table=table, event_time="at")), hours])
        parts = []
        for part in range(3):
            times = pa.array([DAY + timedelta(hours=part, minutes=n) for n in range(20)], pa.timestamp("us", "UTC"))
            numbers = pa.array(range(20 * part, 20 * part + 20), pa.int64())
            drivers = pa.array([1, 2] * 10, pa.int64())
            own = pa.table({"number": numbers, "driver": drivers, "timestamp": times})
            parts.append((own, place(own, f"spine_part_{part}")))
        features = ["rides:km", "hours:*"]
        expected = store.get_historical_features(pa.concat_tables([rows for rows, _ in parts]), features).to_arrow()
        spine = " UNION ALL ".join(query for _, query in parts)
        result = store.get_historical_features(spine, features)
        assert result.to_arrow().sort_by("number").to_pylist() == expected.to_pylist()
        if not SAIL:
            assert "MONOTONICALLY" in result.sql() and "ROW_NUMBER() OVER (ORDER BY NULL)" not in result.sql()


def test_a_table_that_is_missing_is_named_with_the_nearest(tmp_path, engine, table):
    with hw.FeatureStore(tmp_path, offline=engine) as store, pytest.raises(hw.HeadwaterError, match="care_ride"):
        store.apply([DRIVER, rides(hw.SparkSource(table="care_ride", event_time="at"))])


def test_what_a_filter_on_time_excludes_is_not_read(tmp_path, engine, table):
    """The condition is on the source's own column, so that Spark hands it to the files."""
    if SAIL:
        return  # its rows are copied once a run
    with hw.FeatureStore(tmp_path, offline=engine) as store:
        store.apply([DRIVER, rides(hw.SparkSource(table=table, event_time="at"))])
        spine = pa.table({"driver": [1], "timestamp": [DAY]})
        statements = store.get_historical_features(spine, ["rides:km"]).sql()
    (carried,) = [text for text in statements.split(";\n") if text.startswith("CREATE") and "carried" in text]
    tables = parse_one(carried.partition(" AS ")[2], dialect="spark").find_all(exp.Table)
    scans = [table.parent_select for table in tables]
    (scan,) = [scan for scan in scans if scan.args["from_"].this.name.startswith("hw_query_")]
    spark = engine.session().spark
    plan = spark.sql(f"EXPLAIN FORMATTED {scan.sql('spark', identify=True)}").collect()[0][0]
    assert "LessThanOrEqual(at" in plan.partition("PushedFilters:")[2]


def test_an_engine_that_was_closed_says_so(tmp_path, spark):
    engine = SparkEngine(tmp_path, session=spark)
    engine.session()
    engine.close()
    with pytest.raises(hw.Unavailable, match="closed"):
        engine.session()


def test_parquet_files_of_types_that_spark_reads_otherwise_are_left_to_duckdb(tmp_path, engine):
    at = pa.array([DAY], pa.timestamp("us", "UTC"))
    plain = {"driver": pa.array([1]), "at": at, "km": pa.array([1.0])}
    others = {
        "nanos": {**plain, "at": at.cast(pa.timestamp("ns", "UTC"))},
        "unsigned": {**plain, "n": pa.array([1], pa.uint64())},
        "case": {**plain, "KM": pa.array([1.0])},
        "variable": {**plain, "${java.version}": pa.array([1.0])},
    }
    for name, columns in {"plain": plain, "brotli": plain, "co:lon": plain, **others}.items():
        codec = "brotli" if name == "brotli" else "snappy"
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet", compression=codec)
        found = engine.connection.readable_files(hw.ParquetSource(f"{name}.parquet", event_time="at"))
        assert (found is not None) == (name == "plain" and not SAIL)


def test_names_are_taken_as_they_are(tmp_path, spark):
    """Neither a wildcard of a path is one, nor is a column's name a variable or a pattern."""
    folder = tmp_path / "a [1]{b,c}*?"
    names = ["${spark.sql.session.timeZone}", "k.*", "it's `so`", "\\u0041"]
    for place, value in ((folder, 1.0), (tmp_path / "a 1bX?", 2.0)):
        place.mkdir()
        columns = {"driver": [1], "at": pa.array([DAY], pa.timestamp("us", "UTC")), **{n: [value] for n in names}}
        pq.write_table(pa.table(columns), place / "x.parquet")
    features = [hw.Feature(f"f{i}", hw.Float64, column=name) for i, name in enumerate(names)]
    sources = [hw.ParquetSource("x.parquet", event_time="at")]
    # a path of Spark's own is Spark's to read, its project's folder is not
    sources += [] if SAIL else [hw.SparkSource(path="x.parquet", format="parquet", event_time="at")]
    views = [hw.FeatureView(f"v{i}", entity=DRIVER, source=s, features=features) for i, s in enumerate(sources)]
    engine = SparkEngine(folder, session=spark)
    with hw.FeatureStore(folder, offline=engine) as store:
        store.apply([DRIVER, *views])
        spine = pa.table({"driver": [1], "timestamp": [DAY]})
        for first, view in enumerate(views):  # Spark itself reads NULL for the first name
            (found,) = store.get_historical_features(spine, [f"{view.name}:*"]).to_pylist()
            assert [found[f"f{i}"] for i in range(first, len(names))] == [1.0] * (len(names) - first)
    engine.close()


def test_a_scratch_folder_whose_name_would_be_a_pattern_is_refused(tmp_path, spark):
    engine = SparkEngine(tmp_path, session=spark, scratch=str(tmp_path / "a[1]"))
    with pytest.raises(hw.ConfigError, match=r"scratch = .*: the path must not contain"):
        engine.connection.scratch()
    engine.close()


@left_to_sail
def test_a_run_of_written_rows_alone(tmp_path, engine, table):
    """Its rows are in order of their keys, though the source has none that are new."""
    with hw.FeatureStore(tmp_path, offline=engine, online="memory:", clock=lambda: DAY.replace(month=5)) as store:
        store.apply([DRIVER, rides(hw.SparkSource(table=table, event_time="at"))])
        store.materialize()
        rows = [{"driver": n, "at": DAY.replace(month=4), "km": float(-n)} for n in (2, 1)]
        store.write("rides", rows, to="offline")
        run = store.materialize().runs[0]
        assert (run.rows, run.applied) == (2, 2)
        assert store.get_online_features(["rides:km"], [1, 2]).to_dict()["km"] == [-1.0, -2.0]


def test_a_server_that_is_killed_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    if not SAIL:
        return  # without a server Spark ends with this process
    monkeypatch.setattr(sessions, "_RETRIES", 2)
    case = dense_case(rows=50, spine=10, keys=5, span=60)
    with SailServer() as server:
        engine = SparkEngine(tmp_path, remote=server.url)
        check_history(engine, case)
    with pytest.raises(hw.Unavailable, match="open the store again"):
        check_history(engine, case)
    engine.close()
    with pytest.raises(hw.Unavailable, match="cannot use the Spark Connect server"):
        SparkEngine(tmp_path, remote=server.url).session()


def test_the_end_of_a_process_does_not_wait_for_a_server(tmp_path, spark):
    """PySpark keeps each client for the end, and then cleans up at its server: for minutes, if that is gone."""
    if not SAIL:
        return
    engine = SparkEngine(tmp_path, session=spark)
    client = weakref.ref(engine.session().spark.client)
    engine.close()
    wait_until(lambda: gc.collect() >= 0 and client() is None, "nothing holds the client")


def test_a_setting_that_is_refused_leaves_no_session_behind(tmp_path, spark, monkeypatch):
    """A Spark that headwater started counts its sessions, and ends with the last."""
    if SAIL:
        return
    monkeypatch.setitem(sessions._started, spark.sparkContext, 1)
    wrong = {"spark.sql.shuffle.partitions": "many"}
    engine = SparkEngine(tmp_path, master=spark.sparkContext.master, conf=wrong)
    with pytest.raises(hw.errors.ConfigError, match=r"\[offline.spark.conf\] spark.sql.shuffle.partitions"):
        engine.session()
    engine.close()
    assert sessions._started[spark.sparkContext] == 1
