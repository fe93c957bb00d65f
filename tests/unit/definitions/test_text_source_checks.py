"""`schema=` of files of text must not contradict what the view says of a column: the view decides how it is read."""

from __future__ import annotations

import re

import pytest

import headwater as hw

THING = hw.Entity("thing", join_keys={"thing": hw.String})


def view(source, schema):
    return hw.FeatureView(
        "v",
        entity=THING,
        source=source(f"none.{source.kind}", event_time="at", created_time="seen", schema=schema),
        features=[hw.Feature("x", hw.Int64), hw.Feature("y", hw.Float64, column="why")],
    )


@pytest.fixture
def store(tmp_path):
    (tmp_path / "headwater.toml").write_text('project = "p"\n')
    (tmp_path / "none.csv").write_text("thing,at,seen,x,why,more\n")
    (tmp_path / "none.json").write_text('{"thing": "a", "at": null, "seen": null, "x": 1, "why": 1, "more": 1}\n')
    with hw.FeatureStore(tmp_path, online="memory:") as store:
        yield store


@pytest.mark.parametrize("source", [hw.CSVSource, hw.JSONSource])
@pytest.mark.parametrize(
    ("column", "dtype", "words"),
    [
        ("at", hw.String, "column 'at' is string, but it is the event_time, a timestamp: remove it from schema="),
        ("seen", hw.Int64, "column 'seen' is int64, but it is the created_time, a timestamp"),
        ("thing", hw.Int64, "column 'thing' is int64, but it is join key thing, string"),
        ("x", hw.Float64, "column 'x' is float64, but feature 'x' is int64"),
        ("why", hw.Array(hw.Float64), f"column 'why' is {hw.Array(hw.Float64)}, but feature 'y' is float64"),
    ],
)
def test_another_dtype_than_the_views_is_refused_at_plan(store, source, column, dtype, words):
    with pytest.raises(hw.DefinitionError, match=rf"v: source\.schema: {re.escape(words)}") as refused:
        store.plan([THING, view(source, {column: dtype, "more": hw.Int64})])
    assert sum("source.schema" in problem for problem in refused.value.problems) == 1


def test_the_same_dtype_and_one_of_another_column_are_accepted(store):
    both = {"at": hw.Date, "seen": hw.Timestamp, "thing": hw.String, "x": hw.Int64, "why": hw.Float64, "more": hw.Bool}
    source = hw.CSVSource("none.csv", event_time="at", created_time="seen", schema=both)
    features = [hw.Feature("x", hw.Int64), hw.Feature("y", hw.Float64, column="why")]
    made = hw.FeatureView("v", entity=THING, source=source, features=features)
    assert store.plan([THING, made])


def test_what_an_earlier_release_registered_stays(store, monkeypatch):
    source = hw.CSVSource("none.csv", event_time="at", schema={"at": hw.String})
    made = hw.FeatureView("v", entity=THING, source=source, features=[hw.Feature("x", hw.Int64)])
    with monkeypatch.context() as before:
        before.setattr("headwater.planning.diff.text_problems", lambda _: ())
        store.apply([THING, made])
    assert not store.plan([THING, made])
