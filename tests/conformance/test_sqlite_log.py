"""The offline log on SQLite against the suites of the log."""

import pytest

from headwater.testing.log_clock_suite import OfflineLogClockSuite
from headwater.testing.log_suite import OfflineLogSuite, SharedOfflineLogSuite


class TestSQLiteLog(SharedOfflineLogSuite):
    @pytest.fixture
    def place(self, tmp_path):
        return "sqlite:///registry.db", tmp_path


class TestSQLiteLogClock(OfflineLogClockSuite):
    @pytest.fixture
    def place(self, tmp_path):
        return "sqlite:///registry.db", tmp_path


class TestSQLiteLogInMemory(OfflineLogSuite):
    @pytest.fixture
    def place(self, tmp_path):
        return "sqlite://", tmp_path
