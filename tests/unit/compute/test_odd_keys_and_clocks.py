"""A clock that stands still, and keys that no row can have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import headwater as hw
from headwater.errors import EntityKeyError

NOW = datetime(2026, 1, 2, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})


def view(*names: str) -> hw.FeatureView:
    return hw.FeatureView(
        "v",
        entity=USER,
        source=hw.PushSource(event_time="at"),
        features=[hw.Feature(name, hw.Float64) for name in names],
    )


def test_on_a_clock_that_stands_still_a_second_run_reaches_what_was_written_since() -> None:
    with hw.FeatureStore.in_memory([view("x")], clock=lambda: NOW) as store:
        store.materialize()
        store.write("v", [{"user": 1, "at": NOW - timedelta(hours=1), "x": 1.0, "y": 2.0}], errors="report")
        store.write("v", [{"user": 1, "at": NOW - timedelta(hours=1), "x": 1.0}])
        store.apply([view("x", "y")])
        store.materialize()
        assert store.get_feature_view("v").version == "1.1.0"
        assert store.get_online_features(["v@1.0.0:x"], [1]).to_dict() == {"user": [1], "x": [1.0]}


def test_a_number_beyond_64_bits_is_no_key() -> None:
    with hw.FeatureStore.in_memory([view("x")], clock=lambda: NOW) as store:
        result = store.get_online_features(["v:x"], [2**70, None, 1])
        assert result.statuses["x"] == [hw.Status.NOT_FOUND] * 3
        assert result.to_arrow().column("user").to_pylist() == [None, None, 1]
        with pytest.raises(EntityKeyError, match="row 1"):
            store.delete("v", [1, 2**70])
        with pytest.raises(EntityKeyError, match="row 0"):
            store.materialize("v", entities=[2**70])
