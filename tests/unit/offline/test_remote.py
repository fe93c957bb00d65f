"""What a remote engine does beside the query: forms of its own tables, statements, the end of a run."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from headwater_sqlite.engine import SQLiteBackend, SQLiteEngine
from sqlglot import ErrorLevel, exp, parse_one

import headwater as hw
from headwater.clock import MIN_MICROS, from_micros
from headwater.errors import Cancelled, SourceError
from headwater.offline.base import ChangeCounts, ChangesRequest
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.join.relations import EngineTable
from headwater.offline.remote_tables import TableRows
from headwater.offline.remote_workspace import RemoteWorkspace
from headwater.planning.resolve import whole_view
from headwater.planning.snapshot import ViewRecord, ViewVersion
from headwater.planning.watermark import Watermark
from headwater.testing.dense import dense_case
from headwater.testing.offline_suite import changes_input


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
        TableRows(space.backend, whole_view(record, record.version()), source, held, ["km"]).forms()


def test_rows_that_are_numbered_in_any_order_say_so(space):
    space.create("numbers", exp.select(exp.Window(this=exp.RowNumber()).as_("n")))
    assert "ROW_NUMBER() OVER (ORDER BY NULL" in space.statements[-1]


def test_the_backend_is_closed_where_the_run_fails(embedded):
    backend = SQLiteBackend(":memory:")
    with pytest.raises(ZeroDivisionError), RemoteWorkspace(backend, embedded.workspace()):
        raise ZeroDivisionError
    with pytest.raises(sqlite3.ProgrammingError):
        backend.connection.execute("SELECT 1")


ENDLESS = parse_one(
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT sum(x) AS x FROM c", dialect="sqlite"
)


@pytest.mark.parametrize("statement", ["create", "rows", "stream"])
def test_a_statement_of_the_backend_is_cancelled(space, statement):
    def run():
        if statement == "stream":
            return list(space.stream(ENDLESS.copy(), pa.schema({"x": pa.int64()}), 10))
        return space.create("numbers", ENDLESS.copy()) if statement == "create" else space.rows(ENDLESS.copy())

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(run)
        time.sleep(0.2)
        assert not reader.done()
        space.cancel()
        with pytest.raises(Cancelled):
            reader.result()
    with pytest.raises(Cancelled):
        space.rows(exp.select("1"))


class Unready(SQLiteBackend):
    """Misses the first calls that would end its statement, as one that has not begun yet."""

    missed = 3

    def cancel(self):
        self.missed -= 1
        if self.missed < 0:
            super().cancel()
        elif self.missed == 1:
            raise sqlite3.OperationalError("nothing is under way")


def test_a_statement_is_cancelled_until_it_has_ended(embedded):
    with RemoteWorkspace(Unready(":memory:"), embedded.workspace()) as space, ThreadPoolExecutor(1) as pool:
        reader = pool.submit(space.rows, ENDLESS.copy())
        time.sleep(0.1)
        space.cancel()
        with pytest.raises(Cancelled):
            reader.result()


class Recording(SQLiteBackend):
    """Keeps the trees that it runs."""

    def __init__(self, trees):
        super().__init__(":memory:")
        self.trees = trees

    def create(self, name, query):
        self.trees.append(query)
        super().create(name, query)

    def rows(self, query):
        self.trees.append(query)
        return super().rows(query)

    def batches(self, query, schema, rows):
        self.trees.append(query)
        return super().batches(query, schema, rows)


class RecordingEngine(SQLiteEngine):
    def connect(self):
        return Recording(self.trees)


@pytest.mark.parametrize("dialect", ["spark", "bigquery", "snowflake", "postgres"])
def test_every_statement_can_be_said_in_other_dialects(tmp_path, dialect):
    """With ties, deletes and rows that are late: nothing is unsupported, and the dialect reads what was written."""
    engine = RecordingEngine(tmp_path)
    engine.trees = []
    case = dense_case(rows=200, spine=100, keys=7, span=60, ttl=20)
    history = engine.history(case.request())
    assert sum(batch.num_rows for batch in history.batches(50)) == 100
    view = changes_input(case.views[0])
    assert list(engine.changes(ChangesRequest(view, 2**60, MIN_MICROS, Watermark(), 2**62), ChangeCounts()))
    engine.close()
    assert len(engine.trees) > 15
    for tree in engine.trees:
        text = tree.sql(dialect=dialect, identify=True, unsupported_level=ErrorLevel.RAISE)
        assert isinstance(parse_one(text, dialect=dialect), exp.Query)
