"""Features of several dtypes that share a column: the same values from a table, from written rows, and from none."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

import headwater as hw

AT = datetime(2026, 1, 1, tzinfo=UTC)
ENTITY = hw.Entity("entity", join_keys={"k": hw.Int64})
SHARED = {
    "day": (pa.date32(), date(2026, 1, 2), {hw.Date: date(2026, 1, 2), hw.Timestamp: AT + timedelta(days=1)}),
    "whole": (pa.int64(), 7, {hw.Int32: 7, hw.Float64: 7.0, hw.Int64: 7, hw.Float32: 7.0}),
    "half": (pa.float64(), 2.0, {hw.Float32: 2.0, hw.Int64: 2, hw.Float64: 2.0}),
    "list": (pa.list_(pa.float32()), [1.5], {hw.Embedding(1): [1.5], hw.Array(hw.Float64): [1.5]}),
}


def view(source):
    features = [
        hw.Feature(f"{name}_{i}", dtype, column=name)
        for name, (_, _, dtypes) in SHARED.items()
        for i, dtype in enumerate(dtypes)
    ]
    return hw.FeatureView("v", entity=ENTITY, source=source, features=features)


@pytest.mark.parametrize("kind", ["table", "push"])
def test_features_of_several_dtypes_of_one_column(kind):
    schema = pa.schema([("k", pa.int64()), ("at", pa.timestamp("us", "UTC")), *[(n, s[0]) for n, s in SHARED.items()]])
    rows = pa.Table.from_pylist([{"k": 1, "at": AT, **{n: s[1] for n, s in SHARED.items()}}], schema=schema)
    source = hw.PushSource(event_time="at") if kind == "push" else hw.TableSource(rows, event_time="at")
    expected = {f"{n}_{i}": v for n, (_, _, kinds) in SHARED.items() for i, v in enumerate(kinds.values())}
    spine = [{"k": 1, "timestamp": AT + timedelta(days=9)}]
    with hw.FeatureStore.in_memory([ENTITY, view(source)], clock=lambda: AT + timedelta(days=9)) as store:

        def history():
            found = store.get_historical_features(spine, ["v:*"]).to_pylist()[0]
            return {name: found[name] for name in expected}

        if kind == "push":
            assert history() == dict.fromkeys(expected)
            store.write("v", rows, created="event")
        assert history() == expected
        store.materialize()
        online = store.get_online_features(["v:*"], [1]).to_pylist()[0]
        assert {name: online[name] for name in expected} == expected
