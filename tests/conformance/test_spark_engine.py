"""The engine on Spark against the suite of offline engines: on Sail (Spark Connect) and on Spark itself.

It runs in an environment of its own: `make test-sail`, `make test-spark`.
"""

import pytest

from headwater.offline.engines.spark.engine import SparkEngine
from headwater.testing.offline_suite import OfflineEngineSuite
from headwater.testing.own_tables_suite import OwnTablesSuite
from tests.engine_functions import SPARK as FUNCTIONS
from tests.engine_gaps import SPARK
from tests.servers.spark import SAIL
from tests.spark_tables import SparkZones, placing
from tests.sql_shapes import SQLSuite


class TestSparkEngine(SparkZones, OfflineEngineSuite, OwnTablesSuite, SQLSuite):
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
