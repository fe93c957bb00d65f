"""A value is the same number on every road: columns of every Arrow type through sources and `write`, by one rule."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, example, given, settings

import headwater as hw
from headwater.errors import HeadwaterError
from headwater.testing import rounds
from headwater.types import DType
from tests.given_values import (
    LIST_DTYPES,
    LISTS,
    NUMBERS,
    OTHERS,
    REFUSED,
    SCALAR_DTYPES,
    by_the_rule,
    cases,
    plain,
    same,
)

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})


def from_source(source: Any, dtype: DType, folder: Path) -> Any:
    view = hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("x", dtype)])
    try:
        with hw.FeatureStore(folder, clock=lambda: NOON) as store:
            store.apply([USER, view])
            found = store.get_historical_features([{"user": 1, "timestamp": NOON}], ["v:x"]).to_arrow()["x"]
            store.materialize()
            online = store.get_online_features(["v:x"], [1])
            assert same(plain(online.to_dict()["x"][0]), plain(found.to_pylist()[0]))
            return plain(found.to_pylist()[0])
    except HeadwaterError as bad:
        assert "'x'" in str(bad)
        return REFUSED


def from_write(table: pa.Table, dtype: DType) -> Any:
    view = hw.FeatureView("v", entity=USER, source=hw.PushSource(event_time="t"), features=[hw.Feature("x", dtype)])
    with hw.FeatureStore.in_memory([USER, view], clock=lambda: NOON) as store:
        try:
            store.write("v", table)
        except HeadwaterError as bad:
            assert "'x'" in str(bad)
            return REFUSED
        found = store.get_historical_features([{"user": 1, "timestamp": NOON}], ["v:x"]).to_arrow()["x"].to_pylist()[0]
        assert same(plain(store.get_online_features(["v:x"], [1]).to_dict()["x"][0]), plain(found))
        return plain(found)


def _has_no_value(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_has_no_value, value)))


def check_roads(column: pa.Array, dtype: DType) -> None:
    expected = by_the_rule(column, dtype)
    table = pa.table({"user": [1], "t": pa.array([NOON]), "x": column})
    found = {"write": from_write(table, dtype)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(table, folder / "w.parquet")
        parquet = hw.ParquetSource("w.parquet", event_time="t")
        sources = {"parquet": parquet, "table": hw.TableSource(table, event_time="t")}
        sources["sql"] = hw.SQLSource("SELECT * FROM w", tables={"w": parquet}, event_time="t")
        for road, source in sources.items():
            (folder / road).mkdir()
            pq.write_table(table, folder / road / "w.parquet")
            found[road] = from_source(source, dtype, folder / road)
    if expected == REFUSED and _has_no_value(column[0].as_py()):
        # of rows given to it each value is looked at, and a NULL or a list without any is one of every dtype
        del found["write"]
    wrong = {road: value for road, value in found.items() if not same(value, plain(expected))}
    assert not wrong, f"{column.type} {column} as {dtype}: the rule says {expected!r}"


ROADS = settings(max_examples=rounds(3), deadline=None, suppress_health_check=list(HealthCheck))


@ROADS
@given(cases(NUMBERS, SCALAR_DTYPES[:4]))
@example((pa.array([Decimal("1234567.891")], pa.decimal128(38, 18)), hw.Float64))
@example((pa.array([Decimal("2500000")], pa.decimal128(38, 18)), hw.Float64))
@example((pa.array([0.1]), hw.Float32))
@example((pa.array([2**53 + 1]), hw.Float64))
@example((pa.array([1e19]), hw.Int64))
def test_numbers_are_the_same_on_every_road(case: tuple[pa.Array, DType]) -> None:
    check_roads(*case)


@ROADS
@given(cases([*OTHERS, pa.int64(), pa.float64()], SCALAR_DTYPES))
def test_other_values_are_the_same_on_every_road(case: tuple[pa.Array, DType]) -> None:
    check_roads(*case)


@ROADS
@given(cases(LISTS, LIST_DTYPES))
@example((pa.array([[0.1, None]]), hw.Array(hw.Float32)))
@example((pa.array([[0.1, None]]), hw.Embedding(2)))
@example((pa.array([[np.float16(0.5), np.float16(1)]], pa.large_list(pa.float16())), hw.Embedding(2)))
def test_lists_are_the_same_on_every_road(case: tuple[pa.Array, DType]) -> None:
    check_roads(*case)
