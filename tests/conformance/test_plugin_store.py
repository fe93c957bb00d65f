"""A third party's store, found by its URL's scheme, against the suite of online stores."""

import sqlite3
from datetime import UTC, datetime

import pytest

import headwater as hw
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


def test_a_project_uses_it_by_its_url_alone(tmp_path):
    (tmp_path / "headwater.toml").write_text('project = "plugged"\n[online]\nurl = "sqlitekv:online.sqlite"\n')
    thing = hw.Entity("thing", join_keys={"id": hw.Int64})
    view = hw.FeatureView(
        "v", entity=thing, source=hw.PushSource(event_time="at"), features=[hw.Feature("x", hw.Float64)]
    )
    with hw.FeatureStore(tmp_path) as store:
        store.apply([thing, view])
        store.write("v", [{"id": 1, "at": datetime(2024, 3, 10, tzinfo=UTC), "x": 1.5}])
        assert store.get_online_features(["v:x"], [1, 2]).to_dict() == {"id": [1, 2], "x": [1.5, None]}
    assert (tmp_path / "online.sqlite").exists()
