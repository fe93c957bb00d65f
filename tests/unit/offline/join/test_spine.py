"""Spines of every form: what is accepted, how instants are rounded, what is refused."""

from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.errors import SpineError, UsageError
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.planning.local_time import floor_micros
from tests.unit.offline.asking import NOON, ask, at, spine, table, view


@pytest.fixture(scope="module")
def engine():
    engine = DuckDBEngine()
    yield engine
    engine.close()


WEATHER = view(table(("JFK", at(0), 1.0), ("EWR", at(0), 2.0)))
NUMBERED = view(
    table((1, at(0), 1.0), (2, at(0), 2.0), columns="id happened temp"),
    entity=hw.Entity("thing", join_keys={"id": hw.Int64}),
)


def temps(engine, given, weather=WEATHER, **options):
    return ask(engine, given, [weather], **options).to_arrow().column("temp").to_pylist()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_any_unit_and_zone(engine, unit, zone):
    instants = pa.array([NOON], pa.timestamp("us", "UTC")).cast(pa.timestamp(unit, "UTC"))
    instants = instants.cast(pa.timestamp(unit, zone)) if zone else instants.cast(pa.int64()).cast(pa.timestamp(unit))
    given = pa.table({"airport": ["JFK"], "event_timestamp": instants})
    assert temps(engine, given) == [1.0]
    assert ask(engine, given, [WEATHER]).to_arrow().select(["airport", "event_timestamp"]).equals(given)


def test_dates_are_midnights(engine):
    given = pa.table({"airport": ["JFK", "JFK"], "timestamp": [date(2024, 3, 10), date(2024, 3, 11)]})
    assert temps(engine, given) == [None, 1.0]


def test_nanoseconds_round_down():
    column = pa.array([1_999, -1, 0], pa.timestamp("ns"))
    assert floor_micros(column).tolist() == [1, -1, 0]


def test_a_feature_finer_than_microseconds_rounds_up(engine):
    noon = int(NOON.timestamp()) * 10**9
    rows = pa.table({"airport": ["JFK"], "happened": pa.array([noon + 1], pa.timestamp("ns")), "temp": [1.0]})
    finer = view(hw.TableSource(table=rows, event_time="happened"))
    times = pa.array([noon + 999, noon + 1000], pa.timestamp("ns"))
    assert temps(engine, pa.table({"airport": ["JFK", "JFK"], "timestamp": times}), finer) == [None, 1.0]


def test_parquet_and_sql(engine, tmp_path):
    given = spine(("JFK", 1), ("EWR", 1), ("LGA", 1))
    pq.write_table(given, tmp_path / "spine.parquet", row_group_size=2)
    assert temps(engine, tmp_path / "spine.parquet") == [1.0, 2.0, None]
    assert temps(engine, str(tmp_path / "spine.parquet")) == [1.0, 2.0, None]
    sql = f"-- mine\nSELECT * FROM '{tmp_path}/spine.parquet' ORDER BY airport DESC"
    assert temps(engine, sql) == [None, 1.0, 2.0]
    assert temps(engine, f"SELECT * FROM '{tmp_path}/spine.parquet' WHERE false") == []


def test_rows_and_columns_as_dicts(engine):
    assert temps(engine, [{"airport": "JFK", "timestamp": at(1)}]) == [1.0]
    assert temps(engine, {"airport": ["JFK", "EWR"], "timestamp": at(1)}) == [1.0, 2.0]


def test_one_instant_for_all_rows(engine):
    micros = int(at(1).timestamp() * 1_000_000)
    assert temps(engine, {"airport": ["EWR", "JFK"]}, at=micros) == [2.0, 1.0]
    with pytest.raises(UsageError, match="mutually exclusive"):
        temps(engine, spine(("JFK", 0)), at=micros, timestamp_column="timestamp")


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.int32()])
def test_any_width_of_integers_matches(engine, kind):
    given = pa.table({"id": pa.array([2, None, 1], kind), "timestamp": [at(1)] * 3})
    assert temps(engine, given, NUMBERED) == [2.0, None, 1.0]


@pytest.mark.parametrize("rows", [0, 2])
def test_a_pandas_key_of_no_category_is_null(engine, rows):
    """As text of a file that is empty, or has none in that column, is read: Arrow has no dictionary without values."""
    none = pd.Categorical([None] * rows, categories=pd.Index([], dtype=object))
    frame = pd.DataFrame({"airport": none, "timestamp": pd.Series([at(1)] * rows, dtype="datetime64[us, UTC]")})
    assert temps(engine, frame) == [None] * rows


def test_a_pandas_float_key_of_whole_numbers_matches(engine):
    given = pd.DataFrame({"id": [2.0, np.nan], "timestamp": [pd.Timestamp(at(1))] * 2})
    assert temps(engine, given, NUMBERED) == [2.0, None]
    with pytest.raises(SpineError, match="not a whole number"):
        temps(engine, given.assign(id=[1.5, 2.0]), NUMBERED)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"airport": [1, 2]}, "join key is string"),
        ({"timestamp": ["noon", "one"]}, "not a timestamp"),
        ({"timestamp": pa.array([None, NOON])}, "row 0 "),
    ],
)
def test_what_is_refused(engine, change, words):
    given = {"airport": ["JFK", "EWR"], "timestamp": [NOON, NOON]} | change
    with pytest.raises(SpineError, match=words):
        temps(engine, given)


def test_missing_columns_and_files(engine):
    with pytest.raises(SpineError, match="did you mean 'airprot'"):
        temps(engine, {"airprot": ["JFK"], "timestamp": [NOON]})
    with pytest.raises(SpineError, match="timestamp_column"):
        temps(engine, {"airport": ["JFK"], "when": [NOON]})
    assert temps(engine, {"airport": ["JFK"], "when": [NOON]}, timestamp_column="when") == [1.0]
    for given in ("nowhere.parquet", "nowhere.csv", "all flights", ""):
        with pytest.raises(SpineError, match=f"spine '{given}' is neither SQL nor a file here or in .*read_csv"):
            temps(engine, given)
    with pytest.raises(SpineError, match="does not run"):
        temps(engine, "SELECT * FROM nowhere")


def test_a_csv_is_no_spine_but_its_query_is(engine, tmp_path):
    path = tmp_path / "spine.csv"
    path.write_text(f"airport,timestamp\nJFK,{NOON.isoformat()}\n")
    for given in (path, str(path)):
        with pytest.raises(SpineError, match=r"cannot read the spine .*spine\.csv as Parquet.*read_csv"):
            temps(engine, given)
    assert temps(engine, f"SELECT * FROM read_csv('{path}')") == [1.0]


def test_a_query_that_fails_half_way_names_the_spine(engine):
    query = "SELECT 'JFK' AS airport, CAST(v AS TIMESTAMP) AS timestamp FROM (VALUES ('2024-03-10'), ('noon')) t(v)"
    with pytest.raises(SpineError, match=r"the spine's query fails: .*noon"):
        temps(engine, query)
