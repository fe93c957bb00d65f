"""Frames: elements of lists and zones of times are the same in every form."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

import headwater as hw
from headwater.planning.frames import to_pandas, to_polars, with_zones

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
BIG = 1_582_218_195_625_938_945


@pytest.mark.parametrize("types", ["nullable", "numpy", "arrow"])
@pytest.mark.parametrize(
    ("element", "rows"),
    [
        (pa.int64(), [[BIG, None], [BIG], None, []]),
        (pa.int64(), [[BIG], [1, 2]]),
        (pa.bool_(), [[True, None], [False]]),
        (pa.timestamp("us", "UTC"), [[NOON, None], [NOON]]),
        (pa.string(), [["a", None], None]),
    ],
)
def test_elements_of_lists_stay_what_they_are(types, element, rows):
    frame = to_pandas(pa.table({"a": pa.array(rows, pa.list_(element))}), types)
    assert [list(row) if hasattr(row, "__len__") else None for row in frame["a"]] == rows


def test_a_column_without_nulls_is_plain_numbers():
    frame = to_pandas(pa.table({"a": pa.array([[BIG, None], [1, 2]], pa.list_(pa.int64()))}), "nullable")
    assert frame["a"][1].dtype == "int64" and frame["a"][0].dtype == object


@pytest.mark.parametrize("zone", ["utc", "Z", "00:00", "+0530", "fixed", "Nowhere/Land", "+05:30", "Europe/Berlin"])
def test_a_zone_that_python_does_not_know_is_utc(zone):
    column = pa.array([0]).cast(pa.timestamp("us")).cast(pa.timestamp("us", zone)) if "/B" in zone else None
    column = pa.array([0], pa.int64()).view(pa.timestamp("us", zone)) if column is None else column
    table = pa.table({"t": column})
    instant = table.column("t").cast(pa.int64())[0].as_py()
    for value in (
        with_zones(table).to_pylist()[0]["t"],
        to_pandas(table, "nullable")["t"][0],
        to_polars(table)["t"][0],
    ):
        assert int(value.timestamp() * 1e6) == instant


def test_a_spine_of_such_a_zone_gives_its_instants():
    view = hw.FeatureView(
        "v",
        entity=hw.Entity("user", {"user": hw.Int64}),
        source=hw.TableSource([{"user": 1, "at": NOON, "x": 1.0}], event_time="at"),
        features=[hw.Feature("x", hw.Float64)],
    )
    micros = int(NOON.timestamp() * 1e6)
    spine = pa.table({"user": [1], "timestamp": pa.array([micros], pa.int64()).view(pa.timestamp("us", "Z"))})
    with hw.FeatureStore.in_memory([view], clock=lambda: NOON) as store:
        found = store.get_historical_features(spine, ["v:x"])
        assert found.to_pylist() == [{"user": 1, "timestamp": NOON, "x": 1.0}]
        assert found.to_pandas()["timestamp"][0] == NOON


def test_times_that_are_all_missing_are_named():
    view = hw.FeatureView(
        "v",
        entity=hw.Entity("user", {"user": hw.Int64}),
        source=hw.TableSource(
            pa.table({"user": [1], "at": pa.array([None], pa.timestamp("us", "UTC")), "x": [1.0]}), event_time="at"
        ),
        features=[hw.Feature("x", hw.Float64)],
    )
    with hw.FeatureStore.in_memory([view], clock=lambda: NOON) as store:
        found = store.get_historical_features([{"user": 1, "timestamp": NOON}], ["v:x"])
        found.to_arrow()
        assert any("1 rows of the source have no time" in warning for warning in found.metadata.warnings)
