"""The kernel beside the brute-force reference: any aggregations, events of several keys, deletes, event ids."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.definitions.aggregation import Aggregation
from headwater.offline.windows.edges import boundaries
from headwater.offline.windows.events import Deletes
from headwater.offline.windows.kernel import NO_EVENT, in_order, part_answer
from headwater.planning.windows.columns import Column
from headwater.planning.windows.event_ids import event_digests
from headwater.planning.windows.layout import WindowLayout, window_layout
from headwater.planning.windows.statements import Statements
from headwater.planning.windows.values import stored_form
from headwater.testing import rounds
from headwater.testing.oracle import Delete
from headwater.testing.window_oracle import Statement, WindowRequest, agrees, window_answer
from headwater.types import Status
from tests.unit.online.rows.windows.drawn import COLUMNS, CONDITIONS, layouts, statements

KEYS = 3
PLENTY = settings(max_examples=rounds(60), deadline=None)


def arrays(rows: list[Statement]) -> Statements:
    """Statements whose keys are numbers, as the kernel takes them."""
    columns = {
        name: Column.of(pa.array([row.values[name] for row in rows], dtype.arrow), dtype)
        for name, dtype in COLUMNS.items()
    }
    event = np.array([row.event for row in rows], np.int64)
    return Statements(
        np.array([row.key[0] for row in rows], np.int64),
        event,
        np.array([row.created for row in rows], np.int64),
        np.array([row.from_log for row in rows], bool),
        np.array([row.position for row in rows], np.int64),
        columns,
        {name: np.array([bool(true(row.values)) for row in rows], bool) for name, true in CONDITIONS.items()},
        event_digests(pa.array([row.event_id for row in rows], pa.int64()), event),
    )


def requests_of(layout: WindowLayout) -> list[WindowRequest]:
    made = []
    for feature in layout.features:
        each, window = layout.lists[feature.list], feature.window
        where = None if each.where is None else CONDITIONS[each.where]
        made.append(
            WindowRequest(
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
            )
        )
    return made


@st.composite
def keyed(draw: Any, ids: bool) -> tuple[list[Statement], list[Delete]]:
    """Statements of several keys, and deletes of them."""
    rows, deletes = [], []
    for key in range(KEYS):
        rows += [
            Statement((key,), s.values, s.event, s.created, s.from_log, s.position, s.event_id)
            for s in draw(statements(ids=ids))
        ]
        for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
            deletes.append(Delete((key,), draw(st.integers(-30, 50)), draw(st.integers(0, 25))))
    order = draw(st.permutations(range(len(rows)))) if len(rows) < 12 else range(len(rows))
    return [rows[i] for i in order], deletes


def check(layout: WindowLayout, rows: list[Statement], deletes: list[Delete], asked: Any, *, as_known: bool) -> None:
    key = np.array([each[0] for each in asked], np.int64)
    at = np.array([each[1] for each in asked], np.int64)
    gone = Deletes(
        np.array([d.key[0] for d in deletes], np.int64),
        np.array([d.through for d in deletes], np.int64),
        np.array([d.position for d in deletes], np.int64),
    )
    found = part_answer(layout, layout.features, arrays(rows), gone, KEYS, key, at, as_known=as_known)
    for feature, request, answer in zip(layout.features, requests_of(layout), found.features, strict=True):
        back = np.argsort(found.rows)
        values = [answer.arrow().to_pylist()[i] for i in back]
        assert answer.arrow().type == feature.dtype.arrow
        for i, (number, instant) in enumerate(asked):
            right = window_answer(request, rows, deletes, (number,), instant, as_known=as_known)
            overflow = answer.overflow is not None and bool(answer.overflow[back[i]])
            assert overflow == right.overflow
            value = stored_form(feature.dtype, values[i])
            told = (feature, number, instant, value, right)
            assert (value is None) == (right.status is Status.NULL), told
            assert value is None or agrees(right, value), told
            event = int(found.newest[back[i]])
            newest = None if event == NO_EVENT else event
            assert newest == right.event_time, told


ASKED = st.lists(st.tuples(st.integers(0, KEYS - 1), st.integers(-40, 80)), min_size=1, max_size=12)


@PLENTY
@given(layout=layouts(), said=keyed(ids=False), asked=ASKED, as_known=st.booleans())
def test_features_equal_the_reference(layout, said, asked, as_known):
    check(layout, *said, asked, as_known=as_known)


@PLENTY
@given(layout=layouts(3), said=keyed(ids=True), asked=ASKED, as_known=st.booleans())
def test_of_the_statements_of_one_event_the_least_counts(layout, said, asked, as_known):
    check(layout, *said, asked, as_known=as_known)


@given(layout=layouts(), as_known=st.booleans())
def test_no_events_at_all(layout, as_known):
    check(layout, [], [], [(0, 5), (2, -5)], as_known=as_known)


@pytest.mark.parametrize("function", ["last_n", "first_n", "last_n_distinct"])
def test_a_lifetime_does_not_reach_into_the_next_key(function):
    layout = window_layout([Aggregation("n", function, None, n=1)], COLUMNS)
    values = {"x": None, "n": 1, "s": None, "b": None, "a": None}
    rows = [Statement((1,), values, event, created, False) for event, created in ((0, 9), (0, 5), (1, 1), (0, 0))]
    check(layout, rows, [], [(0, 30), (1, 30), (2, 30)], as_known=True)


TIMES = st.one_of(st.integers(-50, 50), st.integers(-(2**62), 2**62))


@PLENTY
@given(st.sampled_from([(), (6, 4), (10,)]), st.lists(st.tuples(st.integers(0, 3), TIMES, st.integers(0, 30))))
def test_events_are_in_order_however_far_apart_they_are(hops, events):
    group = np.array([group for group, _, _ in events], np.int64)
    event = np.array([event for _, event, _ in events], np.int64)
    known = np.array([event + late for _, event, late in events], np.int64)
    boundary = boundaries(event, hops)
    order = in_order(4, group, boundary, known, math.gcd(*hops))
    assert sorted(order.tolist()) == list(range(len(events)))
    along = [(group[i], boundary[i], known[i]) for i in order]
    assert along == sorted(along)
