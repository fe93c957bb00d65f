"""The conformance suite of registries: one database, several that write to it, versions that never change."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.fingerprint import fingerprint
from headwater.definitions.service import FeatureService
from headwater.definitions.sources import PushSource
from headwater.definitions.view import FeatureView
from headwater.errors import ChangeRefused, RegistryConflict, RegistryError, VersionConflict, VersionNotFound
from headwater.planning.diff import plan
from headwater.planning.snapshot import RegistrySnapshot
from headwater.planning.watermark import Watermark
from headwater.registry.registry import FeatureRegistry, open_registry
from headwater.registry.versions import FeatureVersionManager
from headwater.testing import SCALE
from headwater.types import Float64, Int64, String

EXAMPLES = settings(
    max_examples=25 * SCALE,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.differing_executors],
)

PROJECT = "conformance"
NOW = datetime(2024, 3, 10, 12, tzinfo=UTC)
THING = Entity("thing", {"id": Int64})
_DTYPES = {"a": Float64, "b": Int64, "c": String, "d": Float64}

Place = tuple[str, Path]


def view_of(*names: str, name: str = "v", **options: Any) -> FeatureView:
    """A view with some of the features a, b, c and d."""
    features = [Feature(feature, _DTYPES[feature]) for feature in names]
    return FeatureView(name, entity=THING, source=PushSource(event_time="at"), features=features, **options)


def apply(registry: FeatureRegistry, definitions: Sequence[Any], *, now: datetime = NOW) -> RegistrySnapshot:
    """Plan on what the registry holds, and apply."""
    return registry.apply(plan(registry.refresh(), definitions, whole_project=False, now=now), now=now)


class RegistrySuite:
    """Subclass it and give the fixture `place`: the URL of an empty database, and the folder it is relative to."""

    @pytest.fixture
    def place(self) -> Place:
        """The URL of an empty database, and a folder."""
        raise NotImplementedError("give a fixture named `place`")

    @pytest.fixture
    def open_another(self, place: Place) -> Iterator[Callable[[], FeatureRegistry]]:
        """Opens the same registry once more, as another process would."""
        opened: list[FeatureRegistry] = []

        def again() -> FeatureRegistry:
            opened.append(open_registry(*place, PROJECT, refresh=timedelta(0)))
            return opened[-1]

        yield again
        for registry in opened:
            registry.close()

    @pytest.fixture
    def registry(self, open_another: Callable[[], FeatureRegistry]) -> FeatureRegistry:
        """The registry."""
        return open_another()

    def test_a_new_registry_holds_nothing(self, registry: FeatureRegistry) -> None:
        snapshot = registry.snapshot()
        assert (snapshot.project, snapshot.revision) == (PROJECT, 0)
        assert not (snapshot.entities or snapshot.views or snapshot.services)

    def test_the_first_version_is_live_at_once(self, registry: FeatureRegistry) -> None:
        record = apply(registry, [THING, view_of("a")]).view("v")
        version = record.version()
        assert (record.live, version.version, version.automatic) == ("1.0.0", "1.0.0", True)
        assert (version.created_at, version.updated_at, version.retired_at) == (NOW, NOW, None)

    def test_another_sees_what_was_applied(
        self, registry: FeatureRegistry, open_another: Callable[[], FeatureRegistry]
    ) -> None:
        view = view_of("a", "c", ttl="6h", freshness_sla="1h", owner="me", tags={"tier": "gold"}, description="é")
        service = FeatureService("model", ["v:c", "v:a"])
        applied = apply(registry, [THING, view, service])
        found = open_another().snapshot()
        assert found.entities["thing"] == THING
        assert found.view("v").version().view == applied.view("v").version().view
        assert found.view("v").version().fingerprint == fingerprint(view)
        assert [selection.names for selection in found.service("model").version().selections] == [("c",), ("a",)]

    def test_what_is_registered_needs_no_change(self, registry: FeatureRegistry) -> None:
        definitions = [THING, view_of("a", "b"), FeatureService("model", ["v:a"])]
        revision = apply(registry, definitions).revision
        again = plan(registry.refresh(), definitions, whole_project=True, now=NOW)
        assert not again and "no changes" in str(again)
        assert registry.apply(again, now=NOW).revision == revision
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
        assert [version.version for version in record.fed] == ["1.0.0"]
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
            assert fingerprint(view) in {version.fingerprint for version in record.fed}
            seen = {number: version.fingerprint for number, version in record.versions.items()}

    def test_of_two_applies_at_once_one_wins(
        self, registry: FeatureRegistry, open_another: Callable[[], FeatureRegistry]
    ) -> None:
        other = open_another()
        mine = plan(registry.refresh(), [THING, view_of("a")], whole_project=False, now=NOW)
        theirs = plan(other.refresh(), [THING, view_of("b", name="w")], whole_project=False, now=NOW)
        other.apply(theirs, now=NOW)
        with pytest.raises(RegistryConflict):
            registry.apply(mine, now=NOW)
        assert set(registry.refresh().views) == {"w"}
        assert set(apply(registry, [THING, view_of("a")]).views) == {"v", "w"}

    def test_many_appliers_lose_nothing(self, open_another: Callable[[], FeatureRegistry]) -> None:
        def add(number: int) -> None:
            mine = open_another()
            while True:
                try:
                    apply(mine, [THING, view_of("a", name=f"view{number}")])
                    return
                except RegistryConflict:
                    time.sleep(0.001 * number)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(add, range(16)))
        snapshot = open_another().snapshot()
        assert set(snapshot.views) == {f"view{number}" for number in range(16)}
        assert snapshot.revision == 16

    def test_killed_in_the_middle_it_is_at_one_revision(
        self, place: Place, open_another: Callable[[], FeatureRegistry]
    ) -> None:
        before = 0
        for attempt in range(2):
            process = multiprocessing.get_context("spawn").Process(target=_apply_for_ever, args=(*place, attempt))
            process.start()
            deadline = time.monotonic() + 60
            while open_another().snapshot().revision < before + 3 and time.monotonic() < deadline:
                time.sleep(0.01 * (attempt + 1))
            process.kill()
            process.join()
            snapshot = open_another().snapshot()
            assert snapshot.revision >= before + 3
            assert len(snapshot.views) == snapshot.revision
            assert all(record.version().view.entities == (THING,) for record in snapshot.views.values())
            before = snapshot.revision

    def test_watermarks_are_mirrored(
        self, registry: FeatureRegistry, open_another: Callable[[], FeatureRegistry]
    ) -> None:
        registry.record_watermarks({("v", "1.0.0"): Watermark(5, 7)}, now=NOW)
        registry.record_watermarks({("v", "1.0.0"): Watermark(6, 8), ("w", "1.0.0"): Watermark()}, now=NOW)
        assert open_another().watermarks() == {
            ("v", "1.0.0"): (Watermark(6, 8), NOW),
            ("w", "1.0.0"): (Watermark(), NOW),
        }

    def test_a_setting_is_stored_once_and_for_all(
        self, registry: FeatureRegistry, open_another: Callable[[], FeatureRegistry]
    ) -> None:
        assert registry.setting("log_id") is None
        first = registry.get_or_set("log_id")
        assert (open_another().get_or_set("log_id"), registry.setting("log_id")) == (first, first)

    def test_another_project_is_refused(self, registry: FeatureRegistry, place: Place) -> None:
        with pytest.raises(RegistryError, match="another"):
            open_registry(*place, "another")


def _apply_for_ever(url: str, folder: Path, attempt: int) -> None:
    registry = open_registry(url, folder, PROJECT, refresh=timedelta(0))
    for number in range(10_000):
        apply(registry, [THING, view_of("a", "b", name=f"view{attempt}_{number}")])
