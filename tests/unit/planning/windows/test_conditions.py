"""Conditions over rows: each answer is that of a plain three-valued evaluator, one row at a time."""

import math
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.definitions.conditions import (
    Arithmetic,
    Column,
    Comparison,
    Every,
    IsNull,
    Literal,
    Not,
    OneOf,
    Some,
    condition_text,
    parse_condition,
)
from headwater.planning.windows.conditions import conditions
from headwater.testing import rounds
from headwater.types import Array, Bool, Bytes, Date, Float32, Float64, Int32, Int64, String, Timestamp

COLUMNS = {
    **{"i": Int64, "j": Int32, "x": Float64, "y": Float32, "t": String, "u": String},
    **{"b": Bool, "at": Timestamp, "day": Date, "list": Array(Int64), "raw": Bytes},
}
VALUES = {
    "i": [None, 0, 1, -1, 3, 2**62, -(2**63), 2**63 - 1],
    "j": [None, 0, 1, -(2**31), 2**31 - 1],
    "x": [None, 0.0, -0.0, 1.0, 0.5, math.nan, math.inf, -math.inf, 2.0**62, 1e308],
    "y": [None, 0.0, 1.0, 0.5, math.nan, -math.inf],
    "t": [None, "", "a", "b", "it's", "ä", "z"],
    "u": [None, "", "a", "Z"],
    "b": [None, True, False],
    "at": [None, *(datetime(1969, 12, 31, 23, tzinfo=UTC), datetime(2025, 1, 31, 8, 30, tzinfo=UTC))],
    "day": [None, date(1969, 12, 31), date(2025, 1, 31)],
    "list": [None, [1], []],
    "raw": [None, b"", b"\xff"],
}
numbers = st.sampled_from(["i", "j", "x", "y"]).map(Column) | st.sampled_from([0, 1, -1, 2**62, 0.5, 1.0, -0.0]).map(
    Literal
)
calculated = st.recursive(
    numbers, lambda inner: st.builds(Arithmetic, st.sampled_from("+-*"), inner, inner), max_leaves=4
)
texts = st.sampled_from(["t", "u"]).map(Column) | st.sampled_from(["", "a", "it's"]).map(Literal)
instants = st.sampled_from([Column("at"), Literal("2025-01-31 08:30:00"), Literal("1969-12-31T23:00:00Z", "timestamp")])
days = st.sampled_from([Column("day"), Literal("2025-01-31", "date")])
signs = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])


def _compared(side):
    return st.builds(Comparison, signs, side, side)


bools = st.sampled_from([Column("b"), Literal(True), Literal(False)]) | _compared(numbers)
predicates = st.one_of(
    _compared(calculated),
    _compared(texts),
    st.builds(Comparison, signs, days, days),
    st.builds(Comparison, signs, st.just(Column("at")), instants),
    _compared(bools),
    st.builds(OneOf, bools, st.lists(st.sampled_from([True, False]).map(Literal), min_size=1, max_size=12).map(tuple)),
    st.just(Comparison("=", Column("raw"), Column("raw"))),
    st.builds(
        OneOf, calculated, st.lists(st.sampled_from([0, 1, 0.5, 7]).map(Literal), min_size=1, max_size=3).map(tuple)
    ),
    st.builds(OneOf, st.just(Column("i")), st.just(tuple(map(Literal, range(12))))),
    st.builds(OneOf, texts, st.lists(st.sampled_from("abc").map(Literal), min_size=1, max_size=12).map(tuple)),
    st.builds(IsNull, st.sampled_from([*COLUMNS]).map(Column) | calculated),
    st.sampled_from([Column("b"), Literal(True), Literal(False)]),
)
trees = st.recursive(
    predicates,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: Every(tuple(parts))),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: Some(tuple(parts))),
    ),
    max_leaves=6,
)
rows = st.lists(st.fixed_dictionaries({name: st.sampled_from(pool) for name, pool in VALUES.items()}), max_size=12)


def truth(term, row):
    """True, False or None."""
    match term:
        case Column(name):
            return row[name]
        case Literal(value, kind):
            return as_time(value, kind) if kind else value
        case Arithmetic(sign, left, right):
            a, b = truth(left, row), truth(right, row)
            if a is None or b is None:
                return None
            if isinstance(a, int) and isinstance(b, int):
                made = {"+": a + b, "-": a - b, "*": a * b}[sign]
                return made if -(2**63) <= made < 2**63 else None
            with np.errstate(all="ignore"):
                a, b = np.float64(a), np.float64(b)
                return float({"+": a + b, "-": a - b, "*": a * b}[sign])
        case Comparison(sign, left, right):
            a, b = truth(left, row), truth(right, row)
            for side, other in ((left, right), (right, left)):
                if isinstance(side, Literal) and side.value == "2025-01-31 08:30:00" and other == Column("at"):
                    a, b = row["at"], as_time(side.value, "timestamp")
            return compare(sign, a, b)
        case OneOf(value, literals):
            found = [compare("=", truth(value, row), literal.value) for literal in literals]
            return True if True in found else None if None in found else False
        case IsNull(value):
            return truth(value, row) is None
        case Not(value):
            found = truth(value, row)
            return None if found is None else not found
        case Every(parts):
            found = [truth(part, row) for part in parts]
            return False if False in found else None if None in found else True
        case Some(parts):
            found = [truth(part, row) for part in parts]
            return True if True in found else None if None in found else False


def as_time(text, kind):
    if kind == "date":
        return date.fromisoformat(text)
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def compare(sign, a, b):
    if a is None or b is None:
        return None
    if isinstance(a, float) or isinstance(b, float):
        a, b = float(a), float(b)
        a, b = ((v != v, 0.0 if v != v else v) for v in (a, b))
    elif isinstance(a, str):
        a, b = a.encode(), b.encode()
    return {"=": a == b, "<>": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[sign]


@settings(max_examples=rounds(100))
@given(st.lists(trees, min_size=1, max_size=3), rows)
def test_conditions_hold_where_a_plain_evaluator_says_so(made, given_rows):
    made = [parse_condition(condition_text(tree)) for tree in made]
    table = pa.table(
        {name: pa.array([row[name] for row in given_rows], dtype.arrow) for name, dtype in COLUMNS.items()}
    )
    found = conditions(map(condition_text, made), COLUMNS).holds(table)
    for tree, answers in zip(made, found, strict=True):
        assert answers.dtype == bool
        assert answers.tolist() == [truth(tree, row) is True for row in given_rows], condition_text(tree)


def test_other_forms_of_columns_are_cast():
    table = pa.table(
        {
            "i": pa.array([1, 2, None], pa.uint8()),
            "t": pa.array(["a", "b", "a"]).dictionary_encode(),
            "at": pa.array([0, 1, 2], pa.timestamp("s", "Europe/Berlin")),
            "u": pa.chunked_array([pa.array(["a"], pa.large_string()), pa.array(["b", "c"], pa.large_string())]),
        }
    )
    made = conditions(["i >= 1 AND t = 'a'", "at < '1970-01-01 00:00:02'", "u IN ('b', 'c')"], COLUMNS)
    assert made.names == ("i", "t", "at", "u")
    assert [answer.tolist() for answer in made.holds(table)] == [
        [True, False, False],
        [True, True, False],
        [False, True, True],
    ]
    assert [answer.tolist() for answer in made.holds(table.slice(0, 0))] == [[], [], []]
    assert conditions([], COLUMNS).holds(table) == []
    assert made.holds(table.combine_chunks().to_batches()[0])[0].tolist() == [True, False, False]


@pytest.mark.parametrize("text", ["1 < 2", "TRUE", "NOT FALSE AND 'a' <= 'b'", "1 IN (1, 2)"])
def test_a_condition_without_columns_holds_for_every_row(text):
    table = pa.table({"i": [1, 2]})
    assert conditions([text], COLUMNS).holds(table)[0].tolist() == [True, True]
