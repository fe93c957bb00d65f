"""What a remote engine does beside the query: forms of its own tables, statements, the end of a run."""

import sqlite3

import pyarrow as pa
import pytest
from headwater_sqlite.engine import SQLiteBackend
from sqlglot import exp

import headwater as hw
from headwater.clock import from_micros
from headwater.errors import SourceError
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.join.relations import EngineTable
from headwater.offline.remote import RemoteWorkspace
from headwater.planning.resolve import whole_view
from headwater.planning.snapshot import ViewRecord, ViewVersion


@pytest.fixture
def embedded():
    engine = DuckDBEngine()
    yield engine
    engine.close()


@pytest.fixture
def space(embedded):
    with RemoteWorkspace(SQLiteBackend(":memory:"), embedded.workspace()) as space:
        yield space


def test_naive_times_of_its_own_table_are_taken_as_utc_alone(space):
    source = hw.SQLSource("SELECT * FROM main.rides", event_time="at", timezone="Europe/Paris")
    driver = hw.Entity("driver", join_keys={"driver": hw.Int64})
    view = hw.FeatureView("v", entity=driver, source=source, features=[hw.Feature("km", hw.Float64)], version="1.0.0")
    record = ViewRecord("v", {"1.0.0": ViewVersion(view, False, from_micros(0), from_micros(0))}, "1.0.0")
    held = EngineTable(exp.to_table("rides"), pa.schema({"driver": "int64", "at": pa.timestamp("us"), "km": "double"}))
    with pytest.raises(SourceError, match="naive times"):
        space.forms(whole_view(record, record.version()), source, held, ["km"])


def test_rows_that_are_numbered_in_any_order_say_so(space):
    space.create("numbers", exp.select(exp.Window(this=exp.RowNumber()).as_("n")))
    assert "ROW_NUMBER() OVER (ORDER BY NULL" in space.statements[-1]


def test_the_backend_is_closed_where_the_run_fails(embedded):
    backend = SQLiteBackend(":memory:")
    with pytest.raises(ZeroDivisionError), RemoteWorkspace(backend, embedded.workspace()):
        raise ZeroDivisionError
    with pytest.raises(sqlite3.ProgrammingError):
        backend.connection.execute("SELECT 1")
