"""Plans: which version a definition is, what changes, and what it leads to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings

from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.service import FeatureService
from headwater.definitions.source import Source
from headwater.definitions.sources import CSVSource, JSONSource, ParquetSource, PushSource, SQLSource
from headwater.definitions.view import FeatureView
from headwater.errors import ChangeRefused, DefinitionError, VersionConflict, VersionNotFound
from headwater.planning.advance import advance
from headwater.planning.diff import plan
from headwater.planning.differences import Bump
from headwater.planning.plan import Plan
from headwater.planning.pointers import first_write, go_live, promote, request_promotion, roll_back
from headwater.planning.service_columns import service_version
from headwater.planning.service_reads import selections_read
from headwater.planning.snapshot import RegistrySnapshot
from headwater.planning.stages import Action, Kind
from headwater.planning.watermark import Watermark
from headwater.testing import rounds
from headwater.types import Float32, Float64, Int64, String

NOW = datetime(2024, 1, 1, tzinfo=UTC)
AIRPORT = Entity("airport", {"airport": String})
PUSH = PushSource(event_time="t")
FILES = ParquetSource("data", event_time="t")
EMPTY = RegistrySnapshot("flights")
ITEMS: tuple[tuple[str | None, bool, Callable[[FeatureView], Any]], ...] = (
    (None, True, lambda view: view),
    ("origin", True, lambda view: view.alias("origin", {"airport": "origin"})),
    ("destination", True, lambda view: view.alias("destination", {"airport": "destination"})),
    (None, False, lambda view: view["k"].rename({"k": "renamed"})),
    ("gate", False, lambda view: view.alias("gate", {"airport": "gate"})["k"]),
)
"""Items of a service's list, all of one view: the alias, whether it is a star, the item."""


def view(
    *names: str, name: str = "weather", source: Source = FILES, entity: Any = AIRPORT, **other: Any
) -> FeatureView:
    return FeatureView(name, entity=entity, source=source, features=[Feature(n, Float64) for n in names], **other)


class Registry:
    """A registry without a database: plans are run by `advance`."""

    def __init__(self) -> None:
        self.snapshot = EMPTY

    def plan(self, *definitions: Any, whole: bool = False, schema: pa.Schema | None = None) -> Plan:
        return plan(self.snapshot, definitions, lambda source: schema, whole_project=whole, now=NOW)

    def apply(self, *definitions: Any, whole: bool = False) -> Plan:
        found = self.plan(*definitions, whole=whole)
        self.snapshot = advance(self.snapshot, found.stages, now=NOW, log_head=7)
        again = self.plan(*definitions, whole=whole)
        assert not again.stages, f"applying twice is not a no-op:\n{again}"
        return found

    def materialize(self, **ends: int) -> None:
        """Everything up to 10, or what is named (`weather_1_1_0=5`)."""
        marks: dict[tuple[str, str], Watermark] = {}
        for record in self.snapshot.views.values():
            for version in record.active:
                end = ends.get(f"{record.name}_{version.version.replace('.', '_')}", 10)
                if end:
                    marks[record.name, version.version] = Watermark(end, end)
        self.snapshot = advance(self.snapshot, go_live(self.snapshot, marks).stages, now=NOW)

    def live(self, name: str) -> str | None:
        records: Mapping[str, Any] = {**self.snapshot.views, **self.snapshot.services}
        live: str | None = records[name].live
        return live

    def active(self, name: str) -> list[str]:
        records: Mapping[str, Any] = {**self.snapshot.views, **self.snapshot.services}
        return [version.version for version in records[name].active]

    def reads(self, name: str, version: str) -> list[str]:
        found = selections_read(self.snapshot.services[name].versions[version])
        return [f"{s.view}@{s.version}:{n}" for s in found for n in s.names]

    def pins(self, name: str, version: str) -> list[str]:
        selections = self.snapshot.services[name].versions[version].selections
        return [f"{s.view}@{s.version}:{n}" for s in selections for n in s.names]

    def without_texts(self, name: str) -> None:
        """A service as an earlier release stored it."""
        record = self.snapshot.services[name]
        versions = {number: replace(v, text=None, reads={}) for number, v in record.versions.items()}
        self.snapshot = replace(self.snapshot, services={name: replace(record, versions=versions)})


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_the_first_version_is_live_at_once(registry: Registry) -> None:
    found = registry.apply(AIRPORT, view("temp"), FeatureService("model", ["weather:temp"]))
    assert [(s.action, s.kind, s.name, s.version, s.live) for s in found.stages] == [
        (Action.ADD, Kind.ENTITY, "airport", None, False),
        (Action.ADD, Kind.VIEW, "weather", "1.0.0", True),
        (Action.ADD, Kind.SERVICE, "model", "1.0.0", True),
    ]
    assert registry.live("weather") == "1.0.0"
    version = registry.snapshot.views["weather"].versions["1.0.0"]
    assert (version.created_at, version.revision, version.log_head, version.automatic) == (NOW, 1, 7, True)


def test_an_explicit_first_version_is_live_at_once(registry: Registry) -> None:
    registry.apply(view("temp", version="3.1.4"))
    assert registry.live("weather") == "3.1.4"
    assert not registry.snapshot.views["weather"].versions["3.1.4"].automatic


def test_an_entity_comes_with_its_view(registry: Registry) -> None:
    registry.apply(view("temp"))
    assert registry.snapshot.entities == {"airport": AIRPORT}


@pytest.mark.parametrize(
    ("changed", "bump", "line"),
    [
        (view("temp", "wind"), Bump.MINOR, "feature wind added (float64)"),
        (view("wind"), Bump.MAJOR, "feature temp removed"),
        (view("temp", ttl="6h"), Bump.MAJOR, "ttl: none → 6h"),
        (view("temp", source=PushSource(event_time="u")), Bump.MAJOR, "source.event time: t → u"),
        (view("temp", source=PushSource(event_time="t", created_time="c")), Bump.MAJOR, "created time: none → c"),
        (view("temp", source=PUSH), Bump.MAJOR, "source.kind: parquet → push"),
        (view("temp", join_key_map={"airport": "origin"}), Bump.MAJOR, "join key map: none → airport=origin"),
        (
            view("temp", entity=Entity("airport", {"airport": Int64})),
            Bump.MAJOR,
            "(airport string) → airport (airport int64)",
        ),
        (view("temp", entity=()), Bump.MAJOR, "entity: airport (airport string) → none"),
        (
            FeatureView("weather", entity=AIRPORT, source=PUSH, features=[Feature("temp", Float32)]),
            Bump.MAJOR,
            "feature temp: dtype: float64 → float32",
        ),
        (
            FeatureView("weather", entity=AIRPORT, source=PUSH, features=[Feature("temp", Float64, default=0)]),
            Bump.MAJOR,
            "feature temp: default: none → 0.0",
        ),
        (
            FeatureView("weather", entity=AIRPORT, source=PUSH, features=[Feature("temp", Float64, column="t_f")]),
            Bump.MAJOR,
            "feature temp: column: temp → t_f",
        ),
    ],
)
def test_what_makes_a_version(registry: Registry, changed: FeatureView, bump: Bump, line: str) -> None:
    registry.apply(view("temp"))
    found = registry.apply(changed)
    stage = next(s for s in found.stages if s.kind is Kind.VIEW)
    assert (stage.action, stage.bump) == (Action.CHANGE, bump)
    assert any(line in text for text in stage.details), stage.details
    assert stage.version == ("1.1.0" if bump is Bump.MINOR else "2.0.0")
    assert (stage.live, stage.waits) == (False, True)
    assert registry.live("weather") == "1.0.0"
    assert line in str(found)


def test_what_is_changed_in_place(registry: Registry) -> None:
    parquet = ParquetSource("a.parquet", event_time="t")
    registry.apply(view("temp", "wind", source=parquet))
    later = NOW + timedelta(days=1)
    changed = FeatureView(
        "weather",
        entity=AIRPORT,
        source=ParquetSource("b.parquet", event_time="t"),
        features=[
            Feature("wind", Float64, description="m/s", freshness_sla="5m"),
            Feature("temp", Float64, kind="categorical"),
        ],
        owner="me",
        description="words",
        tags={"tier": "gold"},
        freshness_sla="1h",
        availability_sla=0.99,
    )
    found = plan(registry.snapshot, [changed], whole_project=False, now=later)
    (stage,) = found.stages
    assert (stage.action, stage.version) == (Action.UPDATE, "1.0.0")
    assert stage.details == (
        "owner: none → me",
        "description: none → words",
        "tags: none → tier=gold",
        "freshness sla: none → 1h",
        "availability sla: none → 0.99",
        "source.path: a.parquet → b.parquet",
        "feature wind: description: none → m/s",
        "feature wind: freshness sla: none → 5m",
        "feature temp: kind: numerical → categorical",
    )
    version = advance(registry.snapshot, found.stages, now=later).views["weather"].versions["1.0.0"]
    assert (version.created_at, version.updated_at, version.revision) == (NOW, later, 1)
    assert version.view.owner == "me"
    assert version.view.feature_names == ("temp", "wind"), "the stored order of features stays"


@pytest.mark.parametrize(
    "same",
    [
        view("wind", "temp"),
        view("temp", "wind", ttl="0s"),
        view("temp", "wind", version="1.0.0"),
        view("temp", "wind", join_key_map={"airport": "airport"}),
    ],
)
def test_what_is_no_change(registry: Registry, same: FeatureView) -> None:
    registry.apply(view("temp", "wind"))
    assert [s for s in registry.plan(same).stages if s.action is not Action.UPDATE] == []


def test_a_query_is_compared_as_it_is_parsed(registry: Registry) -> None:
    def sql(query: str, path: str = "f.csv") -> FeatureView:
        return view("temp", source=SQLSource(query, tables={"f": CSVSource(path)}, event_time="t"))

    registry.apply(sql("select a.temp, t from f as a -- all"))
    (stage,) = registry.apply(sql("SELECT a.temp,\n t FROM f AS a", "g.csv")).stages
    assert stage.action is Action.UPDATE
    assert stage.details == ("source.query: written differently", "source.tables.f.path: f.csv → g.csv")
    (stage,) = registry.apply(sql("SELECT a.temp + 1 AS temp, t FROM f AS a", "g.csv")).stages
    assert (stage.action, stage.bump, stage.details) == (
        Action.CHANGE,
        Bump.MAJOR,
        (
            "source.query changed:",
            "     SELECT",
            "    -  a.temp,",
            "    +  a.temp + 1 AS temp,",
            "       t",
        ),
    )


def test_a_query_in_place_of_a_file_and_a_changed_table_are_shown(registry: Registry) -> None:
    def sql(**tables: Source) -> FeatureView:
        return view("temp", source=SQLSource("SELECT temp, t FROM f", tables=tables, event_time="t"))

    registry.apply(view("temp", source=CSVSource("f.csv", event_time="t")))
    (stage,) = registry.apply(sql(f=CSVSource("f.csv"))).stages
    added = ("source.query added:", "    +SELECT", "    +  temp,", "    +  t", "    +FROM f", "source.tables: f added")
    assert stage.details[-6:] == added
    (stage,) = registry.apply(sql(f=CSVSource("f.csv", timezone="UTC"), g=FILES)).stages
    assert stage.details == ("source.tables.f.timezone: none → UTC", "source.tables: g added")
    (stage,) = registry.apply(view("temp", source=CSVSource("f.csv", event_time="t", delay="1h"))).stages
    lines = "\n".join(stage.details)
    assert "source.query removed:\n    -SELECT\n    -  temp," in lines
    assert "source.tables: f removed\nsource.tables: g removed" in lines


def test_a_changed_definition_under_its_version_is_refused_with_the_bump_it_needs(registry: Registry) -> None:
    registry.apply(view("temp", version="1.0.0"), view("a", name="other", version="2.3.4"))
    with pytest.raises(VersionConflict) as conflict:
        registry.plan(view("temp", "wind", version="1.0.0"), view("b", name="other", version="2.3.4"))
    text = str(conflict.value)
    assert "version 1.0.0 is registered with another definition" in text
    assert "feature wind added" in text
    assert "minor bump: version='1.1.0'" in text
    assert "feature a removed" in text
    assert "major bump: version='3.0.0'" in text


def test_an_explicit_version_stands_beside_until_promoted(registry: Registry) -> None:
    registry.apply(view("temp", version="1.0.0"))
    registry.apply(view("temp", "wind", version="1.5.0"))
    registry.materialize()
    assert registry.live("weather") == "1.0.0"
    assert registry.active("weather") == ["1.0.0", "1.5.0"]
    note = registry.plan(view("temp", "wind", version="1.5.0")).unchanged[-1].note
    assert note == "1.0.0 is live; 'headwater promote weather 1.5.0' makes this one live"


def test_an_automatic_version_goes_live_once_it_is_as_far(registry: Registry) -> None:
    registry.apply(view("temp"))
    registry.materialize()
    registry.apply(view("temp", "wind"))
    registry.materialize(weather_1_1_0=9)
    assert registry.live("weather") == "1.0.0"
    registry.materialize()
    assert registry.live("weather") == "1.1.0"
    assert registry.snapshot.views["weather"].previous == "1.0.0"


def test_numbers_go_up_from_what_is_taken(registry: Registry) -> None:
    registry.apply(view("a", version="1.4.2"))
    assert registry.apply(view("a", "b")).stages[-1].version == "1.5.0"
    assert registry.apply(view("a", "b", "c")).stages[-1].version == "1.6.0", "a change to what waits is a change to it"
    assert registry.apply(view("b", "c")).stages[-1].version == "2.0.0"
    assert registry.apply(view("z", version="7.0.0")).stages[-1].version == "7.0.0"
    assert registry.apply(view("b", "c", "d")).stages[-1].version == "2.1.0"
    assert registry.apply(view("y")).stages[-1].version == "8.0.0"


def test_going_back_before_it_is_live(registry: Registry) -> None:
    registry.apply(view("temp"))
    registry.apply(view("temp", "wind"))
    (stage,) = registry.apply(view("temp")).stages
    assert (stage.action, stage.version, stage.waits) == (Action.AWAIT, "1.0.0", False)
    assert "1.1.0 is no longer set to go live" in str(stage)
    registry.materialize()
    assert registry.live("weather") == "1.0.0"
    (stage,) = registry.apply(view("temp", "wind")).stages
    assert (stage.action, stage.version, stage.waits) == (Action.AWAIT, "1.1.0", True)
    registry.materialize()
    assert registry.live("weather") == "1.1.0"


def test_going_back_after_it_went_live_waits_for_the_old_version_which_was_fed_all_the_while(
    registry: Registry,
) -> None:
    registry.apply(view("temp"))
    registry.materialize()
    registry.apply(view("temp", "wind"))
    registry.materialize()
    (stage,) = registry.apply(view("temp")).stages
    assert (stage.action, stage.version, stage.waits) == (Action.AWAIT, "1.0.0", True)
    registry.materialize()
    assert registry.live("weather") == "1.0.0"


def test_a_version_rolled_back_from_goes_live_again_only_by_promote(registry: Registry) -> None:
    registry.apply(view("temp"))
    registry.materialize()
    registry.apply(view("temp", "wind"))
    registry.materialize()
    registry.snapshot = advance(registry.snapshot, roll_back(registry.snapshot, "weather"), now=NOW)
    assert registry.live("weather") == "1.0.0"
    found = registry.apply(view("temp", "wind"))
    assert found.stages == ()
    assert "'headwater promote weather 1.1.0' makes this one live" in str(found)
    registry.materialize()
    assert registry.live("weather") == "1.0.0"
    registry.snapshot = advance(
        registry.snapshot, promote(registry.snapshot, "weather", "1.1.0", {}, force=True), now=NOW
    )
    assert registry.live("weather") == "1.1.0"
    assert not registry.snapshot.views["weather"].versions["1.1.0"].held


def test_automatic_numbering_keeps_two_and_retires_older_ones(registry: Registry) -> None:
    registry.apply(view("a", version="0.9.0"))
    for names in (["a", "b"], ["a", "b", "c"], ["a", "b", "c", "d"]):
        registry.apply(view(*names))
        registry.materialize()
    assert registry.live("weather") == "0.12.0"
    assert registry.active("weather") == ["0.9.0", "0.11.0", "0.12.0"], (
        "a version of the user's own is not retired by itself"
    )


def test_a_version_that_is_read_is_kept_until_nothing_reads_it(registry: Registry) -> None:
    first = view("a", ttl="1h")
    registry.apply(first, FeatureService("model", [first]))
    registry.materialize()
    for names in (["a"], ["a", "b"], ["a", "b", "c"]):
        registry.apply(view(*names))
        registry.materialize()
    assert registry.active("weather") == ["1.0.0", "2.1.0", "2.2.0"]
    for version, reference in (("2.0.0", "weather:a"), ("3.0.0", "weather:b")):
        registry.apply(FeatureService("model", [reference]))
        stages = promote(registry.snapshot, "model", version, {}, force=False)
        registry.snapshot = advance(registry.snapshot, stages, now=NOW)
        if version == "2.0.0":
            assert registry.active("weather") == ["1.0.0", "2.1.0", "2.2.0"], "model 1.0.0 can be rolled back to"
    assert registry.active("model") == ["2.0.0", "3.0.0"]
    assert registry.active("weather") == ["2.1.0", "2.2.0"]


@pytest.mark.parametrize("as_object", [False, True])
@pytest.mark.parametrize("written", ["pushed", "before", "later", "never"])
def test_a_services_next_version_takes_the_rows_that_the_one_before_takes(
    registry: Registry, as_object: bool, written: str
) -> None:
    source = PUSH if written == "pushed" else FILES

    def apply(turns: FeatureView, facts: FeatureView, *more: str) -> Plan:
        items: list[Any] = [turns["count"], facts["kg"]] if as_object else ["turns:count", "facts:kg"]
        return registry.apply(turns, facts, FeatureService("model", [*items, *more]))

    def write() -> None:
        stages = first_write(registry.snapshot, "turns")
        registry.snapshot = advance(registry.snapshot, stages, now=NOW)

    turns, facts = view("count", name="turns", source=source), view("kg", name="facts")
    apply(turns, facts)
    if written == "before":
        write()
    registry.materialize()
    noted, lighter = view("count", "note", name="turns", source=source), view("kg", name="facts", ttl="1d")
    for one, other in ((noted, facts), (noted, lighter)):
        apply(one, other)
        registry.materialize()
    found = apply(noted, lighter)
    assert registry.active("model") == ["1.0.0", "2.0.0"], found
    if written == "later":
        write()
    read = "1.1.0" if written == "never" else "1.0.0"
    assert registry.reads("model", "1.0.0") == [f"turns@{read}:count", "facts@1.0.0:kg"]
    assert registry.reads("model", "2.0.0") == [f"turns@{read}:count", "facts@2.0.0:kg"]
    stages = promote(registry.snapshot, "model", "2.0.0", {}, force=True)
    registry.snapshot = advance(registry.snapshot, stages, now=NOW)
    (stage,) = apply(noted, lighter, "turns:note").stages
    goes_over = "turns: the service now reads turns 1.1.0 (was 1.0.0); rows written without 'note' have no value there"
    added, *others = stage.details
    assert (added, goes_over in others) == ("turns:note added", written != "never")
    assert registry.reads("model", "2.1.0") == ["turns@1.1.0:count", "facts@2.0.0:kg", "turns@1.1.0:note"]


def test_a_version_that_a_list_names_is_read(registry: Registry) -> None:
    facts = view("kg", name="facts")
    registry.apply(view("a", source=PUSH), facts, FeatureService("model", ["weather:a"]))
    registry.materialize()
    registry.apply(view("a", "b", source=PUSH), facts)
    registry.materialize()
    (stage,) = registry.apply(FeatureService("model", ["weather@1.1.0:a", "facts:kg"])).stages
    assert any("weather: the service now reads weather 1.1.0 (was 1.0.0)" in line for line in stage.details)
    assert registry.reads("model", "1.1.0") == ["weather@1.1.0:a", "facts@1.0.0:kg"]


def test_a_service_of_pushed_rows_stays_where_they_are_taken(registry: Registry) -> None:
    registry.apply(view("a", "b", source=PUSH), FeatureService("model", ["weather:a"]))
    registry.materialize()
    for names in (["a", "b", "c"], ["a", "b", "c", "d"]):
        registry.apply(view(*names, source=PUSH), FeatureService("model", ["weather:a"]))
        registry.materialize()
    assert registry.reads("model", "1.0.0") == ["weather@1.0.0:a"], "what was written has no c"
    registry.apply(view("a", source=PUSH), FeatureService("model", ["weather:a"]))
    registry.materialize()
    assert registry.reads("model", "1.0.0") == ["weather@2.0.0:a"]


def test_a_retired_version_never_comes_back(registry: Registry) -> None:
    for names in (["a"], ["a", "b"], ["a", "b", "c"]):
        registry.apply(view(*names))
        registry.materialize()
    assert registry.active("weather") == ["1.1.0", "1.2.0"]
    assert registry.apply(view("a")).stages[0].version == "2.0.0"
    with pytest.raises(VersionConflict, match=r"1\.0\.0 was retired.*version='1\.0\.1'"):
        registry.plan(view("a", version="1.0.0"))


def test_only_the_whole_project_removes(registry: Registry) -> None:
    weather, other = view("temp"), view("x", name="other", entity=Entity("plane", {"tail": String}))
    registry.apply(weather, other, whole=True)
    assert registry.apply(weather).stages == ()
    found = registry.apply(weather, whole=True)
    assert [(s.action, s.kind, s.name) for s in found.stages] == [
        (Action.RETIRE, Kind.VIEW, "other"),
        (Action.REMOVE, Kind.ENTITY, "plane"),
    ]
    assert registry.live("other") is None
    assert "other" in registry.snapshot.views, "any past version can be looked up"
    (_, stage) = registry.apply(weather, other, whole=True).stages
    assert (stage.action, stage.version, stage.live) == (Action.CHANGE, "1.0.1", True)
    assert "retired → 1.0.1, live" in str(stage)


def test_removal_keeps_what_a_service_still_reads(registry: Registry) -> None:
    weather, other = view("temp"), view("x", name="other")
    registry.apply(weather, other, FeatureService("model", [weather, other]), whole=True)
    registry.materialize()
    found = registry.apply(weather, FeatureService("model", [weather]), whole=True)
    assert registry.live("other") == "1.0.0"
    assert "no longer in the files, but read by model@1.0.0" in str(found)
    found = registry.apply(weather, whole=True)
    assert registry.live("model") is None
    assert registry.live("other") is None


def test_a_removed_view_cannot_be_referred_to_by_the_project(registry: Registry) -> None:
    registry.apply(view("temp"), whole=True)
    with pytest.raises(DefinitionError, match="no feature view 'weather'"):
        registry.plan(FeatureService("model", ["weather:temp"]), whole=True)
    registry.apply(FeatureService("model", ["weather:temp"]))


class TestServices:
    def test_an_object_means_its_version_and_a_text_reference_the_live_one(self, registry: Registry) -> None:
        registry.apply(view("temp"))
        newer = view("temp", "wind")
        registry.apply(newer, FeatureService("objects", [newer["temp"]]), FeatureService("texts", ["weather:temp"]))
        assert registry.pins("objects", "1.0.0") == ["weather@1.1.0:temp"]
        assert registry.pins("texts", "1.0.0") == ["weather@1.0.0:temp"]
        assert registry.reads("objects", "1.0.0") == registry.reads("texts", "1.0.0") == ["weather@1.0.0:temp"]

    def test_a_text_reference_that_the_live_version_cannot_satisfy_means_what_this_apply_adds(
        self, registry: Registry
    ) -> None:
        registry.apply(view("temp"))
        service = FeatureService("model", ["weather:temp", "weather:wind"])
        registry.apply(view("temp", "wind"), service)
        assert registry.pins("model", "1.0.0") == ["weather@1.1.0:temp", "weather@1.1.0:wind"]
        registry.apply(service)
        found = service_version(registry.snapshot, service)
        assert found is not None
        assert found.version == "1.0.0"

    def test_a_feature_that_a_colleague_adds_changes_no_service(self, registry: Registry) -> None:
        services = [
            FeatureService("texts", ["weather:temp"]),
            FeatureService("objects", [view("temp", "wind")["temp"]]),
            FeatureService("star", ["weather:*"]),
            FeatureService("whole", [view("temp", "wind")]),
            FeatureService("numbered", ["weather:temp"], version="3.0.0"),
        ]
        registry.apply(view("temp", "wind"), *services)
        registry.materialize()
        for names in (["temp", "wind", "gust"], ["temp", "wind", "gust", "rain"], ["wind", "temp", "sun"]):
            services[1] = FeatureService("objects", [view(*names)["temp"]])
            services[3] = FeatureService("whole", [view(*names)])
            found = registry.apply(view(*names), *services)
            assert {s.name for s in found.stages} == {"weather"}
            registry.materialize()
            for service in services:
                (version,) = registry.active(service.name)
                read = {name.partition(":")[0] for name in registry.reads(service.name, version)}
                assert read == {f"weather@{registry.live('weather')}"}

    def test_another_meaning_is_a_new_version_that_waits_and_the_old_one_goes_on(self, registry: Registry) -> None:
        service = FeatureService("model", ["weather:temp"])
        registry.apply(view("temp", "wind"), service)
        registry.materialize()
        other = view("temp", "wind", ttl="1h")
        assert [s.name for s in registry.apply(other, service).stages] == ["weather"], "a text means the live version"
        registry.materialize()
        assert registry.live("weather") == "2.0.0"
        assert registry.reads("model", "1.0.0") == ["weather@1.0.0:temp"], "nothing changes under a model"
        (stage,) = registry.apply(other, service).stages
        assert (stage.version, stage.bump, stage.live, stage.waits) == ("2.0.0", Bump.MAJOR, False, False)
        assert stage.details == (
            "weather:temp: its values may change: the service now reads weather 2.0.0 (was 1.0.0)",
        )
        assert "live with 'headwater promote model 2.0.0'" in str(stage)
        for names in ("abc", "abcd"):
            registry.apply(view("temp", "wind", *names, ttl="1h"), service)
            registry.materialize()
        assert registry.reads("model", "1.0.0") == ["weather@1.0.0:temp"], "kept active as long as it is read"
        assert registry.live("model") == "1.0.0"
        registry.snapshot = advance(
            registry.snapshot, promote(registry.snapshot, "model", "2.0.0", {}, force=False), now=NOW
        )
        assert registry.reads("model", "2.0.0") == ["weather@2.2.0:temp"]

    def test_a_star_grows_once_the_list_is_written_differently(self, registry: Registry) -> None:
        def service(*items: Any) -> FeatureService:
            return FeatureService("model", items)

        registry.apply(view("a", "b"), service("weather:*"))
        registry.materialize()
        registry.apply(view("a", "b", "c"), service("weather:*"))
        registry.materialize()
        found = registry.plan(view("a", "b", "c"), service("weather:*"))
        assert "c was added later and is left out until the list is changed" in str(found)
        registry.apply(view("a", "c"), service("weather:*"))
        registry.materialize()
        (stage,) = registry.apply(view("a", "c"), service("weather:*")).stages
        assert stage.details[0] == "weather:b removed"
        assert registry.reads("model", "2.0.0") == ["weather@2.0.0:a"]
        registry.apply(view("a", "c"), service("weather:c", "weather:a"))
        registry.apply(view("a", "c"), service(view("a", "c")))
        assert registry.pins("model", registry.active("model")[-1]) == ["weather@2.0.0:a", "weather@2.0.0:c"]

    @settings(max_examples=rounds(40), deadline=None)
    @given(
        st.permutations(range(len(ITEMS))),
        st.integers(1, len(ITEMS)),
        st.lists(st.lists(st.sampled_from("abcd"), unique=True), min_size=2, max_size=4),
        st.booleans(),
    )
    def test_every_star_of_a_list_keeps_its_own_columns(
        self, order: list[int], length: int, histories: list[list[str]], upgraded: bool
    ) -> None:
        registry = Registry()
        items = [ITEMS[number] for number in order[:length]]
        expected = [["k", *histories[0]] if star else ["k"] for _, star, _ in items]
        for number, names in enumerate(histories):
            weather = view("k", *names)
            expected = [[name for name in columns if name in ("k", *names)] for columns in expected]
            registry.apply(weather, FeatureService("model", [item(weather) for _, _, item in items]))
            registry.materialize()
            newest = max(registry.snapshot.services["model"].active, key=lambda v: v.revision)
            found = [(s.alias, name) for s in newest.selections for name in s.names]
            aliases = [alias for alias, _, _ in items]
            assert found == [(alias, n) for alias, columns in zip(aliases, expected, strict=True) for n in columns]
            if upgraded and number == 0:
                registry.without_texts("model")

    def test_appended_columns_are_a_minor_bump_and_all_else_a_major_one(self, registry: Registry) -> None:
        def service(*items: Any, **other: Any) -> FeatureService:
            return FeatureService("model", items, **other)

        registry.apply(view("a", "b", "c"), service("weather:a", "weather:b"))
        for changed, version, line in (
            (service("weather:a", "weather:b", "weather:c"), "1.1.0", "weather:c added"),
            (service("weather:b", "weather:a", "weather:c"), "2.0.0", "order of the columns"),
            (service("weather:b", "weather:c"), "3.0.0", "weather:a removed"),
            (service("weather:b", "weather:c", full_names=True), "4.0.0", "full_names: False → True"),
        ):
            stage = registry.apply(changed).stages[0]
            assert (stage.version, line in stage.details, stage.live) == (version, True, False)

    def test_long_lists_are_planned_in_a_moment(self, registry: Registry) -> None:
        names = [f"f{number}" for number in range(1_600)]
        service = FeatureService("model", [f"weather:{name}" for name in names])
        registry.apply(view(*names), service)
        start = time.process_time()
        registry.plan(view(*names, "more"), service)
        assert time.process_time() - start < 1

    def test_grouping_is_no_change_and_texts_are_changed_in_place(self, registry: Registry) -> None:
        registry.apply(view("a", "b"), FeatureService("model", ["weather:*"]))
        (stage,) = registry.apply(FeatureService("model", ["weather:a", "weather:b"])).stages
        assert (stage.action, stage.details) == (Action.UPDATE, ("the list of features in the file was edited",))
        (stage,) = registry.apply(
            FeatureService("model", ["weather:a", "weather:b"], owner="me", tags={"a": "b"})
        ).stages
        assert (stage.action, stage.details) == (Action.UPDATE, ("owner: none → me", "tags: none → a=b"))
        assert registry.snapshot.services["model"].versions["1.0.0"].owner == "me"

    def test_under_its_own_version_a_list_stays_as_it_was_made(self, registry: Registry) -> None:
        service = FeatureService("model", ["weather:*"], version="1.0.0")
        registry.apply(view("a"), service)
        registry.materialize()
        registry.apply(view("a", "b"), service)
        registry.materialize()
        assert registry.live("weather") == "1.1.0"
        registry.apply(view("a", "b"), service)
        assert registry.pins("model", "1.0.0") == ["weather@1.0.0:a"]
        assert registry.reads("model", "1.0.0") == ["weather@1.1.0:a"]
        other = view("a", "b", ttl="1h")
        registry.apply(other, service)
        registry.materialize()
        found = registry.apply(other, service)
        assert "keeps reading weather 1.0.0; give it another version= to read what its list means now" in str(found)
        assert registry.reads("model", "1.0.0") == ["weather@1.1.0:a"]
        with pytest.raises(VersionConflict, match=r"reads weather 2\.0\.0 \(was 1\.1\.0\)\n.*version='2\.0\.0'"):
            registry.plan(other, FeatureService("model", [other["a"]], version="1.0.0"))

    def test_an_explicit_service_version_waits_for_promote(self, registry: Registry) -> None:
        registry.apply(view("a", "b"), FeatureService("model", ["weather:a"], version="1.0.0"))
        registry.apply(FeatureService("model", ["weather:b"], version="2.0.0"))
        registry.materialize()
        assert registry.live("model") == "1.0.0"
        registry.snapshot = advance(
            registry.snapshot, promote(registry.snapshot, "model", "2.0.0", {}, force=False), now=NOW
        )
        assert registry.live("model") == "2.0.0"

    def test_a_service_is_promoted_once_what_it_reads_has_caught_up(self, registry: Registry) -> None:
        old = view("a")
        registry.apply(old, FeatureService("model", [old]))
        registry.materialize()
        new = view("a", "b")
        registry.apply(new, FeatureService("model", [new["a", "b"]]))
        registry.materialize(weather_1_1_0=5)
        with pytest.raises(ChangeRefused, match=r"weather 1\.1\.0 is materialized up to"):
            promote(registry.snapshot, "model", "1.1.0", {("weather", "1.1.0"): Watermark(5, 5)}, force=False)
        registry.materialize()
        assert (registry.live("weather"), registry.live("model")) == ("1.1.0", "1.0.0")
        stages = promote(registry.snapshot, "model", "1.1.0", {}, force=False)
        registry.snapshot = advance(registry.snapshot, stages, now=NOW)
        assert registry.live("model") == "1.1.0"

    def test_what_shall_be_promoted_goes_live_once_it_has_caught_up(self, registry: Registry) -> None:
        old, new = view("a"), view("a", "b", version="2.0.0")
        registry.apply(old, FeatureService("model", [old]))
        registry.materialize()
        found = registry.apply(new, FeatureService("model", [new["b"]]))
        registry.snapshot = advance(registry.snapshot, request_promotion(registry.snapshot, found), now=NOW)
        registry.materialize(weather_2_0_0=5)
        assert (registry.live("weather"), registry.live("model")) == ("1.0.0", "1.0.0")
        again = registry.apply(new, FeatureService("model", [new["b"]]))
        assert not again.stages, "it still waits"
        registry.materialize()
        assert (registry.live("weather"), registry.live("model")) == ("2.0.0", "2.0.0")

    def test_a_version_of_an_earlier_release_keeps_its_star(self, registry: Registry) -> None:
        service = FeatureService("model", ["weather:*"])
        registry.apply(view("a"), service)
        registry.materialize()
        registry.without_texts("model")
        (_, stage) = registry.apply(view("a", "b"), service).stages
        assert (stage.action, stage.details) == (Action.UPDATE, ("the list is kept as it is written, too",))
        registry.materialize()
        assert registry.reads("model", "1.0.0") == ["weather@1.1.0:a"]

    def test_a_list_of_an_earlier_release_that_becomes_a_star_is_another_list(self, registry: Registry) -> None:
        registry.apply(view("a", "b"), FeatureService("model", ["weather:a"]))
        registry.without_texts("model")
        star = FeatureService("model", ["weather:*"])
        assert service_version(registry.snapshot, FeatureService("model", ["weather:a"])) is not None
        with pytest.raises(VersionNotFound):
            service_version(registry.snapshot, star)
        stage = registry.apply(star).stages[0]
        assert (stage.version, stage.details[0]) == ("1.1.0", "weather:b added")
        assert registry.pins("model", "1.1.0") == ["weather@1.0.0:a", "weather@1.0.0:b"]

    def test_a_service_object_means_the_version_with_its_list(self, registry: Registry) -> None:
        one, two = FeatureService("model", ["weather:a"]), FeatureService("model", ["weather:a", "weather:b"])
        registry.apply(view("a", "b"), one)
        registry.apply(two)
        for service, version in ((one, "1.0.0"), (two, "1.1.0")):
            found = service_version(registry.snapshot, service)
            assert found is not None
            assert found.version == version

    def test_problems_of_resolving_come_with_all_others(self, registry: Registry) -> None:
        with pytest.raises(DefinitionError) as bad:
            registry.plan(
                view("a"),
                view("a", name="other"),
                FeatureService("twice", ["weather:a", "other:a"]),
                FeatureService("alias", [view("a").alias("d")["a"], view("a", name="other").alias("d")["a"]]),
                FeatureService("missing", ["weather:b"]),
            )
        assert len(bad.value.problems) == 3
        assert any("twice: 'weather:a' and 'other:a' would both be named 'a'" in p for p in bad.value.problems)

    def test_a_retired_version_cannot_be_pinned_anew(self, registry: Registry) -> None:
        for names in (["a", "z"], ["a", "b"], ["a", "b", "c"]):
            registry.apply(view(*names))
            registry.materialize()
        with pytest.raises(DefinitionError, match=r"weather@1\.0\.0' is retired"):
            registry.plan(FeatureService("model", ["weather@1.0.0:z"]))
        registry.apply(FeatureService("model", ["weather@1.0.0:a"]))
        assert registry.reads("model", "1.0.0") == ["weather@2.1.0:a"]

    def test_a_name_is_either_a_views_or_a_services(self, registry: Registry) -> None:
        registry.apply(view("a"), FeatureService("model", ["weather:a"]))
        with pytest.raises(DefinitionError, match="a feature service of this name is registered"):
            registry.plan(view("a", name="model"))
        with pytest.raises(DefinitionError, match="a feature view of this name is registered"):
            registry.plan(FeatureService("weather", ["weather:a"]))


def test_an_entity_with_other_keys_makes_new_versions_of_its_views(registry: Registry) -> None:
    registry.apply(AIRPORT, view("temp"))
    wider = Entity("airport", {"airport": String, "terminal": Int64})
    found = registry.apply(wider, view("temp", entity=wider))
    assert [(s.action, s.kind) for s in found.stages] == [(Action.CHANGE, Kind.ENTITY), (Action.CHANGE, Kind.VIEW)]
    assert "join keys: airport string → airport string, terminal int64" in str(found)
    described = Entity("airport", {"airport": String, "terminal": Int64}, description="a place")
    (stage,) = registry.apply(described, view("temp", entity=described)).stages
    assert (stage.kind, stage.action, stage.details) == (Kind.ENTITY, Action.UPDATE, ("description: none → a place",))


def test_columns_of_sources_are_checked(registry: Registry) -> None:
    schema = pa.schema({"airport": pa.string(), "t": pa.timestamp("us"), "temp": pa.string()})
    with pytest.raises(DefinitionError, match="column 'temp' is string"):
        registry.plan(view("temp", source=ParquetSource("x", event_time="t")), schema=schema)


def test_a_plan_as_text_json_and_html(registry: Registry) -> None:
    assert str(registry.plan()) == "no changes, 0 unchanged"
    registry.apply(view("temp"))
    found = registry.plan(view("temp", "<b>"[1:2], owner="<me>"))
    assert str(found) == (
        "~ feature view weather: 1.0.0 → 1.1.0 (minor), live after the next 'headwater materialize'\n"
        "    feature b added (float64)\n"
        "    owner: none → <me>\n"
        "1 change, 1 unchanged"
    )
    data = json.loads(json.dumps(found.to_dict()))
    assert data["stages"][0]["bump"] == "minor"
    assert data["unchanged"] == [{"kind": "entity", "name": "airport", "version": None, "note": ""}]
    assert "&lt;me&gt;" in found._repr_html_()
    assert found


def test_planning_changes_nothing(registry: Registry) -> None:
    registry.apply(view("temp"))
    before = registry.snapshot
    registry.plan(view("temp", "wind"), whole=True)
    assert registry.snapshot == before


PLACES: dict[str, Callable[[str], Source]] = {
    "parquet": lambda path: ParquetSource(path, event_time="t"),
    "csv": lambda path: CSVSource(path, event_time="t"),
    "json": lambda path: JSONSource(path, event_time="t"),
    "query": lambda path: SQLSource(
        "SELECT * FROM x JOIN y", tables={"x": CSVSource(path), "y": ParquetSource("y")}, event_time="t"
    ),
}


@pytest.mark.parametrize("kind", PLACES)
def test_data_that_moves_moves_for_every_active_version_that_reads_it(registry: Registry, kind: str) -> None:
    at = PLACES[kind]
    registry.apply(view("a", source=at("old")), FeatureService("model", ["weather:a"]))
    registry.materialize()
    registry.apply(view("a", source=at("elsewhere"), ttl="1h"))
    registry.materialize()
    registry.apply(view("a", source=at("old"), ttl="2h"))
    registry.materialize()
    registry.apply(view("a", source=at("old"), ttl="3h"))
    assert registry.active("weather") == ["1.0.0", "2.0.0", "3.0.0", "4.0.0"]
    found = registry.apply(view("a", source=at("new"), ttl="3h"))
    assert [(s.action, s.version) for s in found.stages] == [
        (Action.UPDATE, "4.0.0"),
        (Action.MOVE, "1.0.0"),
        (Action.MOVE, "3.0.0"),
    ]
    assert request_promotion(registry.snapshot, found) == (), "what moved with it is not what is meant"
    assert all("old → new" in str(stage) for stage in found.stages)
    sources = {number: v.view.source for number, v in registry.snapshot.views["weather"].versions.items()}
    assert sources == {"1.0.0": at("new"), "2.0.0": at("elsewhere"), "3.0.0": at("new"), "4.0.0": at("new")}
    assert registry.reads("model", "1.0.0") == ["weather@1.0.0:a"]
