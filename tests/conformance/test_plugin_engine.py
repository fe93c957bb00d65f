"""A third party's engine, found by its name, against the suite of offline engines."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from headwater_sqlite.engine import SQLiteBackend, SQLiteEngine

import headwater as hw
from headwater.errors import ConfigError
from headwater.testing.offline_suite import OfflineEngineSuite, OwnTablesSuite
from tests.engine_functions import SQLITE as FUNCTIONS
from tests.engine_gaps import SQLITE
from tests.sql_shapes import SQLSuite

DECLARED = {"int32": "INTEGER", "int64": "INTEGER", "float": "REAL", "double": "REAL", "bool": "BOOLEAN"}
DECLARED |= {
    "string": "TEXT",
    "binary": "BLOB",
    "date32[day]": "DATE",
    "timestamp[us, tz=UTC]": "MICROS",
    "timestamp[us]": "MICROS",
}


class TestSQLiteEngine(OfflineEngineSuite, OwnTablesSuite, SQLSuite):
    large = 100_000  # SQLite keeps what it sorts in files of its own: there is no bound to prove
    gaps = SQLITE
    functions = FUNCTIONS
    snapshot = dialect = "sqlite"

    @pytest.fixture
    def engine(self, tmp_path):
        engine = SQLiteEngine(tmp_path, "warehouse.db")
        yield engine
        engine.close()

    @pytest.fixture
    def place(self, tmp_path):
        def placed(table, name):
            columns = ", ".join(f'"{field.name}" {DECLARED.get(str(field.type), "TEXT")}' for field in table.schema)
            numbers = [
                column.cast(pa.int64() if pa.types.is_timestamp(column.type) else pa.int32())
                if pa.types.is_temporal(column.type)
                else column
                for column in table.columns
            ]
            with closing(sqlite3.connect(tmp_path / "warehouse.db")) as warehouse, warehouse:
                warehouse.execute(f"CREATE TABLE {name} ({columns})")
                marks = ", ".join("?" for _ in numbers)
                texts = [
                    map(repr, column.to_pylist()) if pa.types.is_nested(column.type) else column.to_pylist()
                    for column in numbers
                ]
                rows = zip(*texts, strict=True)
                warehouse.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)
            return f"SELECT * FROM main.{name}"

        return placed


def test_a_project_uses_it_by_its_name_alone(tmp_path):
    (tmp_path / "headwater.toml").write_text(
        'project = "plugged"\n[online]\nurl = "memory:"\n'
        '[offline]\nengine = "sqlite"\n[offline.sqlite]\ndatabase = "warehouse.db"\n'
    )
    with closing(sqlite3.connect(tmp_path / "warehouse.db")) as warehouse:
        warehouse.execute("CREATE TABLE rides (driver INTEGER, at MICROS, km REAL)")
        warehouse.executemany("INSERT INTO rides VALUES (?, ?, ?)", [(1, 0, 1.5), (1, 2_000_000, 2.5), (2, 0, None)])
        warehouse.commit()
    driver = hw.Entity("driver", join_keys={"driver": hw.Int64})
    rides = hw.FeatureView(
        "rides",
        entity=driver,
        source=hw.SQLSource("SELECT * FROM main.rides", event_time="at"),
        features=[hw.Feature("km", hw.Float64)],
    )
    at = [datetime(1970, 1, 1, 0, 0, second, tzinfo=UTC) for second in (1, 2, 3)]
    with hw.FeatureStore(tmp_path) as store:
        store.apply([driver, rides])
        spine = pa.table({"driver": [1, 1, 2], "timestamp": at})
        found = store.get_historical_features(spine, ["rides:km"])
        assert found.to_arrow().column("km").to_pylist() == [1.5, 2.5, None]
        told = store.get_historical_features(spine, ["rides:km"]).estimate()
        assert [(line.view, line.what, line.rows, line.bytes) for line in told] == [("rides", "sql", None, None)]
        assert type(store.context.engine).__module__ == "headwater_sqlite.engine"
        store.materialize()
        assert store.get_online_features(["rides:km"], [1, 2]).to_dict() == {"driver": [1, 2], "km": [2.5, None]}


def test_a_setting_that_it_does_not_have_is_refused(tmp_path):
    (tmp_path / "headwater.toml").write_text('[offline]\nengine = "sqlite"\n[offline.sqlite]\nfile = "warehouse.db"\n')
    with hw.FeatureStore(tmp_path) as store, pytest.raises(ConfigError, match="no setting 'file'"):
        assert store.context.engine


def test_a_run_that_cannot_begin_leaves_no_connection(tmp_path, monkeypatch):
    """The backend is connected first; then the embedded engine cannot be used."""
    engine, made = SQLiteEngine(tmp_path), []

    def connect():
        made.append(SQLiteBackend(":memory:"))
        return made[-1]

    monkeypatch.setattr(engine, "connect", connect)
    engine.close()
    with pytest.raises(hw.Unavailable):
        engine.workspace()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].connection.execute("SELECT 1")
