"""What the suites of the offline log share: rows, the content of a log, a copy of its database, and fixtures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from headwater.database.engine import open_engine
from headwater.errors import StoreError
from headwater.offline.log.log import OfflineLog, RowBatch
from headwater.offline.log.tables import metadata
from headwater.planning.row_reading import RowReading

Place = tuple[str, Path]

T0 = datetime(2024, 1, 1, tzinfo=UTC)
READING = RowReading(("k",), "at", None)


def clock() -> datetime:
    """It stands still; a server's own clock is used instead of it."""
    return T0


def rows(
    keys: Sequence[str], values: Sequence[float | None], at: datetime = T0, **more: Sequence[object] | pa.Array
) -> pa.Table:
    """Rows as a user writes them."""
    columns: dict[str, object] = {
        "k": keys,
        "at": pa.array([at] * len(keys), pa.timestamp("us", "UTC")),
        "v": pa.array(values, pa.float64()),
    }
    return pa.table({**columns, **more})


def group(table: pa.Table, places: Sequence[int] | None = None) -> RowBatch:
    """Rows of one write."""
    return RowBatch(table, np.arange(table.num_rows) if places is None else np.array(places))


def content(log: OfflineLog, view: str = "w", until: int | None = None) -> list[tuple[int, str, object]]:
    """(position, key, v) of a slice, of files and write buffer."""
    found: list[tuple[int, str, object]] = []
    for part in log.slice(view, ["k"], until).parts:
        tables = [part.table] if part.table is not None else [pq.read_table(f) for f in part.files]
        for table in tables:
            found += [(r["__position"], r["k"], r.get("v")) for r in table.to_pylist()]
    return sorted(found)


def copied(engine: sa.Engine) -> dict[sa.Table, list[dict[str, object]]]:
    """All rows of the log's tables: a copy of the database."""
    with engine.connect() as connection:
        return {
            table: [dict(row._mapping) for row in connection.execute(sa.select(table))]
            for table in metadata.sorted_tables
        }


def unlisted(*_: object) -> int:
    """A listing of the log's folder that fails."""
    raise StoreError("the folder cannot be listed")


def put_back(engine: sa.Engine, copy: dict[sa.Table, list[dict[str, object]]]) -> None:
    """Restore a copy, under the processes that have the database open."""
    with engine.begin() as connection:
        for table, found in copy.items():
            connection.execute(table.delete())
            if found:
                connection.execute(table.insert(), found)


def arrivals_of(appended: Sequence[RowBatch]) -> list[int]:
    """When rows arrived, microseconds."""
    return [at for part in appended for at in part.table.column("__arrival").to_pylist()]


def open_log(place: Place) -> OfflineLog:
    """Another process's log."""
    return OfflineLog(open_engine(*place), place[1] / "log", clock)


class LogDatabase:
    """The database of the log that a suite is about; subclass it and give the fixture `place`."""

    @pytest.fixture
    def place(self) -> Place:
        """The URL of an empty database, and an empty folder that it is relative to."""
        raise NotImplementedError("give a fixture named `place`")

    @pytest.fixture
    def engine(self, place: Place) -> Iterator[sa.Engine]:
        """The database."""
        engine = open_engine(*place)
        yield engine
        engine.dispose()


class LogFixtures(LogDatabase):
    """The log as well, on a clock that stands still."""

    @pytest.fixture
    def log(self, engine: sa.Engine, place: Place) -> OfflineLog:
        """The log."""
        return OfflineLog(engine, place[1] / "log", clock)
