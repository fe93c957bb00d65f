"""The engine on Spark against the suite of offline engines: on Sail (Spark Connect) and on Spark itself.

It runs in an environment of its own: `make test-sail`, `make test-spark`.
"""

from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.offline.engines.spark.engine import SparkEngine
from headwater.offline.engines.spark.types import kept, kept_type
from headwater.testing.offline_suite import OfflineEngineSuite
from headwater.testing.own_tables_suite import OwnTablesSuite
from tests.engine_functions import SPARK as FUNCTIONS
from tests.engine_gaps import SPARK
from tests.servers.spark import SAIL, session_in
from tests.sql_shapes import SQLSuite


class TestSparkEngine(OfflineEngineSuite, OwnTablesSuite, SQLSuite):
    large = 100_000
    gaps = SPARK
    functions = FUNCTIONS
    snapshot, dialect = "sail" if SAIL else "spark", "spark"

    @pytest.fixture
    def engine(self, tmp_path, spark):
        engine = SparkEngine(tmp_path, session=spark)
        yield engine
        engine.close()

    @pytest.fixture
    def place(self, tmp_path, engine, spark):
        with placing(tmp_path, engine, spark) as place:
            yield place

    @pytest.fixture
    def zoned(self, zone, tmp_path, spark):
        with session_in(zone, spark) as given:
            engine = SparkEngine(tmp_path, session=given)
            with placing(tmp_path, engine, given) as place:
                yield engine, place
            engine.close()
            assert given.conf.get("spark.sql.session.timeZone") == zone


@contextmanager
def placing(folder, engine, session):
    """Puts rows into tables of Spark's, and takes those away at the end."""
    made = []

    def placed(table, name):
        files = folder / f"table_{name}"
        files.mkdir()
        schema = pa.schema([pa.field(f.name, kept_type(f.type)) for f in table.schema])
        arrays = [kept(c.combine_chunks(), f.type) for c, f in zip(table.columns, schema, strict=True)]
        pq.write_table(pa.table(arrays, schema=schema), files / "part.parquet")
        if SAIL:  # a session's tables are its own there
            engine.session().spark.read.parquet(str(files)).createOrReplaceTempView(name)
        else:
            session.sql(f"CREATE TABLE {name} USING parquet LOCATION 'file://{files}'")
        made.append(name)
        return f"SELECT * FROM {name}"

    yield placed
    if not SAIL:
        for name in made:
            session.sql(f"DROP TABLE IF EXISTS {name}")
