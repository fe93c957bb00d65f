"""One larger case from a seed: many rows a key, late and tied, where an engine may take another road than for few."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pyarrow as pa

from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.sources import TableSource
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.offline.base import ARRIVAL, POSITION, LogPart
from headwater.testing.cases import HistoryCase, ViewCase
from headwater.testing.oracle import Delete, LogRow, OracleView, SourceRow
from headwater.types import Float64, Int64, String

_MICROS = pa.timestamp("us", tz="UTC")


def dense_case(
    *,
    rows: int,
    spine: int,
    keys: int,
    span: int,
    late: float = 0.3,
    ttl: int = 0,
    as_known: bool = True,
    nans: bool = True,
    written: bool = True,
    seed: int = 0,
) -> HistoryCase:
    """A join of one view whose rows crowd on few keys.

    Args:
        rows: source rows; a twentieth as many log rows and a few deletes come beside them.
        spine: spine rows.
        keys: distinct keys.
        span: seconds over which events and spine times lie; small ones make ties.
        late: the share of rows known up to a tenth of the span after they happened.
        ttl: seconds; 0 is none.
        as_known: whether only rows known at the spine's time count.
        nans: whether NaN is among the source's values; pandas cannot tell it from NULL.
        written: whether there are log rows and deletes.
        seed: of the random numbers.
    """
    draw = random.Random(seed)
    source = tuple(_source_row(draw, keys, span, late, nans) for _ in range(rows))
    log = tuple(_log_row(draw, keys, span, position) for position in range(1, rows // 20 + 1 if written else 1))
    deleted = range(0, keys if written else 0, 5)
    deletes = tuple(Delete((key,), draw.randrange(span) * 1_000_000) for key in deleted)
    view = FeatureView(
        "dense",
        entity=Entity("thing", {"thing": Int64}),
        source=TableSource(_source_table(source), event_time="happened", created_time="learnt"),
        features=[Feature("x", Float64, default=-1.0), Feature("name", String)],
        version="1.0.0",
        ttl=timedelta(seconds=ttl),
    )
    oracle = OracleView({"x": -1.0, "name": None}, ttl=ttl * 1_000_000, created_time=True)
    asked = [draw.randrange(keys + 1) for _ in range(spine)]
    instants = [draw.randrange(span) * 1_000_000 for _ in range(spine)]
    table = pa.table({"thing": pa.array(asked, pa.int64()), "timestamp": pa.array(instants, pa.int64()).cast(_MICROS)})
    case = ViewCase(FeatureSelection(view), oracle, source, log, (_part(log),) if log else (), deletes)
    return HistoryCase((case,), table, {"thing": asked}, instants, as_known=as_known)


def _content(draw: random.Random, nans: bool = True) -> dict[str, Any]:
    return {
        "x": draw.choice([None, 0.5, 1.5, float("nan") if nans else 2.5]),
        "name": draw.choice([None, "a", "b", "é"]),
    }


def _source_row(draw: random.Random, keys: int, span: int, late: float, nans: bool) -> SourceRow:
    event = draw.randrange(span)
    created = event + (draw.randrange(span // 10 + 1) if draw.random() < late else 0)
    return SourceRow((draw.randrange(keys),), _content(draw, nans), event * 10**9, created * 10**9)


def _log_row(draw: random.Random, keys: int, span: int, position: int) -> LogRow:
    event = draw.randrange(span)
    return LogRow((draw.randrange(keys),), _content(draw), event * 10**9, event * 10**6, position, event * 10**9)


def _columns(rows: tuple[SourceRow, ...] | tuple[LogRow, ...]) -> dict[str, pa.Array]:
    return {
        "thing": pa.array([row.key[0] for row in rows], pa.int64()),
        "x": pa.array([row.values["x"] for row in rows], pa.float64()),
        "name": pa.array([row.values["name"] for row in rows], pa.string()),
        "happened": pa.array([(row.event or 0) // 1000 for row in rows], pa.int64()).cast(_MICROS),
        "learnt": pa.array([(row.created or 0) // 1000 for row in rows], pa.int64()).cast(_MICROS),
    }


def _source_table(rows: tuple[SourceRow, ...]) -> pa.Table:
    return pa.table(_columns(rows))


def _part(log: tuple[LogRow, ...]) -> LogPart:
    columns = _columns(log)
    names = frozenset(columns)
    columns[POSITION] = pa.array([row.position for row in log], pa.int64())
    columns[ARRIVAL] = pa.array([row.arrival for row in log], pa.int64())
    return LogPart(names, pa.table(columns))
