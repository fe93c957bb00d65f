"""One short trial of each ability of an engine: it passes, or ends in the error that a declared gap names."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
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
        return [plain(value) for value in self.answer(view, keys, {"x": None}, spine).column("v__x").to_pylist()]

    def answer(self, view: FeatureView, keys: int, defaults: dict[str, Any], spine: Any = None) -> pa.Table:
        """All features of a view, for each key below a number, a day after 1970, in order of the keys."""
        case = ViewCase(FeatureSelection(view), OracleView(defaults))
        asked = pa.table({"thing": pa.array(range(keys), pa.int64()), "timestamp": instants([86_400] * keys)})
        return run(self.engine, HistoryCase((case,), asked).request(spine)).sort_by("thing")


def _view(source: Source, dtype: DType) -> FeatureView:
    thing = Entity("thing", join_keys={"thing": Int64})
    return FeatureView("v", entity=thing, source=source, features=[Feature("x", dtype)], version="1.0.0")


def rows_of(values: Sequence[Any], arrow: pa.DataType) -> pa.Table:
    """A row of `thing`, `happened` and `x` for each value."""
    keys = pa.array(range(len(values)), pa.int64())
    return pa.table({"thing": keys, "happened": instants([0] * len(values)), "x": pa.array(values, arrow)})


def check_kept(probed: Probed, abilities: Collection[str]) -> None:
    """Assert that values come out of one table as they went in.

    Args:
        probed: the engine.
        abilities: which of `KEPT` the table has columns of.
    """
    kept = {f"{name}_{i}": column for name in abilities for i, column in enumerate(KEPT[name])}
    rows = max(len(values) for _, values in kept.values())
    columns = {name: (dtype, [*values, *[None] * (rows - len(values))]) for name, (dtype, values) in kept.items()}
    table = rows_of([None] * rows, pa.float64()).drop_columns(["x"])
    for name, (dtype, values) in columns.items():
        table = table.append_column(name, pa.array(values, dtype.arrow))
    view = FeatureView(
        "v",
        entity=Entity("thing", join_keys={"thing": Int64}),
        source=probed.own_source(probed.place(table), event_time="happened"),
        features=[Feature(name, dtype) for name, (dtype, _) in columns.items()],
        version="1.0.0",
    )
    answer = probed.answer(view, rows, dict.fromkeys(columns))
    for name, (_, values) in columns.items():
        assert [plain(value) for value in answer.column(f"v__{name}").to_pylist()] == [plain(v) for v in values], name


def _of_dtype(name: str) -> list[tuple[DType, list[Any]]]:
    """Every dtype of a name, with the pool's values, NULL among them; NaN and infinities have trials of their own."""
    every = (dtype for dtype in (*POOLED, Array(Date), Array(Timestamp)) if dtype.name == name)
    return [(dtype, [*filter(_finite, stored_forms(dtype)[0].values), None]) for dtype in every]


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


KEPT: dict[str, list[tuple[DType, list[Any]]]] = {
    **{name: _of_dtype(name) for name in DTYPES},
    "nan": [(Float64, [1.0, math.nan, None])],
    "infinity": [(Float64, [math.inf, -math.inf])],
}
"""By ability, the columns of a table that come out as they went in."""

PROBES: dict[str, Callable[[Probed], None]] = {
    "zones": _zones,
    "queries": _queries,
    "transformations": _transformations,
    "spines": _spines,
    "windows": _windows,
}
"""By ability, those beside `KEPT`; how statements are ended, the suites of engines prove."""
