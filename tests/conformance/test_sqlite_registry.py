"""The registry on SQLite against the suite of registries."""

import pytest

from headwater.testing.registry_suite import RegistrySuite


class TestSQLiteRegistry(RegistrySuite):
    @pytest.fixture
    def place(self, tmp_path):
        return "sqlite:///state/registry.db", tmp_path
