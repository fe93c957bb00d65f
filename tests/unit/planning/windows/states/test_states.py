"""Aggregates against the reference: in any order and any split, to the last bit or within the stated bound."""

import math
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headwater.planning.windows.kinds import KIND_OF, Overflow, Unanswerable, finish, state_kind
from headwater.planning.windows.states.distinct import Distinct
from headwater.planning.windows.values import Entry, stored_form
from headwater.testing import rounds
from headwater.testing.oracle import value_order
from headwater.testing.window_oracle import Statement, WindowRequest, aggregate, agrees
from headwater.types import (
    Array,
    Bool,
    Bytes,
    Date,
    DType,
    Embedding,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    Timestamp,
)

TINY_AND_HUGE = [
    0.0,
    -0.0,
    math.nan,
    math.inf,
    -math.inf,
    5e-324,
    1e-160,
    -1e-160,
    1e18,
    1e9,
    1e9 + 1,
    1.7e308,
    -1.7e308,
]
FLOATS = st.sampled_from(TINY_AND_HUGE) | st.floats() | st.integers(-5, 5).map(float)
USUAL = st.floats(-1e6, 1e6) | st.floats(1e9, 1e9 + 10)
WHOLE = st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5) | st.sampled_from([2**63 - 1, -(2**63)])
VALUES: dict[DType, st.SearchStrategy[Any]] = {
    Float64: FLOATS,
    Float32: st.floats(width=32),
    Int64: WHOLE,
    Int32: st.integers(-(2**31), 2**31 - 1),
    Bool: st.booleans(),
    String: st.text("aé\U0001f600\uffff", max_size=3),
    Bytes: st.binary(max_size=2),
    Timestamp: st.integers(-(10**12), 10**12),
    Date: st.integers(-700_000, 2_900_000),
    Array(Float64): st.lists(st.none() | FLOATS, max_size=2),
    Array(String): st.lists(st.none() | st.text("ab", max_size=1), max_size=2),
    Embedding(2): st.lists(st.floats(width=32), min_size=2, max_size=2),
}
NUMBERS, FLOATING = [Float64, Float32, Int64, Int32, Bool], [Float64, Float32]
SPREADS = ("var_pop", "var_samp", "stddev_pop", "stddev_samp")
SCALARS = [*NUMBERS, String, Bytes, Timestamp, Date]
TAKES = {
    **{function: list(VALUES) for function in ("count", "last_n", "last_n_distinct", "first_n")},
    **dict.fromkeys(("min", "max", "first", "last", "count_distinct"), SCALARS),
    **dict.fromkeys(("sum", "mean", *SPREADS), NUMBERS),
    "quantile": NUMBERS[:-1],
    "rate": [Float64],
    "seconds_since_last": [None],
}


def statement(event: int, created: int, from_log: bool, number: int, value: Any) -> Statement:
    return Statement((1,), {"x": value}, event, created, from_log, number if from_log else 0)


def entry_of(request: WindowRequest, row: Statement) -> Entry:
    value = None if request.dtype is None else stored_form(request.dtype, row.values["x"])
    return Entry(row.event, row.created, row.from_log, row.position, value)


def rows_of(values: st.SearchStrategy[Any], size: int = 12) -> st.SearchStrategy[list[Statement]]:
    instants = st.integers(-3, 3)
    parts = st.tuples(instants, instants, st.booleans(), values)
    return st.lists(parts, max_size=size).map(
        lambda drawn: [statement(*part[:3], number, part[3]) for number, part in enumerate(drawn, 1)]
    )


def folded(request: WindowRequest, n: int, rows: list[Statement], r: random.Random) -> Any:
    """The state of rows in a random order, in parts that are merged at random."""
    kind = state_kind(KIND_OF[request.function], n)
    order = r.sample(rows, len(rows))
    parts: list[Any] = [None]
    for row in order:
        if r.random() < 0.3:
            parts.append(None)
        i = r.randrange(len(parts))
        before = parts[i]
        parts[i] = kind.add(before, entry_of(request, row))
    while len(parts) > 1:
        one = parts.pop(r.randrange(len(parts)))
        i = r.randrange(len(parts))
        parts[i] = kind.merge(parts[i], one)
    return parts[0]


def got(request: WindowRequest, n: int, state: Any, start: int, at: int) -> Any:
    kind = state_kind(KIND_OF[request.function], n)
    state = None if state is None else kind.since(state, start)
    length = request.max_distinct if request.function == "count_distinct" else request.n
    return finish(request.function, state, start=start, at=at, width=request.width, n=length, q=request.q)


@st.composite
def cases(draw: Any, functions: list[str], values: dict[DType, Any] = VALUES) -> tuple[WindowRequest, list[Statement]]:
    function = draw(st.sampled_from(functions))
    dtype = draw(st.sampled_from([dtype for dtype in TAKES[function] if dtype is None or dtype in values]))
    rows = draw(rows_of(st.none() if dtype is None else values[dtype]))
    request = WindowRequest(
        function,
        None if dtype is None else "x",
        dtype,
        width=draw(st.integers(1, 10**13)),
        hop=1,
        n=draw(st.integers(1, 4)),
        q=draw(st.sampled_from([0.0, 0.5, 0.9, 0.1 + 0.2, 1.0]) | st.floats(0, 1)),
        max_distinct=draw(st.sampled_from([2, 3, 1000])),
    )
    return request, rows


def check(request: WindowRequest, rows: list[Statement], seed: int) -> None:
    n = request.max_distinct if request.function == "count_distinct" else request.n
    answer = aggregate(request, rows, at=10)
    state = folded(request, n, rows, random.Random(seed))
    if answer.overflow:
        with pytest.raises(Overflow):
            got(request, n, state, -3, 10)
        return
    value = got(request, n, state, -3, 10)
    assert agrees(answer, value), (answer, value)


@pytest.mark.parametrize("function", TAKES)
@settings(max_examples=rounds(40))
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_any_order_and_any_split_gives_the_references_value(function, data, seed):
    check(*data.draw(cases([function])), seed)


BY_ORDER = ["min", "max", "first", "last", "last_n_distinct", "count_distinct", "quantile"]


@pytest.mark.parametrize("function", BY_ORDER)
@settings(max_examples=rounds(60))
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_nan_zeros_and_infinities_have_their_order(function, data, seed):
    few = st.sampled_from([math.nan, 0.0, -0.0, math.inf, -math.inf, 1.0])
    check(*data.draw(cases([function], {Float64: few})), seed)


USUAL_NUMBERS = {Float64: USUAL, Int64: st.integers(10**9, 10**9 + 10) | WHOLE}


@settings(max_examples=rounds(150))
@given(cases(["sum", "mean", *SPREADS], USUAL_NUMBERS), st.integers(0, 99))
def test_numbers_are_within_the_bound(case, seed):
    check(*case, seed)


@pytest.mark.parametrize("function", ["sum", "mean", "var_pop", "var_samp", "stddev_samp"])
@pytest.mark.parametrize("near", [0.0, 1.0, 1e9, 1e15, 1e17])
def test_many_numbers_are_within_the_bound(function, near):
    r = random.Random(int(near))
    for size in (2, 3, 10, 1000):
        values = [near + r.gauss(0, 1) for _ in range(size)]
        rows = [statement(r.randrange(9), 0, True, i, value) for i, value in enumerate(values, 1)]
        check(WindowRequest(function, "x", Float64, 10, 1), rows, size)


@given(st.floats(-1e300, 1e300), st.integers(2, 30), st.integers(0, 99))
def test_the_variance_of_equal_values_is_exactly_zero(value, size, seed):
    rows = [statement(i, 0, True, i, value) for i in range(1, size)]
    for function in ("var_pop", "stddev_pop", "var_samp"):
        request = WindowRequest(function, "x", Float64, 10, 1)
        state = folded(request, 0, rows, random.Random(seed))
        assert got(request, 0, state, -3, 10) in ((0.0,) if size > 2 else (0.0, None))


@settings(max_examples=rounds(100))
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), max_size=120),
    st.sampled_from([1, 2, 5, 16]),
    st.integers(0, 2**32),
)
def test_a_distinct_count_of_any_window_depends_on_no_order(pairs, most, seed):
    rows = [statement(event, 0, True, i, value) for i, (event, value) in enumerate(pairs, 1)]
    request = WindowRequest("count_distinct", "x", Int64, 10, 1, max_distinct=most)
    kind: Any = state_kind("distinct", most)
    state = folded(request, most, rows, random.Random(seed))
    trimmed = None if state is None else kind.trimmed(state)
    if trimmed is not None:
        assert len(trimmed.newest) <= most * 12
    for start in range(-1, 42, 3):
        answer = aggregate(request, [row for row in rows if row.event >= start], at=50)
        assert got(request, most, state, start, 50) == answer.value
        assert got(request, most, trimmed, start, 50) == answer.value


def test_a_distinct_count_beyond_the_top_level_is_not_told():
    kind: Any = state_kind("distinct", 1)
    # two digests that begin with 20 zero bits
    state = kind.trimmed(Distinct({7: 5, 9: 5}))
    with pytest.raises(Unanswerable):
        finish("count_distinct", state, start=0, at=9, width=9, n=1, q=None)
    assert finish("count_distinct", state, start=6, at=9, width=9, n=1, q=None) == 0


@given(st.lists(FLOATS, min_size=1, max_size=30), st.floats(0, 1))
@example([5e-324, 5e-324], 0.5)
def test_a_quantile_is_within_its_bound_of_the_value_of_its_rank(values, q):
    rows = [statement(i, 0, True, i, value) for i, value in enumerate(values, 1)]
    request = WindowRequest("quantile", "x", Float64, 10, 1, q=q)
    value = got(request, 0, folded(request, 0, rows, random.Random(1)), -3, 99)
    right = sorted((v + 0.0 for v in values), key=value_order)[max(1, math.ceil(q * len(values))) - 1]
    if math.isfinite(right):
        assert abs(value - right) <= abs(right) / 128
    else:
        assert value_order(value) == value_order(right)
