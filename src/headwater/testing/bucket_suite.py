"""The conformance suite of buckets: all of them together are the whole, each row once, on every engine the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.offline.base import ChangeCounts, ChangesRequest, HistoryRequest, OfflineEngine, ViewInput
from headwater.planning.buckets import Bucket
from headwater.planning.watermark import Watermark
from headwater.testing import not_simplest, rounds
from headwater.testing.cases import HistoryCase, plain_rows
from headwater.testing.strategies import entity_cases, history_cases, log_instants
from headwater.testing.window_cases import WindowCase, window_cases

FEW = settings(
    max_examples=rounds(4, simplest=False),
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.differing_executors,
    ],
)
_COUNTS = ("matched", "no_row", "expired", "not_known", "same_instant", "ties")


class BucketSuite:
    """Buckets of an engine; subclass it and give the fixture `engine`."""

    @pytest.fixture
    def engine(self) -> OfflineEngine:
        """The engine to be proven, empty."""
        raise NotImplementedError("give a fixture named `engine`")

    @FEW
    @given(case=not_simplest(history_cases(max_views=2)), n=st.integers(2, 3))
    def test_buckets_of_a_spine_are_the_whole(self, engine: OfflineEngine, case: HistoryCase, n: int) -> None:
        check_buckets(engine, case.request(), n)

    @FEW
    @given(case=not_simplest(window_cases()), n=st.integers(2, 3))
    def test_buckets_of_windows_are_the_whole(self, engine: OfflineEngine, case: WindowCase, n: int) -> None:
        if engine.windows:
            check_buckets(engine, case.case.request(), n)

    @FEW
    @given(case=not_simplest(entity_cases()), n=st.integers(2, 3))
    def test_buckets_of_entities_are_the_whole(self, engine: OfflineEngine, case: HistoryCase, n: int) -> None:
        whole = _rows(engine, case.request())
        parts = [row for bucket in _buckets(n) for row in _rows(engine, replace(case.request(), bucket=bucket))]
        assert sorted(parts, key=repr) == sorted(whole, key=repr)

    @FEW
    @given(case=not_simplest(history_cases(max_views=1)), n=st.integers(2, 3), end=log_instants())
    def test_buckets_of_changes_are_the_whole(self, engine: OfflineEngine, case: HistoryCase, n: int, end: int) -> None:
        (view,) = case.request().views
        asked = ChangesRequest(view, end, -(2**63), Watermark(), 2**62)
        whole, counted = _changes(engine, asked, view)
        parts: list[Any] = []
        counts: Counter[str] = Counter()
        for bucket in _buckets(n):
            rows, of_bucket = _changes(engine, replace(asked, bucket=bucket), view)
            parts += rows
            counts.update({name: number for name, number in vars(of_bucket).items() if isinstance(number, int)})
        assert sorted(parts, key=repr) == sorted(whole, key=repr)
        assert counts == {name: number for name, number in vars(counted).items() if isinstance(number, int)}


def check_buckets(engine: OfflineEngine, request: HistoryRequest, n: int) -> None:
    """Assert that the rows of n buckets, by their numbers, are all rows with the same values, and counts add up."""
    history = engine.history(request)
    whole = pa.Table.from_batches(history.batches(7), history.schema)
    tables, numbers = [], []
    counts: dict[str, Counter[str]] = {label: Counter() for label in history.counts()}
    for bucket in _buckets(n):
        part = engine.history(replace(request, bucket=bucket))
        batches = list(part.batches(7))
        assert all(batch.num_rows == 7 for batch in batches[:-1])
        tables.append(pa.Table.from_batches(batches, part.schema))
        numbers += part.row_numbers().to_pylist()
        assert len(numbers) == sum(table.num_rows for table in tables)
        for label, found in part.counts().items():
            counts[label].update({name: found.get(name, 0) for name in _COUNTS})
    assert sorted(numbers) == list(range(whole.num_rows))
    together = pa.concat_tables(tables).append_column("bucketed row", pa.array(numbers, pa.int64()))
    together = together.sort_by("bucketed row").drop_columns(["bucketed row"])
    assert plain_rows(together.to_pylist()) == plain_rows(whole.to_pylist())
    for label, found in history.counts().items():
        assert counts[label] == {name: found.get(name, 0) for name in _COUNTS}


def _buckets(n: int) -> list[Bucket]:
    return [Bucket(i, n) for i in range(n)]


def _rows(engine: OfflineEngine, request: HistoryRequest) -> list[dict[str, Any]]:
    history = engine.history(request)
    return plain_rows(pa.Table.from_batches(history.batches(7), history.schema).to_pylist())


def _changes(engine: OfflineEngine, request: ChangesRequest, view: ViewInput) -> tuple[list[Any], ChangeCounts]:
    counts = ChangeCounts()
    rows = [row for batch in engine.changes(request, counts) for row in plain_rows(batch.to_pylist())]
    return rows, counts
