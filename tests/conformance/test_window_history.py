"""Window views in history: the embedded engine against the suite with parts and answers that are all in files."""

import pytest

from headwater.offline.engines.duckdb import engine as duckdb_engine
from headwater.offline.engines.duckdb.engine import DuckDBEngine
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
