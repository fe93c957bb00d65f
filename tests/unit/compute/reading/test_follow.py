"""Prepared readers while live pointers move: their columns stay what they were, and nothing pinned moves."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings

import headwater as hw
from headwater.compute.reading.historical import historical
from headwater.errors import ChangeRefused, HeadwaterError
from headwater.testing import rounds
from tests.unit.compute.conftest import AIRPORT, T0, Bench

KEYS = {None: "airport", "o": "origin", "d": "dest"}
FEATURES = [hw.Feature("temp", hw.Float64), hw.Feature("wind", hw.Float64)]
GUST = hw.Feature("gust", hw.Float64)
FROM = st.tuples(st.sampled_from(["us", "eu"]), st.sampled_from(list(KEYS)), st.sampled_from(["temp", "wind"]))
"""View, alias and feature of one column."""
LISTS = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.lists(FROM, min_size=width, max_size=width + 1), min_size=2, max_size=5)
)


def view(name: str, *more: hw.Feature) -> hw.FeatureView:
    """A view of a table; those of two names have the same columns but for the table."""
    return hw.FeatureView(name, entity=AIRPORT, source=hw.TableSource(event_time="at"), features=[*FEATURES, *more])


def service(columns: list[tuple[str, str | None, str]]) -> hw.FeatureService:
    """A service whose columns, from the first on, are named c0, c1, …"""
    items = []
    for i, (name, alias, feature) in enumerate(columns):
        whole = view(name)[feature]
        if alias is not None:
            whole = view(name).alias(f"{name}_{alias}", join_key_map={"airport": KEYS[alias]})[feature]
        items.append(whole.rename({feature: f"c{i}"}))
    return hw.FeatureService("route", items)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(Path(tmp_path_factory.mktemp("bench")))
    for i, name in enumerate(("us", "eu")):
        bench.rows[name] = [
            {"airport": key, "at": T0, "temp": 100.0 * i + j, "wind": 100.0 * i + 10 + j} for j, key in enumerate("ABC")
        ]
    bench.apply(AIRPORT, view("us"), view("eu"))
    bench.materialize()
    yield bench
    bench.close()


@given(lists=LISTS)
@settings(max_examples=rounds(15), deadline=None)
def test_a_reader_of_a_service_never_changes_its_values(
    filled: Bench, lists: list[list[tuple[str, str | None, str]]]
) -> None:
    reader, before = None, None
    for columns in lists:
        try:
            filled.apply(service(columns))
        except HeadwaterError:  # one feature twice
            continue
        newest = max(filled.registry.refresh().service("route").active, key=lambda v: v.revision).version
        filled.context.versions.promote("route", newest, watermarks={}, now=T0, force=True)
        if reader is None:
            reader = filled.reader("route")
            entities = [dict(zip(("airport", "origin", "dest"), "ABC", strict=True))]
            entities = [{key: value for key, value in entities[0].items() if key in reader.join_keys}]
            before = reader.read(entities).to_dict()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.refresh()
        assert reader.read(entities).to_dict() == before


def test_a_reader_of_full_names_follows(bench: Bench) -> None:
    bench.apply(AIRPORT, view("us"), hw.FeatureService("model", ["us:temp"]))
    bench.rows["us"] = [{"airport": "A", "at": T0, "temp": 1.0, "wind": 2.0}]
    bench.materialize()
    reader = bench.reader("model", full_names=True)
    bench.apply(hw.FeatureService("model", ["us:temp", "us:wind"]))
    bench.context.versions.promote("model", "1.1.0", watermarks={}, now=T0)
    assert reader.read(["A"]).to_dict() == {"airport": ["A"], "us__temp": [1.0]}
    assert reader.request.service == ("model", "1.1.0") and reader.warnings == ()


@pytest.mark.parametrize(
    ("features", "moving"),
    [
        (["us:temp", "us@1.0.0:wind"], ["temp"]),
        (["us:temp", view("us")["wind"]], ["temp"]),
        ([view("us")["temp"], "us:wind"], ["wind"]),
        ([view("us")], []),
        ({"us:temp", "us:wind"}, ["temp", "wind"]),
        (("us:*",), ["temp", "wind"]),
    ],
    ids=["pinned text", "an object", "an object first", "a view", "a set", "a star"],
)
def test_what_was_asked_for_by_name_alone_follows_and_nothing_else(
    bench: Bench, features: Any, moving: list[str]
) -> None:
    bench.rows["us"] = [{"airport": "A", "at": T0, "temp": 1.0, "wind": 2.0, "gust": 3.0}]
    bench.apply(AIRPORT, view("us"))
    bench.materialize()
    reader = bench.reader(features)
    before = reader.read(["A"]).to_dict()
    bench.apply(view("us", GUST))
    bench.materialize()
    for live in ("1.1.0", "1.0.0", "1.1.0"):
        if bench.registry.refresh().view("us").live != live:
            bench.context.versions.promote(
                "us", live, watermarks=bench.context.watermarks(bench.registry.refresh()), now=T0
            )
        reader.refresh()
        assert reader.read(["A"]).to_dict() == before
        read = {c.feature.name: reader.request.views[c.view].version for c in reader.request.columns}
        assert read == {name: live if name in moving else "1.0.0" for name in read}
        assert set(reader.versions.values()) == set(read.values())


def test_two_versions_asked_for_at_once_follow_each_for_itself(bench: Bench) -> None:
    bench.rows["us"] = [{"airport": "A", "at": T0, "temp": 1.0, "wind": 2.0, "gust": 3.0}]
    bench.apply(AIRPORT, view("us"), hw.FeatureService("model", ["us@1.0.0:wind"]))
    bench.materialize()
    bench.apply(view("us", GUST))
    bench.materialize()
    reader = bench.reader(["us:temp", "us@1.0.0:temp", "us@1.1.0:wind"], full_names=True)
    before = reader.read(["A"]).to_dict()
    bench.apply(view("us", GUST, hw.Feature("rain", hw.Float64, column="gust")))
    bench.materialize()
    reader.refresh()
    assert reader.read(["A"]).to_dict() == before
    assert reader.versions == {"us": "1.2.0", "us@1.0.0": "1.0.0", "us@1.1.0": "1.1.0"}


def test_a_service_does_not_read_a_version_whose_rows_are_lost(bench: Bench) -> None:
    """A version had caught up once; that is not said of rows that a store has lost since."""
    bench.rows["us"] = [{"airport": "A", "at": T0, "temp": 1.0, "wind": 2.0}]
    bench.apply(AIRPORT, view("us"))
    bench.materialize()
    bench.apply(hw.FeatureService("model", ["us:temp"]))
    other = hw.FeatureView(
        "us",
        entity=AIRPORT,
        source=hw.TableSource(event_time="at"),
        features=[hw.Feature("temp", hw.Float64, column="wind", default=-1.0)],
    )
    bench.apply(other)
    bench.materialize()
    reader = bench.reader("model")
    assert reader.read(["A"]).to_dict()["temp"] == [1.0]
    bench.context.online.delete([key for key, _ in bench.context.online.scan(b"")])
    bench.rows["us"] = [{"airport": "A", "at": T0, "wind": 2.0}]  # the column of 1.0.0 is gone from the source
    with pytest.raises(HeadwaterError, match="temp"):
        bench.materialize()
    reader.refresh()
    with pytest.raises(ChangeRefused, match=r"lost the rows of us 1\.0\.0.*headwater materialize"):
        reader.read(["A"])
    with pytest.raises(ChangeRefused, match=r"1\.0\.0 is materialized not at all"):
        bench.reader("model")
    assert bench.read(["us:temp"], ["A"])["temp"] == [2.0]
    bench.rows["us"] = [{"airport": "A", "at": T0, "temp": 1.0, "wind": 2.0}]
    bench.materialize()
    for again in (reader, bench.reader("model")):
        again.refresh()
        assert again.read(["A"]).to_dict()["temp"] == [1.0]


@pytest.mark.parametrize("features", ["model@1.0.0", ["us@1.0.0:temp"]], ids=["service", "view"])
def test_a_retired_version_whose_rows_are_lost_is_not_read(bench: Bench, features: Any) -> None:
    """Its rows stay for a while after it was retired; no run fills it again after a flush."""
    bench.rows["us"] = [{"airport": "A", "at": T0, "temp": 1.0, "wind": 2.0}]
    columns = [hw.Feature("temp", hw.Float64, default=-1.0)]
    bench.apply(AIRPORT, made := hw.FeatureView("us", entity=AIRPORT, source=view("us").source, features=columns))
    bench.apply(hw.FeatureService("model", ["us:temp"]))
    bench.materialize()
    reader = bench.reader(features)
    columns = [hw.Feature("temp", hw.Float64, column="wind", default=-1.0)]
    changed = hw.FeatureView("us", entity=AIRPORT, source=made.source, features=columns)
    bench.apply(changed, hw.FeatureService("model", [changed]))
    bench.materialize()
    marks = bench.context.watermarks(bench.registry.refresh())
    for name in ("us", "model"):
        bench.context.versions.promote(name, "2.0.0", watermarks=marks, now=bench.at)
    bench.context.versions.retire("model", "1.0.0", now=bench.at)
    bench.context.versions.retire("us", "1.0.0", now=bench.at)
    reader.refresh()
    assert reader.read(["A"]).to_dict()["temp"] == [1.0]
    bench.context.online.delete([key for key, _ in bench.context.online.scan(b"")])
    bench.materialize()
    reader.refresh()
    with pytest.raises(ChangeRefused, match=r"'us@?.*1\.0\.0.* is retired"):
        reader.read(["A"])


def test_a_service_is_not_promoted_onto_a_version_without_rows(bench: Bench) -> None:
    """Also where it was live once, by force."""
    bench.rows["us"] = [{"airport": "A", "at": T0, "temp": 1.0, "wind": 2.0}]
    first, second = view("us"), hw.FeatureView("us", entity=AIRPORT, source=view("us").source, features=[GUST])
    bench.apply(AIRPORT, first, hw.FeatureService("model", [first]))
    bench.materialize()
    bench.apply(second, hw.FeatureService("model", [second]))
    promote = bench.context.versions.promote
    promote("us", "2.0.0", watermarks=bench.context.watermarks(bench.registry.refresh()), now=T0, force=True)
    bench.context.versions.rollback("us", now=T0)
    with pytest.raises(ChangeRefused, match=r"us 2\.0\.0 is materialized not at all"):
        promote("model", "2.0.0", watermarks=bench.context.watermarks(bench.registry.refresh()), now=T0)


@pytest.mark.parametrize("written_at", ["first", "before the run", "once it is live", "never"])
def test_a_colleagues_feature_takes_no_written_value_away(bench: Bench, written_at: str) -> None:
    """A version leaves out written rows that lack one of its columns; a service then reads one that takes them."""
    early = T0 - timedelta(hours=2)
    bench.rows["us"] = [{"airport": "A", "at": early, "temp": 1.0, "wind": 2.0, "gust": 3.0}]
    bench.apply(AIRPORT, view("us"), hw.FeatureService("model", ["us:temp"]))
    bench.materialize()
    reader = bench.reader("model")

    def write(when: str) -> None:
        if when == written_at:
            bench.write("us", [{"airport": "A", "at": early + timedelta(hours=1), "temp": 70.0, "wind": 8.0}])

    write("first")
    bench.apply(view("us", GUST), hw.FeatureService("model", ["us:temp"]))
    write("before the run")
    bench.materialize()
    assert bench.registry.refresh().view("us").live == "1.1.0"
    write("once it is live")
    bench.materialize()
    value, version = (1.0, "1.1.0") if written_at == "never" else (70.0, "1.0.0")
    for one in (reader, bench.reader("model")):
        one.refresh()
        assert (one.read(["A"]).to_dict()["temp"], one.versions) == ([value], {"us": version})
    spine = pa.table({"airport": ["A"], "timestamp": [T0 + timedelta(hours=1)]})
    assert historical(bench.context, spine, "model").to_arrow()["temp"].to_pylist() == [value]


def test_history_of_a_service_reads_the_newest_version_and_that_of_an_object_is_the_newest_of_its_list(
    bench: Bench,
) -> None:
    bench.rows["us"] = [{"airport": "A", "at": T0, "temp": 1.0, "wind": 2.0, "gust": 3.0}]
    bench.apply(AIRPORT, view("us"), hw.FeatureService("model", ["us:temp"]))
    bench.materialize()
    bench.apply(view("us", GUST))
    spine = pa.table({"airport": ["A"], "timestamp": [T0 + timedelta(hours=1)]})
    assert historical(bench.context, spine, "model").metadata.versions == {"us": "1.1.0"}
    assert bench.reader("model").versions == {"us": "1.0.0"}
    changed = view("us", GUST)
    changed = hw.FeatureView("us", entity=AIRPORT, source=changed.source, features=FEATURES, ttl="1d")
    bench.apply(changed)
    bench.materialize()
    model = hw.FeatureService("model", ["us:temp"])
    bench.apply(model)
    assert bench.registry.refresh().service("model").live == "1.0.0"
    assert historical(bench.context, spine, model).metadata.versions == {"us": "2.0.0"}
    assert historical(bench.context, spine, "model").metadata.versions == {"us": "1.1.0"}
    assert bench.reader(model).versions == bench.reader("model").versions == {"us": "1.1.0"}
