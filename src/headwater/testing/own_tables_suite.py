"""The conformance suite of engines that hold tables: what each engine can do, and joins of rows where they are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.clock import from_micros
from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.source import Source
from headwater.definitions.sources import SQLSource, TableSource
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.errors import SourceError, SpineError
from headwater.offline.base import HistoryRequest, OfflineEngine, ViewInput
from headwater.planning.buckets import Bucket, members
from headwater.planning.cast import fit, fit_time
from headwater.planning.resolve import whole_view
from headwater.planning.snapshot import ViewRecord, ViewVersion
from headwater.testing import SCALE, not_simplest
from headwater.testing.cases import HistoryCase, ViewCase, plain_rows
from headwater.testing.dense import dense_case
from headwater.testing.engine_probes import KEPT, PROBES, Probed, check_kept
from headwater.testing.forms import settings_of
from headwater.testing.gaps import Gaps
from headwater.testing.offline_checks import (
    FEW,
    changes_input,
    check_changes,
    check_history,
    instants,
    rows_in_any_order,
    run,
)
from headwater.testing.oracle import OracleView
from headwater.testing.strategies import history_cases, view_cases
from headwater.testing.zones import ZONES, check_in_zone, host_in
from headwater.types import Bytes, Float64, Int32, Int64

Place = Callable[[pa.Table, str], str]
"""(rows, the name of a new table) → a query of all of its rows, in the engine's own SQL."""
_numbers = itertools.count()
_MICROS = pa.timestamp("us", tz="UTC")


class ZonedSuite:
    """What runs in each time zone of `ZONES`: its tests take the fixture `zoned`."""

    @pytest.fixture(params=ZONES)
    def zone(self, request: pytest.FixtureRequest) -> Iterator[str]:
        """A time zone that the host is in while the test runs."""
        with host_in(request.param):
            yield request.param

    @pytest.fixture
    def zoned(self, zone: str, request: pytest.FixtureRequest) -> tuple[OfflineEngine, Place]:
        """`engine` and `place`, made on a host in the zone; give your own where a session is given in its zone."""
        return request.getfixturevalue("engine"), request.getfixturevalue("place")


class AbilitiesSuite(ZonedSuite):
    """What an engine can do, one by one, its declared gaps among them. Give the fixtures `engine` and `place`.

    Attributes:
        gaps: what it cannot do; each is strict.
    """

    gaps = Gaps()

    @pytest.fixture
    def engine(self) -> OfflineEngine:
        """The engine to be proven, empty."""
        raise NotImplementedError("give a fixture named `engine`")

    @pytest.fixture
    def place(self, engine: OfflineEngine) -> Place:
        """Puts rows into a new table of the engine's own, and gives the query of it."""
        raise NotImplementedError("give a fixture named `place`")

    def own_source(self, query: str, **options: Any) -> Source:
        """The source that a query of `place` is; options are those of every source."""
        return SQLSource(query, **options)

    def test_no_time_zone_changes_an_answer(
        self, zone: str, zoned: tuple[OfflineEngine, Place], tmp_path: Path
    ) -> None:
        engine, place = zoned
        times = {"event_time": "happened", "created_time": "learnt"}
        check_in_zone(
            engine,
            zone,
            tmp_path,
            lambda table: self.own_source(place(table, own_name()), **times),
            lambda spine: place(spine, own_name()),
        )

    @pytest.mark.parametrize("ability", PROBES)
    def test_it_is_able_or_says_that_it_is_not(self, engine: OfflineEngine, place: Place, ability: str) -> None:
        self._try(self._probed(engine, place), ability, PROBES[ability])

    def test_it_keeps_values_or_says_that_it_does_not(self, engine: OfflineEngine, place: Place) -> None:
        """Those that it keeps are columns of one table; each gap is tried in a table of its own."""
        probed = self._probed(engine, place)
        check_kept(probed, [ability for ability in KEPT if ability not in self.gaps])
        for ability in KEPT:
            if ability in self.gaps:
                self._try(probed, ability, partial(check_kept, abilities=[ability]))

    def _probed(self, engine: OfflineEngine, place: Place) -> Probed:
        return Probed(engine, lambda table: place(table, own_name()), self.own_source)

    def _try(self, probed: Probed, ability: str, probe: Callable[[Probed], None]) -> None:
        gap = self.gaps.of(ability)
        if gap is None:
            probe(probed)
            return
        try:
            with pytest.raises(gap.error, match=gap.match or None):
                probe(probed)
        except pytest.fail.Exception as able:
            raise AssertionError(f"{ability}: declared as a gap ({gap.mark}), but it works: remove the gap") from able


class OwnTablesSuite(AbilitiesSuite):
    """For an engine that holds tables: their rows are joined where they are. Give the fixtures `engine` and `place`."""

    @FEW
    @given(case=not_simplest(history_cases(max_views=2)))
    def test_history_over_its_own_tables_equals_the_oracle(
        self, engine: OfflineEngine, place: Place, case: HistoryCase
    ) -> None:
        sources = {v.selection.view.name: self._placed(v, place) for v in case.views}
        check_history(engine, case, sources={name: source for name, source in sources.items() if source is not None})

    @FEW
    @given(case=not_simplest(view_cases()), data=st.data())
    def test_changes_of_its_own_tables_equal_the_oracle(
        self, engine: OfflineEngine, place: Place, case: ViewCase, data: Any
    ) -> None:
        source = self._placed(case, place)
        given_view = changes_input(case)
        check_changes(engine, case, given_view if source is None else replace(given_view, source=source), data)

    @pytest.mark.parametrize(("keys", "late"), [(2, 0.9), (200, 0.0)] + [(2, 0.0), (200, 0.9)] * (SCALE > 1))
    def test_many_rows_a_key_in_its_own_table(
        self, engine: OfflineEngine, place: Place, keys: int, late: float
    ) -> None:
        case = dense_case(rows=1_000, spine=300, keys=keys, span=600, late=late, seed=keys, nans="nan" not in self.gaps)
        source = self._placed(case.views[0], place)
        assert source is not None
        check_history(engine, case, sources={"dense": source})

    def test_keys_of_bytes_in_its_own_table_without_times(self, engine: OfflineEngine, place: Place) -> None:
        source = self.own_source(place(pa.table({"thing": [b"a", b"b"], "x": [1.0, 2.0]}), own_name()))
        thing = Entity("thing", join_keys={"thing": Bytes})
        view = FeatureView("v", entity=thing, source=source, features=[Feature("x", Float64)], version="1.0.0")
        spine = pa.table({"thing": [b"b", b"c", b"a"], "timestamp": instants([1, 1, 1])})
        case = ViewCase(FeatureSelection(view), OracleView({"x": None}))
        found = run(engine, HistoryCase((case,), spine).request())
        assert found.column("v__x").to_pylist() == [2.0, None, 1.0]

    def test_a_column_that_its_table_lacks_is_refused(self, engine: OfflineEngine, place: Place) -> None:
        case = dense_case(rows=5, spine=3, keys=2, span=60, nans=False)
        view = case.views[0].view
        assert isinstance(view.source, TableSource)
        lacking = in_exact_types(view, view.source.table.drop_columns(["x"]))
        with pytest.raises(SourceError, match="'x'"):
            engine.history(case.request(sources={"dense": self._source_of(lacking, view.source, place)}))

    def test_a_value_that_does_not_fit_its_dtype_is_refused(self, engine: OfflineEngine, place: Place) -> None:
        rows = pa.table({"thing": pa.array([1, 2]), "at": instants([0, 0]), "n": pa.array([1, 2**40])})
        source = self.own_source(place(rows, own_name()), event_time="at")
        thing = Entity("thing", join_keys={"thing": Int64})
        view = FeatureView("v", entity=thing, source=source, features=[Feature("n", Int32)], version="1.0.0")
        case = ViewCase(FeatureSelection(view), OracleView({"n": None}))
        spine = pa.table({"thing": [1, 2], "timestamp": instants([1, 1])})
        with pytest.raises(SourceError, match=f"'n'.*{2**40}"):
            run(engine, HistoryCase((case,), spine).request())
        record = ViewRecord("v", {"1.0.0": ViewVersion(view, False, from_micros(0), from_micros(0))}, "1.0.0")
        (problem,) = engine.check_values(ViewInput(whole_view(record, record.version()), source), 5)
        assert str(2**40) in problem

    @FEW
    @given(case=not_simplest(history_cases(max_views=2)), written=st.booleans())
    def test_a_spine_in_its_own_table_equals_the_oracle(
        self, engine: OfflineEngine, place: Place, case: HistoryCase, written: bool
    ) -> None:
        """Its rows come in any order."""
        assert case.spine is not None
        keys = {k.column: k.dtype for view in case.resolved().views for k in view.keys}
        spine = case.spine
        for i, name in enumerate(spine.column_names):
            column = spine.column(i)
            if name in keys:
                spine = spine.set_column(i, name, fit(column, keys[name]).values)
            elif pa.types.is_temporal(column.type):
                spine = spine.set_column(i, name, pa.array(case.instants, pa.int64()).cast(_MICROS))
        query = place(spine, own_name())
        history = engine.history(case.request(query))
        found = rows_in_any_order(history, written).sort_by("row")
        if shared := {view.label: {key.column for key in view.keys} for view in case.resolved().views if view.keys}:
            self._check_buckets(engine, case.request(query), spine, sorted(set.intersection(*shared.values())))
        assert found.column("row").to_pylist() == list(range(spine.num_rows))
        shown = plain_rows(found.drop_columns(spine.column_names).to_pylist())
        expected = plain_rows(case.expected())
        assert shown == expected if expected else not shown

    def _check_buckets(self, engine: OfflineEngine, request: HistoryRequest, spine: pa.Table, keys: list[str]) -> None:
        """Assert that rows of a bucket are those that the stated hash says."""
        part = replace(request, bucket=Bucket(1, 2))
        if not keys:
            with pytest.raises(SpineError, match="share no join key"):
                engine.history(part)
            return
        history = engine.history(part)
        found = [row for batch in history.batches(5) for row in batch.column("row").to_pylist()]
        here = members([spine.column(name) for name in keys], Bucket(1, 2))
        assert sorted(found) == spine.column("row").filter(pa.array(here)).to_pylist()

    def test_a_spine_of_its_own_without_a_time_is_refused(self, engine: OfflineEngine, place: Place) -> None:
        case = dense_case(rows=5, spine=3, keys=2, span=60)
        assert case.spine is not None
        spine = case.spine.set_column(1, "timestamp", pa.array([1, None, 2], pa.int64()).cast(_MICROS))
        with pytest.raises(SpineError):
            run(engine, case.request(place(spine, own_name())))

    def _placed(self, case: ViewCase, place: Place) -> Source | None:
        view = case.view
        if not isinstance(view.source, TableSource):
            return None
        table = in_exact_types(view, view.source.table)
        return None if self.gaps.leave(view, table) else self._source_of(table, view.source, place)

    def _source_of(self, table: pa.Table, like: Source, place: Place) -> Source:
        return self.own_source(place(table, own_name()), **settings_of(like))


def own_name() -> str:
    """The name of a new table."""
    return f"own_{next(_numbers)}"


def in_exact_types(view: FeatureView, table: pa.Table) -> pa.Table:
    """A source's table with each column in the one Arrow type of its dtype, times as instants in microseconds."""
    dtypes = {feature.source_column: feature.dtype for feature in view.feature_list}
    dtypes |= {view.key_column(key): dtype for key, dtype in view.join_keys.items()}
    for i, name in enumerate(table.column_names):
        column = table.column(i)
        if name in view.source.times:
            table = table.set_column(i, name, fit_time(column).values)
        elif name in dtypes:
            table = table.set_column(i, name, fit(column, dtypes[name]).values)
    return table
