"""Rows of many keys from history at once, beside each row from its batches and its source rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headwater.compute.windows.rebuilding import rebuilt_rows
from headwater.compute.windows.requests import Batch, End, RebuiltRows, Version
from headwater.definitions.aggregation import Aggregation
from headwater.online.rows.windows.codec import encode_row
from headwater.online.rows.windows.record import SourceThrough
from headwater.planning.windows.columns import Column
from headwater.planning.windows.events import WindowEvent
from headwater.planning.windows.layout import window_layout
from headwater.planning.windows.statements import Statements
from headwater.testing.window_rows import rebuilt
from headwater.types import Int64

LAYOUT = window_layout(
    [
        Aggregation("n", "last_n", None, n=100, name="each"),
        Aggregation("n", "sum", "6us", hop="2us"),
        Aggregation("n", "max", "9us", hop="3us"),
    ],
    {"n": Int64},
    ids=3,
)
VERSION = Version(LAYOUT, tolerance=3)
CLOCK = 30


class History(NamedTuple):
    """Of one key."""

    log: list[Batch]
    source: list[WindowEvent]


@st.composite
def histories(draw: Any) -> History:
    """Batches with withheld, late and repeated events, deletes between them, and rows of the source."""
    times = {name: draw(st.integers(0, CLOCK)) for name in range(1, 4)}

    def event(number: int, position: int, clock: int) -> WindowEvent:
        name = draw(st.none() | st.integers(1, 3))
        time = draw(st.integers(0, CLOCK + 5)) if name is None else times[name]
        created = draw(st.sampled_from([clock, time, time - 3, clock + 6]))
        return WindowEvent(time, created, position > 0, position, {"n": number}, id=name)

    log, position, arrival = [], 0, 0
    for _ in range(draw(st.integers(0, 5))):
        arrival += draw(st.integers(1, 6))
        position += draw(st.integers(1, 3))
        if draw(st.integers(0, 3)) == 0:
            through = max(arrival + draw(st.integers(0, 3)), *(batch.delete or 0 for batch in log), 0)
            log.append(Batch(position, arrival, delete=through))
            continue
        events = [event(position + i, position + i, arrival) for i in range(draw(st.integers(1, 3)))]
        position = events[-1].position
        log.append(Batch(position, arrival, events))
    source = [event(100 + i, 0, draw(st.integers(0, CLOCK))) for i in range(draw(st.integers(0, 4)))]
    return History(log, source)


@given(st.lists(histories(), min_size=1, max_size=4), st.integers(0, CLOCK))
def test_rows_at_once_are_those_of_each_key(keys: list[History], clock: int) -> None:
    names = [bytes([i]) for i in range(len(keys))]
    request = RebuiltRows(names, SourceThrough(1, CLOCK), End(50, clock), fill=5, run=6)
    made = rebuilt_rows(VERSION, request, *arrays_of(keys), deletes_of(names, keys))
    for name, (log, source) in zip(names, keys, strict=True):
        right = rebuilt(VERSION, fill=5, run=6, end=request.end, log=log, source=source)
        assert encode_row(LAYOUT, made[name]) == encode_row(LAYOUT, right)


def arrays_of(keys: list[History]) -> tuple[Statements, Any]:
    rows = [
        (key, arrival, event)
        for key, (log, source) in enumerate(keys)
        for arrival, events in [*((batch.arrival, batch.events) for batch in log), (0, source)]
        for event in events
    ]

    def each(values: Any, form: Any = np.int64) -> Any:
        return np.array(list(values), form)

    events = [event for _, _, event in rows]
    values = Column(Int64, each(event.values["n"] for event in events), np.ones(len(rows), bool))
    statements = Statements(
        each(key for key, _, _ in rows),
        each(event.event for event in events),
        each(event.created for event in events),
        each((event.from_log for event in events), bool),
        each(event.position for event in events),
        {"n": values},
        {},
        (each((event.id or 0 for event in events), np.uint64), each((event.id is not None for event in events), bool)),
    )
    return statements, each(arrival for _, arrival, _ in rows)


def deletes_of(names: list[bytes], keys: list[History]) -> dict[bytes, tuple[int, int]]:
    deletes = {}
    for name, (log, _) in zip(names, keys, strict=True):
        mine = [(batch.position, batch.delete) for batch in log if batch.delete is not None]
        if mine:
            deletes[name] = max(position for position, _ in mine), max(through for _, through in mine)
    return deletes
