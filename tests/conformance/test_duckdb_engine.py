"""The embedded engine against the suite of offline engines, in each way that it lowers the join."""

from dataclasses import replace

import pytest

from headwater.offline.engines.duckdb.engine import POWERS, DuckDBEngine
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
        engine = DuckDBEngine(powers=replace(POWERS, pairs_limit=0))
        yield engine
        engine.close()


class TestDuckDBEngineByRank(PointInTimeSuite):
    """What an engine without wide integers and as-of joins runs."""

    @pytest.fixture
    def engine(self):
        engine = DuckDBEngine(powers=replace(POWERS, wide_integers=False, asof_join=False))
        yield engine
        engine.close()
