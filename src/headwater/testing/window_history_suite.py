"""The conformance suite of window views in history: every answer beside the brute-force reference's."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.clock import from_micros
from headwater.definitions.aggregation import Aggregation
from headwater.definitions.entity import Entity
from headwater.definitions.source import Source
from headwater.definitions.sources import TableSource
from headwater.definitions.view import FeatureView
from headwater.errors import DataError, UsageError
from headwater.offline.base import EventsRequest, HistoryRequest, OfflineEngine, ViewInput
from headwater.planning.resolve import resolve
from headwater.planning.snapshot import RegistrySnapshot, ViewRecord, ViewVersion
from headwater.planning.windows.values import stored_form
from headwater.testing import not_simplest, rounds
from headwater.testing.forms import as_push, in_form, on_files
from headwater.testing.window_cases import WindowCase, window_cases
from headwater.testing.window_oracle import agrees
from headwater.types import Float64, Int64, String

EXAMPLES = settings(
    max_examples=rounds(15),
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.differing_executors,
    ],
)
FEW = settings(EXAMPLES, max_examples=rounds(5, simplest=False))
_NOON = datetime(2024, 3, 10, 12, tzinfo=UTC)


class WindowHistorySuite:
    """Window views of an engine; subclass it and give the fixture `engine`.

    Of an engine whose `windows` is false it asks that it says so, and nothing else.
    """

    @pytest.fixture
    def engine(self) -> OfflineEngine:
        """The engine to be proven, empty."""
        raise NotImplementedError("give a fixture named `engine`")

    @EXAMPLES
    @given(case=window_cases())
    def test_windows_equal_the_reference(self, engine: OfflineEngine, case: WindowCase) -> None:
        check_windows(engine, case)

    @EXAMPLES
    @given(case=window_cases(ids=True, keys=1))
    def test_of_the_statements_of_one_event_the_least_counts(self, engine: OfflineEngine, case: WindowCase) -> None:
        check_windows(engine, case)

    @FEW
    @given(case=not_simplest(window_cases()))
    def test_windows_over_written_events_alone(self, engine: OfflineEngine, case: WindowCase) -> None:
        view = replace(case.view, rows=())
        case = replace(case, case=replace(case.case, views=(view,)))
        check_windows(engine, case, in_form(case.case, as_push))

    @FEW
    @given(case=not_simplest(window_cases()), groups=st.integers(1, 3))
    def test_windows_over_files(self, engine: OfflineEngine, case: WindowCase, groups: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            filed, sources = on_files(case.case, Path(folder), groups)
            spine = Path(folder) / "spine.parquet"
            pq.write_table(case.case.spine, spine)
            check_windows(engine, replace(case, case=filed), sources, str(spine))

    @FEW
    @given(case=not_simplest(window_cases(keys=1)), at=st.integers(-60, 60))
    def test_every_known_entity_at_an_instant(self, engine: OfflineEngine, case: WindowCase, at: int) -> None:
        check_windows(engine, case.entities(at))

    def test_sums_beyond_64_bits(self, engine: OfflineEngine) -> None:
        if not engine.windows:
            return
        numbers = [2**62, 2**62, 2**62, -(2**62), 5]
        table = pa.table(
            {
                "shop": pa.array([1, 1, 2, 2, 3], pa.int64()),
                "at": pa.array([_NOON] * 5, pa.timestamp("us", "UTC")),
                "n": pa.array(numbers, pa.int64()),
            }
        )
        spine = pa.table({"shop": pa.array([3, 1, 2, 1], pa.int64()), "timestamp": [_NOON + timedelta(minutes=1)] * 4})
        with pytest.raises(
            DataError, match=r"view 'sales' \(1.0.0\), feature 'total': .*beyond 64 bits for shop=1; err"
        ):
            asked(engine, spine, table, Aggregation("n", "sum", "1h", name="total"))
        null = Aggregation("n", "sum", "1h", name="total", errors="null", default=7)
        mean = Aggregation("n", "mean", "1h", default=1.5)
        found = asked(engine, spine, table, null, mean)
        assert found.column("total").to_pylist() == [5, None, 0, None]
        assert found.column("total__status").to_pylist() == ["PRESENT", "NULL", "PRESENT", "NULL"]
        assert found.column("n_mean_1h").to_pylist() == [5.0, 2.0**62, 0.0, 2.0**62]

    def test_a_default_stands_for_what_a_window_has_not(self, engine: OfflineEngine) -> None:
        if not engine.windows:
            return
        table = pa.table(
            {
                "shop": pa.array([1], pa.int64()),
                "at": pa.array([_NOON], pa.timestamp("us", "UTC")),
                "n": pa.array([4], pa.int64()),
            }
        )
        times = [_NOON + timedelta(hours=hours) for hours in (0, 3, 0, 0)]
        spine = pa.table({"shop": pa.array([1, 1, 2, None], pa.int64()), "timestamp": times})
        found = asked(
            engine,
            spine,
            table,
            Aggregation("n", "max", "1h", name="most", default=-1),
            Aggregation("n", "last_n", "1h", name="recent", n=2),
            Aggregation(None, "count", "1h", name="events", default=9),
        )
        assert found.column("most").to_pylist() == [4, -1, -1, -1]
        assert found.column("most__status").to_pylist() == ["PRESENT", "NULL", "NULL", "NOT_FOUND"]
        assert found.column("recent").to_pylist() == [[4], [], [], None]
        assert found.column("events").to_pylist() == [1, 0, 0, 9]
        assert found.column("events__status").to_pylist() == ["PRESENT", "PRESENT", "PRESENT", "NOT_FOUND"]

    def test_an_engine_without_windows_says_so(self, engine: OfflineEngine) -> None:
        if engine.windows:
            return
        table = pa.table({"shop": pa.array([1], pa.int64()), "at": pa.array([_NOON], pa.timestamp("us", "UTC"))})
        request = request_for(table, table, Aggregation(None, "count", "1h"))
        with pytest.raises(UsageError, match="view 'sales' has window aggregations, which engine"):
            engine.history(request)
        with pytest.raises(UsageError, match="view 'sales' has window aggregations, which engine"):
            engine.events(EventsRequest(request.views[0]))


def check_windows(
    engine: OfflineEngine, case: WindowCase, sources: dict[str, Source] | None = None, spine: Any = None
) -> None:
    """Assert that rows, order, values, statuses, event times and counts are those of the reference."""
    if not engine.windows:
        return
    history = engine.history(case.case.request(spine, sources))
    found = pa.Table.from_batches(history.batches(3), history.schema)
    answers, names = case.answers(), case.resolved.view.feature_names
    if case.case.spine is None:
        found = _in_order(found, case)
    else:
        assert found.select(case.case.spine.column_names).equals(case.case.spine)
    assert found.num_rows == len(case.case.instants)
    label = case.view.label
    features = {feature.name: feature for feature in case.resolved.view.feature_list}
    for name, told in zip(names, answers, strict=True):
        column, statuses = found.column(f"{label}__{name}"), found.column(f"{label}__{name}__status").to_pylist()
        assert column.type == features[name].dtype.arrow
        for value, status, right in zip(column.to_pylist(), statuses, told, strict=True):
            assert status == str(right.status)
            stored = stored_form(features[name].dtype, value)
            assert (stored is None) == (right.value is None), (name, stored, right)
            assert stored is None or agrees(right, stored), (name, stored, right)
    events = found.column(f"{label}__event_time").to_pylist()
    assert events == [None if a.event_time is None else from_micros(a.event_time) for a in answers[0]]
    matched = [a.event_time for a in answers[0] if a.event_time is not None]
    counts = history.counts()[label]
    assert counts["matched"] == len(matched)
    assert counts["no_row"] == len(events) - len(matched)
    same = [a.event_time == at for a, at in zip(answers[0], case.case.instants, strict=True)]
    assert counts["same_instant"] == sum(same)
    assert counts["null_times"] == case.view.null_times


def _in_order(found: pa.Table, case: WindowCase) -> pa.Table:
    """Rows of entities, which come in any order, in the reference's."""
    keys = list(zip(*(found.column(name).to_pylist() for name in case.view.key_columns), strict=True))
    expected = case.keys()
    assert sorted(keys, key=repr) == expected
    return found.take(pa.array([keys.index(key) for key in expected], pa.int64()))


def request_for(spine: Any, table: pa.Table, *aggregations: Aggregation, **options: Any) -> HistoryRequest:
    """A request for all features of a window view, `sales`, over a table of `shop`, `at` and numbers `n`."""
    columns = {name: Int64 if name == "n" else Float64 for name in table.column_names if name in ("n", "x")}
    columns |= {"s": String} if "s" in table.column_names else {}
    view = FeatureView(
        "sales",
        entity=Entity("shop", join_keys={"shop": Int64}),
        source=TableSource(table, event_time="at"),
        features=aggregations,
        columns=columns,
        version="1.0.0",
    )
    record = ViewRecord("sales", {"1.0.0": ViewVersion(view, True, _NOON, _NOON)}, "1.0.0")
    resolved = resolve(RegistrySnapshot("test", views={"sales": record}), ["sales:*"])
    inputs = tuple(ViewInput(each, each.view.source) for each in resolved.views)
    return HistoryRequest(spine, inputs, resolved.columns, include=("status",), **options)


def asked(engine: OfflineEngine, *args: Any, **options: Any) -> pa.Table:
    """The answer to `request_for`."""
    history = engine.history(request_for(*args, **options))
    return pa.Table.from_batches(history.batches(1_000), history.schema)
