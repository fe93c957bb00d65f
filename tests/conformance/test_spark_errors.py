"""What Spark reports reaches users as headwater's errors: the kind, where, and what to do. On Sail and on Spark.

It runs in an environment of its own: `make test-sail`, `make test-spark`.
"""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

import headwater as hw
from headwater.errors import ConfigError, MissingExtra, SourceError, SpineError, StoreError
from headwater.offline.engines.spark.engine import SparkEngine
from headwater.offline.engines.spark.scratch import ScratchFolder
from headwater.offline.engines.spark.sessions import OwnSession
from tests.servers.spark import BRIEF, SAIL
from tests.servers.waiting import at_most
from tests.spark_tables import placing

DAY = datetime(2024, 3, 1, tzinfo=UTC)
DRIVER = hw.Entity("driver", join_keys={"driver": hw.Int64})
NAMED = hw.Entity("named", join_keys={"name": hw.String})
AT = pa.array([DAY] * 2, pa.timestamp("us", "UTC"))
SPINE = pa.table({"driver": [1, 2], "timestamp": AT})


@pytest.fixture
def store(tmp_path, engine, spark):
    rows = {"driver": [1, 2], "at": AT, "km": [1.0, 2.0], "name": pa.array([b"\xff\xfe", b"ok"], pa.binary())}
    with placing(tmp_path, engine, spark) as place, hw.FeatureStore(tmp_path, offline=engine) as store:
        place(pa.table(rows), "error_rides")
        yield store


def view(query, feature=("km", hw.Float64), entity=DRIVER):
    source = hw.SparkSource(query=query, event_time="at")
    return hw.FeatureView("rides", entity=entity, source=source, features=[hw.Feature(*feature)])


PLAN = [
    ("SELECT * FROM error_ride", "there is no table 'error_ride'; did you mean 'error_rides'"),
    ("SELECT * FROM nothing_like_it", "there is no table 'nothing_like_it'; there are .*error_rides"),
    ("SELECT kms, driver, at FROM error_rides", "kms"),
    ("SELECT nofun(km) AS km, driver, at FROM error_rides", "nofun"),
]


@pytest.mark.parametrize(("query", "told"), PLAN)
def test_what_a_query_is_at_fault_for_is_found_by_plan(store, query, told):
    with pytest.raises(hw.DefinitionError, match=f"rides: source: spark: .*{told}"):
        store.apply([DRIVER, view(query)])


def test_a_path_without_files_is_said_so(store, tmp_path):
    """A server may take it for a table without columns."""
    source = hw.SparkSource(path=str(tmp_path / "nothing"), format="parquet", event_time="at")
    rides = hw.FeatureView("rides", entity=DRIVER, source=source, features=[hw.Feature("km", hw.Float64)])
    with pytest.raises(hw.DefinitionError, match=r"rides: source: .*nothing"):
        store.apply([DRIVER, rides])


TEXT = "SELECT driver, at, CAST(name AS STRING) AS name FROM error_rides"
GONE = "SELECT driver, at, CAST(left('UNAVAILABLE1', 11) AS DOUBLE) AS km FROM error_rides"
READS = {
    "division": (view("SELECT driver, at, km / (driver - 1) AS km FROM error_rides"), "[Dd]ivision by zero"),
    "cast": (view("SELECT driver, at, CAST('x' || driver AS DOUBLE) AS km FROM error_rides"), "'x1'"),
    # a word by which a server that is gone is known
    "value": (
        view("SELECT driver, at, CAST(concat('UNAVAIL', 'ABLE') AS DOUBLE) AS km FROM error_rides"),
        "'UNAVAILABLE'",
    ),
    "text": (view(TEXT, ("name", hw.String)), "not valid UTF-8"),
    "key": (view(TEXT, ("driver", hw.Int64), NAMED), "not valid UTF-8"),
}


@pytest.mark.parametrize("cause", ["division", "text", "value"] if BRIEF else READS)
def test_rows_that_cannot_be_read_are_an_error_of_their_view(store, cause):
    """In history and in runs alike: nothing of them goes online."""
    given, told = READS[cause]
    store.apply([given.entities[0], given])
    with pytest.raises(SourceError, match=rf"view 'rides' \(1.0.0\).*{told}"):
        store.get_historical_features(None, ["rides:*"], at=DAY).to_arrow()
    with pytest.raises(SourceError, match=rf"view 'rides' \(1.0.0\).*{told}"):
        store.materialize()


def test_a_spine_that_cannot_be_read_is_the_spines_error(store):
    store.apply([DRIVER, view("SELECT driver, at, km FROM error_rides")])
    for spine, told in (
        ("SELECT * FROM error_spine", "there is no table 'error_spine'"),
        ("SELECT driver, at AS timestamp, foo FROM error_rides", "foo"),
        ("SELECT driver, at AS timestamp, CAST(name AS STRING) AS x FROM error_rides", "not valid UTF-8"),
    ):
        with pytest.raises(SpineError, match=told):
            store.get_historical_features(spine, ["rides:km"]).to_arrow()


def test_a_session_that_was_stopped_says_what_to_do(store, monkeypatch):
    """What Spark says then depends on how far it had come, so it is asked whether it was stopped."""
    monkeypatch.setattr(OwnSession, "ended", lambda self: True)
    with pytest.raises(hw.DefinitionError, match="its session was stopped; open the store again"):
        store.apply([DRIVER, view("SELECT * FROM error_rides_2")])


def test_where_nobody_answers_is_said_soon(tmp_path):
    with at_most(10):
        if SAIL:
            with pytest.raises(hw.Unavailable, match="Connection refused; make sure that it is running"):
                SparkEngine(tmp_path, remote="sc://127.0.0.1:9").session()
            with pytest.raises(ConfigError, match="remote"):
                SparkEngine(tmp_path, remote="sc://").session()


@pytest.mark.parametrize("address", ["http://me:{}@h", "sc://h/;token={}==", "sc:///;token={}"])
def test_what_is_no_address_of_a_server_is_refused_without_its_password(tmp_path, address):
    # the whole of Spark alone lacks what its client needs to read an address
    error, said = (
        (ConfigError, " = .*sc://") if SAIL or "sc://" not in address else (MissingExtra, " .*pyspark.connect")
    )
    with pytest.raises(error, match=r"\[offline.spark\] remote" + said) as refused:
        SparkEngine(tmp_path, remote=address.replace("{}", "s3cretword")).session()
    bad = refused.value
    assert "s3cretword" not in f"{bad} {bad.__cause__} {bad.__context__}"


def test_a_scratch_folder_that_cannot_be_made_is_named(tmp_path, spark):
    (tmp_path / "file").touch()
    engine = SparkEngine(tmp_path, session=spark, scratch=str(tmp_path / "file"))
    with pytest.raises(StoreError, match=r"\[offline.spark\] scratch: cannot make"):
        engine.connection.scratch()
    engine.close()


def test_a_path_that_only_some_executors_share_is_an_error(tmp_path, spark, engine, monkeypatch):
    """Each of several tasks writes a part; one of them is on another machine."""
    session, scratch = engine.session(), engine.connection.scratch()
    if SAIL:
        assert not session.states_types, "it counts nothing while it writes; all of it is one process"
        return
    monkeypatch.setattr(session, "local", False)
    rows = session.spark.range(0, 100, 1, 4)
    backend = engine.connect()
    whole = scratch.new()
    backend._write_rows(rows, whole)
    assert whole.rows() == 100 and len(whole.parts()) == 4
    parts = ScratchFolder.parts
    monkeypatch.setattr(ScratchFolder, "parts", lambda self: parts(self)[1:])
    with pytest.raises(ConfigError, match=r"scratch: .*tasks wrote 100 rows, of which 75 are there.*name a folder"):
        backend._write_rows(rows, scratch.new())
    backend.close()


@pytest.mark.parametrize("given", ["a spine of Spark's", "a spine of this process"])
def test_a_scratch_folder_that_spark_does_not_share_is_an_error(tmp_path, store, engine, monkeypatch, given):
    """As of a server whose address is that of a tunnel: no rows would be an answer that looks right."""
    store.apply([DRIVER, view("SELECT driver, at, km FROM error_rides")])
    scratch, elsewhere = engine.connection.scratch(), tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(scratch, "_url", f"file://{elsewhere}")
    spine = "SELECT driver, at AS timestamp FROM error_rides"
    if given != "a spine of Spark's":
        spine = pa.table({"driver": [1], "timestamp": [DAY]})
    with pytest.raises(ConfigError, match=r"\[offline.spark\] scratch: .*do not see the same files"):
        store.get_historical_features(spine, ["rides:km"]).to_arrow()
