"""The store in memory against the suite of online stores."""

import pytest

from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.testing.online_suite import OnlineStoreSuite


class TestMemoryOnlineStore(OnlineStoreSuite):
    @pytest.fixture
    def store(self):
        store = MemoryOnlineStore()
        yield store
        store.close()

    def raw_get(self, store, key):
        return store._rows.get(key)

    def raw_set(self, store, key, data):
        store._rows[key] = data
