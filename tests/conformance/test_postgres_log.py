"""The offline log with its head on PostgreSQL against the suite of the log."""

import pytest

from headwater.testing.log_clock_suite import OfflineLogClockSuite
from headwater.testing.log_suite import SharedOfflineLogSuite


class TestPostgresLog(SharedOfflineLogSuite):
    @pytest.fixture
    def place(self, postgres_url, tmp_path):
        return postgres_url, tmp_path


class TestPostgresLogClock(OfflineLogClockSuite):
    @pytest.fixture
    def place(self, postgres_url, tmp_path):
        return postgres_url, tmp_path
