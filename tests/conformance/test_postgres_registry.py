"""The registry on PostgreSQL against the suite of registries."""

import pytest

from headwater.testing.shared_registry_suite import SharedRegistrySuite


class TestPostgresRegistry(SharedRegistrySuite):
    @pytest.fixture
    def place(self, postgres_url, tmp_path):
        return postgres_url, tmp_path
