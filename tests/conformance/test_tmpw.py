import pytest
from headwater_sqlite.engine import SQLiteBackend, SQLiteEngine
from headwater.offline.join.workspace import Powers
from headwater.testing.window_history_suite import WindowHistorySuite

class B(SQLiteBackend):
    powers = Powers(by_key=True)
class E(SQLiteEngine):
    windows = True
    def connect(self): return B(self._database)
class TestByKey(WindowHistorySuite):
    @pytest.fixture
    def engine(self, tmp_path):
        e=E(tmp_path); yield e; e.close()
