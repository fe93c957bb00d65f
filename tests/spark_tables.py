"""Tables of Spark's own, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.offline.engines.spark.engine import SparkEngine
from headwater.offline.engines.spark.types import kept, kept_type
from tests.servers.spark import SAIL, session_in


@contextmanager
def placing(folder: Path, engine: SparkEngine, spark: Any) -> Iterator[Callable[[pa.Table, str], str]]:
    """A function that puts rows into a new table, and gives the query of it.

    Args:
        folder: for the tables' files.
        engine: which is to read them.
        spark: the user's session.
    """
    made = []

    def placed(table: pa.Table, name: str) -> str:
        own = folder / f"table_{name}"
        own.mkdir()
        schema = pa.schema([pa.field(f.name, kept_type(f.type)) for f in table.schema])
        arrays = [kept(c.combine_chunks(), f.type) for c, f in zip(table.columns, schema, strict=True)]
        pq.write_table(pa.table(arrays, schema=schema), own / "part.parquet")
        if SAIL:  # a session's tables are its own there
            engine.session().spark.read.parquet(str(own)).createOrReplaceTempView(name)
        else:
            spark.sql(f"CREATE TABLE {name} USING parquet LOCATION 'file://{own}'")
        made.append(name)
        return f"SELECT * FROM {name}"

    try:
        yield placed
    finally:
        # also after a failure: the tables of a later test have the same names
        for name in () if SAIL else made:
            spark.sql(f"DROP TABLE IF EXISTS {name}")


class SparkZones:
    """The fixture `zoned` of the suites: an engine beside a session of somebody in the zone."""

    @pytest.fixture
    def zoned(self, zone, tmp_path, spark, sail_in_zone):
        with session_in(zone, spark, sail_in_zone) as given:
            engine = SparkEngine(tmp_path, session=given)
            with placing(tmp_path, engine, given) as place:
                yield engine, place
            engine.close()
            assert given.conf.get("spark.sql.session.timeZone") == zone
