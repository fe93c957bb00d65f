"""That no time zone of the host or of a given session changes an answer: rows at the hours that a clock change moves.

An engine that took a naive time of a skipped hour for local, or printed and read one of a repeated hour, would order
rows otherwise, or give another instant back.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.clock import MIN_MICROS, from_micros, to_micros
from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.source import Source
from headwater.definitions.sources import CSVSource, ParquetSource, TableSource
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.offline.base import ChangesRequest, OfflineEngine
from headwater.planning.watermark import Watermark
from headwater.testing import SCALE
from headwater.testing.cases import HistoryCase, ViewCase, plain, plain_rows
from headwater.testing.offline_checks import changed, changes_input, check_history, fact_row
from headwater.testing.oracle import OracleView, SourceRow, changes
from headwater.types import Date, Int64, Timestamp

ZONES = ("Asia/Kolkata", "America/New_York")
"""One that is half an hour off, and one with clock changes."""
_LATE = 20 * 60 * 1_000_000
_TTL = 45 * 60 * 1_000_000
_NAIVE, _AWARE = pa.timestamp("us"), pa.timestamp("us", tz="UTC")

Placed = Callable[[pa.Table], Source]
"""Puts rows of `thing`, `happened`, `learnt`, `n`, `seen` and `day` into a table of the engine's own."""


@contextmanager
def host_in(zone: str) -> Iterator[None]:
    """The process with another time zone, as far as Python and the C library go."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = zone
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


def moved_instants(zone: str) -> list[int]:
    """Microseconds around each clock change of 2024: the instants, and those whose UTC reads as the local times do.

    Of a zone without any, around a local and a UTC midnight.
    """
    local = ZoneInfo(zone)
    hours = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(366 * 24)]
    changes = [b for a, b in itertools.pairwise(hours) if _offset(a, local) != _offset(b, local)]
    digits = [change.astimezone(local).replace(tzinfo=UTC) for change in changes]
    around = [*changes, *digits] or [datetime(2024, 3, 10, tzinfo=UTC), datetime(2024, 3, 10, 18, 30, tzinfo=UTC)]
    found = {to_micros(at) + quarter * 15 * 60 * 1_000_000 for at in around for quarter in range(-5, 5)}
    return sorted(found)


def check_in_zone(
    engine: OfflineEngine, zone: str, folder: Path, placed: Placed | None = None, spine_of: Any = None
) -> None:
    """Assert that histories and changes of rows around the hours that a zone moves are those of the oracle.

    Args:
        engine: an engine, on a host and with a session in the zone.
        zone: the zone.
        folder: for files.
        placed: puts rows into a table of its own; None: it has none.
        spine_of: puts a spine into a table of its own, and gives the query of it; None: the same.
    """
    instants = moved_instants(zone)
    table = _table(instants)
    pq.write_table(_in_types(table, pa.timestamp("ms")), folder / "naive.parquet")
    pq.write_table(_in_types(table, pa.timestamp("us", tz=zone)), folder / "zoned.parquet")
    _write_csv(table, folder / "rows.csv")
    times: dict[str, Any] = {"event_time": "happened", "created_time": "learnt"}
    sources: dict[str, Source] = {
        "memory": TableSource(_in_types(table, pa.timestamp("ms", tz=zone)), **times),
        "naive": ParquetSource(str(folder / "naive.parquet"), **times),
        "zoned": ParquetSource(str(folder / "zoned.parquet"), **times),
        "csv": CSVSource(str(folder / "rows.csv"), **times),
    }
    if placed is not None:
        sources["own"] = placed(table)
    views = tuple(_view(name, source, instants) for name, source in sources.items())
    asked = [at + offset for at in instants for offset in (-1, 0, _LATE, _TTL, _TTL + 1)]
    things = [n % 2 for n in range(len(asked))]
    naive = pa.table({"thing": pa.array(things, pa.int64()), "timestamp": pa.array(asked, pa.int64()).cast(_NAIVE)})
    case = HistoryCase(views, naive, {"thing": things}, asked)
    check_history(engine, case)
    zoned = naive.set_column(1, "timestamp", naive.column(1).cast(_AWARE).cast(pa.timestamp("us", tz=zone)))
    check_history(engine, replace(case, spine=zoned, views=views[-1:]))
    if spine_of is not None:
        numbered = naive.set_column(1, "timestamp", naive.column(1).cast(_AWARE))
        numbered = numbered.append_column("row", pa.array(range(len(asked)), pa.int64()))
        one = replace(case, views=views[-1:])
        history = engine.history(one.request(spine_of(numbered)))
        found = pa.Table.from_batches(history.batches(1_000), history.schema).sort_by("row")
        assert found.select(numbered.column_names).equals(numbered)
        assert plain_rows(found.drop_columns(numbered.column_names).to_pylist()) == plain_rows(one.expected())
    # each source's in one of the zones, those of the engine's own table in all
    turn = ZONES.index(zone) if zone in ZONES else 0
    changing = views if SCALE > 1 else (*views[:-1][turn :: len(ZONES)], views[-1])
    for view in changing:
        end = instants[len(instants) // 2]
        expected = changes(view.facts(), (), end=end, source_after=MIN_MICROS, since=Watermark(), log_until=2**62)
        request = ChangesRequest(changes_input(view), end, MIN_MICROS, Watermark(), 2**62)
        assert changed(engine, view, request) == {key: fact_row(fact) for key, fact in expected.items()}


def _offset(at: datetime, zone: ZoneInfo) -> timedelta | None:
    return at.astimezone(zone).utcoffset()


def _day(at: int) -> Any:
    return from_micros(at).date()


def _table(instants: Sequence[int]) -> pa.Table:
    late = [at + _LATE for at in instants]
    return pa.table(
        {
            "thing": pa.array([n % 2 for n in range(len(instants))], pa.int64()),
            "happened": pa.array(instants, pa.int64()).cast(_AWARE),
            "learnt": pa.array(late, pa.int64()).cast(_AWARE),
            "n": pa.array(range(len(instants)), pa.int64()),
            "seen": pa.array(instants, pa.int64()).cast(_AWARE),
            "day": pa.array([_day(at) for at in instants], pa.date32()),
        }
    )


def _in_types(table: pa.Table, kind: pa.DataType) -> pa.Table:
    """The same instants in another type of timestamp; a naive one is UTC."""
    for i, name in enumerate(table.column_names):
        if pa.types.is_timestamp(table.column(i).type):
            table = table.set_column(i, name, table.column(i).cast(kind))
    return table


def _write_csv(table: pa.Table, file: Path) -> None:
    """Naive times, as CSV files have them."""
    lines = [",".join(table.column_names)]
    for row in _in_types(table, _NAIVE).to_pylist():
        lines.append(",".join(v.isoformat() if hasattr(v, "isoformat") else str(v) for v in row.values()))
    file.write_text("\n".join(lines) + "\n")


def _view(name: str, source: Source, instants: Sequence[int]) -> ViewCase:
    view = FeatureView(
        name,
        entity=Entity("thing", join_keys={"thing": Int64}),
        source=source,
        features=[Feature("n", Int64), Feature("seen", Timestamp), Feature("day", Date)],
        ttl=timedelta(microseconds=_TTL),
        version="1.0.0",
    )
    rows = tuple(
        SourceRow((n % 2,), {"n": n, "seen": plain(from_micros(at)), "day": _day(at)}, at * 1000, (at + _LATE) * 1000)
        for n, at in enumerate(instants)
    )
    oracle = OracleView({"n": None, "seen": None, "day": None}, ttl=_TTL, created_time=True)
    return ViewCase(FeatureSelection(view), oracle, rows)
