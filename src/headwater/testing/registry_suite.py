"""The conformance suite of registries: what is applied reads back, one wins, versions never change."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.clock import system_clock
from headwater.database.transactions import reading, writing
from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.fingerprint import fingerprint
from headwater.definitions.service import FeatureService
from headwater.definitions.sources import CSVSource, ParquetSource, PushSource, SQLSource
from headwater.definitions.view import FeatureView
from headwater.errors import (
    ChangeRefused,
    FeatureNotFound,
    RegistryConflict,
    RegistryError,
    UsageError,
    VersionConflict,
    VersionNotFound,
)
from headwater.planning.diff import plan
from headwater.planning.plan import Plan
from headwater.planning.snapshot import RegistrySnapshot
from headwater.planning.watermark import Watermark
from headwater.registry import tables
from headwater.registry.leases import Leases
from headwater.registry.registry import FeatureRegistry, open_registry
from headwater.registry.versions import FeatureVersionManager
from headwater.testing import SCALE
from headwater.testing.lives_suite import computed
from headwater.types import Embedding, Float64, Int64, String, Timestamp

EXAMPLES = settings(
    max_examples=4 * SCALE,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.differing_executors],
)

PROJECT = "conformance"
NOW = datetime(2024, 3, 10, 12, tzinfo=UTC)
THING = Entity("thing", {"id": Int64})
_DTYPES = {"a": Float64, "b": Int64, "c": String, "d": Float64}

Place = tuple[str, Path]


def view_of(*names: str, name: str = "v", **options: Any) -> FeatureView:
    """A view with features of these names."""
    features = [Feature(feature, _DTYPES.get(feature, Float64)) for feature in names]
    return FeatureView(name, entity=THING, source=PushSource(event_time="at"), features=features, **options)


def planned(registry: FeatureRegistry, definitions: Sequence[Any], *, whole: bool = False) -> Plan:
    """A plan on what the registry holds."""
    return plan(registry.refresh(), definitions, whole_project=whole, now=NOW)


def apply(
    registry: FeatureRegistry, definitions: Sequence[Any], *, now: datetime = NOW, whole: bool = False
) -> RegistrySnapshot:
    """Plan on what the registry holds, and apply."""
    found = plan(registry.refresh(), definitions, whole_project=whole, now=now)
    return registry.apply(found, now=now, log_head=3, who="me")


RICH = FeatureView(
    "rich",
    entity=[THING, Entity("day", {"day": Timestamp})],
    source=SQLSource(
        "SELECT * FROM f", tables={"f": CSVSource("f.csv"), "g": ParquetSource("g")}, event_time="t", delay="5m"
    ),
    features=[
        Feature(
            "a", Float64, default=float("inf"), description="words", owner="you", tags={"x": "y"}, freshness_sla="5m"
        ),
        Feature("b", Embedding(2), default=[1, 2]),
        Feature("c", Timestamp, default=datetime(2020, 1, 1), kind="categorical"),
    ],
    join_key_map={"id": "origin"},
    ttl="6h",
    freshness_sla="1h",
    availability_sla=0.99,
    owner="me",
    description="ü",
    tags={"tier": "gold"},
)
"""A view with every option there is."""


class RegistrySuite:
    """A registry by itself; subclass it and give the fixture `place`: an empty database, in memory or of its own."""

    @pytest.fixture
    def place(self) -> Place:
        """The URL of an empty database, and the folder it is relative to."""
        raise NotImplementedError("give a fixture named `place`")

    @pytest.fixture
    def registry(self, place: Place) -> Iterator[FeatureRegistry]:
        """The registry."""
        found = open_registry(*place, PROJECT, refresh=timedelta(0), clock=lambda: NOW)
        yield found
        found.close()

    def test_a_new_registry_holds_nothing(self, registry: FeatureRegistry) -> None:
        snapshot = registry.snapshot()
        assert (snapshot.project, snapshot.revision) == (PROJECT, 0)
        assert not (snapshot.entities or snapshot.views or snapshot.services)

    def test_the_first_version_is_live_at_once(self, registry: FeatureRegistry) -> None:
        record = apply(registry, [THING, view_of("a")]).view("v")
        version = record.version()
        assert (record.live, version.version, version.automatic) == ("1.0.0", "1.0.0", True)
        assert (version.created_at, version.updated_at, version.retired_at) == (NOW, NOW, None)

    def test_what_is_registered_needs_no_change(self, registry: FeatureRegistry) -> None:
        definitions = [THING, view_of("a", "b"), FeatureService("model", ["v:a"])]
        revision = apply(registry, definitions).revision
        again = plan(registry.refresh(), definitions, whole_project=True, now=NOW)
        assert not again and "no changes" in str(again)
        assert registry.apply(again, now=NOW).revision == revision
        assert len(registry.changes()) == 3
        assert not plan(registry.refresh(), [THING, view_of("b", "a")], whole_project=False, now=NOW)

    def test_a_bump_says_what_changed(self, registry: FeatureRegistry) -> None:
        apply(registry, [THING, view_of("a")])
        assert set(apply(registry, [THING, view_of("a", "b")]).view("v").versions) == {"1.0.0", "1.1.0"}
        record = apply(registry, [THING, view_of("b")]).view("v")
        assert set(record.versions) >= {"1.0.0", "2.0.0"}
        assert (record.live, record.waiting) == ("1.0.0", "2.0.0")

    def test_a_version_goes_live_once_materialized_as_far(self, registry: FeatureRegistry) -> None:
        apply(registry, [THING, view_of("a")])
        apply(registry, [THING, view_of("a", "b")])
        versions = FeatureVersionManager(registry)
        live = Watermark(100, 5)
        for behind in ({}, {("v", "1.1.0"): Watermark(99, 5)}, {("v", "1.1.0"): Watermark(100, 4)}):
            versions.go_live({("v", "1.0.0"): live, **behind}, now=NOW)
            assert registry.refresh().view("v").live == "1.0.0"
        versions.go_live({("v", "1.0.0"): live, ("v", "1.1.0"): live}, now=NOW)
        record = registry.refresh().view("v")
        assert (record.live, record.previous, record.waiting) == ("1.1.0", "1.0.0", None)

    def test_changes_in_place_make_no_version(self, registry: FeatureRegistry) -> None:
        apply(registry, [THING, view_of("a", description="old", freshness_sla="1h")])
        later = NOW + timedelta(hours=1)
        record = apply(
            registry, [THING, view_of("a", description="new", freshness_sla="2h", owner="me")], now=later
        ).view("v")
        version = record.version()
        assert list(record.versions) == ["1.0.0"]
        assert (version.view.description, version.view.owner, version.view.sla_time) == (
            "new",
            "me",
            timedelta(hours=2),
        )
        assert (version.created_at, version.updated_at) == (NOW, later)

    def test_a_changed_definition_under_its_version_is_refused(self, registry: FeatureRegistry) -> None:
        before = apply(registry, [THING, view_of("a", version="1.0.0")])
        with pytest.raises(VersionConflict, match=r"2\.0\.0"):
            apply(registry, [THING, view_of("b", version="1.0.0"), view_of("a", name="other")])
        assert registry.refresh() == before

    def test_a_version_of_its_own_waits_for_promotion(self, registry: FeatureRegistry) -> None:
        apply(registry, [THING, view_of("a", version="1.0.0")])
        apply(registry, [THING, view_of("a", "b", version="2.0.0")])
        versions = FeatureVersionManager(registry)
        marks = {("v", "1.0.0"): Watermark(100, 5)}
        versions.go_live({**marks, ("v", "2.0.0"): Watermark(100, 5)}, now=NOW)
        assert registry.refresh().view("v").live == "1.0.0"
        with pytest.raises(ChangeRefused):
            versions.promote("v", "2.0.0", watermarks=marks, now=NOW)
        versions.promote("v", "2.0.0", watermarks=marks, now=NOW, force=True)
        assert registry.refresh().view("v").live == "2.0.0"
        with pytest.raises(VersionNotFound):
            versions.promote("v", "3.0.0", watermarks=marks, now=NOW)

    def test_rolling_back_and_forth(self, registry: FeatureRegistry) -> None:
        apply(registry, [THING, view_of("a")])
        apply(registry, [THING, view_of("a", "b")])
        versions = FeatureVersionManager(registry)
        marks = {("v", version): Watermark(100, 5) for version in ("1.0.0", "1.1.0")}
        versions.go_live(marks, now=NOW)
        versions.rollback("v", now=NOW)
        assert registry.refresh().view("v").live == "1.0.0"
        versions.go_live(marks, now=NOW)
        assert registry.refresh().view("v").live == "1.0.0"
        apply(registry, [THING, view_of("a", "b")])
        versions.go_live(marks, now=NOW)
        assert registry.refresh().view("v").live == "1.0.0"
        versions.promote("v", "1.1.0", watermarks=marks, now=NOW)
        assert registry.refresh().view("v").live == "1.1.0"

    def test_what_is_live_or_pinned_is_not_retired(self, registry: FeatureRegistry) -> None:
        apply(registry, [THING, view_of("a", version="1.0.0"), FeatureService("model", ["v:a"])])
        apply(registry, [THING, view_of("b", version="2.0.0")])
        versions = FeatureVersionManager(registry)
        with pytest.raises(ChangeRefused):
            versions.retire("v", "1.0.0", now=NOW)
        versions.promote("v", "2.0.0", watermarks={}, now=NOW, force=True)
        with pytest.raises(ChangeRefused, match="model"):
            versions.retire("v", "1.0.0", now=NOW)
        assert registry.refresh().view("v").version("1.0.0").retired_at is None

    def test_a_retired_version_can_be_looked_up(self, registry: FeatureRegistry) -> None:
        apply(registry, [THING, view_of("a", version="1.0.0")])
        apply(registry, [THING, view_of("b", version="2.0.0")])
        versions = FeatureVersionManager(registry)
        versions.retire("v", "2.0.0", now=NOW)
        record = registry.refresh().view("v")
        assert record.version("2.0.0").retired_at == NOW
        assert [version.version for version in record.active] == ["1.0.0"]
        assert registry.get_feature_definition("v:b", version="2.0.0").data_type == Int64
        with pytest.raises(ChangeRefused):
            versions.promote("v", "2.0.0", watermarks={}, now=NOW, force=True)

    def test_a_service_keeps_the_columns_it_was_made_with(self, registry: FeatureRegistry) -> None:
        apply(registry, [THING, view_of("a"), FeatureService("model", ["v:*"])])
        apply(registry, [THING, view_of("a", "b")])
        marks = {("v", version): Watermark(1, 0) for version in ("1.0.0", "1.1.0")}
        FeatureVersionManager(registry).go_live(marks, now=NOW)
        (selection,) = registry.refresh().service("model").version().selections
        assert (selection.version, selection.names) == ("1.0.0", ("a",))

    @EXAMPLES
    @given(lists=st.lists(st.sets(st.sampled_from("abcd"), min_size=1), min_size=1, max_size=6))
    def test_versions_never_change(self, registry: FeatureRegistry, lists: list[set[str]]) -> None:
        name = f"v{registry.refresh().revision}"
        seen: dict[str, str] = {}
        for names in lists:
            view = view_of(*sorted(names), name=name)
            record = apply(registry, [THING, view]).view(name)
            assert {number: version.fingerprint for number, version in record.versions.items()}.items() >= seen.items()
            assert fingerprint(view) in {version.fingerprint for version in record.active}
            seen = {number: version.fingerprint for number, version in record.versions.items()}

    def test_everything_reads_back_as_planned(self, registry: FeatureRegistry) -> None:
        other = view_of("temp", name="weather")
        service = FeatureService(
            "model", [RICH["a", "b"].rename({"a": "z"}), other.alias("dest", {"id": "d"})], tags={"k": "v"}
        )
        first = computed("first", [other], "1.0")
        second = computed("second", [first, RICH], "2.0")
        found = apply(registry, [THING, RICH, other, service, first, second])
        assert registry.snapshot() is found
        made = found.on_demand["second"].versions["1.0.0"]
        assert made.views_read == (("first", "1.0.0"), ("rich", "1.0.0"))
        assert made.upstream["first", "1.0.0"] is found.on_demand["first"].versions["1.0.0"]
        version = found.views["rich"].versions["1.0.0"]
        assert (version.view.source, version.view.feature_list) == (RICH.source, RICH.feature_list)
        assert (version.created_at, version.updated_at, version.log_head, version.automatic) == (NOW, NOW, 3, True)
        assert found.services["model"].version().selections[0].renames == {"a": "z"}
        assert FeatureRegistry(registry.database, PROJECT).snapshot() == found
        assert not planned(registry, [THING, RICH, other, service, first, second]).stages

    def test_any_past_version_can_be_looked_up(self, registry: FeatureRegistry) -> None:
        apply(registry, [view_of("a", version="1.0.0")])
        apply(registry, [view_of("a", "b", version="2.0.0")], now=NOW + timedelta(days=1))
        with pytest.raises(FeatureNotFound, match="'v:b': view 'v'"):
            registry.get_feature_definition("v:b")
        definition = registry.get_feature_definition("v:b", version="2.0.0")
        assert definition == registry.get_feature_definition("v@2.0.0:b")
        assert (definition.version, definition.created_at) == ("2.0.0", NOW + timedelta(days=1))
        FeatureVersionManager(registry).retire("v", "2.0.0", now=NOW)
        assert registry.get_feature_definition("v:b", "2.0.0").feature_name == "v:b"
        with pytest.raises(VersionNotFound, match=r"it has 1\.0\.0, 2\.0\.0"):
            registry.get_feature_definition("v:b", "3.0.0")

    def test_a_feature_definition_holds_everything(self, registry: FeatureRegistry) -> None:
        apply(registry, [RICH, view_of("a")])
        found = registry.get_feature_definition(RICH["a"])
        assert found.feature_name == "rich:a"
        assert (found.feature_type, found.data_type, found.description) == ("numerical", Float64, "words")
        assert (found.owner, found.tags) == ("you", {"tier": "gold", "x": "y"})
        assert (found.source_query, found.transformation_logic) == ("SELECT * FROM f", "SELECT * FROM f")
        assert found.dependencies == ("f: f.csv", "g: g")
        assert (found.freshness_sla_minutes, found.availability_sla) == (5.0, 0.99)
        assert (found.version, len(found.schema_version), found.created_at, found.updated_at) == ("1.0.0", 8, NOW, NOW)
        vector = registry.get_feature_definition("rich:b")
        assert (vector.freshness_sla_minutes, vector.owner, vector.feature_type) == (60.0, "me", "embedding")
        assert registry.get_feature_definition("v:a").source_query == "SELECT id, at, a FROM push"
        with pytest.raises(AttributeError):
            found.owner = "else"  # type: ignore[misc]
        with pytest.raises(TypeError):
            found.tags["x"] = "z"  # type: ignore[index]
        assert hash(found)

    @pytest.mark.parametrize(
        ("reference", "version", "said"),
        [
            ("rich", None, "not a single feature"),
            ("rich:*", None, "not a single feature"),
            ("rich@1.0.0:a", "2.0.0", "names version 1.0.0"),
        ],
    )
    def test_what_is_not_one_feature(
        self, registry: FeatureRegistry, reference: str, version: str | None, said: str
    ) -> None:
        with pytest.raises(UsageError, match=said):
            registry.get_feature_definition(reference, version)
        with pytest.raises(UsageError, match="give one feature, not a, b"):
            registry.get_feature_definition(RICH["a", "b"])

    def test_pointers_move_and_the_change_log_says_who(self, registry: FeatureRegistry) -> None:
        apply(registry, [view_of("a")])
        apply(registry, [view_of("a", "d", owner="x")])
        manager = FeatureVersionManager(registry, who="op")
        marks = {("v", "1.0.0"): Watermark(5, 5)}
        assert manager.go_live(marks, now=NOW).reasons
        assert manager.go_live({**marks, ("v", "1.1.0"): Watermark(5, 5)}, now=NOW).stages
        manager.rollback("v", now=NOW)
        record = registry.refresh().views["v"]
        assert (record.live, record.previous, record.versions["1.1.0"].held) == ("1.0.0", None, True)
        with pytest.raises(ChangeRefused):
            manager.promote("v", "1.1.0", watermarks=marks, now=NOW)
        manager.promote("v", "1.1.0", watermarks=marks, now=NOW, force=True)
        manager.retire("v", "1.0.0", now=NOW + timedelta(days=1))
        assert FeatureRegistry(registry.database, PROJECT).snapshot() == registry.refresh()
        log = [(c.revision, c.who, c.what, c.version) for c in registry.changes("v")]
        assert log == [
            (1, "me", "apply", "1.0.0"),
            (2, "me", "apply", "1.1.0"),
            (3, "op", "go live", "1.1.0"),
            (4, "op", "roll back", "1.0.0"),
            (5, "op", "promote", "1.1.0"),
            (6, "op", "retire", "1.0.0"),
        ]
        assert registry.changes("v")[1].details == ("feature d added (float64)", "owner: none → x")
        assert registry.changes("v")[5].at == NOW + timedelta(days=1)

    def test_what_is_removed_is_gone_and_may_come_back(self, registry: FeatureRegistry) -> None:
        apply(registry, [THING, view_of("a")], whole=True)
        found = apply(registry, [], whole=True)
        assert (found.entities, found.views["v"].live) == ({}, None)
        found = apply(registry, [THING, view_of("a")], whole=True)
        assert (found.entities, found.views["v"].live) == ({"thing": THING}, "1.0.1")

    def test_a_plan_on_an_old_revision_is_a_conflict(self, registry: FeatureRegistry) -> None:
        stale = planned(registry, [view_of("a")])
        before = apply(registry, [view_of("a", name="other")])
        with pytest.raises(RegistryConflict, match=r"changed since this plan was made \(on revision 0\)"):
            registry.apply(stale, now=NOW)
        assert registry.refresh() == before

    def test_threads_that_apply_lose_nothing(self, registry: FeatureRegistry) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: apply_until_it_wins(registry, f"view{number}"), range(16)))
        snapshot = registry.refresh()
        assert set(snapshot.views) == {f"view{number}" for number in range(16)}
        assert snapshot.revision == 16

    def test_a_snapshot_is_looked_at_anew_after_a_while(self, registry: FeatureRegistry) -> None:
        slow = FeatureRegistry(registry.database, PROJECT, refresh=timedelta(hours=1))
        quick = FeatureRegistry(registry.database, PROJECT, refresh=timedelta(0))
        assert slow.snapshot().revision == quick.snapshot().revision == 0
        apply(registry, [view_of("a")])
        assert slow.snapshot().revision == 0
        assert quick.snapshot().revision == 1
        assert slow.refresh().revision == 1
        assert slow.snapshot() is slow.snapshot()

    def test_another_transaction_sees_the_registry(self, registry: FeatureRegistry) -> None:
        snapshot = apply(registry, [view_of("a")])
        with writing(registry.engine) as connection:
            assert registry.revision_in(connection) == 1
            assert registry.snapshot_in(connection) == snapshot

    def test_settings_are_stored_once(self, registry: FeatureRegistry) -> None:
        assert registry.setting("log") is None
        first = registry.get_or_set("log")
        assert registry.get_or_set("log") == first == registry.setting("log")
        assert registry.get_or_set("other", "x") == "x"
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(lambda n: registry.get_or_set("raced", str(n)), range(16)))) == 1

    def test_another_project_is_refused(self, registry: FeatureRegistry) -> None:
        with pytest.raises(RegistryError, match="belongs to project 'conformance', not 'another'"):
            FeatureRegistry(registry.database, "another")

    def test_watermarks_are_mirrored_without_a_revision(self, registry: FeatureRegistry) -> None:
        later = NOW + timedelta(hours=1)
        registry.record_watermarks({("w", "1.0.0"): Watermark(1, 2), ("w", "2.0.0"): Watermark()}, now=NOW)
        registry.record_watermarks({("w", "1.0.0"): Watermark(3, 4)}, now=later)
        registry.record_watermarks({}, now=later)
        told = {("w", "1.0.0"): (Watermark(3, 4), later), ("w", "2.0.0"): (Watermark(), NOW)}
        assert registry.watermarks() == FeatureRegistry(registry.database, PROJECT).watermarks() == told
        assert registry.refresh().revision == 0

    def test_the_last_run_that_found_rows_is_noted(self, registry: FeatureRegistry) -> None:
        pair, took = ("w", "1.0.0"), timedelta(seconds=1, microseconds=5)
        registry.record_watermarks({pair: Watermark(1, 2)}, now=NOW)
        assert registry.last_runs() == {}
        registry.record_watermarks({pair: Watermark(2, 2)}, now=NOW, rows=7, took=took)
        registry.record_watermarks({pair: Watermark(3, 2)}, now=NOW, took=timedelta(seconds=9))
        assert registry.last_runs() == FeatureRegistry(registry.database, PROJECT).last_runs() == {pair: (7, took)}
        assert registry.watermarks()[pair][0] == Watermark(3, 2)

    def test_leases_end_by_themselves_unless_renewed(self, registry: FeatureRegistry) -> None:
        # a server's own clock is used, which no test can move
        leases = Leases(registry.engine, system_clock)
        with leases.held("run", lasts=timedelta(seconds=1)) as run:
            assert leases.renew(run, lasts=timedelta(minutes=5))
            first = leases.acquire("write", "weather", holder="host:1", lasts=timedelta(seconds=1))
            assert leases.running("write") == [first]
            assert run.started_at <= first.started_at
            time.sleep(1.05)
            # it has lasted longer than it was to at first
            assert [lease.id for lease in leases.running()] == [run.id]
            assert not leases.renew(first, lasts=timedelta(minutes=1))
        assert leases.running() == []
        leases.release(first)
        leases.acquire("write", lasts=timedelta(0))
        leases.acquire("write", lasts=timedelta(minutes=1))
        with reading(registry.engine) as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(tables.leases)).scalar() == 1

    def test_leases_of_a_fast_clock_end_in_time_once_it_is_repaired(self, registry: FeatureRegistry) -> None:
        leases, lasts = Leases(registry.engine, system_clock), timedelta(minutes=10)
        right = leases.acquire("run", "right", lasts=lasts)
        wrong = [leases.acquire("run", about, lasts=lasts) for about in ("begun ahead", "renewed ahead")]
        year = 365 * 86_400_000_000
        ahead = {"expires_at": tables.leases.c.expires_at + year}
        with writing(registry.engine) as connection:
            for lease, values in zip(
                wrong, ({"started_at": tables.leases.c.started_at + year, **ahead}, ahead), strict=True
            ):
                connection.execute(tables.leases.update().where(tables.leases.c.id == lease.id).values(values))
        assert leases.repair_clock(lasts=lasts) == 2
        running = {lease.about: lease for lease in leases.running("run")}
        assert running.pop("right") == right
        assert set(running) == {"begun ahead", "renewed ahead"}
        for lease in running.values():
            # nobody knows when they began: a purge waits for them, whenever it was asked for
            assert lease.started_at < right.started_at
            assert right.expires_at <= lease.expires_at < right.expires_at + timedelta(minutes=1)
        assert leases.renew(wrong[0], lasts=lasts)
        assert leases.repair_clock(lasts=lasts) == 0


def apply_until_it_wins(registry: FeatureRegistry, name: str) -> None:
    """Apply a view, again after each conflict."""
    pause = 0.001
    while True:
        try:
            apply(registry, [view_of("a", name=name)])
            return
        except RegistryConflict:
            time.sleep(pause)
            pause *= 1.5
