"""Aggregations over columns that a join key has, or whose name one has: written, filled and in history the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ROWS = [
    {"user": "ann", "shop": "s1", "__rank": 5, "at": NOW - timedelta(minutes=3)},
    {"user": "ann", "shop": "s2", "__rank": 7, "at": NOW - timedelta(minutes=2)},
    {"user": "bob", "shop": "ann", "__rank": 1, "at": NOW - timedelta(minutes=1)},
]
FEATURES = [
    hw.Aggregation("shop", "last", "1d"),
    hw.Aggregation("user", "last", "1d"),
    hw.Aggregation("__rank", "max", None, name="rank"),
    hw.Aggregation(None, "count", "1h", name="in_s2", where="shop = 's2' AND user <> 'bob' AND __rank > 5"),
]
COLUMNS = {"user": hw.String, "shop": hw.String, "__rank": hw.Int64}
EXPECTED = {
    "ann": {"shop_last_1d": "s2", "user_last_1d": "ann", "rank": 7, "in_s2": 1},
    "bob": {"shop_last_1d": "ann", "user_last_1d": "bob", "rank": 1, "in_s2": 0},
    "s1": {"shop_last_1d": None, "user_last_1d": None, "rank": None, "in_s2": 0},
}


def opened(source: Any, key: str) -> hw.FeatureStore:
    entity = hw.Entity("buyer", join_keys={key: hw.String})
    renamed = {} if key == "user" else {key: "user"}
    view = hw.FeatureView("v", entity=entity, source=source, join_key_map=renamed, features=FEATURES)
    return hw.FeatureStore.in_memory([view], clock=lambda: NOW)


def check(store: hw.FeatureStore, key: str) -> None:
    served = store.get_online_features(["v:*"], {key: [*EXPECTED]}).to_dict()
    trained = store.get_historical_features([{key: k, "timestamp": NOW} for k in EXPECTED], ["v:*"]).to_pylist()
    for i, (values, row) in enumerate(zip(EXPECTED.values(), trained, strict=True)):
        assert {name: served[name][i] for name in values} == values
        assert {name: row[name] for name in values} == values


@pytest.mark.parametrize("key", ["user", "shop", "buyer"], ids=["its-own", "another-column", "no-column"])
def test_of_written_rows(key: str) -> None:
    store = opened(hw.PushSource(event_time="at", schema=COLUMNS), key)
    store.write("v", ROWS, created="event")
    check(store, key)
    store.delete("v", ["ann"])
    store.write("v", ROWS[:1], created="event")
    found = store.get_online_features(["v:shop_last_1d"], {key: ["ann"]}).to_dict()
    assert found["shop_last_1d"] == [None]
    store.close()


@pytest.mark.parametrize("key", ["user", "shop", "buyer"], ids=["its-own", "another-column", "no-column"])
def test_of_a_source(tmp_path: Path, key: str) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "sales.parquet")
    store = opened(hw.ParquetSource(str(tmp_path / "sales.parquet"), event_time="at"), key)
    store.materialize()
    check(store, key)
    store.close()
