"""Window views in history: the embedded engine with all of its parts in files, and an engine that deals by key."""

import pytest
from headwater_sqlite.engine import SQLiteBackend, SQLiteEngine

from headwater.offline.engines.duckdb import engine as duckdb_engine
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.join.workspace import Powers
from headwater.testing.window_history_suite import WindowHistorySuite


class TestDuckDBEngineOnDisk(WindowHistorySuite):
    """No memory at all for parts and answers: each batch goes to files, each part is worked on alone."""

    @pytest.fixture
    def engine(self, monkeypatch, tmp_path):
        monkeypatch.setattr(duckdb_engine, "BUDGET", 0)
        engine = DuckDBEngine(temp_folder=tmp_path / "temp")
        yield engine
        assert {path.name for path in (tmp_path / "temp").rglob("*.*")} <= {".owner"}
        engine.close()


class ByKeyBackend(SQLiteBackend):
    """One that is said to bring rows together by key; the function's rows are then one part, in this process."""

    powers = Powers(by_key=True)


class ByKeyEngine(SQLiteEngine):
    windows = True

    def connect(self):
        return ByKeyBackend(self._database)


class TestWindowsByKey(WindowHistorySuite):
    """What engines send to their executors, without executors."""

    @pytest.fixture
    def engine(self, tmp_path):
        engine = ByKeyEngine(tmp_path)
        yield engine
        engine.close()
