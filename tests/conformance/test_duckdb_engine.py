"""The embedded engine against the suite of offline engines, in each way that it lowers the join."""

from dataclasses import replace

import pytest

from headwater.offline.engines.duckdb.engine import POWERS, DuckDBEngine
from headwater.offline.join.workspace import PackedLimits
from headwater.testing.offline_suite import OfflineEngineSuite, PointInTimeSuite


class TestDuckDBEngine(OfflineEngineSuite):
    @pytest.fixture
    def engine(self):
        engine = DuckDBEngine()
        yield engine
        engine.close()

    @pytest.fixture
    def bounded(self, tmp_path):
        engine = DuckDBEngine(memory_limit="150MB", temp_folder=tmp_path / "temp")
        yield engine
        engine.close()


class TestDuckDBEngineByAsOfJoin(PointInTimeSuite):
    @pytest.fixture
    def engine(self):
        engine = DuckDBEngine(powers=replace(POWERS, packed=PackedLimits(0, 3_000_000)))
        yield engine
        engine.close()


class TestDuckDBEngineByRunningMaximum(PointInTimeSuite):
    """What an engine without integers of 128 bits or as-of joins runs."""

    @pytest.fixture
    def engine(self):
        engine = DuckDBEngine(powers=replace(POWERS, packed=None))
        yield engine
        engine.close()
