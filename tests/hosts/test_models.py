"""A model logged with its service: its name in place of features, in Python, over HTTP and by both clients."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import headwater as hw
from headwater.serving.app import App
from headwater.serving.settings import ServerSettings
from tests.servers.threaded_server import ThreadedServer

NOW = datetime(2024, 3, 1, tzinfo=UTC)
US = pa.timestamp("us", "UTC")
KEYS = list(range(40))

USER = hw.Entity("user", join_keys={"user": hw.Int64})


def events(*more: str) -> hw.FeatureView:
    source = hw.PushSource(event_time="at", schema={"x": hw.Float64, "y": hw.Float32, "z": hw.Int64})
    dtypes = {"x": hw.Float64, "y": hw.Float32, "z": hw.Int64}
    return hw.FeatureView(
        "events", entity=USER, source=source, features=[hw.Feature(name, dtypes[name]) for name in ("x", "y", *more)]
    )


@pytest.fixture
def store(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    (tmp_path / "p").mkdir()
    with hw.FeatureStore(tmp_path / "p", online="memory:", clock=lambda: NOW) as made:
        made.apply([USER, events("z"), hw.FeatureService("score", ["events:x", "events:y"])])
        r = np.random.default_rng(0)
        rows = [
            {
                "user": key,
                "at": NOW - timedelta(days=1),
                "x": r.normal(),
                "y": r.normal() if key % 5 else None,
                "z": key,
            }
            for key in KEYS
        ]
        made.write("events", rows, created="event")
        yield made


def spine() -> pa.Table:
    times = pa.array([NOW - timedelta(hours=1)] * 40, US)
    return pa.table({"user": KEYS, "timestamp": times, "late": [key % 2 == 0 for key in KEYS]})


def test_a_model_served_by_name_over_http_gives_the_numbers_of_training(store: hw.FeatureStore) -> None:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    saved = store.save_training_set("score", spine(), "score", labels=["late"])
    labels = saved.to_arrow(["late"]).column("late").to_numpy()
    model = make_pipeline(SimpleImputer(), LogisticRegression())
    model.fit(saved.to_numpy(), labels)
    options = {"serialization_format": "cloudpickle"}
    logged = hw.mlflow.log_model(model, "score", saved, name="delays", options=options)
    assert (logged.model, logged.service) == (hw.Model("delays", 1), "score@1.0.0")
    import mlflow

    again = mlflow.sklearn.load_model(logged.uri)
    expected = model.predict_proba(saved.to_numpy())
    store.apply([hw.FeatureService("score", ["events:x", "events:z"])], promote=True)
    assert store.get_feature_service("score").version == "2.0.0"
    with ThreadedServer(App(hw.AsyncFeatureStore.of(store), ServerSettings())) as server:
        with hw.Client(server.url, timeout="30s") as client:
            assert client.get_online_features("score", KEYS).to_dict().keys() == {"user", "x", "z"}
            for name in (hw.Model("delays"), hw.Model("delays", 1)):
                read = client.get_online_features(name, KEYS)
                assert np.array_equal(again.predict_proba(read.to_numpy()), expected)
            prepared = client.prepare(hw.Model("delays"))
            assert np.array_equal(prepared.read(KEYS).to_numpy(), saved.to_numpy(), equal_nan=True)
            with pytest.raises(hw.NotFound, match=r"no model 'delay'.*did you mean 'delays'"):
                client.get_online_features(hw.Model("delay"), KEYS)
            with pytest.raises(hw.VersionNotFound, match="no version 2"):
                client.get_online_features(hw.Model("delays", 2), KEYS)

        async def by_the_other() -> Any:
            async with hw.AsyncClient(server.url, timeout="30s") as client:
                return (await client.get_online_features(hw.Model("delays"), KEYS)).to_numpy()

        assert np.array_equal(asyncio.run(by_the_other()), saved.to_numpy(), equal_nan=True)
    run = mlflow.get_run(logged.info.run_id)
    assert run.data.tags["headwater.service"] == "score@1.0.0" and run.data.tags["headwater.training_set"] == "score@1"
    assert logged.info.metadata["headwater"]["columns"] == ["x", "y"]
    kept = mlflow.artifacts.load_text(f"runs:/{logged.info.run_id}/headwater/training_set_score_1.json")
    assert '"name": "score"' in kept
    known = store.registry.snapshot().model("delays")
    assert (known.training_set, known.uri, known.logged_at) == ("score@1", logged.uri, NOW)
    # a set of other features, no store, a list, an unknown flavor
    other = store.save_training_set("other", spine(), ["events:x"])
    for arguments, given, words in (
        (("score@1.0.0", other), {}, "has the features x, service score@1.0.0 has x, y"),
        (("score",), {}, "give store="),
        ((["events:x"],), {"store": store}, "is not a service"),
        (("score",), {"store": store, "flavor": "nothing"}, "no flavor 'nothing'"),
        (("score",), {"store": store, "name": "delays@3"}, "versions are numbered"),
        (("score",), {"store": store, "name": "a b"}, "not a name"),
    ):
        with pytest.raises(hw.UsageError, match=words):
            hw.mlflow.log_model(model, *arguments, **given)
    with pytest.raises(hw.FeatureServiceNotFound):
        hw.mlflow.log_model(model, "scores", store=store)


def register(store: hw.FeatureStore, service: str = "score", version: str = "1.0.0") -> int:
    made = store.registry.log_model("m", (service, version), uri="models:/m", training_set=None, now=NOW)
    return made.version


def test_the_newest_version_is_meant_and_readers_keep_their_columns(store: hw.FeatureStore) -> None:
    assert register(store) == 1
    reader, pinned = store.prepare(hw.Model("m")), store.prepare(hw.Model("m", 1))
    store.apply([hw.FeatureService("score", ["events:x", "events:y", "events:z"])])
    store.promote("score", "1.1.0")
    assert register(store, version="1.1.0") == 2
    assert store.get_online_features(hw.Model("m"), [1]).to_dict().keys() == {"user", "x", "y", "z"}
    assert store.get_online_features(hw.Model("m", 1), [1]).to_dict().keys() == {"user", "x", "y"}
    for prepared in (reader, pinned):
        prepared.refresh()
        assert prepared.read([1]).to_dict().keys() == {"user", "x", "y"}
    history = store.get_historical_features(spine(), hw.Model("m", 1))
    assert history.schema.names[-2:] == ["x", "y"]
    saved = store.save_training_set("m", spine(), hw.Model("m"))
    assert saved.manifest.service == "score@1.1.0" and saved.features == ["x", "y", "z"]


def test_another_process_sees_a_model_that_was_logged(store: hw.FeatureStore) -> None:
    with hw.FeatureStore(store.settings.folder, online="memory:") as other:
        assert not other.registry.snapshot().models
        before = other.registry.snapshot().revision
        register(store)
        other.refresh_registry()
        assert other.registry.snapshot().model("m").service == "score"
        assert other.registry.snapshot().revision == before + 1
        assert other.registry.changes() == store.registry.changes()


def test_a_key_reads_models_of_services_that_its_patterns_cover(store: hw.FeatureStore) -> None:
    from headwater.serving.access import Access

    register(store)
    snapshot = store.registry.snapshot()
    for patterns, allowed in (
        ({"services": ["score"]}, True),
        ({"views": ["events"]}, True),
        ({"views": ["x"]}, False),
    ):
        _, key = store.registry.api_keys.create(f"k{len(patterns)}{allowed}{'views' in patterns}", ["read"], **patterns)
        for name in ("m", "nobody"):
            if allowed and name == "m":
                Access(key).check_model(snapshot, hw.Model(name))
            else:
                with pytest.raises(hw.AccessDenied):
                    Access(key).check_model(snapshot, hw.Model(name))


@pytest.mark.parametrize("text", ["", "a b", "a@", "a@x", "a@0", "@1", None, "a/b"])
def test_texts_that_name_no_model(text: Any) -> None:
    with pytest.raises(hw.UsageError, match="is not a name"):
        hw.Model.of(text)
    assert str(hw.Model.of("a@3")) == "a@3" and hw.Model.of("a") == hw.Model("a")
