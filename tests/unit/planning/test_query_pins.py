"""Views over views: which versions they read, what a change upstream makes new, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import headwater as hw

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
place = hw.Entity("place", join_keys={"k": hw.Int64})
QUERY = "SELECT k, event_time, known_at, x * 2 AS z FROM w"
STAR = "SELECT *, x AS z FROM w"


def w(*more: hw.Feature, default: float | None = None, **options: Any) -> hw.FeatureView:
    features = [hw.Feature("x", hw.Float64, default=default), hw.Feature("y", hw.Float64), *more]
    return hw.FeatureView("w", entity=place, source=hw.PushSource(event_time="t"), features=features, **options)


def over(view: Any, query: str = QUERY, name: str = "v", **options: Any) -> hw.FeatureView:
    source = hw.SQLSource(query, tables={"w": view}, event_time="event_time", created_time="known_at")
    return hw.FeatureView(name, entity=place, source=source, features=[hw.Feature("z", hw.Float64)], **options)


def a_store(*definitions: Any) -> hw.FeatureStore:
    return hw.FeatureStore.in_memory(definitions, clock=lambda: NOON)


def versions(store: hw.FeatureStore, name: str) -> list[str]:
    return [version.version for version in store.registry.refresh().view(name).active]


def test_a_plan_says_what_is_read_and_of_what_each_feature_is_made() -> None:
    with a_store(w()) as store:
        text = str(store.plan([over(w())]))
        assert "reads w 1.0.0: x" in text
        assert "z is made of w:x" in text
        store.apply([over(w())])
        assert store.registry.get_feature_definition("v:z").dependencies == ("w:x",)


def test_the_same_definition_again_changes_nothing() -> None:
    with a_store(over(w())) as store:
        assert not store.plan([over(w())]).stages
        assert not store.plan([over(store.get_feature_view("w"))]).stages


@pytest.mark.parametrize("query", [QUERY, STAR])
def test_a_feature_added_upstream_is_no_new_version(query: str) -> None:
    with a_store(over(w(), query)) as store:
        store.apply([over(w(hw.Feature("n", hw.Int64)), query)])
        assert (versions(store, "w"), versions(store, "v")) == (["1.0.0", "1.1.0"], ["1.0.0"])
        # the object that was given means the registered version
        spine = [{"k": 1, "timestamp": NOON}]
        written = over(w(hw.Feature("n", hw.Int64)), query)
        assert store.get_historical_features(spine, [written["z"]]).to_pylist()[0]["z"] is None
        third = over(written, QUERY.replace("x", "z"), name="u")
        store.apply([third])
        assert versions(store, "v") == ["1.0.0"]
        store.write("w", [{"k": 1, "t": NOON - timedelta(hours=1), "x": 3.0, "y": 0.0, "n": 5}])
        store.materialize()
        assert store.get_online_features(["v:z"], [1]).to_dict()["z"] == [6.0 if query == QUERY else 3.0]


def test_a_changed_feature_upstream_is_a_new_version_which_the_plan_explains() -> None:
    with a_store(over(w())) as store:
        plan = store.plan([over(w(default=1.0))])
        assert "w:x, which the query reads, has changed: its values may change" in str(plan)
        store.apply(plan)
        assert versions(store, "v") == ["1.0.0", "2.0.0"]
        # an unused one that is altered is not
        other = [hw.Feature("x", hw.Float64, default=1.0), hw.Feature("y", hw.Float64, default=2.0)]
        altered = hw.FeatureView("w", entity=place, source=hw.PushSource(event_time="t"), features=other)
        store.apply([over(altered)])
        assert versions(store, "v") == ["1.0.0", "2.0.0"]


def test_a_change_goes_through_views_over_views() -> None:
    def third(view: hw.FeatureView) -> hw.FeatureView:
        return over(over(view), QUERY.replace("x", "z"), name="u")

    with a_store(third(w())) as store:
        assert not store.plan([third(w(hw.Feature("n", hw.Int64)))]).stages[1:]
        store.apply([third(w(default=1.0))])
        assert versions(store, "u") == ["1.0.0", "2.0.0"]


def test_what_is_read_is_not_retired() -> None:
    with a_store(over(w())) as store:
        store.apply([over(w(default=1.0))])
        store.materialize()
        store.promote("w", "2.0.0", force=True)
        with pytest.raises(hw.ChangeRefused, match=r"version 1\.0\.0 is read by v@1\.0\.0"):
            store.retire("w", "1.0.0")


def test_old_and_new_versions_read_each_their_own() -> None:
    raised = hw.FeatureView(
        "w",
        entity=place,
        source=hw.PushSource(event_time="t"),
        features=[hw.Feature("x", hw.Float64, column="y")],
    )
    with a_store(over(w())) as store:
        store.apply([over(raised)])
        store.write("w", [{"k": 1, "t": NOON - timedelta(hours=1), "x": 3.0, "y": 50.0}])
        store.materialize()
        online = [store.get_online_features([f"v@{number}:z"], [1]).to_dict()["z"] for number in ("1.0.0", "2.0.0")]
        assert online == [[6.0], [100.0]]
        spine = [{"k": 1, "timestamp": NOON}]
        assert store.get_historical_features(spine, ["v@1.0.0:z"]).to_pylist()[0]["z"] == 6.0
        assert store.get_historical_features(spine, ["v@2.0.0:z"]).to_pylist()[0]["z"] == 100.0


REFUSED = {
    "a window view": (
        lambda: hw.FeatureView(
            "w",
            entity=place,
            source=hw.PushSource(event_time="t"),
            features=[hw.Aggregation("x", "sum", window="1d")],
            columns={"x": hw.Float64},
        ),
        "has window aggregations",
    ),
    "a selection": (lambda: w()["x"], "give the view itself"),
    "a push source": (lambda: hw.PushSource(event_time="t"), "a push source has no table to query"),
    "a name of a time": (
        lambda: w(hw.Feature("Known_At", hw.Float64)),
        "has a column 'Known_At', the name of the table's time 'known_at'",
    ),
    "text": (lambda: "w", "must be a source"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_table_is_refused(case: str) -> None:
    make, text = REFUSED[case]
    with a_store() as store, pytest.raises(hw.DefinitionError, match=text):
        store.plan([over(make())])


def test_a_view_is_no_source_and_no_circle() -> None:
    with a_store(w()) as store:
        inner = over(w()).source.tables["w"]
        with pytest.raises(hw.DefinitionError, match="a view is not a source: select from it"):
            store.plan([hw.FeatureView("v", entity=place, source=inner, features=[hw.Feature("x", hw.Float64)])])
        first = over(w(), name="a")
        second = over(first, QUERY.replace("x", "z"), name="b")
        circle = over(second, QUERY.replace("x", "z"), name="a")
        with pytest.raises(hw.DefinitionError, match=r"a → b → a|b → a → b"):
            store.plan([circle, second])


def test_a_query_over_sources_alone_must_be_deterministic_too() -> None:
    rows = [{"k": 1, "t": NOON - timedelta(hours=1), "x": 1.0}]
    source = hw.SQLSource("SELECT k, t, x FROM r LIMIT 5", tables={"r": hw.TableSource(rows)}, event_time="t")
    view = hw.FeatureView("v", entity=place, source=source, features=[hw.Feature("x", hw.Float64)])
    with a_store() as store, pytest.raises(hw.DefinitionError, match="line 1, column 23: LIMIT needs an ORDER BY"):
        store.plan([view])
