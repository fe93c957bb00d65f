"""The suite of a registry's life: what always holds, whatever is applied, promoted, rolled back and retired."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from headwater.compute.reading.follow import follow
from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.fingerprint import fingerprint
from headwater.definitions.on_demand import OnDemandFeatureView
from headwater.definitions.service import FeatureService
from headwater.definitions.sources import PushSource, TableSource
from headwater.definitions.view import FeatureView
from headwater.errors import ChangeRefused, DefinitionError, NotFound, VersionConflict
from headwater.planning.diff import plan
from headwater.planning.resolve import resolve
from headwater.planning.resolved import ResolvedRequest
from headwater.planning.service_columns import columns
from headwater.planning.service_reads import columns_by_version, readers, same_columns, takes_the_rows_of
from headwater.planning.snapshot import OnDemandRecord, RegistrySnapshot, ServiceRecord
from headwater.planning.watermark import Watermark
from headwater.registry.registry import FeatureRegistry, open_registry
from headwater.registry.versions import FeatureVersionManager
from headwater.types import Float64, String

NOW = datetime(2024, 1, 1, tzinfo=UTC)
AIRPORT = Entity("airport", {"airport": String})
NAMES = ("v", "w")
VERSIONS = (None, None, None, "1.0.0", "1.1.0", "2.0.0")
SETS = ("a", "b", "ab", "abc", "bc")
ITEMS = ("v:a", "v:b", "v:*", "w:a", "w:*", "v@1.0.0:a")


def view(name: str, features: str, version: str | None, owner: str = "") -> FeatureView:
    """A view with a feature for each letter."""
    made = [Feature(f"{name}_{f}" if f != "a" else "a", Float64, column=f) for f in features]
    # rows of one of them come from `write` alone
    source = PushSource(event_time="t") if name == "v" else TableSource(event_time="t")
    return FeatureView(name, entity=AIRPORT, source=source, features=made, version=version, owner=owner)


def computed(name: str, inputs: Sequence[Any], value: str, version: str | None = None) -> OnDemandFeatureView:
    """An on-demand view of the first feature of each of some views, whose function says a value."""
    read = [(item, item.feature_names[0], f"{item.name}_in") for item in inputs]
    source = f"def {name}({', '.join(argument for _, _, argument in read)}):\n    return {{'{name}_x': {value}}}\n"
    selections = [item[feature].rename({feature: argument}) for item, feature, argument in read]
    return OnDemandFeatureView(
        name, inputs=selections, features=[Feature(f"{name}_x", Float64)], source=source, version=version
    )


VIEWS = st.builds(
    view, st.sampled_from(NAMES), st.sampled_from(SETS), st.sampled_from(VERSIONS), st.sampled_from(["", "x"])
)


class RegistryLives(RuleBasedStateMachine):
    """A state machine; subclass it, give `place`, and name its `TestCase` where pytest looks for tests."""

    def place(self) -> tuple[str, Path]:
        """The URL of an empty database, another one at each call, and the folder it is relative to."""
        raise NotImplementedError("give a method named `place`")

    def __init__(self) -> None:
        super().__init__()
        self.registry: FeatureRegistry = open_registry(*self.place(), "p", clock=lambda: NOW)
        self.versions = FeatureVersionManager(self.registry)
        self.meanings: dict[tuple[str, str], Any] = {}
        self.held: set[tuple[str, str]] = set()
        self.marks: dict[tuple[str, str], Watermark] = {}
        self.end = 0
        self.served: dict[tuple[str, str], ResolvedRequest] = {}
        self.promoted: set[tuple[str, str]] = set()
        self.first: dict[str, set[str | None]] = {}

    def teardown(self) -> None:
        """Close the registry."""
        self.registry.close()

    def apply(self, definitions: list[Any], whole: bool) -> None:
        """Plan and apply; what was applied needs no change and can be asked for."""
        try:
            found = plan(self.registry.refresh(), definitions, whole_project=whole, now=NOW)
        except (DefinitionError, VersionConflict):
            return
        before = {name: record.live for name, record in self.registry.snapshot().services.items()}
        self.registry.apply(found, now=NOW)
        for name, record in self.registry.snapshot().services.items():
            if before.get(name) is None:
                self.first.setdefault(name, set()).add(record.live)
        again = plan(self.registry.refresh(), definitions, whole_project=whole, now=NOW)
        assert not again.stages, f"{found}\n\nagain:\n{again}"
        snapshot = self.registry.snapshot()
        for definition in definitions:
            if isinstance(definition, FeatureView):
                versions = snapshot.views[definition.name].active
                assert any(v.fingerprint == fingerprint(definition) for v in versions)
                assert resolve(snapshot, [definition]).views[0].name == definition.name
            if isinstance(definition, OnDemandFeatureView):
                found_again = resolve(snapshot, [definition], history=True)
                assert found_again.functions[-1].definition.view.source == definition.source
            if isinstance(definition, FeatureService):
                request = resolve(snapshot, definition)
                assert request.service is not None

    @initialize(one=VIEWS)
    def begin(self, one: FeatureView) -> None:
        """A registry begins with one view."""
        self.apply([one], whole=True)

    @rule(views=st.lists(VIEWS, max_size=2, unique_by=lambda v: v.name), whole=st.sampled_from([False, False, True]))
    def apply_views(self, views: list[FeatureView], whole: bool) -> None:
        """Views alone."""
        self.apply(views, whole)

    @rule(
        views=st.lists(VIEWS, max_size=2, unique_by=lambda v: v.name),
        items=st.lists(st.sampled_from(ITEMS), min_size=1, max_size=2, unique=True),
        objects=st.booleans(),
        version=st.sampled_from(VERSIONS),
        full_names=st.booleans(),
        whole=st.sampled_from([False, False, True]),
    )
    def apply_service(
        self,
        views: list[FeatureView],
        items: list[str],
        objects: bool,
        version: str | None,
        full_names: bool,
        whole: bool,
    ) -> None:
        """A service, with or without views."""
        listed = [*views] if objects and views else items
        self.apply([*views, FeatureService("s", listed, version=version, full_names=full_names)], whole=whole)

    @rule(
        views=st.lists(VIEWS, min_size=1, max_size=2, unique_by=lambda v: v.name),
        value=st.sampled_from(["1.0", "2.0"]),
        chained=st.booleans(),
        served=st.booleans(),
        version=st.sampled_from(VERSIONS),
        whole=st.sampled_from([False, False, True]),
    )
    def apply_computed(
        self, views: list[FeatureView], value: str, chained: bool, served: bool, version: str | None, whole: bool
    ) -> None:
        """An on-demand view over views, one over it, and a service of them."""
        definitions: list[Any] = [computed("c", views, value, version)]
        if chained:
            definitions.append(computed("d", [*definitions, views[0]], "3.0"))
        if served:
            definitions.append(FeatureService("s", [definitions[-1], views[-1]]))
        self.apply([*views, *definitions], whole=whole)

    @rule(some=st.sets(st.sampled_from(NAMES)))
    def materialize(self, some: set[str]) -> None:
        """Some views get as far as there is."""
        self.end += 1
        for name in some & set(self.registry.snapshot().views):
            for version in self.registry.snapshot().views[name].active:
                self.marks[name, version.version] = Watermark(self.end, self.end)
        before = self.registry.snapshot()
        for stage in self.versions.go_live(self.marks, now=NOW).stages:
            if stage.live and stage.kind == "view":
                assert (stage.name, stage.version) not in self.held, "rolled back from: only promote makes it live"
                live = before.views[stage.name].live
                assert self.marks[stage.name, str(stage.version)].reaches(
                    self.marks.get((stage.name, str(live)), Watermark())
                )

    @rule(
        name=st.sampled_from([*NAMES, "c", "d", "s"]),
        version=st.sampled_from(["1.0.0", "1.1.0", "2.0.0", "3.0.0"]),
        force=st.booleans(),
    )
    def promote(self, name: str, version: str, force: bool) -> None:
        """One version, if it may."""
        try:
            moved = self.versions.promote(name, version, watermarks=self.marks, now=NOW, force=force)
        except (ChangeRefused, NotFound):
            return
        self.held.discard((name, version))
        self.promoted.add((name, version))
        records = _records(self.registry.snapshot())
        assert records[name].live == version
        mine = records[name].versions[version].revision
        self.held |= {(name, v.version) for v in records[name].active if moved and v.revision > mine}

    @rule(name=st.sampled_from(NAMES))
    def write(self, name: str) -> None:
        """The first rows are given to a view."""
        if name in self.registry.refresh().views:
            self.versions.note_write(name, now=NOW)
            assert self.registry.snapshot().view(name).written

    @rule(name=st.sampled_from([*NAMES, "c", "d", "s"]))
    def roll_back(self, name: str) -> None:
        """To the one before."""
        before = _records(self.registry.refresh())
        try:
            self.versions.rollback(name, now=NOW)
        except (ChangeRefused, NotFound):
            return
        self.held.add((name, before[name].live))
        self.held.discard((name, before[name].previous))
        after = _records(self.registry.snapshot())
        assert after[name].live == before[name].previous

    @rule(name=st.sampled_from([*NAMES, "c", "d", "s"]), version=st.sampled_from(["1.0.0", "1.1.0", "2.0.0"]))
    def retire(self, name: str, version: str) -> None:
        """One version, if it may."""
        with suppress(ChangeRefused, NotFound):
            self.versions.retire(name, version, now=NOW)

    @rule(features=st.lists(VIEWS, min_size=1, max_size=2, unique_by=lambda v: v.name))
    def apply_promoted(self, features: list[FeatureView]) -> None:
        """Views, and a service of them, that shall go live once they have caught up."""
        definitions = [*features, FeatureService("s", features)]
        try:
            found = plan(self.registry.refresh(), definitions, whole_project=False, now=NOW)
        except (DefinitionError, VersionConflict):
            return
        self.apply(definitions, whole=False)
        for stage in self.versions.request_promotion(found, now=NOW):
            self.promoted.add((stage.name, str(stage.version)))
            assert (stage.name, stage.version) not in self.held

    @invariant()
    def the_database_holds_what_was_planned(self) -> None:
        """Read again it is the same."""
        assert FeatureRegistry(self.registry.database, "p").snapshot() == self.registry.snapshot()

    @invariant()
    def versions_never_change(self) -> None:
        """A number means one definition."""
        snapshot = self.registry.snapshot()
        for record in snapshot.views.values():
            for version in record.versions.values():
                known = self.meanings.setdefault((record.name, version.version), version.fingerprint)
                assert known == version.fingerprint == fingerprint(version.view)
        for made in snapshot.on_demand.values():
            for computes in made.versions.values():
                known = self.meanings.setdefault((made.name, computes.version), computes.fingerprint)
                assert known == computes.fingerprint
        for service in snapshot.services.values():
            for pinned in service.versions.values():
                meant = (columns(snapshot, pinned.selections), pinned.full_names)
                assert self.meanings.setdefault((service.name, pinned.version), meant) == meant

    @invariant()
    def pointers_are_at_versions_that_are_fed(self) -> None:
        """Live, previous and waiting."""
        snapshot = self.registry.snapshot()
        for record in _records(snapshot).values():
            fed = {version.version for version in record.active}
            assert {record.live, record.previous, record.waiting} - {None} <= fed
            assert record.live not in (record.previous, record.waiting) if record.live else True
            if record.live is None:
                assert record.previous is record.waiting is None
                assert not fed or not isinstance(record, ServiceRecord), "what is removed and still read stays active"

    @invariant()
    def what_is_read_is_active(self) -> None:
        """By services and on-demand views."""
        snapshot = self.registry.snapshot()
        for name, version in readers(snapshot):
            assert snapshot.any_view(name).version(version).retired_at is None

    @invariant()
    def readers_read_the_columns_that_they_have(self) -> None:
        """Of the live version where it has them, else of the newest that was live or has caught up."""
        snapshot = self.registry.snapshot()
        reading: list[ServiceRecord | OnDemandRecord] = [*snapshot.services.values(), *snapshot.on_demand.values()]
        for reader in reading:
            for version in reader.active:
                for (view, made_from), names in columns_by_version(version).items():
                    record: Any = snapshot.any_view(view)
                    read = record.versions[version.reads[view, made_from]]
                    own = record.versions[made_from]
                    same = [v for v in record.active if same_columns(own, v, names)]
                    taking = [v for v in same if takes_the_rows_of(v, own)]
                    fit = taking if record.written and taking else same
                    assert read in fit
                    if record.live in {v.version for v in fit if v.caught_up}:
                        assert read.version == record.live
                    elif any(v.caught_up for v in fit):
                        assert read == max((v for v in fit if v.caught_up), key=lambda v: v.revision)

    @invariant()
    def live_services_can_be_read(self) -> None:
        """They resolve; what a service version's columns mean never changes while it is active."""
        for service in self.registry.snapshot().services.values():
            if service.live is not None:
                resolve(self.registry.snapshot(), service.name)
            for version in service.active:
                request = resolve(self.registry.snapshot(), f"{service.name}@{version.version}")
                before = self.served.setdefault((service.name, version.version), request)
                assert meaning(before) == meaning(request)
                followed = follow(self.registry.snapshot(), f"{service.name}@{version.version}", before)
                assert (meaning(followed.request), followed.warnings) == (meaning(request), ())
                assert followed.request.versions == request.versions

    @invariant()
    def only_the_first_version_of_a_service_is_live_by_itself(self) -> None:
        """Every other one that is live, or was, somebody promoted."""
        for service in self.registry.snapshot().services.values():
            if service.live is not None and (service.name, service.live) not in self.promoted:
                assert service.live in self.first.get(service.name, ())


def meaning(request: ResolvedRequest) -> list[tuple[str, str, str]]:
    """What a request's columns are: name, feature, and what makes its values."""
    return [
        (c.name, c.feature.name, request.owner(c).definition.column_fingerprints[c.feature.name])
        for c in request.outputs
    ]


def _records(snapshot: RegistrySnapshot) -> dict[str, Any]:
    """The records of everything that has versions, by name."""
    return {**snapshot.views, **snapshot.on_demand, **snapshot.services}
