"""Windows computed on executors, on Sail (Spark Connect) and on Spark itself, against the suite of window views."""

import pytest

from headwater.offline.engines.spark.engine import SparkEngine
from headwater.testing.window_history_suite import WindowHistorySuite


class TestSparkWindows(WindowHistorySuite):
    @pytest.fixture
    def engine(self, tmp_path, spark):
        engine = SparkEngine(tmp_path, session=spark)
        yield engine
        engine.close()
