"""Aggregations and events drawn at random: hops that do not divide one another, ties, gaps, late and future events."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from headwater.definitions.aggregation import Aggregation
from headwater.planning.windows.events import WindowEvent, event_digest
from headwater.planning.windows.layout import WindowFeature, WindowLayout, window_layout
from headwater.planning.windows.values import stored_form
from headwater.testing import window_strategies
from headwater.testing.oracle import value_order
from headwater.testing.window_oracle import Statement, WindowAnswer, WindowRequest, agrees, window_answer
from headwater.types import Array, Bool, Date, DType, Float32, Float64, Int32, Int64, Status, String, Timestamp

KEY = ("k",)
COLUMNS: dict[str, DType] = {"x": Float64, "n": Int64, "s": String, "b": Bool, "a": Array(Int64)}
POSITIVE = "n > 0"
CONDITIONS = {POSITIVE: lambda values: values["n"] is not None and values["n"] > 0}
NAN, INF = float("nan"), float("inf")
SPECIAL: dict[str, list[Any]] = {
    "x": [None, NAN, INF, -INF, 0.0, -0.0, 5e-324, -1.7e308, 1.7e308, 1.5],
    "n": [None, 2**63 - 1, -(2**63), 2**62, -(2**62), 0, -1, 3],
    "f": [None, NAN, INF, -INF, 0.0, -0.0, 2.0**-149, (2 - 2.0**-23) * 2.0**127, 0.5],
    "i": [None, 2**31 - 1, -(2**31), 7],
    "b": [None, True, False],
    "t": [None, -(2**62), 2**62, 0],
    "d": [None, -(2**20), 2**20],
}
"""Of each column what sums, extremes and their bytes treat in a way of its own; the dtypes are those of `NUMBERS`."""
NUMBERS: dict[str, DType] = {"x": Float64, "n": Int64, "f": Float32, "i": Int32, "b": Bool, "t": Timestamp, "d": Date}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "x": st.none()
    | st.sampled_from([0.0, -0.0, 1.5, -2.0, float("nan"), float("inf"), float("-inf"), 1e18, 1e308])
    | st.integers(0, 9).map(float),
    "n": st.none() | st.integers(-3, 3) | st.sampled_from([2**63 - 1, -(2**63), 2**62]),
    "s": st.none() | st.text("ab", max_size=2),
    "b": st.none() | st.booleans(),
    "a": st.none() | st.lists(st.none() | st.integers(0, 1), max_size=2),
}


def aggregations(*, offsets: bool = True) -> st.SearchStrategy[Aggregation]:
    """An aggregation over a few microseconds."""
    return window_strategies.aggregations(COLUMNS, conditions=[POSITIVE], offsets=offsets)


def layouts(size: int = 6) -> st.SearchStrategy[WindowLayout]:
    """The layout of one to a few aggregations."""
    return st.lists(aggregations(), min_size=1, max_size=size).map(layout_of)


def layout_of(given: list[Aggregation]) -> WindowLayout:
    return window_layout(given, COLUMNS)


@st.composite
def statements(draw: Any, span: int = 60, ids: bool = False) -> list[Statement]:
    """Statements of one key about events in a span of microseconds around 1970."""
    rows: list[Statement] = []
    times: dict[Any, int] = {}
    ties: set[tuple[int, int]] = set()
    for number in range(1, draw(st.integers(0, 25)) + 1):
        event = draw(st.integers(-span // 2, span // 2))
        event_id = draw(st.none() | st.integers(1, 5)) if ids else None
        event = times.setdefault(event_id, event) if event_id is not None else event
        created = event + draw(st.sampled_from([0, 0, -5, 1, 30]))
        from_log = draw(st.integers(0, 3)) > 0
        values = {name: draw(strategy) for name, strategy in VALUES.items()}
        if not from_log and event_id is not None:
            # a rebuild takes source rows all at once: which of those that tie counts is not decided one by one
            if (event_id, max(event, created)) in ties:
                continue
            ties.add((event_id, max(event, created)))
        rows.append(Statement(KEY, values, event, created, from_log, number if from_log else 0, event_id))
    return rows


def event_of(row: Statement) -> WindowEvent:
    """A statement as rows take it."""
    values = {name: stored_form(dtype, row.values[name]) for name, dtype in COLUMNS.items()}
    holds = frozenset(text for text, true in CONDITIONS.items() if true(row.values))
    name = None if row.event_id is None else event_digest(row.event_id, row.event)
    return WindowEvent(row.event, row.created, row.from_log, row.position, values, holds, name)


@dataclass(frozen=True)
class Right:
    """What a feature should be."""

    feature: WindowFeature
    answer: WindowAnswer


def right_values(layout: WindowLayout, rows: list[Statement], deletes: Any, at: int) -> list[Right]:
    """The reference's answers for the features of a layout."""
    made = []
    for feature in layout.features:
        each = layout.lists[feature.list]
        where = None if each.where is None else CONDITIONS[each.where]
        window = feature.window
        request = WindowRequest(
            feature.function,
            each.column,
            each.dtype,
            window.width,
            window.hop,
            window.offset,
            where,
            n=feature.n,
            q=feature.q or 0.0,
            max_distinct=feature.n,
            default=feature.default,
        )
        made.append(Right(feature, window_answer(request, rows, deletes, KEY, at)))
    return made


def is_right(right: Right, value: Any) -> bool:
    """Whether a value that was read is the reference's, to the last bit or within the bound."""
    if right.answer.overflow:
        return value.status in (Status.UNAVAILABLE, Status.NULL)
    if value.status is not right.answer.status:
        return False
    if value.value is None or right.answer.value is None:
        return value_order(value.value) == value_order(right.answer.value)
    return agrees(right.answer, value.value)


def events_of_rows(r: random.Random, rows: int, rounds: int, span: int) -> list[list[WindowEvent | None]]:
    """For each of some rounds an event of each of some rows, or none, with values of `SPECIAL`.

    Some are late, older than all, from the future, or at one instant with others. In a round, neighbours have special
    values of all kinds beside ordinary ones; the first and the last ones of a row are special.
    """
    kinds = r.choices(["next", "same", "late", "oldest", "future"], [4, 1, 1, 1, 1], k=r.randint(1, 6))
    made: list[list[WindowEvent | None]] = []
    now = 0
    for number in range(rounds):
        now += r.choice([1, 1, 3, span // 4, span])
        events: list[WindowEvent | None] = []
        for row in range(rows):
            at = {
                "next": now + row % 3,
                "same": now,
                "late": now - r.randrange(span),
                "oldest": -2 * span,
                "future": now + r.randrange(span),
            }[r.choice(kinds)]
            special = number in (0, rounds - 1) or r.random() < 0.5
            values = {name: r.choice(some) if special else some[-1] for name, some in SPECIAL.items()}
            stored = {name: stored_form(NUMBERS[name], value) for name, value in values.items()}
            event = WindowEvent(at, at + r.choice([0, 0, 2, span]), True, number * rows + row + 1, stored)
            events.append(None if r.random() < 0.1 else event)
        made.append(events)
    return made
