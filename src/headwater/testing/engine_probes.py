"""One short trial of each ability of an engine: it passes, or ends in the error that a declared gap names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from headwater.clock import from_micros, to_micros
from headwater.definitions.aggregation import Aggregation
from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.source import Source
from headwater.definitions.sources import SQLSource
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.offline.base import OfflineEngine
from headwater.testing.cases import HistoryCase, ViewCase, plain
from headwater.testing.gaps import DTYPES
from headwater.testing.offline_checks import instants, run
from headwater.testing.oracle import OracleView
from headwater.testing.pools import DTYPES as POOLED
from headwater.testing.pools import stored_forms
from headwater.types import Array, Date, DType, Float64, Int64, Timestamp

_NAIVE = pa.timestamp("us")


@dataclass(frozen=True)
class Probed:
    """An engine, and how tables of its own are made.

    Attributes:
        engine: the engine.
        place: puts rows into a new table, and gives the query of it.
        own_source: the source that such a query is.
    """

    engine: OfflineEngine
    place: Callable[[pa.Table], str]
    own_source: Callable[..., Source]

    def values(self, source: Source, dtype: DType, keys: int, spine: Any = None) -> list[Any]:
        """The feature `x` of a source of `thing`, `happened` and `x`, for each key below a number, a day after 1970."""
        return self.values_of(_view(source, dtype), keys, spine)

    def values_of(self, view: FeatureView, keys: int, spine: Any = None) -> list[Any]:
        """The same of a view."""
        case = ViewCase(FeatureSelection(view), OracleView({"x": None}))
        asked = pa.table({"thing": pa.array(range(keys), pa.int64()), "timestamp": instants([86_400] * keys)})
        answer = run(self.engine, HistoryCase((case,), asked).request(spine))
        return [plain(value) for value in answer.sort_by("thing").column("v__x").to_pylist()]


def _view(source: Source, dtype: DType) -> FeatureView:
    thing = Entity("thing", join_keys={"thing": Int64})
    return FeatureView("v", entity=thing, source=source, features=[Feature("x", dtype)], version="1.0.0")


def rows_of(values: Sequence[Any], arrow: pa.DataType) -> pa.Table:
    """A row of `thing`, `happened` and `x` for each value."""
    keys = pa.array(range(len(values)), pa.int64())
    return pa.table({"thing": keys, "happened": instants([0] * len(values)), "x": pa.array(values, arrow)})


def _kept(dtype: DType, values: Sequence[Any]) -> Callable[[Probed], None]:
    """The trial that values of a dtype come out of a table as they went in."""

    def probe(probed: Probed) -> None:
        source = probed.own_source(probed.place(rows_of(values, dtype.arrow)), event_time="happened")
        assert probed.values(source, dtype, len(values)) == [plain(value) for value in values]

    return probe


def _dtype_probe(name: str) -> Callable[[Probed], None]:
    """Every dtype of a name, with the pool's values, NULL among them; NaN and infinities have trials of their own."""

    def probe(probed: Probed) -> None:
        for dtype in (dtype for dtype in (*POOLED, Array(Date), Array(Timestamp)) if dtype.name == name):
            _kept(dtype, [*filter(_finite, stored_forms(dtype)[0].values), None])(probed)

    return probe


def _finite(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _zones(probed: Probed) -> None:
    """Naive times of a zone, one that a clock change skips and one that it repeats among them, are the right instants.

    A skipped time is the instant of the change, a repeated one of a row the later of the two, so that nothing leaks.
    """
    local = [datetime(1969, 7, 1, 12), datetime(1969, 4, 27, 2, 30), datetime(1969, 10, 26, 1, 30)]
    utc = [datetime(1969, 7, 1, 16), datetime(1969, 4, 27, 7), datetime(1969, 10, 26, 6, 30)]
    table = rows_of([1.0, 2.0, 3.0], pa.float64()).set_column(1, "happened", pa.array(local, _NAIVE))
    source = probed.own_source(probed.place(table), event_time="happened", timezone="America/New_York")
    when = [to_micros(t.replace(tzinfo=UTC)) for t in utc]
    spine = pa.table(
        {
            "thing": pa.array([0, 1, 2] * 2, pa.int64()),
            "timestamp": pa.array([*when, *(t - 1 for t in when)], pa.int64()).cast(pa.timestamp("us", tz="UTC")),
        }
    )
    case = HistoryCase((ViewCase(FeatureSelection(_view(source, Float64)), OracleView({"x": None})),), spine)
    answer = run(probed.engine, case.request())
    assert answer.column("v__x").to_pylist() == [1.0, 2.0, 3.0, None, None, None]
    assert answer.column("v__event_time").to_pylist()[:3] == [from_micros(t) for t in when]


def _queries(probed: Probed) -> None:
    whole = probed.place(rows_of([1.0, 2.0, 3.0], pa.float64()))
    source = probed.own_source(
        f"SELECT thing, happened, x * 2 AS x FROM ({whole}) AS own WHERE thing <> 1", event_time="happened"
    )
    assert probed.values(source, Float64, 3) == [2.0, None, 6.0]


def _transformations(probed: Probed) -> None:
    own = probed.own_source(probed.place(rows_of([1.0, 2.0, 3.0], pa.float64())), event_time="happened")
    query = "SELECT thing, happened, x * 2 AS x FROM own WHERE thing <> 1"
    assert probed.values(SQLSource(query, tables={"own": own}, event_time="happened"), Float64, 3) == [2.0, None, 6.0]


def _spines(probed: Probed) -> None:
    source = probed.own_source(probed.place(rows_of([1.0, 2.0, 3.0], pa.float64())), event_time="happened")
    spine = pa.table({"thing": pa.array([2, 0], pa.int64()), "timestamp": instants([5, -5])})
    assert probed.values(source, Float64, 0, probed.place(spine)) == [None, 3.0]


def _windows(probed: Probed) -> None:
    rows = rows_of([1.0, 2.0, 4.0], pa.float64()).set_column(0, "thing", pa.array([0, 0, 1], pa.int64()))
    view = FeatureView(
        "v",
        entity=Entity("thing", join_keys={"thing": Int64}),
        source=probed.own_source(probed.place(rows), event_time="happened"),
        features=[Aggregation("x", "sum", "1d", name="x")],
        columns={"x": Float64},
        version="1.0.0",
    )
    assert probed.values_of(view, 3) == [3.0, 4.0, None]


PROBES: dict[str, Callable[[Probed], None]] = {
    **{name: _dtype_probe(name) for name in DTYPES},
    "nan": _kept(Float64, [1.0, math.nan, None]),
    "infinity": _kept(Float64, [math.inf, -math.inf]),
    "zones": _zones,
    "queries": _queries,
    "transformations": _transformations,
    "spines": _spines,
    "windows": _windows,
}
"""By ability; how statements are ended, the suites of engines prove."""
