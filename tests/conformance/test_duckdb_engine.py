"""The embedded engine against the suite of offline engines, in each way that it lowers the join."""

import itertools
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from headwater.definitions.sources import ParquetSource, TableSource
from headwater.offline.engines.duckdb.engine import POWERS, DuckDBEngine
from headwater.offline.index.folder import IndexRules, kept_in
from headwater.offline.join.workspace import PackedLimits
from headwater.testing.dense import dense_case
from headwater.testing.offline_suite import OfflineEngineSuite, PointInTimeSuite, check_history
from headwater.testing.own_tables_suite import AbilitiesSuite
from tests.engine_functions import DUCKDB as FUNCTIONS
from tests.engine_gaps import DUCKDB
from tests.sql_shapes import SQLSuite


class TestDuckDBEngine(OfflineEngineSuite, AbilitiesSuite, SQLSuite):
    gaps = DUCKDB
    functions = FUNCTIONS
    snapshot = dialect = "duckdb"

    @pytest.fixture
    def engine(self):
        engine = DuckDBEngine()
        yield engine
        engine.close()

    @pytest.fixture
    def place(self, tmp_path):
        """It has no tables of its own: files are what it reads in place."""

        def placed(table, name):
            pq.write_table(table, tmp_path / f"{name}.parquet")
            return f"SELECT * FROM '{tmp_path / name}.parquet'"

        return placed

    @pytest.fixture
    def bounded(self, tmp_path):
        engine = DuckDBEngine(memory_limit="150MB", temp_folder=tmp_path / "temp")
        yield engine
        engine.close()


class TestDuckDBEngineByAsOfJoin(PointInTimeSuite):
    @pytest.fixture
    def engine(self):
        engine = DuckDBEngine(powers=replace(POWERS, packed=PackedLimits(0, 3_000_000)))
        yield engine
        engine.close()


class TestDuckDBEngineByRunningMaximum(PointInTimeSuite):
    """What an engine without integers of 128 bits or as-of joins runs."""

    @pytest.fixture
    def engine(self):
        engine = DuckDBEngine(powers=replace(POWERS, packed=None))
        yield engine
        engine.close()


class IndexedEngine(DuckDBEngine):
    """Tables become files of which indexes are made; each history is asked twice, and the second answers."""

    def __init__(self, folder):
        rules = IndexRules(folder / "indexes", 10**9, least=0, share=10**9, reach=0.0, settled_ns=0)
        super().__init__(temp_folder=folder / "temp", indexes=rules)
        self.of, self._number = folder, itertools.count()

    def history(self, request):
        views = [replace(view, source=self._filed(view.source)) for view in request.views]
        request = replace(request, views=tuple(views))
        for _ in super().history(request).batches(100):
            pass
        return super().history(request)

    def _filed(self, source):
        if not isinstance(source, TableSource):
            return source
        file = self.of / f"{next(self._number)}.parquet"
        pq.write_table(source.table, file, row_group_size=7)
        names = {"event_time": source.event_time, "created_time": source.created_time, "event_id": source.event_id}
        return ParquetSource(str(file), delay=source.delay, **names)


class TestDuckDBEngineByIndex(PointInTimeSuite):
    @pytest.fixture
    def engine(self, tmp_path):
        engine = IndexedEngine(tmp_path)
        yield engine
        engine.close()

    def test_the_index_is_used(self, engine, tmp_path):
        case = dense_case(rows=100, spine=30, keys=5, span=60, written=False)
        check_history(engine, case)
        ((_, index, _),) = kept_in(tmp_path / "indexes")
        index.write_bytes(b"damaged")
        check_history(engine, case)
