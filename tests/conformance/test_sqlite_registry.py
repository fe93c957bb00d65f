"""The registry on SQLite against the suites of registries."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from headwater.testing import SCALE
from headwater.testing.lives_suite import RegistryLives
from headwater.testing.registry_suite import RegistrySuite
from headwater.testing.shared_registry_suite import SharedRegistrySuite


class TestSQLiteRegistry(SharedRegistrySuite):
    @pytest.fixture
    def place(self, tmp_path):
        return "sqlite:///state/registry.db", tmp_path


class TestSQLiteRegistryInMemory(RegistrySuite):
    @pytest.fixture
    def place(self, tmp_path):
        return "sqlite://", tmp_path


class Lives(RegistryLives):
    def place(self):
        return "sqlite://", Path(tempfile.gettempdir())


Lives.TestCase.settings = settings(max_examples=6 * SCALE, stateful_step_count=15, deadline=None)
TestLives = Lives.TestCase
