"""Results that Spark writes as files itself, on Sail (Spark Connect) and on Spark: none of their rows pass the driver.

That they are those of the oracle is asked by the suites (`rows_in_any_order`).
"""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.cli.files import write_result
from headwater.errors import SourceError, UsageError
from headwater.offline.engines.spark.backend import SparkBackend
from tests.servers.spark import BRIEF, SAIL, left_to_sail
from tests.spark_tables import placing

DAY = datetime(2024, 3, 1, tzinfo=UTC)
DRIVER = hw.Entity("driver", join_keys={"driver": hw.Int32})


@pytest.fixture
def store(tmp_path, engine, spark):
    at = pa.array([datetime(2024, 3, day, tzinfo=UTC) for day in range(1, 11)], pa.timestamp("us", "UTC"))
    rows = pa.table(
        {
            "driver": pa.array([1] * 10, pa.int32()),
            "at": at,
            "km": pa.array([None, *range(9)], pa.float64()),
            "box": pa.array([[1.0, 2.0]] * 10),  # doubles, of which each is compared with the greatest float32
        }
    )
    spine = pa.table(
        {
            "Row": pa.array([0, 1, 2]),
            "driver": pa.array([1, 2, 1], pa.int32()),
            "timestamp": pa.array([DAY, DAY, datetime(2024, 3, 4, tzinfo=UTC)], pa.timestamp("us", "UTC")),
        }
    )
    with placing(tmp_path, engine, spark) as place, hw.FeatureStore(tmp_path, offline=engine) as store:
        place(rows, "result_rides")
        place(spine, "result_spine")
        features = [
            hw.Feature("km", hw.Float64, default=-1.0),
            hw.Feature("box", hw.Embedding(2), default=[0.5, 0.5]),
        ]
        source = hw.SparkSource(table="result_rides", event_time="at")
        store.apply([DRIVER, hw.FeatureView("rides", entity=DRIVER, source=source, features=features)])
        yield store


@pytest.fixture
def alone(monkeypatch):
    """The engine gives no rows to this process."""

    def none(*_):
        raise AssertionError("rows came to the driver")

    monkeypatch.setattr(SparkBackend, "batches", none)


SPINE = "SELECT * FROM result_spine"


def test_a_spine_of_sparks_own_is_joined_and_written_without_the_driver(tmp_path, store, alone):
    result = store.get_historical_features(SPINE, ["rides:*"], include=("status", "event_time"))
    assert result.to_parquet(tmp_path / "out.parquet") == tmp_path / "out.parquet"
    # by the command: an earlier result is replaced
    assert write_result(result, str(tmp_path / "out.parquet"), None).rows == 3
    assert (tmp_path / "out.parquet" / "_SUCCESS").exists()
    assert not list(tmp_path.glob(".out*"))
    found = pq.read_table(tmp_path / "out.parquet").sort_by("Row")
    assert found.column_names == result.schema.names
    assert found["km"].to_pylist() == [None, -1.0, 2.0]
    assert found["box"].to_pylist() == [[1.0, 2.0], [0.5, 0.5], [1.0, 2.0]]
    assert found["km__status"].to_pylist() == ["NULL", "NOT_FOUND", "PRESENT"]
    assert found["rides__event_time"].to_pylist() == [DAY, None, datetime(2024, 3, 4, tzinfo=UTC)]
    assert len(result) == 3 and result.metadata.views["rides"].matched == 2
    assert "WRITE SELECT" in result.sql()


def test_every_entity_is_written_without_the_driver(tmp_path, store, alone):
    result = store.get_historical_features(None, ["rides:km"], at=DAY)
    result.to_parquet(f"file://{tmp_path}/all")
    found = pq.read_table(tmp_path / "all")
    assert found.schema.field("driver").type == pa.int32()
    assert found.to_pylist() == [{"driver": 1, "km": None}]
    nobody = store.get_historical_features(None, ["rides:km"], at=datetime(2023, 3, 1, tzinfo=UTC))
    nobody.to_parquet(tmp_path / "all")
    empty = pq.read_table(tmp_path / "all")
    assert (empty.num_rows, empty.column_names) == (0, ["driver", "km"])


@left_to_sail
def test_rows_that_have_an_order_are_one_file(tmp_path, store):
    spine = pa.table({"driver": pa.array([1], pa.int32()), "timestamp": [DAY]})
    result = store.get_historical_features(spine, ["rides:km"])
    result.to_parquet(tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").is_file()
    with pytest.raises(UsageError, match="write a path"):
        result.to_parquet("s3://bucket/out")


@left_to_sail
def test_what_is_computed_here_is_written_here(tmp_path, engine, store):
    @hw.on_demand(inputs=[hw.RequestField("n", hw.Int64)], features=[hw.Feature("twice", hw.Int64)])
    def doubled(n):
        return {"twice": n * 2}

    store.apply([doubled])
    spine = "SELECT *, Row AS n FROM result_spine"
    result = store.get_historical_features(spine, ["rides:km", "doubled:twice"])
    result.to_parquet(tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").is_file()
    assert sorted(found["twice"].to_pylist()) == [0, 2, 4]


def test_a_folder_of_other_files_is_not_replaced(tmp_path, store):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    result = store.get_historical_features(SPINE, ["rides:km"])
    with pytest.raises(UsageError, match=r"other files \(notes.txt\)"):
        result.to_parquet(tmp_path / "mine")
    with pytest.raises(hw.errors.StoreError, match="does not exist; create it first"):
        result.to_parquet(tmp_path / "nowhere" / "out.parquet")


def test_nothing_is_left_of_a_run_that_fails(tmp_path, store, monkeypatch):
    """Whatever is written before the end has no name yet; what was there before stays."""
    result = store.get_historical_features(SPINE, ["rides:km"])
    result.to_parquet(tmp_path / "out.parquet")
    before = sorted(path.name for path in (tmp_path / "out.parquet").iterdir())
    written = SparkBackend.write

    def failing(self, query, url):
        written(self, query, url)
        assert list(tmp_path.glob(".out.parquet.*.unfinished/new/*.parquet"))
        raise SourceError("in the midst of it")

    monkeypatch.setattr(SparkBackend, "write", failing)
    with pytest.raises(SourceError, match="in the midst"):
        result.to_parquet(tmp_path / "out.parquet")
    assert sorted(path.name for path in (tmp_path / "out.parquet").iterdir()) == before
    assert not list(tmp_path.glob(".out*"))


def test_a_path_with_characters_of_patterns_is_written_here(tmp_path, store, engine):
    """Servers of Spark's protocol take them for patterns or escapes: their files would be somewhere else."""
    result = store.get_historical_features(SPINE, ["rides:km"])
    names = ["a [1]", "a%20b", "a\\b", "a*?", "{a,b}", "a#b"]
    assert engine.writes_to(str(tmp_path / "a b" / "out.parquet"))
    assert not any(engine.writes_to(str(tmp_path / name / "out.parquet")) for name in names)
    for name in names[:1] if BRIEF else names:
        (tmp_path / name).mkdir()
        result.to_parquet(tmp_path / name / "out.parquet")
        with pq.ParquetFile(tmp_path / name / "out.parquet") as file:
            assert sorted(file.read()["Row"].to_pylist()) == [0, 1, 2]


@pytest.mark.parametrize("given", [SPINE, None])
def test_what_a_join_would_read_of_a_table_is_what_sparks_optimizer_says(store, alone, monkeypatch, given):
    """Spark Connect says nothing; nothing runs."""
    monkeypatch.setattr(SparkBackend, "create", lambda *_: pytest.fail("a statement ran"))
    at = DAY if given is None else None
    (line,) = store.get_historical_features(given, ["rides:km"], at=at).estimate()
    assert (line.view, line.what, line.files) == ("rides", "spark result_rides", None)
    assert line.bytes is None if SAIL else line.bytes > 0


if not SAIL:  # Spark Connect tells no sizes

    def test_partitions_that_the_spine_does_not_reach_are_not_counted(tmp_path, engine, spark):
        location = f"PARTITIONED BY (day) LOCATION 'file://{tmp_path}/parted'"
        days = "VALUES (1, 1.0D, DATE'2024-03-01'), (1, 2.0D, DATE'2024-03-02'), (1, 3.0D, DATE'2024-03-09')"
        spark.sql(f"CREATE TABLE parted_rides USING parquet {location} AS SELECT * FROM {days} AS t(driver, km, day)")
        try:
            source = hw.SparkSource(table="parted_rides", event_time="day")
            view = hw.FeatureView(
                "rides", entity=DRIVER, source=source, features=[hw.Feature("km", hw.Float64)], ttl="1d"
            )
            with hw.FeatureStore(tmp_path, offline=engine) as store:
                store.apply([DRIVER, view])
                spines = [[{"driver": 1, "timestamp": datetime(2024, 3, day, tzinfo=UTC)}] for day in (5, 9)]
                spines.append([{"driver": 1, "timestamp": datetime(2024, 3, day, tzinfo=UTC)} for day in (2, 9)])
                none, one, three = (
                    store.get_historical_features(given, ["rides:km"]).estimate()[0].bytes for given in spines
                )
            assert none <= 1 < one < three
        finally:
            spark.sql("DROP TABLE parted_rides")


def test_what_a_join_would_read_of_files_is_what_footers_say(tmp_path, engine, spark):
    at = pa.array([datetime(2024, 3, day, tzinfo=UTC) for day in range(1, 11)], pa.timestamp("us", "UTC"))
    rows = pa.table({"driver": pa.array([1] * 10, pa.int32()), "at": at, "km": pa.array([1.0] * 10), "more": at})
    pq.write_table(rows, tmp_path / "rides.parquet", row_group_size=2)
    source = hw.ParquetSource("rides.parquet", event_time="at")
    view = hw.FeatureView("rides", entity=DRIVER, source=source, features=[hw.Feature("km", hw.Float64)])
    with hw.FeatureStore(tmp_path, offline=engine) as store:
        store.apply([DRIVER, view])
        (line,) = store.get_historical_features([{"driver": 1}], ["rides:km"], at=DAY).estimate()
    # only Spark reads them where they are; else DuckDB brings all of their rows
    groups = 1 if engine.files_in_place(source) else 5
    footer = pq.read_metadata(tmp_path / "rides.parquet")
    size = sum(footer.row_group(g).column(c).total_compressed_size for g in range(groups) for c in range(3))
    assert (line.files, line.rows, line.bytes) == (1, 2 * groups, size)
