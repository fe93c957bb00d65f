"""What suites of offline engines ask an engine for, and how they compare it with the oracle."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from headwater.clock import MIN_MICROS
from headwater.definitions.names import VALID_TO
from headwater.definitions.source import Source
from headwater.definitions.view import FeatureSelection
from headwater.offline.base import ChangeCounts, ChangesRequest, HistoryRequest, HistoryRun, OfflineEngine, ViewInput
from headwater.planning.watermark import Watermark
from headwater.testing import rounds
from headwater.testing.cases import HistoryCase, ViewCase, plain, plain_rows
from headwater.testing.oracle import Fact, changes, counts, overlapping
from headwater.testing.pools import MIDNIGHT
from headwater.testing.strategies import log_instants

EXAMPLES = settings(
    max_examples=rounds(10),
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.differing_executors,
    ],
)

FEW = settings(EXAMPLES, max_examples=rounds(5, simplest=False))


def instants(seconds: Sequence[int]) -> pa.Array:
    """Instants by their seconds since 1970."""
    return pa.array([n * 1_000_000 for n in seconds], pa.int64()).cast(pa.timestamp("us", tz="UTC"))


def run(engine: OfflineEngine, request: HistoryRequest) -> pa.Table:
    """The whole answer of a request."""
    history = engine.history(request)
    return pa.Table.from_batches(history.batches(1000), history.schema)


def rows_in_any_order(history: HistoryRun, written: bool) -> pa.Table:
    """The whole answer of a run whose rows have no order.

    Args:
        history: the run.
        written: whether the engine writes it, where it can: as a folder of Parquet files.
    """
    if written:
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "result"
            count = history.write(str(result))
            if count is not None:
                found = pq.read_table(result)
                assert found.column_names == history.schema.names and found.num_rows == count
                assert list(Path(folder).iterdir()) == [result] and (result / "_SUCCESS").exists()
                return found
    return pa.Table.from_batches(history.batches(1000), history.schema)


def check_history(
    engine: OfflineEngine, case: HistoryCase, spine: Any = None, sources: dict[str, Source] | None = None
) -> None:
    """Assert that rows, order, spine columns, values, statuses, event times and counts are those of the oracle."""
    assert case.spine is not None
    history = engine.history(case.request(spine, sources))
    found = pa.Table.from_batches(history.batches(5), history.schema)
    assert found.num_rows == case.spine.num_rows
    assert found.column_names[: case.spine.num_columns] == case.spine.column_names
    if spine is None:
        assert found.select(case.spine.column_names).equals(case.spine.replace_schema_metadata(None))
    answers = {view.label: case.answers(view) for view in case.views}
    expected = plain_rows(case.expected(answers))
    added = found.drop_columns(case.spine.column_names)
    shown = plain_rows(added.to_pylist())
    assert shown == expected if expected else not shown
    check_types(case, added)
    for view in case.views:
        told = {
            name: history.counts()[view.label].get(name, 0)
            for name in ("matched", "no_row", "expired", "not_known", "same_instant", "ties", "never_valid")
        }
        assert told == counts(answers[view.label], case.instants)
        if view.oracle.ends:
            keys = zip(*(case.keys[column] for column in view.key_columns), strict=True)
            asked = list(keys) if view.key_columns else [()] * len(case.instants)
            assert history.counts()[view.label]["overlapping"] == overlapping(view.facts(), asked)
        assert history.counts()[view.label]["null_times"] == view.null_times


def check_changes(engine: OfflineEngine, case: ViewCase, asked: ViewInput, data: Any) -> None:
    """Assert that the changes between instants that are drawn are those of the oracle."""
    end, before, since = (data.draw(log_instants(), label=name) for name in ("end", "source_after", "since"))
    before = data.draw(st.sampled_from([MIN_MICROS, before]))
    mark = Watermark(data.draw(st.sampled_from([MIN_MICROS, since])), data.draw(st.integers(0, 3)))
    until = data.draw(st.sampled_from([2**62, 2]), label="log_until")
    expected = changes(case.facts(), case.tombstones, end=end, source_after=before, since=mark, log_until=until)
    found = changed(engine, case, ChangesRequest(asked, end, before, mark, until))
    if before != MIN_MICROS:
        found = {key: without_end(row) for key, row in found.items()}
    assert found == {key: fact_row(fact, before == MIN_MICROS) for key, fact in expected.items()}


def check_types(case: HistoryCase, found: pa.Table) -> None:
    """Assert that features come in the Arrow type of their dtype."""
    for view in case.views:
        for feature in view.selection.view.feature_list:
            name = f"{view.label}__{feature.name}"
            assert name not in found.column_names or found.schema.field(name).type == feature.dtype.arrow
        assert found.schema.field(f"{view.label}__event_time").type == pa.timestamp("us", tz="UTC")


def changes_input(case: ViewCase) -> ViewInput:
    """A view version, whole, with its source and log."""
    whole = replace(case, selection=FeatureSelection(case.selection.view))
    resolved = HistoryCase((whole,), None, at=MIDNIGHT // 1000).resolved().views[0]
    return ViewInput(resolved, case.view.source, case.slice())


def changed(engine: OfflineEngine, case: ViewCase, request: ChangesRequest) -> dict[Any, Any]:
    """What `changes` gives, by key."""
    found, counted = rows_by_key(engine, case, request)
    assert counted.null_times == case.null_times
    return found


def rows_by_key(engine: OfflineEngine, case: ViewCase, request: ChangesRequest) -> tuple[dict[Any, Any], ChangeCounts]:
    """The rows of `changes` by key, and what it counted."""
    counted = ChangeCounts()
    found: dict[Any, Any] = {}
    for key, row in rows_of(engine, case, request, counted):
        assert key not in found
        found[key] = row
    return found, counted


def rows_of(
    engine: OfflineEngine, case: ViewCase, request: ChangesRequest, counts: ChangeCounts
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The rows of `changes`, each with its key."""
    names = list(case.selection.view.join_keys)
    for batch in engine.changes(request, counts):
        for row in batch.to_pylist():
            key = tuple(row.pop(name) for name in names)
            yield key, {name: plain(value) for name, value in row.items()}


def times_of(fact: Fact) -> tuple[Any, int, int]:
    """The key and times of a row."""
    return fact.key, fact.event, fact.created


def without_end(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `changes` without what another row of its key, which was not read, may decide."""
    return {name: value for name, value in row.items() if name != VALID_TO}


def fact_row(fact: Fact, whole: bool = True) -> dict[str, Any]:
    """A fact as a row of `changes`; `whole`: with what all rows of its key decide."""
    times = {
        "__event": fact.event,
        "__created": fact.created,
        "__origin": int(fact.from_log),
        "__position": fact.position,
    }
    if whole and fact.ends is not None:
        times[VALID_TO] = fact.until
    return {**times, **{name: plain(value) for name, value in fact.values.items()}}
