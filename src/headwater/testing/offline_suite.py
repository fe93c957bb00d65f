"""The conformance suite of offline engines: every answer beside the brute-force oracle's.

How a running join is stopped (Ctrl-C) is an engine's own affair: test it beside the suite, with a real signal.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from headwater.clock import MIN_MICROS, from_micros
from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.source import Source
from headwater.definitions.sources import ParquetSource, SQLSource, TableSource
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.errors import Cancelled, SpineError
from headwater.offline.base import ChangeCounts, ChangesRequest, HistoryRun, OfflineEngine, ViewInput
from headwater.planning.resolve import whole_view
from headwater.planning.snapshot import ViewRecord, ViewVersion
from headwater.planning.watermark import Watermark
from headwater.testing import SCALE, not_simplest, rounds
from headwater.testing.bucket_suite import BucketSuite
from headwater.testing.cases import HistoryCase, ViewCase, plain_rows
from headwater.testing.dense import dense_case
from headwater.testing.forms import LAYOUTS, as_csv, as_frame, as_push, as_query, dealt, in_form, on_files, to_frame
from headwater.testing.gaps import Gap, Gaps, Mark
from headwater.testing.offline_checks import (
    EXAMPLES,
    FEW,
    changes_input,
    check_changes,
    check_history,
    fact_row,
    instants,
    rows_by_key,
    rows_in_any_order,
    rows_of,
    run,
    times_of,
    without_end,
)
from headwater.testing.oracle import Fact, OracleView, changes, facts
from headwater.testing.own_tables_suite import OwnTablesSuite
from headwater.testing.statements import refusing, watch
from headwater.testing.strategies import entity_cases, history_cases, log_instants, view_cases
from headwater.testing.window_history_suite import WindowHistorySuite
from headwater.types import Float64, Int32, Int64, String

__all__ = [
    "EXAMPLES",
    "FEW",
    "Gap",
    "Gaps",
    "Mark",
    "OfflineEngineSuite",
    "OwnTablesSuite",
    "PointInTimeSuite",
    "changes_input",
    "check_history",
]


_DENSE = [(keys, late, ttl) for keys in (2, 200) for late in (0.0, 0.9) for ttl in (0, 40)]
if SCALE == 1:
    # each value of one beside each of another
    _DENSE = [case for case in _DENSE if sum(map(bool, (case[0] == 200, case[1], case[2]))) % 2 == 0]


class PointInTimeSuite:
    """The join alone, for an engine that lowers it in several ways; subclass it and give the fixture `engine`.

    Attributes:
        functions: what its statements may call, by their names in SQLGlot in lower case (`functions_of`); None: that is
            not looked at.
    """

    functions: Collection[str] | None = None

    @pytest.fixture(autouse=True)
    def _calls_what_it_has(self, engine: OfflineEngine) -> None:
        if self.functions is not None:
            watch(engine, refusing(self.functions))

    @pytest.fixture
    def engine(self) -> OfflineEngine:
        """The engine to be proven, empty."""
        raise NotImplementedError("give a fixture named `engine`")

    @EXAMPLES
    @given(case=history_cases())
    def test_history_equals_the_oracle(self, engine: OfflineEngine, case: HistoryCase) -> None:
        check_history(engine, case)

    @FEW
    @given(case=not_simplest(history_cases(max_views=1)))
    def test_written_rows_alone_as_if_known(self, engine: OfflineEngine, case: HistoryCase) -> None:
        """No source, so that only positions decide ties, and rows count before they are known."""
        written = tuple(replace(view, rows=()) for view in case.views)
        assume(any(view.log for view in written))
        case = replace(case, views=written, as_known=False)
        check_history(engine, case, sources=in_form(case, as_push))

    @EXAMPLES
    @given(case=history_cases())
    def test_sources_alone_equal_the_oracle(self, engine: OfflineEngine, case: HistoryCase) -> None:
        views = tuple(replace(view, log=(), parts=(), deletes=(), purges=()) for view in case.views)
        check_history(engine, replace(case, views=views))

    @pytest.mark.parametrize(("keys", "ttl"), [(2, 40), (200, 0)] + [(2, 0), (200, 40)] * (SCALE > 1))
    def test_many_rows_a_key_of_a_source_alone(self, engine: OfflineEngine, keys: int, ttl: int) -> None:
        check_history(engine, dense_case(rows=1_000, spine=300, keys=keys, span=600, ttl=ttl, written=False, seed=keys))

    @pytest.mark.parametrize(("keys", "late", "ttl"), _DENSE)
    def test_many_rows_a_key(self, engine: OfflineEngine, keys: int, late: float, ttl: int) -> None:
        check_history(engine, dense_case(rows=1_000, spine=300, keys=keys, span=600, late=late, ttl=ttl, seed=keys))

    def test_many_rows_a_key_as_if_known(self, engine: OfflineEngine) -> None:
        check_history(engine, dense_case(rows=1_000, spine=300, keys=2, span=600, as_known=False))


class OfflineEngineSuite(PointInTimeSuite, WindowHistorySuite, BucketSuite):
    """Everything that is asked of an engine; subclass it and give the fixture `engine`.

    Attributes:
        large: how many rows are too many for `bounded`.
        endless: a query of `thing`, `at` and `x` that runs for days and takes no memory, in the SQL of sources; None:
            the engine has no way to end a statement that is under way, and declares the gap `cancelling`.
        gaps: what it cannot do.
    """

    gaps = Gaps()

    large = 2_000_000
    endless: str | None = (
        "SELECT 1 AS thing, TIMESTAMP '2024-01-01' AS at, CAST(sum(i % 7) AS DOUBLE) AS x "
        "FROM range(1000000000000000) AS r(i)"
    )

    @pytest.fixture
    def bounded(self, engine: OfflineEngine) -> OfflineEngine:
        """The engine with about 150 MB of memory; where memory is not the engine's to bound, the same as `engine`."""
        return engine

    @FEW
    @given(case=not_simplest(history_cases(max_views=2)), groups=st.integers(1, 3), layout=st.sampled_from(LAYOUTS))
    def test_history_over_files_equals_the_oracle(
        self, engine: OfflineEngine, case: HistoryCase, groups: int, layout: str
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            filed = on_files(case, Path(folder), groups, layout)
            spine = Path(folder) / "spine.parquet"
            pq.write_table(case.spine, spine)
            check_history(engine, filed[0], spine=str(spine), sources=filed[1])

    @FEW
    @given(case=not_simplest(history_cases(max_views=2)))
    def test_history_over_queries_equals_the_oracle(self, engine: OfflineEngine, case: HistoryCase) -> None:
        check_history(engine, case, sources=in_form(case, as_query))

    @FEW
    @given(case=not_simplest(history_cases(max_views=2)), frames=st.sampled_from(["pandas", "polars"]))
    def test_a_frame_as_spine_equals_the_oracle(self, engine: OfflineEngine, case: HistoryCase, frames: str) -> None:
        pytest.importorskip(frames)
        assert case.spine is not None
        check_history(engine, case, spine=to_frame(case.spine, frames))

    @pytest.mark.parametrize("frames", ["pandas", "polars"])
    def test_history_over_frames(self, engine: OfflineEngine, frames: str) -> None:
        pytest.importorskip(frames)
        case = dense_case(rows=200, spine=100, keys=5, span=60, nans=frames != "pandas")
        check_history(engine, case, sources=in_form(case, lambda source: as_frame(source, frames)))

    def test_history_over_csv(self, engine: OfflineEngine, tmp_path: Path) -> None:
        case = dense_case(rows=200, spine=100, keys=5, span=60)
        check_history(engine, case, sources=in_form(case, lambda source: as_csv(source, tmp_path)))

    def test_a_query_as_spine(self, engine: OfflineEngine) -> None:
        case = dense_case(rows=200, spine=100, keys=5, span=60)
        rows = [
            f"SELECT {number} AS row, CAST({key} AS BIGINT) AS thing, TIMESTAMP '{from_micros(at):%Y-%m-%d %H:%M:%S}'"
            for number, (key, at) in enumerate(zip(case.keys["thing"], case.instants, strict=True))
        ]
        spine = "SELECT thing, timestamp FROM (" + " AS timestamp UNION ALL ".join(rows) + " AS timestamp) AS x"
        check_history(engine, case, spine=f"{spine} ORDER BY row")

    def test_tables_larger_than_memory(self, bounded: OfflineEngine, tmp_path: Path) -> None:
        """Rows of twenty thousand keys; each key's last one is known by its place."""
        rows, keys = self.large, 20_000
        source = ParquetSource(str(tmp_path / "large.parquet"), event_time="happened")
        with pq.ParquetWriter(source.location, _LARGE) as writer:
            for start in range(0, rows, 100_000):
                writer.write_table(_large_rows(range(start, start + 100_000), keys))
        definition = FeatureView(
            "large",
            entity=Entity("thing", {"thing": String}),
            source=source,
            features=[Feature("x", Float64), Feature("text", String)],
            version="1.0.0",
        )
        numbers = [n * 7 % rows for n in range(0, rows, 10)]
        spine = pa.table({"thing": [f"k{n % keys}" for n in numbers], "timestamp": instants(numbers)})
        case = ViewCase(FeatureSelection(definition), OracleView({"x": None, "text": None}))
        history = bounded.history(HistoryCase((case,), spine).request())
        found = [x for batch in history.batches(65_536) for x in batch.column("large__x").to_pylist()]
        assert found == [float(n) for n in numbers]

    @EXAMPLES
    @given(case=entity_cases(), written=st.booleans())
    def test_without_a_spine_every_known_entity_is_a_row(
        self, engine: OfflineEngine, case: HistoryCase, written: bool
    ) -> None:
        found = plain_rows(rows_in_any_order(engine.history(case.request()), written).to_pylist())
        names = list(case.keys)
        wanted = [dict(zip(names, key, strict=True)) for key in zip(*case.keys.values(), strict=True)]
        expected = plain_rows([{**key, **row} for key, row in zip(wanted, case.expected(), strict=True)])
        columns = list(expected[0]) if expected else names
        shown = [{name: row[name] for name in columns} for row in found]
        assert sorted(shown, key=repr) == sorted(expected, key=repr)

    @EXAMPLES
    @given(case=view_cases(), data=st.data())
    def test_changes_equal_the_oracle(self, engine: OfflineEngine, case: ViewCase, data: Any) -> None:
        check_changes(engine, case, changes_input(case), data)

    @EXAMPLES
    @given(case=view_cases(), groups=st.integers(1, 3), data=st.data())
    def test_changes_over_files_equal_the_oracle(
        self, engine: OfflineEngine, case: ViewCase, groups: int, data: Any
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            filed, sources = on_files(HistoryCase((case,), None), Path(folder), groups)
            asked = changes_input(filed.views[0])
            asked = replace(asked, source=sources.get(case.selection.view.name, asked.source))
            check_changes(engine, case, asked, data)

    @EXAMPLES
    @given(case=view_cases(), groups=st.integers(1, 3), query=st.booleans(), data=st.data())
    def test_changes_by_file_equal_the_oracle(
        self, engine: OfflineEngine, case: ViewCase, groups: int, query: bool, data: Any
    ) -> None:
        """Files that are read whole, files that are read from the watermark on, files that are left out."""
        source = case.view.source
        assume(isinstance(source, TableSource))
        assert isinstance(source, TableSource)
        shares = [data.draw(st.integers(0, 3), label="file") for _ in case.rows]
        with tempfile.TemporaryDirectory() as folder:
            files: Source = dealt(source, Path(folder) / "files", shares, groups)
            files = as_query(files) if query else files
            listed = engine.list_files(files)
            if listed is None:
                return
            paths = sorted(file.path for file in listed)
            assert len(paths) == max(shares, default=0) + 1
            some = st.frozensets(st.sampled_from(paths))
            whole, only = data.draw(some, label="whole"), data.draw(st.one_of(st.none(), some), label="only")
            end, since = (data.draw(log_instants(), label=name) for name in ("end", "since"))
            mark = Watermark(data.draw(st.sampled_from([MIN_MICROS, since])), data.draw(st.integers(0, 3)))
            taken = [fact for fact in case.facts() if fact.from_log]
            for share, row in zip(shares, case.rows, strict=True):
                path = paths[share]
                fresh = mark.end == MIN_MICROS or (bool(whole or only is not None) if query else path in whole)
                for fact in facts(case.oracle, [row]):
                    if (query or only is None or path in only) and (fresh or fact.known_at > mark.end):
                        taken.append(fact)
            expected = changes(taken, case.tombstones, end=end, source_after=MIN_MICROS, since=mark, log_until=2**62)
            asked = replace(changes_input(case), source=files)
            # the lookback has no say
            request = ChangesRequest(asked, end, end, mark, 2**62, whole_files=whole, only_files=only)
            found = {key: without_end(row) for key, row in rows_by_key(engine, case, request)[0].items()}
            assert found == {key: fact_row(fact, False) for key, fact in expected.items()}

    @EXAMPLES
    @given(case=view_cases(), groups=st.integers(1, 3), files=st.booleans(), data=st.data())
    def test_ties_are_settled_by_history(
        self, engine: OfflineEngine, case: ViewCase, groups: int, files: bool, data: Any
    ) -> None:
        """Of the source's rows of just these keys and times the one that history chooses, whatever the log has."""
        facts_ = [fact for fact in case.facts() if not fact.from_log]
        assume(facts_)
        asked_for = data.draw(st.lists(st.sampled_from(facts_), min_size=1, unique_by=times_of), label="at")
        shown = [fact for fact in facts_ if not any(tombstone.hides(fact) for tombstone in case.tombstones)]
        expected: dict[Any, Fact] = {}
        for fact in sorted(shown, key=lambda fact: fact.order):
            if times_of(fact) in map(times_of, asked_for):
                expected[times_of(fact)] = fact
        columns: dict[str, Any] = {
            name: pa.array([fact.key[i] for fact in asked_for], dtype.arrow)
            for i, (name, dtype) in enumerate(case.selection.view.join_keys.items())
        }
        columns |= {"__event": pa.array([f.event for f in asked_for], pa.int64())}
        columns |= {"__created": pa.array([f.created for f in asked_for], pa.int64())}
        with tempfile.TemporaryDirectory() as folder:
            asked = changes_input(case)
            if files:
                assert isinstance(asked.source, TableSource)
                shares = [data.draw(st.integers(0, 2), label="file") for _ in case.rows]
                asked = replace(asked, source=dealt(asked.source, Path(folder), shares, groups))
            request = ChangesRequest(asked, 0, 0, Watermark(), 0, at=pa.table(columns))
            found: dict[Any, Any] = {}
            for key, row in rows_of(engine, case, request, ChangeCounts()):
                assert (key, row["__event"], row["__created"]) not in found
                found[key, row["__event"], row["__created"]] = row
        assert found == {times: fact_row(fact) for times, fact in expected.items()}

    def test_values_that_do_not_fit_are_named(self, engine: OfflineEngine, tmp_path: Path) -> None:
        """Of the first rows of each file, by file, row and column; what comes later is not looked at."""
        thing = Entity("thing", join_keys={"thing": String})
        for name, numbers in (("good", [1, 2]), ("bad", [1, 2**40]), ("late", [*range(5), 2**40])):
            when = pa.array([from_micros(0)] * len(numbers), pa.timestamp("us", "UTC"))
            keys = [f"k{i}" for i in range(len(numbers))]
            pq.write_table(pa.table({"thing": keys, "at": when, "n": numbers}), tmp_path / f"{name}.parquet")
        source = ParquetSource(str(tmp_path / "*.parquet"), event_time="at")
        view = FeatureView("v", entity=thing, source=source, features=[Feature("n", Int32)], version="1.0.0")
        record = ViewRecord("v", {"1.0.0": ViewVersion(view, False, from_micros(0), from_micros(0))}, "1.0.0")
        asked = ViewInput(whole_view(record, record.version()), source)
        (problem,) = engine.check_values(asked, 5)
        assert all(part in problem for part in ("bad.parquet", "row 1", "'n'", str(2**40)))
        assert len(engine.check_values(asked, 6)) == 2

    def test_it_may_be_consumed_again(self, engine: OfflineEngine) -> None:
        case = dense_case(rows=200, spine=100, keys=5, span=60)
        history = engine.history(case.request())
        first, second = (pa.Table.from_batches(history.batches(7), history.schema) for _ in range(2))
        assert plain_rows(first.to_pylist()) == plain_rows(second.to_pylist())
        assert first.num_rows == 100
        assert history.statements()

    def test_a_read_left_half_way_does_not_stop_the_next(self, engine: OfflineEngine) -> None:
        case = dense_case(rows=200, spine=100, keys=5, span=60)
        history = engine.history(case.request())
        batches = history.batches(7)
        next(batches)
        check_history(engine, case)

    def test_a_run_is_cancelled_in_the_midst_of_a_statement(self, engine: OfflineEngine) -> None:
        assert (self.endless is None) == ("cancelling" in self.gaps)
        if self.endless is None:
            return
        thing = Entity("thing", join_keys={"thing": Int64})
        source = SQLSource(self.endless, event_time="at")
        view = FeatureView("v", entity=thing, source=source, features=[Feature("x", Float64)], version="1.0.0")
        spine = pa.table({"thing": [1], "timestamp": instants([1_800_000_000])})
        case = HistoryCase((ViewCase(FeatureSelection(view), OracleView({"x": None})),), spine)
        history = engine.history(case.request())
        with ThreadPoolExecutor(1) as pool:
            reader = pool.submit(lambda: next(history.batches(5)))
            time.sleep(0.3)
            assert not reader.done()
            history.cancel()
            with pytest.raises(Cancelled):
                reader.result()
        with pytest.raises(Cancelled):
            next(history.batches(5))
        check_history(engine, dense_case(rows=200, spine=100, keys=5, span=60))

    def test_a_run_cancelled_at_any_moment_ends_or_is_whole(self, engine: OfflineEngine) -> None:
        case = dense_case(rows=200, spine=100, keys=5, span=60)

        def rows(history: HistoryRun) -> int:
            return sum(batch.num_rows for batch in history.batches(20))

        began = time.monotonic()
        assert rows(engine.history(case.request())) == 100
        whole = time.monotonic() - began
        with ThreadPoolExecutor(1) as pool:
            moments = rounds(10, simplest=False)
            for part in range(moments):
                history = engine.history(case.request())
                reader = pool.submit(rows, history)
                time.sleep(whole * (part + random()) / moments)
                history.cancel()
                with suppress(Cancelled):
                    assert reader.result() == 100
                with pytest.raises(Cancelled):
                    rows(history)
        check_history(engine, case)

    def test_a_run_is_cancelled_between_two_batches(self, engine: OfflineEngine) -> None:
        history = engine.history(dense_case(rows=200, spine=100, keys=5, span=60).request())
        batches = history.batches(7)
        next(batches)
        history.cancel()
        with pytest.raises(Cancelled):
            next(batches)

    @pytest.mark.parametrize("kind", ["missing", "null", "text"])
    def test_a_timestamp_that_is_none_is_refused(self, engine: OfflineEngine, kind: str) -> None:
        case = dense_case(rows=5, spine=3, keys=2, span=60)
        assert case.spine is not None
        if kind == "missing":
            spine = case.spine.drop_columns(["timestamp"])
        else:
            bad = pa.nulls(3, pa.timestamp("us")) if kind == "null" else pa.array(["now"] * 3)
            spine = case.spine.set_column(1, "timestamp", bad)
        with pytest.raises(SpineError):
            run(engine, case.request(spine=spine))

    @pytest.mark.parametrize(
        "keys", [pa.array(["0", "1", "2"]), pa.array([0.0, 1.5, 2.0]), pa.array([True, False, True])]
    )
    def test_a_key_of_another_type_is_refused(self, engine: OfflineEngine, keys: pa.Array) -> None:
        case = dense_case(rows=5, spine=3, keys=2, span=60)
        assert case.spine is not None
        with pytest.raises(SpineError):
            run(engine, case.request(spine=case.spine.set_column(0, "thing", keys)))

    def test_a_spine_without_its_key_is_refused(self, engine: OfflineEngine) -> None:
        case = dense_case(rows=5, spine=3, keys=2, span=60)
        assert case.spine is not None
        with pytest.raises(SpineError):
            run(engine, case.request(spine=case.spine.drop_columns(["thing"])))


_LARGE = pa.schema(
    {"thing": pa.string(), "happened": pa.timestamp("us", tz="UTC"), "x": pa.float64(), "text": pa.string()}
)


def _large_rows(numbers: range, keys: int) -> pa.Table:
    columns = [
        pa.array([f"k{n % keys}" for n in numbers]),
        instants(numbers),
        pa.array(map(float, numbers), pa.float64()),
        pa.array([f"a text of some length, so that it takes room: {n}" for n in numbers]),
    ]
    return pa.table(columns, schema=_LARGE)
