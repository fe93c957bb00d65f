"""The service versions that logged models take stay: of each model's newest version and the one before it."""

from datetime import UTC, datetime

import pytest

import headwater as hw

WHEN = datetime(2024, 1, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
NAMES = ("a", "b", "c", "d", "e")
VIEW = hw.FeatureView(
    "events",
    entity=USER,
    source=hw.PushSource(event_time="at", schema=dict.fromkeys(NAMES, hw.Float64)),
    features=[hw.Feature(name, hw.Float64) for name in NAMES],
)


@pytest.fixture
def store(tmp_path):
    with hw.FeatureStore(tmp_path, registry=f"sqlite:///{tmp_path}/r.db", online="memory:", clock=lambda: WHEN) as made:
        yield made


def served(store, *names):
    store.apply([USER, VIEW, hw.FeatureService("score", [f"events:{name}" for name in names])], promote=True)
    return store.get_feature_service("score").version


def log(store, version, name="model"):
    store.context.registry.log_model(name, ("score", version), uri="file:///m", training_set=None, now=WHEN)


def active(store):
    return [v.version for v in store.registry.refresh().services["score"].active]


def test_what_a_logged_model_takes_is_not_retired_by_later_versions(store):
    first = served(store, "a")
    log(store, first)
    numbers = [served(store, name) for name in NAMES[1:]]
    assert active(store) == [first, *numbers[-2:]]
    store.write("events", {"user": [1], "at": [WHEN], **{name: [1.0] for name in NAMES}}, created="event")
    assert store.get_online_features(hw.Model("model"), {"user": [1]}).to_dict() == {"user": [1], "a": [1.0]}


def test_it_is_not_retired_by_hand_until_two_newer_ones_are_logged(store):
    first, second = served(store, "a"), served(store, "b")
    log(store, first)
    log(store, first, "other")
    with pytest.raises(hw.ChangeRefused, match=r"is what the models model@1, other@1 take; .*log newer ones first"):
        store.retire("score", first)
    for name in ("model", "other"):
        log(store, second, name)
    with pytest.raises(hw.ChangeRefused, match="model@1"):
        store.retire("score", first)
    for name in ("model", "other"):
        log(store, second, name)
    store.retire("score", first)
    assert active(store) == [second]
