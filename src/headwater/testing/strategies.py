"""Hypothesis strategies for views, sources, logs, deletes and spines, over small ranges: ties and edges are common."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import pyarrow as pa
from hypothesis import strategies as st

from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.names import CREATED
from headwater.definitions.source import Source
from headwater.definitions.sources import PushSource, TableSource
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.offline.base import ARRIVAL, POSITION, LogPart
from headwater.testing.cases import HistoryCase, ViewCase
from headwater.testing.forms import settings_of
from headwater.testing.oracle import Delete, Key, LogRow, OracleView, SourceRow, floor_micros
from headwater.testing.pools import (
    DTYPES,
    KEY_SETS,
    KEYS,
    MIDNIGHT,
    SPINE_TIME_FORMS,
    TIME_FORMS,
    Stored,
    TimeForm,
    key_forms,
    stored_forms,
    time_column,
    value_column,
)
from headwater.types import DType


def values(dtype: DType) -> st.SearchStrategy[Any]:
    """Values of a dtype, NULL among them."""
    return st.sampled_from([None, *stored_forms(dtype)[0].values])


def keys(names: Sequence[str], nullable: bool = True) -> st.SearchStrategy[Key]:
    """Keys of some join keys, from few values; NULL parts among them."""
    pools = {name: KEYS[name][1][:2] for name in names}
    return st.tuples(*(st.sampled_from([*pool, *pool, *pool, None] if nullable else pool) for pool in pools.values()))


def _pick(draw: Callable[..., Any], *choices: Any) -> Any:
    return draw(st.sampled_from(choices))


@st.composite
def feature_lists(draw: Callable[..., Any]) -> list[tuple[Feature, Stored]]:
    """One to three features of any dtype, in any order, with how the source holds them."""
    names = draw(st.permutations(["a", "b", "c"]))[: _pick(draw, 1, 2, 2, 3)]
    found = []
    for name in names:
        dtype = draw(st.sampled_from(DTYPES))
        default = draw(st.sampled_from(stored_forms(dtype)[0].values)) if draw(st.booleans()) else None
        if isinstance(default, float) and math.isnan(default):
            default = None
        feature = Feature(name, dtype, column=_pick(draw, None, f"{name}_column"), default=default)
        found.append((feature, draw(st.sampled_from(stored_forms(dtype)))))
    return found


class _Shape(NamedTuple):
    """What is drawn of a view before its rows."""

    view: FeatureView
    oracle: OracleView
    stored: Mapping[str, pa.DataType]
    rows: st.SearchStrategy[dict[str, Any]]
    keys: tuple[str, ...]
    events: TimeForm
    createds: TimeForm
    ids: tuple[pa.DataType, Sequence[Any]] | None = None


_EVENT_IDS: Sequence[tuple[pa.DataType, Sequence[Any]]] = (
    (pa.int64(), [None, 1, 2, 3]),
    (pa.string(), [None, "10", "2", "Z", "a", "é"]),
    (pa.float64(), [None, 1.5, 2.5]),
)
"""Types and values of event ids, whose order is that of their texts: in a CSV file they are text."""


@st.composite
def view_cases(draw: Callable[..., Any], name: str = "v0", key_sets: Sequence[tuple[str, ...]] = KEY_SETS) -> ViewCase:
    """A view with its source, log and deletes, asked for whole or in part, by its own name or an alias."""
    shape = draw(_shapes(name, key_sets))
    pushed = isinstance(shape.view.source, PushSource)
    rows = () if pushed else tuple(draw(st.lists(_source_rows(shape), min_size=_pick(draw, 0, 1, 6), max_size=12)))
    with_log = pushed or draw(st.booleans())
    batches = draw(st.lists(_log_batches(shape, rows), max_size=3)) if with_log else []
    log, parts = _positioned(shape, batches)
    # a position before every row, between two and after all: each hides rows that the D does not
    positions = st.integers(0, len(log) + 2)
    tombstones = st.lists(st.builds(Delete, keys(shape.keys, nullable=False), log_instants(), positions), max_size=3)
    deletes = tuple(draw(tombstones)) if draw(st.booleans()) else ()
    purges = tuple(draw(tombstones)) if _pick(draw, False, False, True) else ()
    view = shape.view
    if not pushed:
        view = _with_source(view, TableSource(_source_table(shape, rows), **settings_of(view.source)))
    selection = _selection(draw, view)
    return ViewCase(selection, shape.oracle, rows, log, parts, deletes, purges)


@st.composite
def _shapes(draw: Callable[..., Any], name: str, key_sets: Sequence[tuple[str, ...]]) -> _Shape:
    features = draw(feature_lists())
    names = draw(st.sampled_from(key_sets))
    timed = _pick(draw, True, True, True, False)
    created = timed and draw(st.booleans())
    delay = 0 if created or not timed else _pick(draw, 0, 0, 1, 1_000_000)
    options: dict[str, Any] = {
        "event_time": "happened" if timed else None,
        "created_time": "learnt" if created else None,
        "delay": timedelta(microseconds=delay),
    }
    ends = timed and _pick(draw, False, False, True)
    if ends:
        options |= {"event_time": None, "valid_from": "happened", "valid_to": "ended"}
    ids = _pick(draw, None, None, *_EVENT_IDS)
    if ids is not None:
        options["event_id"] = "id_of_event"
    ttl = _pick(draw, 0, 1, 1_000_000, 2_000_000) if timed else 0
    source = PushSource(**options) if _pick(draw, False, False, False, True) else TableSource(None, **options)
    view = FeatureView(
        name,
        entity=_entities(names),
        source=source,
        features=[feature for feature, _ in features],
        version="1.0.0",
        join_key_map={key: f"{key}_of_source" for key in names if draw(st.booleans())},
        ttl=timedelta(microseconds=ttl) if ttl or draw(st.booleans()) else None,
    )
    oracle = OracleView({f.name: f.default for f, _ in features}, ttl, delay, timed, created, ends=ends)
    forms = {feature.name: form.arrow for feature, form in features}
    pools = {feature.name: st.sampled_from([None, *form.values]) for feature, form in features}
    events = draw(_few_instants())
    createds = events if draw(st.booleans()) else draw(_few_instants())
    return _Shape(view, oracle, forms, st.fixed_dictionaries(pools), names, events, createds, ids)


@st.composite
def _few_instants(draw: Callable[..., Any]) -> TimeForm:
    """A form of times with two to four instants, so that rows tie."""
    form = draw(st.sampled_from(TIME_FORMS))
    few = draw(st.lists(st.sampled_from(form.instants), min_size=2, max_size=4, unique=True))
    return TimeForm(form.arrow, form.unit, few)


def _entities(names: tuple[str, ...]) -> list[Entity]:
    """One entity of all the keys, or of a text key and a number two."""
    if names == ("text", "num"):
        return [Entity(f"{name}_entity", {name: KEYS[name][0]}) for name in names]
    return [Entity("_".join(names), {name: KEYS[name][0] for name in names})] if names else []


def _with_source(view: FeatureView, source: Source) -> FeatureView:
    return FeatureView(
        view.name,
        entity=view.entities,
        source=source,
        features=view.feature_list,
        version=view.version,
        join_key_map=view.join_key_map,
        ttl=view.ttl_time,
    )


def _selection(draw: Callable[..., Any], view: FeatureView) -> FeatureSelection:
    selection = FeatureSelection(view)
    if _pick(draw, False, False, True):
        moved = {key: f"other_{key}" for key in view.join_keys if draw(st.booleans())}
        selection = view.alias(f"{view.name}_alias", join_key_map=moved)
    if draw(st.booleans()):
        return selection
    names = draw(st.permutations(view.feature_names))
    return selection[tuple(names[: draw(st.integers(1, len(names)))])]


def log_instants() -> st.SearchStrategy[int]:
    """Instants of arrivals, deletes and runs (microseconds), at and beside the times of rows."""
    steps = [MIDNIGHT // 1000 + k * 1_000_000 + fine for k in range(-1, 4) for fine in (0, 0, 1, -1)]
    return st.sampled_from(steps)


def _source_rows(shape: _Shape) -> st.SearchStrategy[SourceRow]:
    timed, created = shape.oracle.event_time, shape.oracle.created_time
    event: st.SearchStrategy[Any] = st.sampled_from([*shape.events.instants, None]) if timed else st.none()
    known: st.SearchStrategy[Any] = st.sampled_from([*shape.createds.instants, None]) if created else st.none()
    ids = st.none() if shape.ids is None else st.sampled_from(shape.ids[1])
    return st.builds(SourceRow, keys(shape.keys), shape.rows, event, known, ids, _end_instants(shape))


def _end_instants(shape: _Shape) -> st.SearchStrategy[Any]:
    return st.sampled_from([*shape.events.instants, None]) if shape.oracle.ends else st.none()


_AT_ONCE = -1


class _Batch(NamedTuple):
    """One write: its rows (created None: NULL), the feature its columns lack, the column of created times, and whether
    they carry when they end.
    """

    rows: list[tuple[Key, dict[str, Any], int | None, int | None, int | None]]
    arrival: int
    lacks: str | None
    created: str | None
    ends: bool


def _log_batches(shape: _Shape, source: Sequence[SourceRow]) -> st.SearchStrategy[_Batch]:
    event: st.SearchStrategy[Any] = st.sampled_from(shape.events.instants) if shape.oracle.event_time else st.none()
    at_once = [_AT_ONCE] if shape.events is shape.createds and shape.oracle.event_time else []
    created_at: st.SearchStrategy[Any] = st.sampled_from([*shape.createds.instants, None])
    ends = _end_instants(shape)
    row = st.tuples(keys(shape.keys, nullable=False), shape.rows, event, created_at, ends)
    tying = [
        (row.key, row.event, created)
        for row in source
        for created in ([row.created] if shape.oracle.created_time else at_once)
        if None not in row.key and (row.event is not None or not shape.oracle.event_time) and created is not None
    ]
    if tying:
        same = st.tuples(st.sampled_from(tying), shape.rows, ends).map(lambda d: (d[0][0], d[1], *d[0][1:], d[2]))
        row = st.one_of(row, same)
    created = [None, CREATED, "learnt", "learnt"] if shape.oracle.created_time else [None, CREATED, CREATED]
    lacking = [None, None, None, *shape.stored]
    return st.builds(
        _Batch,
        st.lists(row, min_size=1, max_size=4),
        log_instants(),
        st.sampled_from(lacking),
        st.sampled_from(created),
        st.booleans() if shape.oracle.ends else st.just(False),
    )


def _positioned(shape: _Shape, batches: list[_Batch]) -> tuple[tuple[LogRow, ...], tuple[LogPart, ...]]:
    """The batches as the log numbers them: positions and arrivals both ascend."""
    rows: list[LogRow] = []
    parts = []
    for batch, arrival in zip(batches, sorted(b.arrival for b in batches), strict=True):
        mine: list[LogRow] = []
        for key, content, event, created, ends in batch.rows:
            carried = (event if created == _AT_ONCE else created) if batch.created else None
            kept = {name: value for name, value in content.items() if name != batch.lacks}
            position = len(rows) + len(mine) + 1
            mine.append(LogRow(key, kept, event, arrival, position, carried, ends if batch.ends else None))
        rows += mine
        table = _log_table(shape, batch, mine)
        parts.append(LogPart(frozenset(table.column_names) - {POSITION, ARRIVAL}, table))
    return tuple(rows), tuple(parts)


def _data_columns(shape: _Shape, rows: Sequence[SourceRow | LogRow]) -> dict[str, pa.Array]:
    view = shape.view
    columns = {}
    for i, (key, dtype) in enumerate(view.join_keys.items()):
        columns[view.key_column(key)] = value_column([row.key[i] for row in rows], dtype.arrow)
    if shape.oracle.event_time:
        columns["happened"] = time_column([row.event for row in rows], shape.events)
    for feature in view.feature_list:
        if all(feature.name in row.values for row in rows):
            content = [row.values[feature.name] for row in rows]
            columns[feature.source_column] = value_column(content, shape.stored[feature.name])
    return columns


def _source_table(shape: _Shape, rows: Sequence[SourceRow]) -> pa.Table:
    columns = _data_columns(shape, rows)
    if shape.oracle.created_time:
        columns["learnt"] = time_column([row.created for row in rows], shape.createds)
    if shape.oracle.ends:
        columns["ended"] = time_column([row.ends for row in rows], shape.events)
    if shape.ids is not None:
        columns["id_of_event"] = pa.array([row.event_id for row in rows], shape.ids[0])
    return pa.table({**columns, "unrelated": pa.array(["x"] * len(rows), pa.string())})


def _log_table(shape: _Shape, batch: _Batch, rows: Sequence[LogRow]) -> pa.Table:
    columns = _data_columns(shape, rows)
    if batch.created:
        columns[batch.created] = time_column([row.created for row in rows], shape.createds)
    if batch.ends:
        columns["ended"] = time_column([row.ends for row in rows], shape.events)
    columns[POSITION] = pa.array([row.position for row in rows], pa.int64())
    columns[ARRIVAL] = pa.array([row.arrival for row in rows], pa.int64())
    return pa.table(columns)


@st.composite
def history_cases(draw: Callable[..., Any], max_views: int = 3) -> HistoryCase:
    """A spine over one to three views, with a timestamp column or at one instant."""
    views = tuple(draw(view_cases(f"v{i}")) for i in range(_pick(draw, *range(1, max_views + 1))))
    as_known = _pick(draw, True, True, False)
    size = draw(st.integers(0, 12))
    columns, content = {}, {}
    for case in views:
        for name, column in zip(case.selection.view.join_keys, case.key_columns, strict=True):
            dtype, pool = KEYS[name]
            few = [*pool[:2], *pool[:2], *pool[:3], None]
            content[column] = draw(st.lists(st.sampled_from(few), min_size=size, max_size=size))
            columns[column] = value_column(content[column], draw(st.sampled_from(key_forms(dtype))))
    columns["row"] = pa.array(range(size), pa.int64())
    if draw(st.integers(0, 4)) == 0:
        at = draw(log_instants())
        return HistoryCase(views, pa.table(columns), content, [at] * size, at=at, as_known=as_known)
    form = draw(st.sampled_from(SPINE_TIME_FORMS))
    instants = draw(st.lists(st.sampled_from(form.instants), min_size=size, max_size=size))
    name = _pick(draw, "timestamp", "event_timestamp", "asked_at")
    columns[name] = time_column(instants, form)
    given = name if name == "asked_at" else None
    return HistoryCase(
        views, pa.table(columns), content, [floor_micros(at) for at in instants], given, as_known=as_known
    )


@st.composite
def entity_cases(draw: Callable[..., Any]) -> HistoryCase:
    """A join without a spine: views that share their join keys, at one instant."""
    names = draw(st.sampled_from([("text",), ("num",), ("text", "num")]))
    count = _pick(draw, 1, 2)
    views = [
        draw(view_cases(f"v{i}", [names]).filter(lambda case: case.oracle.event_time and not case.selection.alias_name))
        for i in range(count)
    ]
    if _pick(draw, False, False, True):
        views.append(draw(view_cases("overall", [()]).filter(lambda case: not case.selection.alias_name)))
    case = HistoryCase(tuple(views), None, at=draw(log_instants()), as_known=_pick(draw, True, True, False))
    return case.entities()
