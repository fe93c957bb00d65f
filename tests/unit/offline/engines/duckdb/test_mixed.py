"""Parquet files of one source whose columns have different types: each file's values are those of the file alone."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.errors import HeadwaterError, SourceError
from tests.matrices import share

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
F32, D18 = pa.float32(), pa.decimal128(38, 18)


def store_of(folder: Path, files: list[dict[str, pa.Array]], key: Any, dtype: Any, **options: Any) -> hw.FeatureStore:
    for i, columns in enumerate(files):
        columns = {"t": pa.array([NOON] * len(columns["k"]), pa.timestamp("us", "UTC")), **columns}
        pq.write_table(pa.table(columns), folder / f"{i}.parquet")
    view = hw.FeatureView(
        "v",
        entity=hw.Entity("k", join_keys={"k": key}),
        source=hw.ParquetSource(str(folder), event_time="t", **options),
        features=[hw.Feature("x", dtype)],
    )
    return hw.FeatureStore.in_memory([view], clock=lambda: NOON)


def read(store: hw.FeatureStore, keys: list[Any]) -> list[Any]:
    """The same by history and online."""
    with store:
        spine = [{"k": key, "timestamp": NOON} for key in keys]
        found = [row["x"] for row in store.get_historical_features(spine, ["v:x"]).to_pylist()]
        store.materialize()
        assert store.get_online_features(["v:x"], keys).to_dict()["x"] == found
    return found


TWO_TYPES: list[tuple[Any, ...]] = [
    (pa.array([2**31 + 1]), pa.array([5.0], F32), hw.Int64, [2**31 + 1, 5]),
    (pa.array([2**31 + 1]), pa.array([5.0], F32), hw.Float64, [2.0**31 + 1, 5.0]),
    (pa.array([2**53 - 1]), pa.array([5.0]), hw.Int64, [2**53 - 1, 5]),
    (pa.array([2**60 + 1]), pa.array([5.0]), hw.Int64, [2**60 + 1, 5]),
    (pa.array([Decimal("1234567.891")]), pa.array([5.0], F32), hw.Float64, [1234567.891, 5.0]),
    (pa.array([Decimal("1234567.891")], D18), pa.array([0.1]), hw.Float64, [1234567.891, 0.1]),
    (
        pa.array([Decimal("1.5")], D18),
        pa.array([Decimal("123456789012345678901234567890.25")], pa.decimal128(38, 2)),
        hw.Float64,
        [1.5, 123456789012345678901234567890.25],
    ),
    (pa.array([2**63 - 1], pa.uint64()), pa.array([-1]), hw.Int64, [2**63 - 1, -1]),
    (pa.array([1], pa.int8()), pa.array([2**40]), hw.Int64, [1, 2**40]),
    (pa.array([0.1], F32), pa.array([0.1]), hw.Float64, [float(pa.scalar(0.1, F32).as_py()), 0.1]),
    (pa.array(["a"]).dictionary_encode(), pa.array(["b"], pa.large_string()), hw.String, ["a", "b"]),
    (
        pa.array([[2**31 + 1]]),
        pa.array([[5.0]], pa.list_(F32)),
        hw.Array(hw.Float64),
        [[2.0**31 + 1], [5.0]],
    ),
]


@pytest.mark.parametrize(("case", "turned"), share(product(TWO_TYPES, [False, True]), 2))
def test_a_value_is_the_same_as_in_a_file_alone(tmp_path: Path, case: tuple[Any, ...], turned: bool) -> None:
    one, other, dtype, right = case
    files = [{"k": pa.array(["a"]), "x": one}, {"k": pa.array(["b"]), "x": other}, {"k": pa.array(["c"])}]
    assert read(store_of(tmp_path, files[::-1] if turned else files, hw.String, dtype), ["a", "b", "c"]) == [
        *right,
        None,
    ]


def test_keys_are_not_rounded_where_another_file_has_floats(tmp_path: Path) -> None:
    files = [
        {"k": pa.array([2**24 + 1, 2**24]), "x": pa.array(["one", "two"])},
        {"k": pa.array([5.0], F32), "x": pa.array(["three"])},
    ]
    assert read(store_of(tmp_path, files, hw.Int64, hw.String), [2**24 + 1, 2**24, 5]) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("one", "other", "dtype"),
    [
        (pa.array([1.0]), pa.array(["1"]), hw.String),
        (pa.array([True]), pa.array([5]), hw.Int64),
        (pa.array([True]), pa.array([5]), hw.Bool),
        (pa.array([datetime(2026, 1, 1)]), pa.array(["1"]), hw.String),
    ],
)
def test_what_does_not_fit_in_one_file_is_refused_with_both(
    tmp_path: Path, one: pa.Array, other: pa.Array, dtype: Any
) -> None:
    files = [{"k": pa.array(["a"]), "x": one}, {"k": pa.array(["b"]), "x": other}]
    with pytest.raises(HeadwaterError, match=r"does not fit|the feature is"):
        read(store_of(tmp_path, files, hw.String, dtype), ["a", "b"])


def test_keys_of_numbers_and_text_are_not_one_text(tmp_path: Path) -> None:
    files = [{"k": pa.array([7]), "x": pa.array([1])}, {"k": pa.array(["007"]), "x": pa.array([2])}]
    with pytest.raises(
        SourceError, match=r"column 'k' is int64 in .*0\.parquet, which does not fit string; in .*1\.parq"
    ):
        read(store_of(tmp_path, files, hw.String, hw.Int64), ["7"])


def test_a_value_that_does_not_fit_is_named_with_its_file_and_row(tmp_path: Path) -> None:
    files = [
        {"k": pa.array(["a"]), "x": pa.array([1])},
        {"k": pa.array(["b", "c"]), "x": pa.array([5.0, 0.5])},
        {"k": pa.array(["d"]), "x": pa.array([2])},
    ]
    with pytest.raises(SourceError, match=r"column 'x' \(double\): 0\.5 in .*1\.parquet, row 1 does not fit int64"):
        read(store_of(tmp_path, files, hw.String, hw.Int64), ["a", "b", "c", "d"])


def test_naive_times_beside_aware_ones_are_not_taken_for_utc(tmp_path: Path) -> None:
    naive = pa.array([datetime(2026, 1, 1, 10)], pa.timestamp("us"))
    files = [
        {"k": pa.array(["a"]), "x": pa.array([1]), "t": naive},
        {"k": pa.array(["b"]), "x": pa.array([2])},
    ]
    with pytest.raises(
        SourceError, match=r"column 't' is timestamp\[us\] in .*0\.parquet and .*1\.parquet; with timezone="
    ):
        read(store_of(tmp_path, files, hw.String, hw.Int64, timezone="America/New_York"), ["a"])
    # without a time zone naive times are UTC, whatever is beside them
    assert read(store_of(tmp_path, files, hw.String, hw.Int64), ["a", "b"]) == [1, 2]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([Decimal("1.5")], pa.decimal256(50, 18)), "decimals of at most 38 digits"),
        (pa.array([1_000_000], pa.duration("us")), "no dtype holds durations"),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_types_that_would_be_read_as_others_are_refused_in_any_file(
    tmp_path: Path, column: pa.Array, words: str, place: int
) -> None:
    files = [{"k": pa.array(["a"]), "x": pa.array([1.0])}] * 2
    files[place] = {"k": pa.array(["b"]), "x": column}
    with pytest.raises(SourceError, match=rf"{place}\.parquet: column 'x' is .*{words}"):
        read(store_of(tmp_path, files, hw.String, hw.Float64), ["a"])


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path, [{"k": pa.array(["a"]), "x": pa.array([1])}], hw.String, hw.Int64)
    twice = pa.Table.from_arrays(
        [pa.array(["a"]), pa.array([NOON], pa.timestamp("us", "UTC")), pa.array([1]), pa.array([2])],
        names=["k", "t", "x", "x"],
    )
    pq.write_table(twice, tmp_path / "0.parquet")
    with pytest.raises(SourceError, match=r"0\.parquet: 2 columns are named 'x'"):
        read(store, ["a"])
