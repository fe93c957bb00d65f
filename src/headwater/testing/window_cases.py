"""Generated cases of window views: aggregations over a source and a log, and what the reference says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from headwater.clock import from_micros
from headwater.definitions.aggregation import Aggregation
from headwater.definitions.entity import Entity
from headwater.definitions.sources import TableSource
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.offline.base import ARRIVAL, POSITION, LogPart
from headwater.planning.resolved import ResolvedView
from headwater.testing.cases import HistoryCase, ViewCase
from headwater.testing.oracle import Delete, Key, LogRow, OracleView, SourceRow, known_entities
from headwater.testing.window_oracle import Statement, WindowAnswer, WindowRequest, statements, window_answer
from headwater.testing.window_strategies import COLUMNS, aggregation_lists
from headwater.testing.zones import moved_instants
from headwater.types import DType, Int32, String

CONDITIONS: Mapping[str, Callable[[Mapping[str, Any]], bool | None]] = {
    "n > 0": lambda row: row["n"] is not None and row["n"] > 0,
    "s IN ('a', 'b') OR b": lambda row: row["s"] in ("a", "b") or row["b"] is True,
    "NOT (n + i <= 1) AND x IS NULL": lambda row: (
        None not in (row["n"], row["i"]) and row["x"] is None and row["n"] + row["i"] > 1
    ),
}
"""Conditions, and what they say of a row's values."""
_SPAN = 60
_VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "x": st.none() | st.sampled_from([0.0, -0.0, 1.5, -2.0, float("nan"), 1e18]) | st.integers(0, 9).map(float),
    "n": st.none() | st.integers(-3, 3) | st.sampled_from([2**40, -(2**40)]),
    "i": st.none() | st.integers(-2, 2),
    "s": st.none() | st.text("abé", max_size=2),
    "b": st.none() | st.booleans(),
    "at": st.none() | st.integers(-5, 5).map(from_micros),
    "day": st.none() | st.integers(-3, 3).map(lambda days: date(1970, 1, 1) + timedelta(days=days)),
    "a": st.none() | st.lists(st.none() | st.integers(0, 1), max_size=2),
}
_KEYS = (("shop", Int32), ("till", String))
_POOL: Mapping[str, Sequence[Any]] = {"shop": [1, 2, None], "till": ["ä", "b", None]}
_EVENT, _CREATED, _ID = "happened", "learnt", "number"


@dataclass(frozen=True)
class WindowCase:
    """Window views as they are asked for, with all that is known of them.

    Attributes:
        case: the view, its rows and the spine.
        event_id: whether the source names event ids.
    """

    case: HistoryCase
    event_id: bool

    @property
    def view(self) -> ViewCase:
        """The one view."""
        return self.case.views[0]

    @property
    def resolved(self) -> ResolvedView:
        """The version as it is asked for."""
        return self.case.resolved().views[0]

    def statements(self) -> list[Statement]:
        """The rows that can be events."""
        view = self.view
        return statements(view.oracle, view.rows, view.log, _ID if self.event_id else None)

    def answers(self) -> list[list[WindowAnswer]]:
        """What each feature says to each row of the spine."""
        rows = self.statements()
        return [
            [
                window_answer(request, rows, self.view.tombstones, key, at, as_known=self.case.as_known)
                for key, at in zip(self.keys(), self.case.instants, strict=True)
            ]
            for request in requests_of(self.resolved)
        ]

    def keys(self) -> list[Key]:
        """The key of each row of the spine."""
        columns = [self.case.keys[name] for name in self.view.key_columns]
        return list(zip(*columns, strict=True)) or [()] * len(self.case.instants)

    def entities(self, at: int) -> WindowCase:
        """The same view asked without a spine: the reference's list of entities stands for it."""
        rows, tombstones = self.statements(), self.view.tombstones
        found = sorted(known_entities(rows, tombstones, at, as_known=self.case.as_known), key=repr)
        keys = {name: [key[i] for key in found] for i, name in enumerate(self.view.key_columns)}
        return replace(
            self,
            case=replace(self.case, spine=None, keys=keys, instants=[at] * len(found), timestamp_column=None, at=at),
        )


def requests_of(resolved: ResolvedView) -> list[WindowRequest]:
    """The features of a window version as the reference is asked for them."""
    layout = resolved.windows
    assert layout is not None
    made = []
    for feature in layout.features:
        each, window = layout.lists[feature.list], feature.window
        options = {"n": feature.n, "q": feature.q or 0.0, "max_distinct": feature.n, "default": feature.default}
        where = None if each.where is None else CONDITIONS[each.where]
        made.append(
            WindowRequest(
                *(feature.function, each.column, each.dtype, window.width, window.hop, window.offset, where),
                **options,
            )
        )
    return made


@st.composite
def window_cases(
    draw: Callable[..., Any], *, ids: bool | None = None, keys: int | None = None, written: bool = True
) -> WindowCase:
    """A window view over a source and a log, and a spine.

    Args:
        draw: given by Hypothesis.
        ids: whether events have ids; None: drawn.
        keys: how many join keys there are, up to 2; None: drawn.
        written: whether there is a log.
    """
    ids = draw(st.booleans()) if ids is None else ids
    names = _KEYS[: draw(st.integers(0, 2)) if keys is None else keys]
    given = draw(aggregation_lists(COLUMNS, most=5, conditions=tuple(CONDITIONS)))
    read = {name: COLUMNS[name] for name in dict.fromkeys(c for made in given for c in made.columns_read)}
    rows, log = draw(_rows(names, ids, written))
    source = TableSource(_table(names, rows), event_time=_EVENT, created_time=_CREATED, event_id=_ID if ids else None)
    view = FeatureView(
        "windows",
        entity=Entity("key", join_keys=dict(names)) if names else (),
        source=source,
        features=given,
        columns=read,
        version="1.0.0",
    )
    oracle = OracleView(defaults=dict.fromkeys(read), created_time=True)
    times = st.integers(-_SPAN, _SPAN)
    tombstones = draw(st.lists(st.builds(Delete, _key(names), times, st.integers(0, 25)), max_size=3))
    tombstones = [each for each in tombstones if None not in each.key] if names else tombstones
    purged = draw(st.integers(0, len(tombstones)))
    viewed = ViewCase(
        FeatureSelection(view),
        oracle,
        tuple(rows),
        tuple(log),
        _parts(names, log, draw(st.booleans())),
        tuple(tombstones[purged:]),
        tuple(tombstones[:purged]),
    )
    asked = draw(st.lists(st.tuples(_key(names), times), min_size=1, max_size=8))
    spine = {name: pa.array([key[i] for key, _ in asked], dtype.arrow) for i, (name, dtype) in enumerate(names)}
    spine["timestamp"] = pa.array([at for _, at in asked], pa.int64()).cast(pa.timestamp("us", "UTC"))
    case = HistoryCase(
        (viewed,),
        pa.table(spine),
        {name: [key[i] for key, _ in asked] for i, (name, _) in enumerate(names)},
        [at for _, at in asked],
        "timestamp",
        as_known=draw(st.sampled_from([True, True, False])),
    )
    return WindowCase(case, ids)


def moved_case(zone: str) -> WindowCase:
    """Windows over events at the hours that the clock changes of a zone move, and a spine at their bounds."""
    instants, minute = moved_instants(zone), 60_000_000
    names = _KEYS[:1]
    given = [
        Aggregation(None, "count", "1h", name="hour"),
        Aggregation("n", "sum", "1d", hop="1h", name="day_by_hour"),
        Aggregation("at", "last", "45m", name="last"),
        Aggregation("day", "first_n", "1d", n=2, name="days"),
    ]
    read = {name: COLUMNS[name] for name in ("n", "at", "day")}
    absent = dict.fromkeys(COLUMNS)
    rows = [
        SourceRow(
            (1 + i % 2,),
            {**absent, "n": i, "at": from_micros(at), "day": from_micros(at).date()},
            at * 1_000,
            (at + 20 * minute) * 1_000,
        )
        for i, at in enumerate(instants)
    ]
    source = TableSource(_table(names, rows), event_time=_EVENT, created_time=_CREATED)
    view = FeatureView(
        "windows",
        entity=Entity("key", join_keys=dict(names)),
        source=source,
        features=given,
        columns=read,
        version="1.0.0",
    )
    viewed = ViewCase(FeatureSelection(view), OracleView(defaults=dict.fromkeys(read), created_time=True), tuple(rows))
    asked = [at + minutes * minute for at in instants for minutes in (19, 20, 45, 60)]
    shops = [1 + i % 2 for i in range(len(asked))]
    spine = pa.table(
        {
            "shop": pa.array(shops, pa.int32()),
            "timestamp": pa.array(asked, pa.int64()).cast(pa.timestamp("us", "UTC")),
        }
    )
    return WindowCase(HistoryCase((viewed,), spine, {"shop": shops}, asked, "timestamp"), False)


def _key(names: Sequence[tuple[str, DType]]) -> st.SearchStrategy[Key]:
    return st.tuples(*[st.sampled_from(_POOL[name]) for name, _ in names])


@st.composite
def _rows(
    draw: Callable[..., Any], names: Sequence[tuple[str, DType]], ids: bool, written: bool
) -> tuple[list[SourceRow], list[LogRow]]:
    rows, log = [], []
    size = draw(st.integers(0, 25))
    for number in range(1, size + 1):
        event = draw(st.integers(-_SPAN // 2, _SPAN // 2))
        key, created = draw(_key(names)), event + draw(st.sampled_from([0, 0, -5, 1, 30]))
        values = {name: draw(strategy) for name, strategy in _VALUES.items()}
        # one event has one time: the same id at another is another event
        own = draw(st.none() | st.integers(1, 4)) if ids else None
        if written and draw(st.booleans()):
            carried = draw(st.booleans())
            said = {**values, _ID: own}
            log.append(LogRow(key, said, event * 1_000, created, number, created * 1_000 if carried else None))
        else:
            lost = draw(st.integers(0, 15)) == 0
            rows.append(SourceRow(key, values, None if lost else event * 1_000, created * 1_000, own))
    return rows, log


def _table(names: Sequence[tuple[str, DType]], rows: Sequence[SourceRow | LogRow]) -> pa.Table:
    def times(values: Sequence[int | None]) -> pa.Array:
        given = pa.array([None if value is None else value // 1_000 for value in values], pa.int64())
        return given.cast(pa.timestamp("us", "UTC"))

    ids = [row.event_id if isinstance(row, SourceRow) else row.values[_ID] for row in rows]
    return pa.table(
        {
            **{name: pa.array([row.key[i] for row in rows], dtype.arrow) for i, (name, dtype) in enumerate(names)},
            _EVENT: times([row.event for row in rows]),
            _CREATED: times([row.created for row in rows]),
            _ID: pa.array(ids, pa.int64()),
            **{name: pa.array([row.values[name] for row in rows], dtype.arrow) for name, dtype in COLUMNS.items()},
        }
    )


def _parts(names: Sequence[tuple[str, DType]], log: Sequence[LogRow], two: bool) -> tuple[LogPart, ...]:
    """The log as an engine gets it, in one part or in two of the same columns."""
    middle = len(log) // 2 if two else 0
    parts = []
    for rows in (log[:middle], log[middle:]):
        if rows:
            table = _table(names, rows)
            columns = frozenset(table.column_names)
            table = table.append_column(POSITION, pa.array([row.position for row in rows], pa.int64()))
            table = table.append_column(ARRIVAL, pa.array([row.arrival for row in rows], pa.int64()))
            parts.append(LogPart(columns, table, schema=table.schema))
    return tuple(parts)
