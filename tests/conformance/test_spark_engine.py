"""The engine on Spark against the suite of offline engines: on Sail (Spark Connect) and on Spark itself.

It runs in an environment of its own: `make test-sail`, `make test-spark`.
"""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.offline.engines.spark.engine import SparkEngine
from headwater.offline.engines.spark.types import kept, kept_type
from headwater.testing.offline_suite import OfflineEngineSuite
from headwater.testing.own_tables_suite import OwnTablesSuite
from tests.engine_gaps import SPARK
from tests.servers.spark import SAIL


class TestSparkEngine(OfflineEngineSuite, OwnTablesSuite):
    large = 100_000
    gaps = SPARK

    @pytest.fixture
    def engine(self, tmp_path, spark):
        engine = SparkEngine(tmp_path, session=spark)
        yield engine
        engine.close()

    @pytest.fixture
    def place(self, tmp_path, engine, spark):
        made = []

        def placed(table, name):
            folder = tmp_path / f"table_{name}"
            folder.mkdir()
            schema = pa.schema([pa.field(f.name, kept_type(f.type)) for f in table.schema])
            arrays = [kept(c.combine_chunks(), f.type) for c, f in zip(table.columns, schema, strict=True)]
            pq.write_table(pa.table(arrays, schema=schema), folder / "part.parquet")
            if SAIL:  # a session's tables are its own there
                engine.session().spark.read.parquet(str(folder)).createOrReplaceTempView(name)
            else:
                spark.sql(f"CREATE TABLE {name} USING parquet LOCATION 'file://{folder}'")
            made.append(name)
            return f"SELECT * FROM {name}"

        yield placed
        if not SAIL:
            for name in made:
                spark.sql(f"DROP TABLE IF EXISTS {name}")
