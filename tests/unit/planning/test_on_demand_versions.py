"""Versions of on-demand feature views: by their function and by the fingerprints of what they read."""

import re
from datetime import UTC, datetime

import pytest

import headwater as hw
from headwater.planning.dependencies import Circle, in_order
from headwater.planning.service_reads import readers

WHEN = datetime(2024, 1, 1, 12, tzinfo=UTC)
AIRPORT = hw.Entity("airport", join_keys={"airport": hw.String})
HOUR = hw.RequestField("hour", hw.Int64)


def weather(*names, ttl=None, version=None):
    features = [hw.Feature(name, hw.Float64) for name in names]
    source = hw.TableSource(
        [{"airport": "JFK", "ts": WHEN, **dict.fromkeys(("temp", "wind", "humid"), 1.0)}], event_time="ts"
    )
    return hw.FeatureView("weather", entity=AIRPORT, source=source, features=features, ttl=ttl, version=version)


def cold(view, *, limit=32, version=None):
    if limit == 32:

        @hw.on_demand(inputs=[view["temp"], HOUR], features=[hw.Feature("feels_cold", hw.Bool)], version=version)
        def cold_start(temp, hour):
            return {"feels_cold": (temp < 32) & (hour < 9)}

    else:

        @hw.on_demand(inputs=[view["temp"], HOUR], features=[hw.Feature("feels_cold", hw.Bool)], version=version)
        def cold_start(temp, hour):
            return {"feels_cold": (temp < 50) & (hour < 9)}

    return cold_start


def score(computed, view):
    @hw.on_demand(inputs=[computed, view["wind"]], features=[hw.Feature("score", hw.Float64)])
    def score(feels_cold, wind):
        return {"score": wind * feels_cold}

    return score


@pytest.fixture
def store(tmp_path):
    with hw.FeatureStore(tmp_path, registry=f"sqlite:///{tmp_path}/r.db", online="memory:", clock=lambda: WHEN) as made:
        yield made


def applied(store, *definitions):
    store.apply(list(definitions))
    return store.registry.refresh()


def versions(snapshot, name):
    return list(snapshot.any_view(name).versions)


def test_what_is_applied_again_is_unchanged(store):
    view = weather("temp", "wind")
    applied(store, AIRPORT, view, cold(view), score(cold(view), view))
    plan = store.plan([AIRPORT, view, cold(view), score(cold(view), view)])
    assert not plan.stages


def test_a_changed_function_is_a_new_version_that_is_live_at_once(store):
    view = weather("temp", "wind")
    applied(store, view, cold(view))
    plan = store.plan([view, cold(view, limit=50)])
    assert "cold_start: 1.0.0 → 2.0.0 (major), live" in str(plan)
    assert "temp < 50" in str(plan)
    snapshot = applied(store, view, cold(view, limit=50))
    assert snapshot.on_demand["cold_start"].live == "2.0.0"
    # both are there, each with its own text
    texts = [v.view.source for v in snapshot.on_demand["cold_start"].versions.values()]
    assert ["< 32" in text for text in texts] == [True, False]


def test_a_change_of_what_it_reads_makes_a_new_version_and_of_all_behind_it(store):
    view = weather("temp", "wind")
    chain = [view, cold(view), score(cold(view), view), hw.FeatureService("model", [score(cold(view), view)])]
    applied(store, *chain)
    other = weather("temp", "wind", ttl="6h")
    plan = store.plan(
        [other, cold(other), score(cold(other), other), hw.FeatureService("model", [score(cold(other), other)])]
    )
    text = str(plan)
    assert "input temp: weather@1.0.0:temp → weather@2.0.0:temp: its values may change" in text
    assert "score: 1.0.0 → 2.0.0 (major), live after the next 'headwater materialize'" in text
    assert "feature service model: 1.0.0 → 2.0.0" in text
    store.materialize()
    store.apply(plan.definitions)
    assert store.registry.refresh().on_demand["score"].live == "1.0.0"
    store.materialize()
    snapshot = store.registry.refresh()
    assert (snapshot.on_demand["cold_start"].live, snapshot.on_demand["score"].live) == ("2.0.0", "2.0.0")


def test_another_feature_of_what_it_reads_changes_nothing_and_the_live_version_is_read(store):
    view = weather("temp", "wind")
    applied(store, view, cold(view))
    store.materialize()
    more = weather("temp", "wind", "humid")
    plan = store.plan([more, cold(more)])
    assert [stage.name for stage in plan.stages] == ["weather"]
    store.apply(plan.definitions)
    version = store.registry.refresh().on_demand["cold_start"].versions["1.0.0"]
    assert version.views_read == (("weather", "1.0.0"),)
    store.materialize()
    snapshot = store.registry.refresh()
    assert snapshot.views["weather"].live == "1.1.0"
    # set in the transaction that let the version go live
    assert snapshot.on_demand["cold_start"].versions["1.0.0"].views_read == (("weather", "1.1.0"),)


def test_what_is_read_is_not_retired(store):
    first, second = weather("temp", "wind", version="1.0.0"), weather("temp", "wind", ttl="1h", version="2.0.0")
    applied(store, first, cold(first))
    applied(store, second)
    store.promote("weather", "2.0.0", force=True)
    assert readers(store.registry.refresh())["weather", "1.0.0"] == ("cold_start@1.0.0",)
    with pytest.raises(hw.ChangeRefused, match=re.escape("read by cold_start@1.0.0; retire those first")):
        store.retire("weather", "1.0.0")


def test_automatic_retirement_takes_the_readers_first(store):
    for limit, ttl in ((32, None), (50, "1h"), (32, "2h"), (50, "3h")):
        view = weather("temp", "wind", ttl=ttl)
        applied(store, view, cold(view, limit=limit), score(cold(view, limit=limit), view))
        store.materialize()
    snapshot = store.registry.refresh()
    for name in ("weather", "cold_start", "score"):
        record = snapshot.any_view(name)
        assert [v.version for v in record.active] == ["3.0.0", "4.0.0"], name


def test_what_the_files_no_longer_have_is_retired_with_what_only_it_read(tmp_path):
    text = """import headwater as hw
airport = hw.Entity("airport", join_keys={"airport": hw.String})
source = hw.PushSource(event_time="ts")
weather = hw.FeatureView("weather", entity=airport, source=source, features=[hw.Feature("temp", hw.Float64)])
"""
    more = """
@hw.on_demand(inputs=[weather["temp"]], features=[hw.Feature("twice", hw.Float64)])
def doubled(temp):
    return {"twice": 2 * temp}
"""
    (tmp_path / "headwater.toml").write_text('project = "p"\n[online]\nurl = "memory:"\n')
    (tmp_path / "features.py").write_text(text + more)
    with hw.FeatureStore(tmp_path) as store:
        store.apply()
        assert not store.plan().stages
        (tmp_path / "features.py").write_text(text)
        plan = store.plan()
        assert plan.removals == ("doubled",)
        store.apply(plan, allow_removals=True)
        assert store.registry.refresh().on_demand["doubled"].live is None


def test_an_explicit_version_takes_no_other_function(store):
    view = weather("temp", "wind")
    applied(store, view, cold(view, version="1.0.0"))
    with pytest.raises(hw.VersionConflict, match=r"needs a major bump: version='2\.0\.0'"):
        store.plan([view, cold(view, limit=50, version="1.0.0")])
    applied(store, view, cold(view, limit=50, version="2.0.0"))
    assert store.registry.refresh().on_demand["cold_start"].live == "1.0.0"
    store.promote("cold_start", "2.0.0")
    assert store.registry.refresh().on_demand["cold_start"].live == "2.0.0"
    store.rollback("cold_start")
    assert store.registry.refresh().on_demand["cold_start"].live == "1.0.0"


def test_views_that_read_one_another_in_a_circle_are_refused(store):
    view = weather("temp", "wind")

    @hw.on_demand(inputs=[view["temp"]], features=[hw.Feature("x", hw.Float64)])
    def one(temp):
        return {"x": temp}

    @hw.on_demand(inputs=[one], features=[hw.Feature("y", hw.Float64)])
    def two(x):
        return {"y": x}

    applied(store, view, one, two)

    @hw.on_demand(inputs=[two], features=[hw.Feature("x", hw.Float64)])
    def again(y):
        return {"x": y}

    circle = hw.OnDemandFeatureView("one", inputs=[two], features=again.features, function=again.function)
    with pytest.raises(hw.DefinitionError, match="in a circle: two → one → two"):
        store.plan([view, circle])


def test_names_are_shared_with_views_and_services(store):
    view = weather("temp", "wind")
    applied(store, view, cold(view))
    with pytest.raises(hw.DefinitionError, match="an on-demand feature view of this name is registered"):
        store.plan([hw.FeatureService("cold_start", [view])])


def test_the_order_of_what_reads_one_another():
    assert in_order("abc", {"a": "c", "b": "a"}) == ["c", "a", "b"]
    with pytest.raises(Circle, match="a → b → a"):
        in_order("ab", {"a": "b", "b": "a"})


def test_another_process_reads_the_same_versions_from_the_registry(store, tmp_path):
    view = weather("temp", "wind")
    before = applied(
        store, view, cold(view), score(cold(view), view), hw.FeatureService("model", [score(cold(view), view)])
    )
    with hw.FeatureStore(tmp_path, registry=f"sqlite:///{tmp_path}/r.db", online="memory:") as other:
        snapshot = other.registry.refresh()
    for name in ("cold_start", "score"):
        mine, theirs = (s.on_demand[name].versions["1.0.0"] for s in (before, snapshot))
        assert mine.fingerprint == theirs.fingerprint
        assert mine.column_fingerprints == theirs.column_fingerprints
        assert mine.arguments == theirs.arguments
    assert snapshot.services["model"].versions["1.0.0"].views_read == (("score", "1.0.0"),)
