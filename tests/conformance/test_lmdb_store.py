"""The embedded store against the suite of online stores."""

import pytest

from headwater.online.stores.lmdb.store import LMDBOnlineStore
from headwater.testing import SCALE
from headwater.testing.shared_suite import SharedOnlineStoreSuite, open_store


class _LMDBSuite(SharedOnlineStoreSuite):
    # LMDB opens a path once a process: its own client is the store's environment

    def raw_get(self, store, key):
        return store._shared.read(lambda txn: txn.get(key))

    def raw_set(self, store, key, data):
        store._shared.write(lambda txn: txn.put(key, data))


class TestLMDBOnlineStore(_LMDBSuite):
    @pytest.fixture
    def place(self, tmp_path):
        return "lmdb:online", tmp_path

    def test_two_stores_of_a_path_are_one(self, store, place):
        other = open_store(place)
        other.put([(b"key", b"row")])
        other.close()
        assert store.multi_get([b"key"]) == [b"row"]
        assert isinstance(store, LMDBOnlineStore)


class TestLMDBOnlineStoreWithASmallMap(_LMDBSuite):
    if SCALE == 1:
        # runs over a few rows, which the map of usual size has been proved with
        test_an_emptied_store_is_filled_by_the_next_run = None
        test_a_store_restored_from_an_old_copy_is_made_whole_by_the_next_run = None
        test_a_store_failed_over_to_a_replica_that_lacks_rows_is_made_whole_by_the_next_run = None
        test_a_row_from_the_future_goes_online_when_its_time_comes = None
        test_a_purged_key_is_erased_and_learns_only_what_is_new = None
        test_window_rows_are_what_brute_force_says = None

    @pytest.fixture
    def place(self, tmp_path):
        return "lmdb:online?map_size=65536&sync=off", tmp_path
