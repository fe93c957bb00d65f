"""Definitions written as plain data read back equal."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.fingerprint import fingerprint
from headwater.definitions.serialize import (
    entity_from_dict,
    entity_to_dict,
    source_from_dict,
    source_to_dict,
    view_from_dict,
    view_to_dict,
)
from headwater.definitions.source import Source
from headwater.definitions.sources import CSVSource, ParquetSource, PushSource, SQLSource, TableSource
from headwater.definitions.view import FeatureView
from headwater.errors import FormatError
from headwater.types import (
    Array,
    Bool,
    Bytes,
    Date,
    DType,
    Embedding,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    Timestamp,
)

AIRPORT = Entity("airport", {"airport": String}, description="an airport", tags={"a": "b"})

DEFAULTS: dict[DType, st.SearchStrategy[Any]] = {
    Int32: st.integers(-(2**31), 2**31 - 1),
    Int64: st.integers(-(2**63), 2**63 - 1),
    Float32: st.floats(width=32),
    Float64: st.floats() | st.integers(-1000, 1000),
    Bool: st.booleans(),
    String: st.text(),
    Bytes: st.binary(),
    Timestamp: st.datetimes(timezones=st.just(UTC)) | st.datetimes(min_value=datetime(1600, 1, 1)),
    Date: st.dates(),
    Array(Timestamp): st.lists(st.none() | st.datetimes(timezones=st.just(UTC))),
    Array(Array(Float64)): st.lists(st.none() | st.lists(st.none() | st.floats())),
    Embedding(2): st.lists(st.floats(width=32), min_size=2, max_size=2),
}


def through_json(data: dict[str, Any]) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(data))
    return decoded


def view_of(*features: Feature, source: Source | None = None, **other: Any) -> FeatureView:
    return FeatureView("v", entity=AIRPORT, source=source or PushSource(event_time="t"), features=features, **other)


@settings(deadline=None)
@given(st.sampled_from(list(DEFAULTS)).flatmap(lambda dtype: st.tuples(st.just(dtype), DEFAULTS[dtype])))
def test_a_default_of_every_dtype_reads_back_equal(case: tuple[DType, Any]) -> None:
    dtype, default = case
    view = view_of(Feature("f", dtype, default=default))
    back = view_from_dict(through_json(view_to_dict(view)))
    assert fingerprint(back) == fingerprint(view)
    assert view_to_dict(back) == view_to_dict(view)
    if "nan" not in repr(default):
        assert back.feature_list[0].default == view.feature_list[0].default


@pytest.mark.parametrize(
    ("dtype", "one", "other"),
    [
        (Float64, 1, 1.0),
        (Float64, np.float32(0.5), 0.5),
        (Int64, np.int8(3), 3),
        (Bool, np.True_, True),
        (Array(Int64), (1, 2), [1, 2]),
        (Embedding(2), np.array([1, 2], dtype="float32"), [1.0, 2.0]),
        (Bytes, bytearray(b"x"), b"x"),
        (Timestamp, datetime(2024, 1, 1), datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_equal_defaults_are_one_definition_however_written(dtype: DType, one: Any, other: Any) -> None:
    assert fingerprint(view_of(Feature("f", dtype, default=one))) == fingerprint(
        view_of(Feature("f", dtype, default=other))
    )


@pytest.mark.parametrize(
    "source",
    [
        ParquetSource("data/*.parquet", event_time="t", created_time="c", event_id="id"),
        CSVSource("x.csv", nulls=("", "-"), event_time="t", delay="10m"),
        SQLSource("SELECT * FROM a", tables={"a": CSVSource("a.csv"), "b": ParquetSource("b")}, event_time="t"),
        PushSource(event_time="t", schema={"x": Float64, "y": Array(String)}),
        PushSource(event_time=None),
    ],
)
def test_sources_read_back_equal(source: Source) -> None:
    assert source_from_dict(through_json(source_to_dict(source))) == source


def test_a_table_is_stored_without_its_rows() -> None:
    data = source_to_dict(TableSource([{"secret": 1}], event_time="t"))
    assert "secret" not in repr(data)
    back = source_from_dict(data)
    assert isinstance(back, TableSource)
    assert back.table is None
    assert back.event_time == "t"


def test_a_view_reads_back_with_all_of_its_settings() -> None:
    view = view_of(
        Feature("f", Float64, "col", "words", 1.5, "categorical", "5m", "me", {"k": "v"}),
        Feature("d", Date, default=date(2024, 2, 29)),
        version="1.2.0",
        join_key_map={"airport": "origin"},
        ttl="6h",
        freshness_sla="1h",
        availability_sla=0.5,
        owner="o",
        description="d",
        tags={"x": "y"},
    )
    assert view_from_dict(through_json(view_to_dict(view))) == view


def test_an_entity_keeps_the_order_of_its_keys() -> None:
    entity = Entity("route", {"z": String, "a": Int64})
    back = entity_from_dict(through_json(entity_to_dict(entity)))
    assert back == entity
    assert list(back.join_keys) == ["z", "a"]


def test_a_newer_format_is_refused() -> None:
    with pytest.raises(FormatError, match="upgrade"):
        view_from_dict({**view_to_dict(view_of(Feature("f", Int64))), "format": 99})
    with pytest.raises(FormatError, match="'kafka'"):
        source_from_dict({**source_to_dict(PushSource()), "kind": "kafka"})


def test_a_table_source_equals_what_the_registry_has_of_it() -> None:
    source = TableSource([{"t": 1}], event_time="t")
    assert source == TableSource(event_time="t") and hash(source) == hash(TableSource(event_time="t"))
    assert source != TableSource(event_time="u") and source != PushSource(event_time="t")
