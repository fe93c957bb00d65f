"""The engine on Spark against the suite of offline engines: on Sail (Spark Connect) and on Spark itself.

It runs in an environment of its own: `make test-sail`, `make test-spark`.
"""

import pytest

from headwater.offline.engines.spark.engine import SparkEngine
from headwater.testing import SCALE
from headwater.testing.offline_suite import OfflineEngineSuite
from headwater.testing.own_tables_suite import OwnTablesSuite
from tests.engine_functions import SPARK as FUNCTIONS
from tests.engine_gaps import SPARK
from tests.servers.spark import BRIEF, SAIL
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

    if SCALE == 1:
        # naive times of zones have a file of their own, and so have windows
        abilities = ["queries", "transformations"] if BRIEF else ["queries", "transformations", "spines"]

        @pytest.mark.parametrize("ability", abilities)
        def test_it_is_able_or_says_that_it_is_not(self, engine, place, ability):
            super().test_it_is_able_or_says_that_it_is_not(engine, place, ability)

    if BRIEF:
        # rows that come to Spark by the same road, whatever they are of
        test_history_over_frames = None
        test_history_over_csv = None
        test_a_frame_as_spine_equals_the_oracle = None
        test_a_query_as_spine = None
        test_tables_larger_than_memory = None
        # by the same statements as histories, spines and changes that are tried
        test_many_rows_a_key_of_a_source_alone = None
        test_many_rows_a_key_as_if_known = None
        test_many_rows_a_key_in_its_own_table = None
        test_buckets_of_a_spine_are_the_whole = None
        test_buckets_of_entities_are_the_whole = None
        test_buckets_of_windows_are_the_whole = None
        test_of_the_statements_of_one_event_the_least_counts = None
        test_windows_over_written_events_alone = None
        test_windows_over_files = None
        test_every_known_entity_at_an_instant = None
        test_sums_beyond_64_bits = None
        test_a_default_stands_for_what_a_window_has_not = None
        # what is read of an answer is not Spark's
        test_it_may_be_consumed_again = None
        test_a_read_left_half_way_does_not_stop_the_next = None
        test_a_run_is_cancelled_between_two_batches = None

        @pytest.mark.parametrize(("keys", "late", "ttl"), [(2, 0.9, 40)])
        def test_many_rows_a_key(self, engine, keys, late, ttl):
            super().test_many_rows_a_key(engine, keys, late, ttl)
