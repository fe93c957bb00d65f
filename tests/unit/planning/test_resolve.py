"""Resolve: versions, keys, layouts and columns of a request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.service import FeatureService
from headwater.definitions.sources import PushSource
from headwater.definitions.view import FeatureView
from headwater.errors import (
    FeatureNotFound,
    FeatureServiceNotFound,
    FeatureViewNotFound,
    UsageError,
    VersionNotFound,
)
from headwater.planning.advance import advance
from headwater.planning.diff import plan
from headwater.planning.references import Reference, parse_reference
from headwater.planning.resolve import resolve, whole_view, with_features
from headwater.planning.resolved import ResolvedRequest
from headwater.planning.snapshot import RegistrySnapshot
from headwater.types import DType, Float64, Int32, Int64, String

NOW = datetime(2024, 1, 1, tzinfo=UTC)
AIRPORT = Entity("airport", {"airport": String})
ROUTE = Entity("route", {"origin": String, "dest": String})


def view(name: str, *names: str, entity: Any = AIRPORT, **other: Any) -> FeatureView:
    features = [Feature(n, Float64) for n in names]
    return FeatureView(name, entity=entity, source=PushSource(event_time="t"), features=features, **other)


WEATHER = view("weather", "temp", "wind", join_key_map={"airport": "station"})
NEWER = view("weather", "temp", "wind", "rain", join_key_map={"airport": "station"})
FACTS = view("facts", "elevation")
DELAY = view("delay", "temp", entity=ROUTE)
WORLD = view("world", "day", entity=())


@pytest.fixture(scope="module")
def snapshot() -> RegistrySnapshot:
    found = RegistrySnapshot("p")
    for definitions in (
        [WEATHER, FACTS, DELAY, WORLD, FeatureService("model", ["weather:temp", DELAY.rename({"temp": "delay"})])],
        [NEWER, FeatureService("wide", [WEATHER["temp"], "weather@1.1.0:rain"], full_names=True)],
    ):
        found = advance(found, plan(found, definitions, whole_project=False, now=NOW).stages, now=NOW)
    return found


def columns(request: ResolvedRequest) -> list[str]:
    return [column.name for column in request.columns]


@pytest.mark.parametrize(
    ("features", "names", "versions"),
    [
        (["weather:temp"], ["temp"], {"weather": "1.0.0"}),
        ("weather:temp", ["temp"], {"weather": "1.0.0"}),
        (["weather:*"], ["temp", "wind"], {"weather": "1.0.0"}),
        (["weather@1.1.0:rain"], ["rain"], {"weather": "1.1.0"}),
        (WEATHER, ["temp", "wind"], {"weather": "1.0.0"}),
        ([NEWER], ["temp", "wind", "rain"], {"weather": "1.1.0"}),
        (NEWER["rain", "temp"], ["rain", "temp"], {"weather": "1.1.0"}),
        (
            [WEATHER["wind"], "facts:elevation", "weather:temp"],
            ["wind", "elevation", "temp"],
            {"weather": "1.0.0", "facts": "1.0.0"},
        ),
        ("model", ["temp", "delay"], {"weather": "1.0.0", "delay": "1.0.0"}),
        ("model@1.0.0", ["temp", "delay"], {"weather": "1.0.0", "delay": "1.0.0"}),
        ([FACTS.alias("dest", {"airport": "dest"})], ["dest__elevation"], {"dest": "1.0.0"}),
    ],
)
def test_what_is_asked_for(
    snapshot: RegistrySnapshot, features: Any, names: list[str], versions: dict[str, str]
) -> None:
    request = resolve(snapshot, features)
    assert columns(request) == names
    assert request.versions == versions


def test_keys_by_their_columns(snapshot: RegistrySnapshot) -> None:
    request = resolve(
        snapshot, ["weather:temp", FACTS.alias("to", {"airport": "dest"}), DELAY.rename({"temp": "d"}), "world:day"]
    )
    assert request.join_keys == {"airport": String, "dest": String, "origin": String}
    weather, to, delay, world = request.views
    assert [(k.name, k.column, k.source_column) for k in weather.keys] == [("airport", "airport", "station")]
    assert [(k.name, k.column, k.source_column) for k in to.keys] == [("airport", "dest", "airport")]
    assert [k.column for k in delay.keys] == ["origin", "dest"]
    assert world.keys == ()
    assert weather.live


def test_one_view_twice_by_alias_and_two_versions_at_once(snapshot: RegistrySnapshot) -> None:
    request = resolve(snapshot, [FACTS, FACTS.alias("dest", {"airport": "dest"})])
    assert columns(request) == ["elevation", "dest__elevation"]
    both = resolve(snapshot, ["weather@1.0.0:temp", "weather@1.1.0:rain"])
    assert both.versions == {"weather@1.0.0": "1.0.0", "weather@1.1.0": "1.1.0"}
    assert [view.live for view in both.views] == [True, False]


def test_full_names(snapshot: RegistrySnapshot) -> None:
    assert columns(resolve(snapshot, ["weather:temp", "delay:temp"], full_names=True)) == [
        "weather__temp",
        "delay__temp",
    ]
    assert columns(resolve(snapshot, "wide")) == ["weather__temp", "weather__rain"]
    assert columns(resolve(snapshot, "model", full_names=True)) == ["weather__temp", "delay"]


@pytest.mark.parametrize(
    ("features", "error", "said"),
    [
        ([], UsageError, "no features were requested"),
        (["weather"], UsageError, r"write 'weather:\*'"),
        ("weather", UsageError, r"write \['weather:\*'\]"),
        (["model"], UsageError, "is a feature service; pass it alone"),
        ([FeatureService("model", [])], UsageError, "is inside a list"),
        ([5], UsageError, "5 is not a feature"),
        (["a:b:c"], UsageError, "is not a reference"),
        ([""], UsageError, "is not a reference"),
        (["wether:temp"], FeatureViewNotFound, "did you mean 'weather'"),
        (["weather:tmp"], FeatureNotFound, "has temp, wind; did you mean 'temp'"),
        (
            ["weather:rain"],
            FeatureNotFound,
            r"version 1\.1\.0 has it: write 'weather@1\.1\.0:rain', or make it live: run materialize",
        ),
        (["weather@9.0.0:temp"], VersionNotFound, r"it has 1\.0\.0, 1\.1\.0"),
        ("modle", FeatureServiceNotFound, "did you mean 'model'"),
        ("model@2.0.0", VersionNotFound, r"it has 1\.0\.0"),
        ([view("weather", "other")], VersionNotFound, "apply it first, or try it with FeatureStore.in_memory"),
        ([view("weather", "temp", version="1.0.0")], VersionNotFound, "registered with another definition"),
        ([view("unknown", "a")], FeatureViewNotFound, "no feature view 'unknown'"),
        (FeatureService("model", ["weather:wind"]), VersionNotFound, "has this list of features; apply it first"),
        (
            ["weather:temp", "delay:temp"],
            UsageError,
            "'weather:temp' and 'delay:temp' would both be named 'temp'; pass full_names=True",
        ),
        (["weather:temp", "weather:temp"], UsageError, "is requested twice"),
        ([FACTS.alias("a"), WEATHER.alias("a")], UsageError, "'a' is requested twice"),
        (
            [FACTS.alias("a", {"airprt": "x"})],
            UsageError,
            "'airprt' is not a join key of view 'facts', which has airport",
        ),
    ],
)
def test_what_cannot_be_resolved(snapshot: RegistrySnapshot, features: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        resolve(snapshot, features)


def test_keys_of_one_column_have_one_type() -> None:
    def keyed(name: str, dtype: DType) -> FeatureView:
        return view(name, name, entity=Entity(f"e{name}", {"id": dtype}))

    definitions = [keyed("a", Int64), keyed("b", Int32), keyed("c", String)]
    snapshot = advance(
        RegistrySnapshot("p"), plan(RegistrySnapshot("p"), definitions, whole_project=False, now=NOW).stages, now=NOW
    )
    assert resolve(snapshot, ["a:a", "b:b"]).join_keys == {"id": Int64}
    with pytest.raises(UsageError, match="column 'id' is int64 for view 'a' and string for view 'c'"):
        resolve(snapshot, ["a:a", "c:c"])


def test_output_columns_beside_those_of_the_spine(snapshot: RegistrySnapshot) -> None:
    request = resolve(snapshot, ["weather:temp"])
    request.check_columns(["airport", "timestamp"], "spine")
    with pytest.raises(UsageError, match="'weather:temp' would be named 'temp', like a column of the spine"):
        request.check_columns(["temp"], "spine")


def test_a_whole_view_and_other_features_of_it(snapshot: RegistrySnapshot) -> None:
    record = snapshot.views["weather"]
    whole = whole_view(record, record.version("1.1.0"))
    assert [f.name for f in whole.features] == ["temp", "wind", "rain"]
    assert not whole.live
    assert [f.name for f in with_features(whole, ["rain"]).features] == ["rain"]


@pytest.mark.parametrize("text", ["a:b", "a@1.0.0:b", "a:*", "a", "a@1.0.0"])
def test_references_print_as_they_are_written(text: str) -> None:
    assert str(parse_reference(text)) == text
    assert str(parse_reference(f" {text} ")) == text


@pytest.mark.parametrize("text", ["", ":", "a:", ":b", "a@:b", "a b:c", "a:b:c", "a@1@2:b"])
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(UsageError, match="is not a reference; write"):
        parse_reference(text)


def test_parts_of_a_reference() -> None:
    assert parse_reference("a@1.0.0:b") == Reference("a", "1.0.0", "b")
