"""Aggregations as users write them: names, default hops, bounds, and what is wrong in plain words."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.clock import parse_duration
from headwater.definitions.aggregate_functions import FUNCTIONS, result_dtype
from headwater.definitions.aggregation import Aggregation, empty_value
from headwater.definitions.aggregation_checks import aggregation_problems, column_problems, view_problems
from headwater.definitions.window_hops import MOST_HOPS, default_hop, fitting_hop, hop_problem, micros_of
from headwater.definitions.window_names import whole_units
from headwater.types import Array, Bool, Bytes, Date, Embedding, Float32, Float64, Int32, Int64, String, Timestamp


def micros(text):
    return micros_of(parse_duration(text))


@pytest.mark.parametrize(
    ("name", "aggregation"),
    [
        ("delay_mean_7d", Aggregation("delay", "mean", "7d")),
        ("delay_mean_1d", Aggregation("delay", "mean", "24h")),
        ("delay_mean_36h", Aggregation("delay", "mean", "1d12h")),
        ("delay_mean_90m", Aggregation("delay", "mean", window=timedelta(minutes=90))),
        ("rows_count_1h", Aggregation(None, "count", "1h")),
        ("rows_count_lifetime", Aggregation(None, "count", None)),
        ("delay_max_1d_before_7d", Aggregation("delay", "max", "1d", offset="1w")),
        ("delay_last_n_250ms", Aggregation("delay", "last_n", "250ms", n=3)),
        ("worst", Aggregation("delay", "max", "1d", name="worst")),
    ],
)
def test_names(name, aggregation):
    assert aggregation.feature_name == name
    assert aggregation_problems(aggregation) == []


@pytest.mark.parametrize(
    ("window", "hop"),
    [("1s", "1s"), ("5m", "5m"), ("12h", "5m"), ("12h1s", "1h"), ("12d", "1h"), ("12d1s", "1d"), ("30d", "1d")],
)
def test_default_hops(window, hop):
    assert default_hop(micros(window)) == micros(hop) == Aggregation("x", "sum", window).hop_micros
    assert Aggregation("x", "sum", None).hop_micros == 0


@given(st.integers(1, 10**16), st.integers(0, 10**16))
def test_a_hop_that_is_named_fits(width, offset):
    hop = fitting_hop(width, offset)
    if hop is None:
        assert offset + width > MOST_HOPS * width
    else:
        assert hop_problem(width, hop, offset) is None


def test_too_many_hops_name_one_that_fits():
    problem = aggregation_problems(Aggregation("x", "sum", "30d", hop="5m"))
    assert problem == ["a window of 30d in hops of 5m spans 8,640 hops, more than 1,024: set hop='1h'"]
    problem = aggregation_problems(Aggregation("x", "sum", "1h", offset="30d"))
    assert problem == ["a window of 1h before 30d in hops of 5m spans 8,652 hops, more than 1,024: set hop='1h'"]
    (problem,) = aggregation_problems(Aggregation("x", "sum", "1s", offset="1h"))
    assert "no hop fits, since a hop is at most the window" in problem
    assert aggregation_problems(Aggregation("x", "sum", "1024d", hop="1d")) == []


def test_a_window_reaches_back_no_further_than_events_can_be():
    assert aggregation_problems(Aggregation("x", "sum", "3652059d", hop="3652059d")) == []
    (problem,) = aggregation_problems(Aggregation("x", "sum", "3652060d", hop="5000d"))
    assert problem.startswith("a window of 3652060d reaches back further than 3,652,059 days")
    (problem,) = aggregation_problems(Aggregation("x", "sum", "365d", hop="365d", offset="3652059d"))
    assert "a window of 365d before 3652059d" in problem and "give window=None for all events" in problem
    assert aggregation_problems(Aggregation("x", "sum", "7h", hop="2h")) == []


@pytest.mark.parametrize(
    ("aggregation", "problem"),
    [
        (Aggregation("x", "average", "1d"), "'average' is not a function; they are count, count_distinct, sum, mean"),
        (Aggregation("x", "men", "1d"), "did you mean 'mean'?"),
        (Aggregation(None, "sum", "1d"), "sum needs a column"),
        (Aggregation("x", "seconds_since_last", "1d"), "its column must be None, not 'x'"),
        (Aggregation(3, "sum", "1d", name="y"), "column must be the name of a column or None, not 3"),
        (Aggregation("x", "sum", "soon"), "window: 'soon' is not a duration"),
        (Aggregation("x", "sum", "0s"), "must be longer than zero"),
        (Aggregation("x", "sum", "1h", hop="2h"), "hop 2h is longer than the window of 1h"),
        (Aggregation("x", "sum", "1h", hop="0s"), "hop 0s must be longer than zero"),
        (Aggregation("x", "sum", "1h", offset="0s"), "omit it for a window that ends now"),
        (Aggregation("x", "sum", None, hop="1h"), "a lifetime aggregation (window=None) takes no hop="),
        (Aggregation("x", "sum", None, offset="1h"), "a lifetime aggregation (window=None) takes no offset="),
        (Aggregation("x", "rate", None), "rate needs a window: it cannot be over a lifetime"),
        (Aggregation("x", "sum", "1d", n=3), "sum does not take n="),
        (Aggregation("x", "sum", "1d", q=0.5), "sum does not take q="),
        (Aggregation("x", "sum", "1d", max_distinct=7), "sum does not take max_distinct="),
        (Aggregation("x", "last_n", "1d"), "last_n needs n=, a whole number from 1 to 1,000, not None"),
        (Aggregation("x", "last_n", "1d", n=True), "not True"),
        (Aggregation("x", "quantile", "1d", q=2), "quantile needs q=, a number from 0 to 1, not 2"),
        (Aggregation("x", "quantile", "1d", q=float("nan")), "not nan"),
        (Aggregation("x", "count_distinct", "1d", max_distinct=1), "max_distinct must be a whole number from 16"),
        (Aggregation("x", "sum", "1d", errors="ignore"), "errors='ignore' is not one of raise, null"),
        (Aggregation("x", "max", "1d", errors="null"), "max cannot overflow"),
        (Aggregation("x", "sum", "1d", where="x > 0"), "an aggregation with where= needs name="),
        (Aggregation("x", "sum", "1d", where=7, name="y"), "where must be a condition in text"),
        (Aggregation("a b", "sum", "1d"), "give name="),
        (Aggregation("x", "sum", "1d", over="c"), "over= and values= belong together"),
        (Aggregation("x", "sum", "1d", over="c", values=[]), "values must not be empty"),
        (Aggregation("x", "sum", "1d", over="c", values=["a-b", "a b"]), "two of them make the same name"),
        (Aggregation("x", "sum", "1d", over="c", values=[1.5]), "values: 1.5 must be text, a whole number of"),
        (Aggregation("x", "sum", "1d", over="c", values=[2**63]), "must be text, a whole number of 64 bits or a bool"),
        (Aggregation("x", "sum", "1d", over="c", values="ab"), "values: must be a list, not 'ab'"),
    ],
)
def test_what_is_wrong_is_said(aggregation, problem):
    problems = aggregation_problems(aggregation)
    assert len(problems) == 1 and problem in problems[0], problems


def test_over_makes_one_aggregation_a_value():
    given = Aggregation("amount", "sum", "7d", over="category", values=("food", "it's", 7))
    assert [made.feature_name for made in given.expanded()] == [
        "amount_sum_7d_food",
        "amount_sum_7d_it_s",
        "amount_sum_7d_7",
    ]
    assert [made.where for made in given.expanded()] == [
        "\"category\" = 'food'",
        "\"category\" = 'it''s'",
        '"category" = 7',
    ]
    assert aggregation_problems(given) == []
    named = Aggregation("amount", "sum", "7d", over="c", values=("x",), where="amount > 0", name="spent")
    assert [(made.feature_name, made.where) for made in named.expanded()] == [
        ("spent_x", "(amount > 0) AND \"c\" = 'x'")
    ]


def test_two_of_one_name():
    pair = [Aggregation("x", "quantile", "1d", q=0.5), Aggregation("x", "quantile", "1d", q=0.9)]
    assert view_problems(pair) == ["two aggregations are named 'x_quantile_1d'; give one of them name="]
    assert view_problems([pair[0], Aggregation("x", "quantile", "1d", q=0.9, name="p90")]) == []


@pytest.mark.parametrize(
    ("function", "column", "result"),
    [
        ("count", None, Int64),
        ("count", Embedding(3), Int64),
        ("count_distinct", Bytes, Int64),
        ("sum", Int32, Int64),
        ("sum", Bool, Int64),
        ("sum", Float32, Float64),
        ("mean", Int64, Float64),
        ("stddev_samp", Bool, Float64),
        ("min", Float32, Float32),
        ("max", String, String),
        ("first", Date, Date),
        ("last", Timestamp, Timestamp),
        ("last_n", Int32, Array(Int32)),
        ("first_n", Array(String), Array(Array(String))),
        ("quantile", Int64, Float64),
        ("rate", String, Float64),
        ("seconds_since_last", None, Float64),
    ],
)
def test_result_dtypes(function, column, result):
    assert result_dtype(function, column) == result


@pytest.mark.parametrize(
    ("aggregation", "problem"),
    [
        (
            Aggregation("name", "sum", "1d"),
            "sum cannot take a column of String; it takes Bool, Float32, Float64, Int32",
        ),
        (Aggregation("flag", "quantile", "1d", q=0.5), "quantile cannot take a column of Bool"),
        (Aggregation("vector", "max", "1d"), "max cannot take a column of Embedding(2)"),
        (Aggregation("nam", "max", "1d"), "column 'nam' does not exist; the source has name, flag, vector, x"),
        (Aggregation("x", "sum", "1d", default="none"), "default 'none' is not a value of Float64"),
        (Aggregation("x", "sum", "1d", errors="null"), "a sum of floats cannot overflow"),
    ],
)
def test_what_a_column_makes_wrong(aggregation, problem):
    columns = {"name": String, "flag": Bool, "vector": Embedding(2), "x": Float64}
    assert column_problems(Aggregation("x", "mean", "1d", default=0), columns) == []
    (shown,) = column_problems(aggregation, columns)
    assert problem in shown


def test_empty_values():
    empty = {name: empty_value(name) for name in FUNCTIONS}
    assert {name for name, value in empty.items() if value is None} == set(FUNCTIONS) - {
        "count",
        "count_distinct",
        "rate",
        "last_n",
        "last_n_distinct",
        "first_n",
    }
    assert empty["count"] == empty["count_distinct"] == empty["rate"] == 0 and empty["last_n"] == []


@given(st.integers(1, 10**15))
def test_names_of_durations_are_exact(duration):
    assert micros_of(parse_duration(whole_units(duration))) == duration


def test_a_window_that_cannot_be_read_is_named_as_it_was_written():
    assert Aggregation("x", "sum", "7 parsecs").feature_name == "x_sum_7_parsecs"
    assert Aggregation(None, "count", "soon").feature_name == "rows_count_soon"
    assert Aggregation("x", "sum", "soon", name="s").feature_name == "s"
