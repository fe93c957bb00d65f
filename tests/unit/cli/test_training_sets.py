"""`headwater training-set`: created, listed, shown and verified."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pandas as pd
import pytest


@pytest.fixture
def spine(project):
    now = datetime.now(UTC)
    rows = {"airport": ["JFK", "LGA", "XXX"], "timestamp": [now] * 3, "late": [True, False, True]}
    pd.DataFrame(rows).to_parquet(project / "spine.parquet")
    return project / "spine.parquet"


def test_a_set_is_created_listed_shown_and_verified(command, project, spine):
    create = ["training-set", "create", "delays", spine, "--features", "weather:temp,weather:reports"]
    made = command.json(project, *create, "--labels", "late")
    assert (made["name"], made["version"], made["rows"], made["labels"]) == ("delays", 1, 3, ["late"])
    assert made["features"] == ["temp", "reports"] and pd.read_parquet(made["file"]).shape == (3, 5)
    out = command(project, *create, "--labels", "late", "--include", "status")
    assert "saved delays 2: 3 rows, 2 features" in out
    listed = command.json(project, "training-set", "list")
    assert [(row["name"], row["version"]) for row in listed] == [("delays", 1), ("delays", 2)]
    assert command(project, "training-set", "list").splitlines()[0].split()[:3] == ["name", "version", "saved_at"]
    shown = command.json(project, "training-set", "show", "delays@1")
    assert shown["manifest"]["format"] == 1 and shown["manifest"]["spine"]["columns"] == [
        "airport",
        "timestamp",
        "late",
    ]
    drawn = command(project, "training-set", "show", "delays")
    assert "temp__status" in drawn and "weather@1.0.0:temp" in drawn and "label" in drawn
    assert "delays 2: the same when rebuilt" in command(project, "training-set", "verify", "delays")
    report = command.json(project, "training-set", "verify", "delays@1")
    assert report["same"] and report["verdict"] == "same" and report["changes"] == []


def test_a_changed_source_is_exit_code_1(command, project, spine):
    command(project, "training-set", "create", "delays", spine, "--features", "weather:temp")
    source = project / "data" / "weather.parquet"
    frame = pd.read_parquet(source)
    frame["temp"] += 1
    frame.to_parquet(source)
    out = command(project, "training-set", "verify", "delays", code=1)
    assert "file replaced: data/weather.parquet" in out and "delays 1: different when rebuilt" in out
    report = json.loads(command(project, "training-set", "verify", "delays", "--json", code=1))
    assert report["columns"][0]["name"] == "temp" and report["different_rows"] == report["columns"][0]["rows"]


def test_wrong_use(command, project, spine):
    for arguments, words in (
        (["create", "delays", "--features", "weather:temp"], "no rows"),
        (["create", "../x", spine, "--features", "weather:temp"], "not a valid name"),
        (["create", "x", spine, "--features", "weather:temp", "--labels", "lat"], "did you mean 'late'"),
        (["show", "delays@new"], "NAME@VERSION"),
    ):
        _, err = command.both(project, "training-set", *arguments, code=2)
        assert words in err, err
    _, err = command.both(project, "training-set", "verify", "nothing", code=1)
    assert "no training set 'nothing'" in err
    assert command(project, "training-set", "list").strip() == "no training sets"
    assert command.json(project, "training-set", "list") == []


def test_every_entity_and_a_csv_spine(command, project):
    made = command.json(project, "training-set", "create", "batch", "--at", "now", "--features", "weather:temp")
    assert made["rows"] > 2
    assert command.json(project, "training-set", "verify", "batch")["same"]
    (project / "spine.csv").write_text("airport,timestamp,late\nJFK,2020-01-01T00:00:00+00:00,yes\n")
    made = command.json(
        *(project, "training-set", "create", "text", project / "spine.csv", "--features", "weather:temp"),
        *("--labels", "late"),
    )
    assert made["labels"] == ["late"] and command.json(project, "training-set", "verify", "text")["same"]


@pytest.mark.filterwarnings("default:training set")
def test_one_that_cannot_be_read_is_named_and_the_rest_are_listed(command, project, spine):
    for name in ("good", "bad"):
        command(project, "training-set", "create", name, spine, "--features", "weather:temp")
    manifest = project / ".headwater" / "training_sets" / "bad" / "1" / "manifest.json"
    manifest.write_bytes(b"{")
    out, err = command.both(project, "training-set", "list")
    assert "good" in out and "bad" not in out
    assert "training set bad@1 cannot be read" in err and "restore the training set from a copy" in err
    good, bad = command.json(project, "training-set", "list")
    assert (good["name"], bad["name"], bad["version"], bad["rows"]) == ("good", "bad", 1, None)
    assert "is damaged" in bad["problem"]
