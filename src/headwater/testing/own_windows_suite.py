"""The conformance suite of engines that compute windows over tables of their own: the rows stay where they are."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.clock import from_micros
from headwater.definitions.aggregation import Aggregation
from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.source import Source
from headwater.definitions.sources import SQLSource, TableSource
from headwater.definitions.view import FeatureView
from headwater.offline.base import EventsRequest, HistoryRequest, OfflineEngine, SourceScope, ViewInput
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.planning.resolve import resolve
from headwater.planning.snapshot import RegistrySnapshot, ViewRecord, ViewVersion
from headwater.planning.windows.event_ids import event_digests
from headwater.testing import not_simplest
from headwater.testing.cases import plain_rows
from headwater.testing.offline_checks import rows_in_any_order, run
from headwater.testing.own_tables_suite import Place, ZonedSuite, own_name
from headwater.testing.window_cases import WindowCase, moved_case, window_cases
from headwater.testing.window_history_suite import EXAMPLES, FEW, WindowHistorySuite, check_windows
from headwater.types import Float64, Int64

_DAY = from_micros(86_400_000_000 * 20_000)


class OwnWindowsSuite(ZonedSuite, WindowHistorySuite):
    """Give the fixtures `engine` and `place`."""

    @pytest.fixture
    def place(self, engine: OfflineEngine) -> Place:
        """Puts rows into a new table of the engine's own, and gives the query of it."""
        raise NotImplementedError("give a fixture named `place`")

    def own_source(self, query: str, like: Source) -> Source:
        """The source that a query of `place` is."""
        options: dict[str, Any] = {"event_time": like.event_time, "created_time": like.created_time}
        return SQLSource(query, delay=like.delay, event_id=like.event_id, **options)

    @EXAMPLES
    @given(case=window_cases())
    def test_windows_over_its_own_tables(self, engine: OfflineEngine, place: Place, case: WindowCase) -> None:
        check_windows(engine, case, {"windows": self._placed(case, place)})

    @FEW
    @given(case=not_simplest(window_cases()), written=st.booleans())
    def test_a_spine_in_its_own_table(
        self, engine: OfflineEngine, place: Place, case: WindowCase, written: bool
    ) -> None:
        """Its rows come in any order."""
        assert case.case.spine is not None
        spine = case.case.spine.append_column("row", pa.array(range(case.case.spine.num_rows), pa.int64()))
        query, sources = place(spine, own_name()), {"windows": self._placed(case, place)}
        history = engine.history(case.case.request(query, sources))
        found = rows_in_any_order(history, written).sort_by("row")
        assert found.select(spine.column_names).equals(spine)
        expected = run(engine, case.case.request(spine, sources))
        assert plain_rows(found.to_pylist()) == plain_rows(expected.to_pylist())

    @FEW
    @given(case=not_simplest(window_cases(keys=1)), at=st.integers(-60, 60))
    def test_every_entity_of_its_own_table(
        self, engine: OfflineEngine, place: Place, case: WindowCase, at: int
    ) -> None:
        check_windows(engine, case.entities(at), {"windows": self._placed(case, place)})

    @FEW
    @given(case=not_simplest(window_cases()), after=st.none() | st.integers(-40, 40), own=st.booleans())
    def test_events_are_those_of_the_embedded_engine(
        self, engine: OfflineEngine, place: Place, case: WindowCase, after: int | None, own: bool
    ) -> None:
        local = case.case.request().views[0]
        given_view = replace(local, source=self._placed(case, place)) if own else local
        scope = SourceScope(known_after=after)
        embedded = DuckDBEngine()
        try:
            expected = _events(embedded, EventsRequest(local, source=scope))
        finally:
            embedded.close()
        assert _events(engine, EventsRequest(given_view, source=scope)) == expected

    def test_no_time_zone_changes_a_window(self, zone: str, zoned: tuple[OfflineEngine, Place]) -> None:
        engine, place = zoned
        case = moved_case(zone)
        check_windows(engine, case, {"windows": self._placed(case, place)})

    def test_windows_and_plain_features_in_one_training_set(self, engine: OfflineEngine, place: Place) -> None:
        rows = pa.table(
            {
                "shop": pa.array([1, 1, 2], pa.int64()),
                "at": pa.array([_DAY, _DAY + timedelta(hours=1), _DAY], pa.timestamp("us", "UTC")),
                "x": pa.array([1.5, 2.0, float("nan")]),
            }
        )
        shop = Entity("shop", join_keys={"shop": Int64})
        source = self.own_source(place(rows, own_name()), TableSource(rows, event_time="at"))
        sums = [Aggregation("x", "sum", "1d"), Aggregation(None, "count", "1h")]
        views = [
            FeatureView("sales", entity=shop, source=source, features=sums, columns={"x": Float64}, version="1.0.0"),
            FeatureView("last", entity=shop, source=source, features=[Feature("x", Float64)], version="1.0.0"),
        ]
        records = {v.name: ViewRecord(v.name, {"1.0.0": ViewVersion(v, True, _DAY, _DAY)}, "1.0.0") for v in views}
        resolved = resolve(RegistrySnapshot("test", views=records), ["sales:*", "last:x"])
        inputs = tuple(ViewInput(each, source) for each in resolved.views)
        times = [_DAY + timedelta(hours=hours) for hours in (2, 0, 3, 0)]
        spine = pa.table({"shop": pa.array([1, 1, None, 3], pa.int64()), "timestamp": times})
        history = engine.history(HistoryRequest(spine, inputs, resolved.columns, include=("status",)))
        found = pa.Table.from_batches(history.batches(2), history.schema)
        assert found.column("x_sum_1d").to_pylist() == [3.5, 1.5, None, None]
        assert found.column("rows_count_1h").to_pylist() == [1, 1, None, 0]
        assert found.column("rows_count_1h__status").to_pylist() == ["PRESENT", "PRESENT", "NOT_FOUND", "PRESENT"]
        assert found.column("x").to_pylist() == [2.0, 1.5, None, None]
        assert history.counts()["sales"]["matched"] == 2

    def _placed(self, case: WindowCase, place: Place) -> Source:
        source = case.view.view.source
        assert isinstance(source, TableSource)
        return self.own_source(place(source.table, own_name()), source)


def _events(engine: OfflineEngine, request: EventsRequest) -> list[str]:
    """The events of a request in one order, ids as digests: they may be of another type."""
    found = []
    for batch in engine.events(request):
        digests, there = event_digests(batch.column("__event_id"), batch.column("__event").to_numpy())
        rows = batch.drop_columns(["__event_id"]).to_pylist()
        found += [
            repr((row, int(digest) if known else None)) for row, digest, known in zip(rows, digests, there, strict=True)
        ]
    return sorted(found)
