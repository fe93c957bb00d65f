"""Windows computed on executors, on Sail (Spark Connect) and on Spark itself, against the suite of window views."""

import pytest

from headwater.offline.engines.spark.engine import SparkEngine
from headwater.testing.own_windows_suite import OwnWindowsSuite
from tests.servers.spark import SAIL
from tests.spark_tables import SparkZones, placing


class TestSparkWindows(SparkZones, OwnWindowsSuite):
    @pytest.fixture
    def engine(self, tmp_path, spark):
        engine = SparkEngine(tmp_path, session=spark)
        yield engine
        engine.close()

    @pytest.fixture
    def place(self, tmp_path, engine, spark):
        with placing(tmp_path, engine, spark) as place:
            yield place

    if not SAIL:
        # Sail tries them: a statement costs Spark a third of a second, and these take the same roads
        test_of_the_statements_of_one_event_the_least_counts = None
        test_windows_over_written_events_alone = None
        test_windows_over_files = None
        test_every_known_entity_at_an_instant = None
