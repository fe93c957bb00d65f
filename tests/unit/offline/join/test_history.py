"""Point-in-time joins by hand: each rule once, in small numbers; random cases are in tests/conformance."""

from dataclasses import replace
from itertools import product

import pyarrow as pa
import pytest
from hypothesis import given, settings

import headwater as hw
from headwater.errors import UsageError
from headwater.offline.engines.duckdb.engine import POWERS, DuckDBEngine
from headwater.offline.join.workspace import PackedLimits
from headwater.testing import rounds
from headwater.testing.dense import dense_case
from headwater.testing.offline_suite import FEW, check_history
from headwater.testing.strategies import history_cases
from tests.matrices import share
from tests.unit.offline.asking import ask, at, spine, table, view


@pytest.fixture(scope="module")
def engine():
    engine = DuckDBEngine()
    yield engine
    engine.close()


@pytest.fixture(scope="module", params=[0, 20], ids=["by-windows", "then-looked-at"])
def windowed(request):
    """Few pairs are joined at once, so that windows, what they leave and as-of joins all take part."""
    engine = DuckDBEngine(powers=replace(POWERS, packed=PackedLimits(20, request.param)))
    yield engine
    engine.close()


@settings(FEW, max_examples=rounds(4))
@given(case=history_cases())
def test_windows_equal_the_oracle(windowed, case):
    check_history(windowed, case)


@pytest.mark.parametrize(("limit", "looks", "late"), share(product([3_000, 30_000], [0, 3_000], [0.0, 0.9]), 2))
def test_windows_of_many_rows_equal_the_oracle(limit, looks, late):
    engine = DuckDBEngine(powers=replace(POWERS, packed=PackedLimits(limit, looks)))
    check_history(engine, dense_case(rows=2_000, spine=500, keys=2, span=600, late=late, ttl=0, seed=7))
    engine.close()


def temps(result):
    return result.to_arrow().column("temp").to_pylist()


def test_the_latest_row_at_or_before_each_instant(engine):
    source = table(("JFK", at(-60), 1.0), ("JFK", at(0), 2.0), ("JFK", at(60), 3.0))
    assert temps(ask(engine, spine(("JFK", -1), ("JFK", 0), ("JFK", 59.9)), [view(source)])) == [1.0, 2.0, 2.0]


def test_the_edge_of_the_ttl_counts(engine):
    source = table(("JFK", at(0), 1.0))
    asked = ask(engine, spine(("JFK", 10), ("JFK", 10.001)), [view(source, ttl="10m")], include=("status",))
    assert asked.to_arrow().column("temp__status").to_pylist() == ["PRESENT", "EXPIRED"]


def test_a_default_fills_what_is_absent_and_no_null_of_a_row(engine):
    source = table(("JFK", at(0), None), ("EWR", at(0), 5.0))
    feature = hw.Feature("temp", hw.Float64, default=-1.0)
    asked = ask(engine, spine(("JFK", 1), ("EWR", 1), ("LGA", 1), (None, 1)), [view(source, feature)])
    assert temps(asked) == [None, 5.0, -1.0, -1.0]


def test_a_delay_withholds_and_as_known_false_does_not(engine):
    source = table(("JFK", at(0), 1.0), delay="10m")
    asked = spine(("JFK", 9), ("JFK", 10))
    assert temps(ask(engine, asked, [view(source)])) == [None, 1.0]
    hindsight = ask(engine, asked, [view(source)], as_known=False)
    assert temps(hindsight) == [1.0, 1.0] and not hindsight.metadata.as_known


def test_exact_ties_go_by_features_in_order_of_name(engine):
    columns = "airport happened a b"
    source = table(
        ("JFK", at(0), 1.0, "z"), ("JFK", at(0), float("nan"), "a"), ("JFK", at(0), None, "zz"), columns=columns
    )
    asked = ask(engine, spine(("JFK", 1)), [view(source, hw.Feature("b", hw.String), hw.Feature("a", hw.Float64))])
    assert asked.to_arrow().column("b").to_pylist() == ["a"]


def test_arrays_tie_by_element(engine):
    source = table(
        ("JFK", at(0), [None, 9]), ("JFK", at(0), [1]), ("JFK", at(0), [1, None]), columns="airport happened a"
    )
    asked = ask(engine, spine(("JFK", 1)), [view(source, hw.Feature("a", hw.Array(hw.Int64)))])
    assert asked.to_arrow().column("a").to_pylist() == [[1, None]]


def test_order_of_columns(engine):
    first = view(table(("JFK", at(0), 1.0, 2.0), columns="airport happened a b"), *_features("a", "b"), name="v")
    second = view(table(("JFK", at(0), 3.0), columns="airport happened c"), *_features("c"), name="w")
    asked = ask(engine, spine(("JFK", 1)), [first, second], ["v:b", "w:c", "v:a"], include=("status", "event_time"))
    names = ["b", "b__status", "c", "c__status", "w__event_time", "a", "a__status", "v__event_time"]
    assert asked.to_arrow().column_names == ["airport", "timestamp", *names]


def _features(*names):
    return [hw.Feature(name, hw.Float64) for name in names]


def test_a_view_by_alias_and_by_its_own_key(engine):
    facts = view(table(("JFK", 13.0), ("EWR", 18.0), columns="airport temp", event_time=None), name="facts")
    flights = pa.table({"airport": ["JFK"], "dest": ["EWR"], "timestamp": [at()]})
    asked = ask(engine, flights, [facts], ["facts:temp", facts.alias("dest", join_key_map={"airport": "dest"})])
    assert asked.to_arrow().select(["temp", "dest__temp"]).to_pylist() == [{"temp": 13.0, "dest__temp": 18.0}]


def test_global_values_join_every_row(engine):
    rates = view(table((at(0), 0.5), (at(5), 0.7), columns="happened temp"), entity=(), name="rates")
    assert temps(ask(engine, spine(("JFK", 1), (None, 6)), [rates])) == [0.5, 0.7]


def test_without_a_spine_each_known_entity_is_a_row(engine):
    source = table(("JFK", at(-90), 1.0), ("EWR", at(-1), 2.0), ("LGA", at(1), 3.0))
    asked = ask(engine, None, [view(source, ttl="1h")], at=int(at().timestamp() * 1_000_000))
    found = {row["airport"]: row["temp"] for row in asked.to_arrow().to_pylist()}
    assert found == {"JFK": None, "EWR": 2.0}
    assert asked.metadata.views["weather"].expired == 1


def test_without_a_spine_keys_must_be_shared(engine):
    other = view(table((1, at(0), 1.0), columns="user happened n"), *_features("n"), name="u", entity=_user())
    with pytest.raises(UsageError, match="give a spine"):
        ask(engine, None, [view(table(("JFK", at(0), 1.0))), other], at=0)
    with pytest.raises(UsageError, match="at="):
        ask(engine, None, [other])


def _user():
    return hw.Entity("user", join_keys={"user": hw.Int64})


def test_a_feature_named_like_a_spine_column_is_refused(engine):
    asked = spine(("JFK", 0)).append_column("temp", pa.array([1]))
    with pytest.raises(UsageError, match="full_names"):
        ask(engine, asked, [view(table(("JFK", at(0), 1.0)))])


def test_times_that_need_more_than_126_bits_go_by_running_maxima(engine):
    long_ago = at(0).replace(year=2)
    source = table(
        *[("JFK", long_ago, long_ago, 0.0) for _ in range(1100)],
        ("JFK", at(0), at(1), 1.0),
        columns="airport happened seen temp",
        created_time="seen",
    )
    assert temps(ask(engine, spine(("JFK", 0.5), ("JFK", 1)), [view(source)])) == [0.0, 1.0]
