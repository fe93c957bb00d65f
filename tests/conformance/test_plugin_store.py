"""A third party's store, found by its URL's scheme, against the suite of online stores."""

import sqlite3

import pytest

from headwater.errors import ConfigError
from headwater.loader import ONLINE_STORES, load_plugin
from headwater.testing.shared_suite import SharedOnlineStoreSuite


class TestSQLiteOnlineStore(SharedOnlineStoreSuite):
    @pytest.fixture
    def place(self, tmp_path):
        return "sqlitekv:online.sqlite", tmp_path

    def raw_get(self, store, key):
        with sqlite3.connect(store.path) as connection:
            found = connection.execute("SELECT row FROM rows WHERE key = ?", (key,)).fetchone()
        connection.close()
        return found and found[0]

    def raw_set(self, store, key, data):
        with sqlite3.connect(store.path) as connection:
            connection.execute("INSERT OR REPLACE INTO rows VALUES (?, ?)", (key, data))
        connection.close()

    def test_its_class_is_the_plugin_s(self, store):
        assert type(store).__module__ == "headwater_sqlite"

    def test_a_url_of_another_form_is_refused(self, tmp_path):
        with pytest.raises(ConfigError):
            load_plugin(ONLINE_STORES, "sqlitekv").from_url("sqlitekv:", tmp_path)
