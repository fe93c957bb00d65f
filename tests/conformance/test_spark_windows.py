"""Windows computed on executors, on Sail (Spark Connect) and on Spark itself, against the suite of window views."""

import pytest

from headwater.offline.engines.spark.engine import SparkEngine
from headwater.testing.own_windows_suite import OwnWindowsSuite
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

    # of the same engine the suite of all that it is asked has them
    test_windows_equal_the_reference = None
    test_of_the_statements_of_one_event_the_least_counts = None
    test_windows_over_written_events_alone = None
    test_windows_over_files = None
    test_every_known_entity_at_an_instant = None
    test_sums_beyond_64_bits = None
    test_a_default_stands_for_what_a_window_has_not = None
    test_an_engine_without_windows_says_so = None
