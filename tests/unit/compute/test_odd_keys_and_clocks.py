"""A clock that stands still, and keys that no row can have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

import headwater as hw

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


@pytest.mark.parametrize("key", [2**70, 2**63, -(2**63) - 1, np.uint64(2**63)])
def test_a_number_beyond_64_bits_is_refused_on_every_road(key: int) -> None:
    said = rf"{int(key)}.* beyond 64 bits.*hw\.String"
    row = {"user": key, "at": NOW - timedelta(hours=1), "x": 1.0}
    with hw.FeatureStore.in_memory([view("x")], clock=lambda: NOW) as store:
        reader = store.prepare(["v:x"])
        for road in (
            lambda: store.get_online_features(["v:x"], [1, None, key]),
            lambda: store.get_online_features(["v:x"], {"user": key}),
            lambda: reader.read([key]),
            lambda: store.delete("v", [1, key]),
            lambda: store.delete("v", [key], purge=True),
            lambda: store.erase("user", [key]),
            lambda: store.materialize("v", entities=[key]),
            lambda: store.get_historical_features([{"user": key, "timestamp": NOW}], ["v:x"]).to_arrow(),
            lambda: store.get_historical_features({"user": [key], "timestamp": [NOW]}, ["v:x"]).to_arrow(),
        ):
            with pytest.raises(hw.HeadwaterError, match=said):
                road()
        with pytest.raises(hw.EntityKeyError, match=r"9223372036854775808 in row 0.*beyond 64 bits.*hw\.String"):
            store.get_online_features(["v:x"], pa.table({"user": pa.array([2**63], pa.uint64())}))
        with pytest.raises(hw.HeadwaterError, match="beyond 64 bits"):
            store.write("v", [row])
        assert store.get_online_features(["v:x"], [None, 1]).statuses["x"] == [hw.Status.NOT_FOUND] * 2
