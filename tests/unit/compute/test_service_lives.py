"""A model's columns under everybody's changes: random histories of views and services, with readers throughout.

A service version that was readable once stays so while it is active; what it reads is what its columns meant when it
was made, of the newest rows; nothing is served from a version that is no longer updated.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import sqlalchemy as sa
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import headwater as hw
from headwater.database.transactions import writing
from headwater.errors import ChangeRefused, DefinitionError, NotFound, RowsRejected, VersionConflict
from headwater.online.meta import watermark_key
from headwater.online.rows.keys import META_PREFIX
from headwater.planning.numbering import base_of
from headwater.planning.snapshot import ServiceRecord
from headwater.testing import RANDOM, rounds
from tests.unit.compute.conftest import Bench

COLUMNS = "xyz"
ALL = frozenset(COLUMNS)
USER = hw.Entity("user", {"user": hw.Int64})
MEANINGS = st.tuples(st.sampled_from(COLUMNS), st.sampled_from([None, -1.0, -2.0]))
VIEWS = st.dictionaries(st.sampled_from("abc"), MEANINGS, min_size=1)
LISTS = st.lists(st.sampled_from(["v:a", "v:b", "v:c", "v:*"]), min_size=1, max_size=2, unique=True)
OTHER = "k"
"""A column of another view, whose value never changes."""


def view(features: dict[str, tuple[str, float | None]], version: str | None = None) -> hw.FeatureView:
    """A view whose features are columns of the source, each with a default."""
    made = [hw.Feature(f, hw.Float64, column=c, default=d) for f, (c, d) in features.items()]
    return hw.FeatureView("v", entity=USER, source=hw.TableSource(event_time="at"), features=made, version=version)


def other_view(default: float | None) -> hw.FeatureView:
    """A view that changes by itself."""
    feature = hw.Feature(OTHER, hw.Float64, default=default)
    return hw.FeatureView("w", entity=USER, source=hw.TableSource(event_time="at"), features=[feature])


class ServiceLives(RuleBasedStateMachine):
    """Somebody changes the view, somebody else the service, and readers read."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.bench = Bench(self.folder)
        self.rows: list[tuple[int, frozenset[str]]] = []
        """The rows since the last one with every column: number, and the columns that it has."""
        self.takes: dict[str, frozenset[str]] = {}
        """Service version → the columns that a row must have to be served by it: of the version before, if it can."""
        self.made: dict[str, dict[str, tuple[str, float | None]]] = {}
        """Service version → column → the source's column and the default that it meant when it was made."""
        self.readers: dict[str, Any] = {}
        self.count = 0
        self.written = False

    def teardown(self) -> None:
        self.bench.close()
        shutil.rmtree(self.folder)

    def apply(self, *definitions: Any) -> None:
        before = self.bench.registry.refresh().services.get("m")
        with suppress(DefinitionError, VersionConflict):
            self.bench.apply(*definitions)
        snapshot = self.bench.registry.refresh()
        for number, version in snapshot.services["m"].versions.items() if "m" in snapshot.services else ():
            if number not in self.made:
                self.made[number] = {
                    name: (feature.source_column, feature.default)
                    for s in version.selections
                    for name in s.names
                    for feature in [snapshot.view(s.view).version(s.version).view.feature(name)]
                }
                views = [snapshot.view("v").version(s.version).view for s in version.selections if s.view == "v"]
                own = frozenset(f.source_column for v in views for f in v.feature_list)
                self.takes[number] = self.taken_before(number, before) or own

    def taken_before(self, number: str, before: ServiceRecord | None) -> frozenset[str] | None:
        """What a new service version takes, where all of its columns are as they were in the version before it."""
        for one in () if before is None else (before.live, base_of(before).version):
            if one is not None and self.of_view(number).items() <= self.made[one].items():
                return self.takes[one]
        return None

    def of_view(self, number: str) -> dict[str, tuple[str, float | None]]:
        """The columns of a service version that are of the view that rows are written to."""
        return {name: made for name, made in self.made[number].items() if name != OTHER}

    def next_row(self, columns: frozenset[str]) -> dict[str, Any]:
        """A row of now with some of the columns; the values of its columns say which row it is."""
        self.count += 1
        self.bench.pass_time(minutes=1)
        return {"user": 1, "at": self.bench.at, **{c: self.value(self.count, c) for c in sorted(columns)}}

    @staticmethod
    def value(number: int, column: str) -> float:
        return 0.5 if column == OTHER else number + COLUMNS.index(column) / 10

    @initialize(features=VIEWS, written=st.booleans(), _=RANDOM)
    def begin(self, features: dict[str, Any], written: bool, _: int = 1) -> None:
        """A view and a service of it; `written`: rows are given to `write` too, some without a column."""
        self.new_rows()
        self.bench.rows["w"] = [{"user": 1, "at": self.bench.at, OTHER: self.value(0, OTHER)}]
        self.apply(USER, view(features), other_view(None), hw.FeatureService("m", [view(features), other_view(None)]))
        self.written = written
        if written:
            self.write(ALL)
        self.new_rows()

    @rule()
    def new_rows(self) -> None:
        """The source has newer rows, and a run takes them."""
        self.bench.rows["v"] = [self.next_row(ALL)]
        self.rows = [(self.count, ALL)]
        self.bench.materialize()

    @rule()
    def wait(self) -> None:
        """Long enough for the rows of what was retired to go."""
        self.bench.pass_time(minutes=20)
        self.new_rows()

    @rule(emptied=st.booleans())
    def lose_rows(self, emptied: bool) -> None:
        """The online store is flushed, or all but its rows is as it was; a run fills it."""
        online = self.bench.context.online
        online.delete([key for key, _ in online.scan(b"") if emptied or not key.startswith(META_PREFIX)])
        if not emptied:
            snapshot = self.bench.registry.refresh()
            pairs = [("v", number) for number in snapshot.view("v").versions]
            online.put_meta({watermark_key("test", *pair): None for pair in pairs})
        self.new_rows()

    @rule(columns=st.sets(st.sampled_from(COLUMNS), min_size=1).map(frozenset) | st.just(ALL))
    def write(self, columns: frozenset[str]) -> None:
        """A newer row is given to `write`, maybe by a producer that does not know of every column."""
        columns = columns if self.written else ALL
        row = self.next_row(columns)
        with suppress(RowsRejected):  # no version takes it
            self.bench.write("v", [row])
            self.rows.append((self.count, columns))

    @rule(features=VIEWS, version=st.sampled_from([None, None, None, "7.0.0"]))
    def change_view(self, features: dict[str, Any], version: str | None) -> None:
        self.apply(view(features, version))

    @rule(features=VIEWS, default=st.sampled_from([None, -1.0, -2.0]), as_object=st.booleans())
    def change_both(self, features: dict[str, Any], default: float | None, as_object: bool) -> None:
        """A list that stays as it is means another version of the other view; the view has another feature, too."""
        record = self.bench.registry.refresh().view("v")
        live = record.version().view
        kept = {f.name: (f.source_column, f.default) for f in live.feature_list}
        changed, other = view({**features, **kept}), other_view(default)
        self.apply(changed, other)
        self.new_rows()
        items = [changed[name] if as_object else f"v:{name}" for name in kept]
        self.apply(changed, other, hw.FeatureService("m", [*items, "w:k"]))

    @rule(features=VIEWS, items=LISTS, as_object=st.booleans(), number=st.sampled_from([None, None, "5.0.0"]))
    def change_service(self, features: dict[str, Any], items: list[str], as_object: bool, number: str | None) -> None:
        changed = view(features)
        listed: list[Any] = [changed] if as_object else items
        self.apply(changed, hw.FeatureService("m", listed, version=number))

    @rule(name=st.sampled_from("vm"), force=st.booleans(), data=st.data())
    def promote(self, name: str, force: bool, data: st.DataObject) -> None:
        snapshot = self.bench.registry.refresh()
        record: Any = snapshot.views.get(name) or snapshot.services.get(name)
        version = data.draw(st.sampled_from([v.version for v in record.active]))
        if force and name == "v":
            self.bench.materialize()  # a forced version may lack rows: that is what force says
        with suppress(ChangeRefused):
            marks = self.bench.context.watermarks(snapshot)
            self.bench.context.versions.promote(name, version, watermarks=marks, now=self.bench.at, force=force)

    @rule(name=st.sampled_from("vm"))
    def roll_back(self, name: str) -> None:
        with suppress(ChangeRefused):
            self.bench.context.versions.rollback(name, now=self.bench.at)

    @rule(name=st.sampled_from("vm"), data=st.data())
    def retire(self, name: str, data: st.DataObject) -> None:
        snapshot = self.bench.registry.refresh()
        record: Any = snapshot.views.get(name) or snapshot.services.get(name)
        with suppress(ChangeRefused, NotFound):
            version = data.draw(st.sampled_from(list(record.versions)))
            self.bench.context.versions.retire(name, version, now=self.bench.at)

    @rule()
    def upgrade(self) -> None:
        """The registry as a release without fingerprints left it: what a service reads is what it was made from."""
        before = self.bench.registry.refresh().services["m"]
        if any(read != made[1] for v in before.active for made, read in v.reads.items()):
            return  # that release would have kept those it was made from
        with writing(self.bench.registry.engine) as connection:
            connection.execute(sa.text("UPDATE registry_version SET reads = NULL WHERE kind = 'service'"))

    @invariant()
    def every_active_version_reads_what_it_means(self) -> None:
        snapshot = self.bench.registry.refresh()
        for number, version in snapshot.services["m"].versions.items() if "m" in snapshot.services else ():
            expected = [self.expected(number, row, have) for row, have in self.rows if self.takes[number] <= have]
            if version.retired_at is not None:
                self.check_retired(number)
                continue
            if number not in self.readers:
                with suppress(ChangeRefused):  # not caught up yet
                    self.readers[number] = self.bench.reader(f"m@{number}")
            if number in self.readers:
                for reader in (self.readers[number], self.bench.reader(f"m@{number}")):
                    reader.refresh()
                    found = reader.read([1, 2]).to_dict()
                    # of the newest row that it takes, or of a later one that the version it reads takes
                    later = [self.expected(number, row, have) for row, have in self.rows if row > self.newest(number)]
                    assert found in (expected[-1], *later)

    def newest(self, number: str) -> int:
        """The newest row that a service version takes."""
        return max(row for row, have in self.rows if self.takes[number] <= have)

    def expected(self, number: str, row: int, have: frozenset[str]) -> dict[str, list[Any]] | None:
        """What a service version gives of a row; None where that lacks one of its columns."""
        made = self.made[number]
        if not have.issuperset(c for c, _ in self.of_view(number).values()):
            return None
        return {"user": [1, 2], **{name: [self.value(row, c), d] for name, (c, d) in made.items()}}

    def check_retired(self, number: str) -> None:
        """What is left of a retired version gives its values, or raises: never others."""
        if number in self.readers:
            self.readers[number].refresh()
            with suppress(ChangeRefused), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = self.readers[number].read([1, 2]).to_dict()
                assert found.keys() == {"user", *self.made[number]}
                assert all(value[0] not in (-1.0, -2.0, None) for name, value in found.items() if name != "user")


TestServiceLives = ServiceLives.TestCase
TestServiceLives.settings = settings(max_examples=rounds(3, simplest=False), stateful_step_count=25, deadline=None)
