"""The conformance suite of offline engines: every answer beside the brute-force oracle's.

How a running join is stopped (Ctrl-C) is an engine's own affair: test it beside the suite, with a real signal.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from headwater.clock import MIN_MICROS, from_micros
from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.sources import ParquetSource, Source, SQLSource, TableSource
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.errors import Cancelled, SourceError, SpineError
from headwater.offline.base import ChangeCounts, ChangesRequest, HistoryRequest, HistoryRun, OfflineEngine, ViewInput
from headwater.planning.buckets import Bucket, members
from headwater.planning.cast import fit, fit_time
from headwater.planning.resolve import whole_view
from headwater.planning.snapshot import ViewRecord, ViewVersion
from headwater.planning.watermark import Watermark
from headwater.testing import rounds
from headwater.testing.bucket_suite import BucketSuite
from headwater.testing.cases import HistoryCase, ViewCase, plain, plain_rows
from headwater.testing.dense import dense_case
from headwater.testing.forms import LAYOUTS, as_csv, as_frame, as_push, as_query, dealt, in_form, on_files, to_frame
from headwater.testing.oracle import Fact, OracleView, changes, counts, facts
from headwater.testing.pools import MIDNIGHT
from headwater.testing.strategies import entity_cases, history_cases, log_instants, view_cases
from headwater.testing.window_history_suite import WindowHistorySuite
from headwater.types import Float64, Int32, Int64, String

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

FEW = settings(EXAMPLES, max_examples=rounds(5))


class PointInTimeSuite:
    """The join alone, for an engine that lowers it in several ways; subclass it and give the fixture `engine`."""

    @pytest.fixture
    def engine(self) -> OfflineEngine:
        """The engine to be proven, empty."""
        raise NotImplementedError("give a fixture named `engine`")

    @EXAMPLES
    @given(case=history_cases())
    def test_history_equals_the_oracle(self, engine: OfflineEngine, case: HistoryCase) -> None:
        check_history(engine, case)

    @FEW
    @given(case=history_cases(max_views=1))
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

    @pytest.mark.parametrize("ttl", [0, 40])
    @pytest.mark.parametrize("keys", [2, 200])
    def test_many_rows_a_key_of_a_source_alone(self, engine: OfflineEngine, keys: int, ttl: int) -> None:
        check_history(engine, dense_case(rows=1_000, spine=300, keys=keys, span=600, ttl=ttl, written=False, seed=keys))

    @pytest.mark.parametrize("ttl", [0, 40])
    @pytest.mark.parametrize("late", [0.0, 0.9])
    @pytest.mark.parametrize("keys", [2, 200])
    def test_many_rows_a_key(self, engine: OfflineEngine, keys: int, late: float, ttl: int) -> None:
        check_history(engine, dense_case(rows=1_000, spine=300, keys=keys, span=600, late=late, ttl=ttl, seed=keys))

    def test_many_rows_a_key_as_if_known(self, engine: OfflineEngine) -> None:
        check_history(engine, dense_case(rows=1_000, spine=300, keys=2, span=600, as_known=False))


class OfflineEngineSuite(PointInTimeSuite, WindowHistorySuite, BucketSuite):
    """Everything that is asked of an engine; subclass it and give the fixture `engine`.

    Attributes:
        large: how many rows are too many for `bounded`.
        endless: a query of `thing`, `at` and `x` that runs for days and takes no memory, in the SQL of sources; None:
            the engine has no way to end a statement that is under way.
    """

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
    @given(case=history_cases(max_views=2), groups=st.integers(1, 3), layout=st.sampled_from(LAYOUTS))
    def test_history_over_files_equals_the_oracle(
        self, engine: OfflineEngine, case: HistoryCase, groups: int, layout: str
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            filed = on_files(case, Path(folder), groups, layout)
            spine = Path(folder) / "spine.parquet"
            pq.write_table(case.spine, spine)
            check_history(engine, filed[0], spine=str(spine), sources=filed[1])

    @FEW
    @given(case=history_cases(max_views=2))
    def test_history_over_queries_equals_the_oracle(self, engine: OfflineEngine, case: HistoryCase) -> None:
        check_history(engine, case, sources=in_form(case, as_query))

    @FEW
    @given(case=history_cases(max_views=2), frames=st.sampled_from(["pandas", "polars"]))
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
        spine = pa.table({"thing": [f"k{n % keys}" for n in numbers], "timestamp": _instants(numbers)})
        case = ViewCase(FeatureSelection(definition), OracleView({"x": None, "text": None}))
        history = bounded.history(HistoryCase((case,), spine).request())
        found = [x for batch in history.batches(65_536) for x in batch.column("large__x").to_pylist()]
        assert found == [float(n) for n in numbers]

    @EXAMPLES
    @given(case=entity_cases())
    def test_without_a_spine_every_known_entity_is_a_row(self, engine: OfflineEngine, case: HistoryCase) -> None:
        found = plain_rows(run(engine, case.request()).to_pylist())
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
        source = case.selection.view.source
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
            assert rows_by_key(engine, case, request)[0] == {key: fact_row(fact) for key, fact in expected.items()}

    @EXAMPLES
    @given(case=view_cases(), groups=st.integers(1, 3), files=st.booleans(), data=st.data())
    def test_ties_are_settled_by_history(
        self, engine: OfflineEngine, case: ViewCase, groups: int, files: bool, data: Any
    ) -> None:
        """Of the source's rows of just these keys and times the one that history chooses, whatever the log has."""
        facts_ = [fact for fact in case.facts() if not fact.from_log]
        assume(facts_)
        asked_for = data.draw(st.lists(st.sampled_from(facts_), min_size=1, unique_by=_times_of), label="at")
        shown = [fact for fact in facts_ if not any(tombstone.hides(fact) for tombstone in case.tombstones)]
        expected: dict[Any, Fact] = {}
        for fact in sorted(shown, key=lambda fact: fact.order):
            if _times_of(fact) in map(_times_of, asked_for):
                expected[_times_of(fact)] = fact
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
        if self.endless is None:
            pytest.skip("the engine has no way to end a statement")
        thing = Entity("thing", join_keys={"thing": Int64})
        source = SQLSource(self.endless, event_time="at")
        view = FeatureView("v", entity=thing, source=source, features=[Feature("x", Float64)], version="1.0.0")
        spine = pa.table({"thing": [1], "timestamp": _instants([1_800_000_000])})
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
            for part in range(10):
                history = engine.history(case.request())
                reader = pool.submit(rows, history)
                time.sleep(whole * part / 10)
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


@dataclass(frozen=True)
class Gaps:
    """What tables of an engine's own do not hold: views that need it are left in memory.

    Attributes:
        dtypes: names of dtypes that no column can have.
        nan: whether NaN is lost.
    """

    dtypes: frozenset[str] = frozenset()
    nan: bool = False

    def leave(self, view: FeatureView, table: pa.Table) -> bool:
        """Whether a view's rows cannot be in such a table."""
        if any(dtype.name in self.dtypes for dtype in (f.dtype for f in view.feature_list)):
            return True
        floats = [c for c in table.columns if pa.types.is_floating(c.type)]
        return self.nan and any(pc.any(pc.is_nan(column)).as_py() for column in floats)


class OwnTablesSuite:
    """For an engine that holds tables: their rows are joined where they are. Give the fixtures `engine` and `place`."""

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

    @FEW
    @given(case=history_cases(max_views=2))
    def test_history_over_its_own_tables_equals_the_oracle(
        self, engine: OfflineEngine, place: Place, case: HistoryCase
    ) -> None:
        sources = {v.selection.view.name: self._placed(v, place) for v in case.views}
        check_history(engine, case, sources={name: source for name, source in sources.items() if source is not None})

    @FEW
    @given(case=view_cases(), data=st.data())
    def test_changes_of_its_own_tables_equal_the_oracle(
        self, engine: OfflineEngine, place: Place, case: ViewCase, data: Any
    ) -> None:
        source = self._placed(case, place)
        given_view = changes_input(case)
        check_changes(engine, case, given_view if source is None else replace(given_view, source=source), data)

    @pytest.mark.parametrize("late", [0.0, 0.9])
    @pytest.mark.parametrize("keys", [2, 200])
    def test_many_rows_a_key_in_its_own_table(
        self, engine: OfflineEngine, place: Place, keys: int, late: float
    ) -> None:
        case = dense_case(rows=1_000, spine=300, keys=keys, span=600, late=late, seed=keys, nans=not self.gaps.nan)
        source = self._placed(case.views[0], place)
        assert source is not None
        check_history(engine, case, sources={"dense": source})

    def test_a_column_that_its_table_lacks_is_refused(self, engine: OfflineEngine, place: Place) -> None:
        case = dense_case(rows=5, spine=3, keys=2, span=60, nans=False)
        view = case.views[0].selection.view
        assert isinstance(view.source, TableSource)
        lacking = in_exact_types(view, view.source.table.drop_columns(["x"]))
        with pytest.raises(SourceError, match="'x'"):
            engine.history(case.request(sources={"dense": self._source_of(lacking, view.source, place)}))

    def test_a_value_that_does_not_fit_its_dtype_is_refused(self, engine: OfflineEngine, place: Place) -> None:
        rows = pa.table({"thing": pa.array([1, 2]), "at": _instants([0, 0]), "n": pa.array([1, 2**40])})
        source = self.own_source(place(rows, _own_name()), event_time="at")
        thing = Entity("thing", join_keys={"thing": Int64})
        view = FeatureView("v", entity=thing, source=source, features=[Feature("n", Int32)], version="1.0.0")
        case = ViewCase(FeatureSelection(view), OracleView({"n": None}))
        spine = pa.table({"thing": [1, 2], "timestamp": _instants([1, 1])})
        with pytest.raises(SourceError, match=f"'n'.*{2**40}"):
            run(engine, HistoryCase((case,), spine).request())
        record = ViewRecord("v", {"1.0.0": ViewVersion(view, False, from_micros(0), from_micros(0))}, "1.0.0")
        (problem,) = engine.check_values(ViewInput(whole_view(record, record.version()), source), 5)
        assert str(2**40) in problem

    @FEW
    @given(case=history_cases(max_views=2))
    def test_a_spine_in_its_own_table_equals_the_oracle(
        self, engine: OfflineEngine, place: Place, case: HistoryCase
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
        query = place(spine, _own_name())
        history = engine.history(case.request(query))
        found = pa.Table.from_batches(history.batches(5), history.schema).sort_by("row")
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
            run(engine, case.request(place(spine, _own_name())))

    def _placed(self, case: ViewCase, place: Place) -> Source | None:
        view = case.selection.view
        if not isinstance(view.source, TableSource):
            return None
        table = in_exact_types(view, view.source.table)
        return None if self.gaps.leave(view, table) else self._source_of(table, view.source, place)

    def _source_of(self, table: pa.Table, like: Source, place: Place) -> Source:
        options = {"event_time": like.event_time, "created_time": like.created_time, "event_id": like.event_id}
        return self.own_source(place(table, _own_name()), delay=like.delay, **options)


Place = Callable[[pa.Table, str], str]
"""(rows, the name of a new table) → a query of all of its rows, in the engine's own SQL."""
_numbers = itertools.count()


_MICROS = pa.timestamp("us", tz="UTC")


def _own_name() -> str:
    return f"own_{next(_numbers)}"


def in_exact_types(view: FeatureView, table: pa.Table) -> pa.Table:
    """A source's table with each column in the one Arrow type of its dtype, times as instants in microseconds."""
    dtypes = {feature.source_column: feature.dtype for feature in view.feature_list}
    dtypes |= {view.key_column(key): dtype for key, dtype in view.join_keys.items()}
    for i, name in enumerate(table.column_names):
        column = table.column(i)
        if name in (view.source.event_time, view.source.created_time):
            table = table.set_column(i, name, fit_time(column).values)
        elif name in dtypes:
            table = table.set_column(i, name, fit(column, dtypes[name]).values)
    return table


def run(engine: OfflineEngine, request: HistoryRequest) -> pa.Table:
    """The whole answer of a request."""
    history = engine.history(request)
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
            for name in ("matched", "no_row", "expired", "not_known", "same_instant", "ties")
        }
        assert told == counts(answers[view.label], case.instants)
        assert history.counts()[view.label]["null_times"] == view.null_times


def check_changes(engine: OfflineEngine, case: ViewCase, asked: ViewInput, data: Any) -> None:
    """Assert that the changes between instants that are drawn are those of the oracle."""
    end, before, since = (data.draw(log_instants(), label=name) for name in ("end", "source_after", "since"))
    before = data.draw(st.sampled_from([MIN_MICROS, before]))
    mark = Watermark(data.draw(st.sampled_from([MIN_MICROS, since])), data.draw(st.integers(0, 3)))
    until = data.draw(st.sampled_from([2**62, 2]), label="log_until")
    expected = changes(case.facts(), case.tombstones, end=end, source_after=before, since=mark, log_until=until)
    found = changed(engine, case, ChangesRequest(asked, end, before, mark, until))
    assert found == {key: fact_row(fact) for key, fact in expected.items()}


def check_types(case: HistoryCase, found: pa.Table) -> None:
    """Assert that features come in the Arrow type of their dtype."""
    for view in case.views:
        for feature in view.selection.view.feature_list:
            name = f"{view.label}__{feature.name}"
            assert name not in found.column_names or found.schema.field(name).type == feature.dtype.arrow
        assert found.schema.field(f"{view.label}__event_time").type == pa.timestamp("us", tz="UTC")


_LARGE = pa.schema(
    {"thing": pa.string(), "happened": pa.timestamp("us", tz="UTC"), "x": pa.float64(), "text": pa.string()}
)


def _instants(seconds: Sequence[int]) -> pa.Array:
    return pa.array([n * 1_000_000 for n in seconds], pa.int64()).cast(pa.timestamp("us", tz="UTC"))


def _large_rows(numbers: range, keys: int) -> pa.Table:
    columns = [
        pa.array([f"k{n % keys}" for n in numbers]),
        _instants(numbers),
        pa.array(map(float, numbers), pa.float64()),
        pa.array([f"a text of some length, so that it takes room: {n}" for n in numbers]),
    ]
    return pa.table(columns, schema=_LARGE)


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


def _times_of(fact: Fact) -> tuple[Any, int, int]:
    return fact.key, fact.event, fact.created


def fact_row(fact: Fact) -> dict[str, Any]:
    """A fact as a row of `changes`."""
    times = {
        "__event": fact.event,
        "__created": fact.created,
        "__origin": int(fact.from_log),
        "__position": fact.position,
    }
    return {**times, **{name: plain(value) for name, value in fact.values.items()}}
