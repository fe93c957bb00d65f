"""A third party's engine, found by its name, against the suite of offline engines."""

import pytest
from headwater_sqlite.engine import SQLiteEngine

from headwater.testing.offline_suite import OfflineEngineSuite


class TestSQLiteEngine(OfflineEngineSuite):
    @pytest.fixture
    def engine(self, tmp_path):
        engine = SQLiteEngine(tmp_path)
        yield engine
        engine.close()
