"""`headwater model`: logged models listed and shown."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import headwater as hw

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def logged(project):
    with hw.FeatureStore(project) as store:
        (service,) = store.list_feature_services()
        takes, made = (service.name, service.version), {"uri": "models:/m-7", "now": NOON}
        store.registry.log_model("late", takes, training_set="delays@1", **made)
        store.registry.log_model("late", takes, training_set=None, **made)
    return service


def test_models_are_listed_and_shown(command, project, logged):
    rows = command.json(project, "model", "list")
    takes = f"{logged.name}@{logged.version}"
    assert [(row["name"], row["version"], row["service"], row["training_set"]) for row in rows] == [
        ("late", 1, takes, "delays@1"),
        ("late", 2, takes, None),
    ]
    head, *lines = [line.split() for line in command(project, "model", "list").splitlines() if line.split()]
    assert head[:3] == ["name", "version", "service"] and lines[-1][:3] == ["late", "2", takes]
    shown = command.json(project, "model", "show", "late@1")
    assert (shown["version"], shown["uri"], shown["training_set"]) == (1, "models:/m-7", "delays@1")
    assert [feature["feature"] for feature in shown["features"]] == list(logged.features)
    drawn = command(project, "model", "show", "late")
    assert takes in drawn and logged.features[0] in drawn


def test_what_is_not_there_is_named(command, project, logged):
    _, err = command.both(project, "model", "show", "lat", code=1)
    assert "no model 'lat' was logged; did you mean 'late'?" in err
    _, err = command.both(project, "model", "show", "late@9", code=1)
    assert "model 'late' has no version 9; it has 1, 2" in err
    _, err = command.both(project, "model", "show", "late@new", code=2)
    assert "is not a name such as 'delays' or 'delays@3'" in err


def test_without_any(command, project):
    assert command.json(project, "model", "list") == []
    assert "hw.mlflow.log_model logs one" in command(project, "model", "list")
