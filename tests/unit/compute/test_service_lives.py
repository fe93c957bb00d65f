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
from headwater.errors import ChangeRefused, DefinitionError, NotFound, VersionConflict
from headwater.online.meta import watermark_key
from headwater.online.rows.keys import META_PREFIX
from headwater.testing import SCALE
from tests.unit.compute.conftest import Bench

COLUMNS = "xyz"
USER = hw.Entity("user", {"user": hw.Int64})
MEANINGS = st.tuples(st.sampled_from(COLUMNS), st.sampled_from([None, -1.0, -2.0]))
VIEWS = st.dictionaries(st.sampled_from("abc"), MEANINGS, min_size=1)
LISTS = st.lists(st.sampled_from(["v:a", "v:b", "v:c", "v:*"]), min_size=1, max_size=2, unique=True)


def view(features: dict[str, tuple[str, float | None]], version: str | None = None) -> hw.FeatureView:
    """A view whose features are columns of the source, each with a default."""
    made = [hw.Feature(f, hw.Float64, column=c, default=d) for f, (c, d) in features.items()]
    return hw.FeatureView("v", entity=USER, source=hw.TableSource(event_time="at"), features=made, version=version)


class ServiceLives(RuleBasedStateMachine):
    """Somebody changes the view, somebody else the service, and readers read."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.bench = Bench(self.folder)
        self.values: dict[str, float] = {}
        self.made: dict[str, dict[str, tuple[str, float | None]]] = {}
        """Service version → column → the source's column and the default that it meant when it was made."""
        self.readers: dict[str, Any] = {}
        self.count = 0

    def teardown(self) -> None:
        self.bench.close()
        shutil.rmtree(self.folder)

    def apply(self, *definitions: Any) -> None:
        with suppress(DefinitionError, VersionConflict):
            self.bench.apply(*definitions)
        snapshot = self.bench.registry.refresh()
        for number, version in snapshot.services["m"].versions.items() if "m" in snapshot.services else ():
            if number not in self.made:
                self.made[number] = {
                    name: (feature.source_column, feature.default)
                    for s in version.selections
                    for name in s.names
                    for feature in [snapshot.view("v").version(s.version).view.feature(name)]
                }

    @initialize(features=VIEWS, items=LISTS)
    def begin(self, features: dict[str, Any], items: list[str]) -> None:
        self.new_rows()
        self.apply(USER, view(features), hw.FeatureService("m", [view(features)]))
        self.new_rows()

    @rule()
    def new_rows(self) -> None:
        """The source has newer rows, and a run takes them."""
        self.count += 1
        self.bench.pass_time(minutes=1)
        self.values = {c: float(self.count + i / 10) for i, c in enumerate(COLUMNS)}
        self.bench.rows["v"] = [{"user": 1, "at": self.bench.at, **self.values}]
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

    @rule()
    def write(self) -> None:
        """Newer rows are given to `write`: every version takes them."""
        self.count += 1
        self.bench.pass_time(minutes=1)
        self.values = {c: float(self.count + i / 10) for i, c in enumerate(COLUMNS)}
        self.bench.write("v", [{"user": 1, "at": self.bench.at, **self.values}])

    @rule(features=VIEWS, version=st.sampled_from([None, None, None, "7.0.0"]))
    def change_view(self, features: dict[str, Any], version: str | None) -> None:
        self.apply(view(features, version))

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
            expected = {
                "user": [1, 2],
                **{name: [self.values[c], d] for name, (c, d) in self.made[number].items()},
            }
            if version.retired_at is not None:
                self.check_retired(number, expected)
                continue
            if number not in self.readers:
                with suppress(ChangeRefused):  # not caught up yet
                    self.readers[number] = self.bench.reader(f"m@{number}")
            if number in self.readers:
                for reader in (self.readers[number], self.bench.reader(f"m@{number}")):
                    reader.refresh()
                    assert reader.read([1, 2]).to_dict() == expected

    def check_retired(self, number: str, expected: dict[str, list[Any]]) -> None:
        """What is left of a retired version gives its values, or raises: never others."""
        if number in self.readers:
            self.readers[number].refresh()
            with suppress(ChangeRefused), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = self.readers[number].read([1, 2]).to_dict()
                assert found.keys() == expected.keys()
                assert all(value[0] not in (-1.0, -2.0, None) for name, value in found.items() if name != "user")


TestServiceLives = ServiceLives.TestCase
TestServiceLives.settings = settings(max_examples=2 * SCALE, stateful_step_count=25, deadline=None)
