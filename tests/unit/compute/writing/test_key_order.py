"""Deletes and purges find a key in every version of a view, in whatever order its entity has the join keys."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.compute.reading.historical import historical
from headwater.compute.refreshing.refresh import active_view, recompute
from headwater.offline.log.tombstones import Digests, tombstone_under
from headwater.online.rows.encoder import RowEncoder
from headwater.testing import rounds
from tests.unit.compute.conftest import T0, Bench

ORDERS = [("origin", "dest"), ("dest", "origin")]
OUT, BACK = {"origin": "JFK", "dest": "LAX"}, {"origin": "LAX", "dest": "JFK"}
LATER = T0 + timedelta(days=30)


SOURCE = hw.PushSource(event_time="at", created_time="seen")


def route(order: tuple[str, ...], source: Any = SOURCE) -> list[Any]:
    entity = hw.Entity("route", join_keys=dict.fromkeys(order, hw.String))
    features = [hw.Feature("delay", hw.Float64)]
    return [
        entity,
        hw.FeatureView("v", entity=entity, source=source, features=features),
    ]


def fact(key: dict[str, str], delay: float) -> dict[str, Any]:
    return {**key, "at": T0, "delay": delay}


def online(bench: Bench, key: dict[str, str]) -> list[float | None]:
    """Of both versions."""
    return [bench.values(f"v@{version}:delay", [key])[0] for version in ("1.0.0", "2.0.0")]


def history(bench: Bench, key: dict[str, str]) -> list[float | None]:
    spine = pa.Table.from_pylist([{**key, "timestamp": LATER}])
    found = []
    for version in ("1.0.0", "2.0.0"):
        bench.registry.refresh()
        found += historical(bench.context, spine, [f"v@{version}:delay"]).to_arrow()["delay"].to_pylist()
    return found


@pytest.fixture
def ordered(bench: Bench) -> Bench:
    """Two versions of a view whose entities order their keys in different ways; rows of a key and of its mirror."""
    bench.apply(*route(ORDERS[0]))
    bench.write("v", [fact(OUT, 1.0), fact(BACK, 2.0)])
    bench.apply(*route(ORDERS[1]))
    bench.pass_time(seconds=1)
    bench.materialize()
    return bench


@pytest.mark.parametrize("purge", [False, True])
@pytest.mark.parametrize("live", ["1.0.0", "2.0.0"])
def test_a_delete_hides_the_key_in_both_versions_and_no_other(ordered: Bench, live: str, purge: bool) -> None:
    ordered.context.versions.promote("v", live, watermarks={}, now=ordered.at, force=True)
    ordered.registry.refresh()
    ordered.delete("v", [OUT], purge=purge)
    for _ in range(2):
        assert (online(ordered, OUT), history(ordered, OUT)) == ([None, None], [None, None])
        assert (online(ordered, BACK), history(ordered, BACK)) == ([2.0, 2.0], [2.0, 2.0])
        ordered.pass_time(minutes=30)
        ordered.materialize(force=purge)
    if purge:
        assert ordered.context.log.pending_purges() == []
        # rows of before that come late are left out, in either version
        ordered.write("v", [fact(OUT, 3.0) | {"seen": T0}])
        assert (online(ordered, OUT), history(ordered, OUT)) == ([None, None], [None, None])


def as_before(self: Digests, names: tuple[str, ...], values: Any) -> bytes:
    """The digest that earlier releases gave."""
    return self._in_order(values)


@pytest.mark.parametrize("order", ORDERS)
def test_purges_and_deletes_of_earlier_releases_are_recognised(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, order: tuple[str, ...]
) -> None:
    bench.apply(*route(order))
    other = {"origin": "SFO", "dest": "JFK"}
    bench.write("v", [fact(OUT, 1.0), fact(BACK, 2.0), fact(other, 3.0)])
    with monkeypatch.context() as before:
        before.setattr(Digests, "one", as_before)
        bench.delete("v", [OUT], purge=True)
        bench.delete("v", [other])
    bench.write("v", [fact(OUT, 4.0) | {"seen": T0}])
    assert bench.values("v:delay", [OUT, BACK]) == [None, 2.0]
    bench.materialize(force=True)
    assert bench.values("v:delay", [OUT, BACK]) == [None, 2.0]
    bench.delete("v", [other], purge=True)
    # no delete holds that key in clear any more
    assert bench.context.log.slice("v", list(order)).deletes is None
    bench.pass_time(minutes=30)
    bench.materialize()
    assert bench.context.log.pending_purges() == []
    assert [row["delay"] for part in bench.context.log.slice("v", list(order)).parts for row in rows_of(part)] == [2.0]


def rows_of(part: Any) -> list[dict[str, Any]]:
    tables = [part.table] if part.table is not None else [pq.read_table(file, partitioning=None) for file in part.files]
    return [row for table in tables for row in table.to_pylist()]


def test_a_refresh_beside_a_pending_purge_looks_at_its_own_keys_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.apply(*route(ORDERS[0], hw.TableSource(event_time="at")))
    bench.rows["v"] = [fact({"origin": f"A{i}", "dest": "JFK"}, float(i)) for i in range(50)]
    bench.materialize()
    bench.delete("v", [{"origin": "A7", "dest": "JFK"}], purge=True)
    digested: list[Any] = []
    before = Digests.all_of

    def counted(self: Digests, names: tuple[str, ...], values: Any, *more: Any) -> tuple[bytes, ...]:
        digested.append(values)
        return before(self, names, values, *more)

    monkeypatch.setattr(Digests, "all_of", counted)
    monkeypatch.setattr(type(bench.context.online), "scan", lambda *_: pytest.fail("the whole version is read"))
    view = active_view(bench.context, "v", "1.0.0")
    assert view is not None
    (key,) = RowEncoder(bench.context.project, view).keys.encode([["A8"], ["JFK"]], 1)
    assert key is not None
    recompute(bench.context, view, [key])
    assert {tuple(values) for values in digested} == {("A8", "JFK")}
    assert bench.values("v:delay", [{"origin": "A7", "dest": "JFK"}, {"origin": "A8", "dest": "JFK"}]) == [None, 8.0]


VALUES = st.one_of(st.integers(-3, 3), st.text(max_size=2), st.booleans())


@settings(max_examples=rounds(20), deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), VALUES, min_size=1), st.dictionaries(st.sampled_from("abcd"), VALUES))
def test_a_keys_digest_is_the_same_in_every_order_and_no_other_keys(
    left: dict[str, Any], right: dict[str, Any]
) -> None:
    digests = Digests(b"salt")
    found = {digests.one(tuple(order), [left[name] for name in order]) for order in permutations(left)}
    assert len(found) == 1
    names = tuple(right)
    other = digests.all_of(names, list(right.values()))
    typed = [{name: (type(value), value) for name, value in key.items()} for key in (left, right)]
    if typed[0] == typed[1]:
        assert tombstone_under(other, dict.fromkeys(found, (3, 5))) == (3, 5)
    elif len(left) > 1:
        assert not found & set(other)
