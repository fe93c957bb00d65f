"""Deletes and purges find a key in every version of a view, whatever the versions call their join keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.compute.reading.historical import historical
from headwater.compute.writing.delete import delete
from headwater.compute.writing.erase_entity import erase_entity
from headwater.errors import EntityKeyError
from headwater.planning.key_forms import key_form, names_in_forms, other_names
from headwater.testing import rounds
from headwater.types import DType
from tests.unit.compute.conftest import T0, Bench

LATER = T0 + timedelta(days=30)
COLUMNS = {"user": hw.String, "shop": hw.Int64}
NAMES = [
    {"user": "user", "shop": "shop"},
    {"customer": "user", "shop": "shop"},
    {"store": "shop", "customer": "user"},
    {"buyer": "user", "store": "shop"},
    {"shop": "shop", "user": "user"},
]
"""Join key → column, as one version after the other has them."""
PEOPLE: list[dict[str, Any]] = [{"user": "ann", "shop": 1}, {"user": "bob", "shop": 1}, {"user": "ann", "shop": 2}]


def visits(columns: dict[str, str], dtypes: dict[str, DType] = COLUMNS, extra: int = 0) -> list[Any]:
    entity = hw.Entity("visit", join_keys={name: dtypes[column] for name, column in columns.items()})
    renamed = {name: column for name, column in columns.items() if name != column}
    view = hw.FeatureView(
        "v",
        entity=entity,
        source=hw.PushSource(event_time="at", created_time="seen"),
        join_key_map=renamed,
        features=[hw.Feature("spent", hw.Float64, default=None if not extra else float(-extra))],
    )
    return [entity, view]


def apply(bench: Bench, definitions: list[Any], service: str) -> None:
    bench.apply(*definitions, hw.FeatureService(service, [definitions[1]["spent"]]))
    bench.pass_time(seconds=1)
    bench.materialize()
    bench.registry.refresh()


def named(columns: dict[str, str], key: dict[str, Any]) -> dict[str, Any]:
    return {name: key[column] for name, column in columns.items()}


def forms_of(bench: Bench) -> dict[str, dict[str, str]]:
    """Version → join key → column, of all that are not retired."""
    active = bench.registry.snapshot().view("v").active
    return {v.version: {name: v.view.key_column(name) for name in v.view.join_keys} for v in active}


def online(bench: Bench, key: dict[str, Any]) -> list[float | None]:
    return [bench.values(f"v@{number}:spent", [named(form, key)])[0] for number, form in forms_of(bench).items()]


def history(bench: Bench, key: dict[str, Any]) -> list[float | None]:
    found: list[float | None] = []
    for number, form in forms_of(bench).items():
        spine = pa.Table.from_pylist([{**named(form, key), "timestamp": LATER}])
        found += historical(bench.context, spine, [f"v@{number}:spent"]).to_arrow()["spent"].to_pylist()
    return found


step = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 2)),
    st.tuples(st.sampled_from(["delete", "purge"]), st.integers(0, 2)),
    st.tuples(st.just("apply"), st.integers(0, len(NAMES) - 1)),
    st.tuples(st.just("run"), st.sampled_from([0, 30])),
)


@settings(max_examples=rounds(3), deadline=None)
@given(first=st.integers(0, len(NAMES) - 1), steps=st.lists(step, min_size=3, max_size=7))
def test_every_version_that_is_updated_has_what_was_written_and_not_deleted(
    tmp_path_factory: pytest.TempPathFactory, first: int, steps: list[tuple[str, int]]
) -> None:
    bench = Bench(tmp_path_factory.mktemp("bench"))
    try:
        apply(bench, visits(NAMES[first]), "s0")
        expected: list[float | None] = [None, None, None]
        for number, (what, which) in enumerate(steps, 1):
            bench.pass_time(seconds=1)
            if what == "write":
                bench.write("v", [{**PEOPLE[which], "at": bench.at, "spent": float(number)}])
                expected[which] = float(number)
            elif what == "apply":
                apply(bench, visits(NAMES[which]), f"s{number}")
            elif what == "run":
                bench.pass_time(minutes=which)
                bench.materialize()
            else:
                forms = list(forms_of(bench).values())
                bench.delete("v", [named(forms[number % len(forms)], PEOPLE[which])], purge=what == "purge")
                expected[which] = None
            for key, value in zip(PEOPLE, expected, strict=True):
                assert online(bench, key) == [value] * len(forms_of(bench))
        for key, value in zip(PEOPLE, expected, strict=True):
            assert history(bench, key) == [value] * len(forms_of(bench))
        bench.materialize(force=True)
        for key, value in zip(PEOPLE, expected, strict=True):
            assert online(bench, key) == [value] * len(forms_of(bench))
    finally:
        bench.close()


@pytest.mark.parametrize("purge", [False, True])
def test_a_delete_of_before_the_key_was_renamed_hides_the_key_in_the_later_version(bench: Bench, purge: bool) -> None:
    old, new = {"id": "id"}, {"customer": "id"}
    dtypes: dict[str, DType] = {"id": hw.String}
    apply(bench, visits(old, dtypes), "s")
    bench.write("v", [{"id": "x", "at": T0, "spent": 1.0}, {"id": "y", "at": T0, "spent": 2.0}])
    bench.delete("v", [{"id": "x"}], purge=purge)
    apply(bench, visits(new, dtypes), "t")
    assert (online(bench, {"id": "x"}), history(bench, {"id": "x"})) == ([None, None], [None, None])
    assert (online(bench, {"id": "y"}), history(bench, {"id": "y"})) == ([2.0, 2.0], [2.0, 2.0])


@pytest.mark.parametrize(
    ("before", "after", "old", "new", "shown"),
    [
        ({"id": hw.String}, {"id": hw.Int64}, {"id": "7"}, {"id": 7}, "id (string)"),
        ({"id": hw.String}, {"id": hw.String, "n": hw.Int64}, {"id": "7"}, {"id": "7", "n": 1}, "id (string)"),
    ],
)
def test_versions_with_other_keys_are_named_and_take_a_delete_by_their_own(
    bench: Bench, before: Any, after: Any, old: Any, new: Any, shown: str
) -> None:
    apply(bench, visits({name: name for name in before}, before), "s")
    bench.write("v", [{**old, "at": T0, "spent": 1.0}])
    apply(bench, visits({name: name for name in after}, after), "t")
    report = delete(bench.context, "v", [new])
    (left,) = report.left
    assert f"version 1.0.0 of v, which s@1.0.0 reads, has other join keys, {shown}" in left
    assert "headwater delete v --key 'id=\"VALUE\"'" in left
    assert left in erase_entity(bench.context, "visit", [new]).notes
    assert bench.values("v@1.0.0:spent", [old]) == [1.0]
    assert len(delete(bench.context, "v", [old]).left) == 1
    assert bench.values("v@1.0.0:spent", [old]) == [None]
    with pytest.raises(EntityKeyError, match=r"version 1\.0\.0 has id \(string\)"):
        delete(bench.context, "v", [{"other": 1}])


def test_a_purge_of_a_key_leaves_an_equal_value_of_another_key_alone(bench: Bench) -> None:
    dtypes: dict[str, DType] = {"user": hw.Int64, "shop": hw.Int64}
    apply(bench, visits({"user": "user"}, dtypes), "s")
    apply(bench, visits({"shop": "shop"}, dtypes), "t")
    bench.write("v", [{"user": 7, "shop": 9, "at": T0, "spent": 1.0}, {"user": 8, "shop": 7, "at": T0, "spent": 2.0}])
    bench.delete("v", [{"shop": 7}], purge=True)
    for _ in range(2):
        assert bench.values("v@1.0.0:spent", [{"user": 7}]) == [1.0]
        spine = pa.Table.from_pylist([{"user": 7, "timestamp": LATER}])
        assert historical(bench.context, spine, ["v@1.0.0:spent"]).to_arrow()["spent"].to_pylist() == [1.0]
        assert bench.values("v@2.0.0:spent", [{"shop": 7}, {"shop": 9}]) == [None, 1.0]
        bench.pass_time(minutes=30)
        bench.materialize(force=True)
    assert bench.context.log.pending_purges() == []


def test_materialize_takes_the_keys_by_the_names_of_any_version(bench: Bench) -> None:
    dtypes: dict[str, DType] = {"id": hw.String}
    apply(bench, visits({"id": "id"}, dtypes), "s")
    apply(bench, visits({"customer": "id"}, dtypes), "t")
    bench.write("v", [{"id": "x", "at": T0, "spent": 1.0}])
    for keys in ([{"id": "x"}], [{"customer": "x"}]):
        bench.materialize("v", entities=keys, force=True)
    assert online(bench, {"id": "x"}) == [1.0, 1.0]


def test_keys_are_the_same_by_name_else_by_column_step_by_step() -> None:
    def form(keys: dict[str, DType], **columns: str) -> Any:
        (_, view) = visits(
            {name: columns.get(name, name) for name in keys}, {**keys, **dict.fromkeys(columns.values(), hw.String)}
        )
        return key_form(view)

    first, moved = form({"id": hw.String}), form({"id": hw.String}, id="key")
    renamed, other = form({"customer": hw.String}, customer="key"), form({"id": hw.Int64})
    assert other_names(first, {first}) == ()
    assert names_in_forms(first, {first, moved, renamed, other}) == {
        first: ("id",),
        moved: ("id",),
        renamed: ("customer",),
    }
    assert names_in_forms(first, {first, renamed}) == {first: ("id",)}
    swapped = form({"a": hw.String, "b": hw.String}, a="b", b="a")
    assert other_names(form({"a": hw.String, "b": hw.String}), {swapped}) == ()
