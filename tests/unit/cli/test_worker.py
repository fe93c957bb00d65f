"""`headwater worker`, and what `headwater status` tells of refreshes."""

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.cli import main
from headwater.compute.refreshing import worker

PROJECT = """
import headwater as hw

user = hw.Entity("user", join_keys={"user": hw.String})
activity = hw.FeatureView(
    "activity", entity=user, source=hw.ParquetSource("activity.parquet", event_time="at"),
    features=[hw.Feature("score", hw.Float64)], freshness_sla="1h")
"""


def put(folder, score, at):
    table = pa.table(
        {"user": ["ann", "bob"], "at": pa.array([at] * 2, pa.timestamp("us", "UTC")), "score": [score] * 2}
    )
    pq.write_table(table, folder / "activity.parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with two stale rows, for both of which a reader asked."""
    folder = tmp_path_factory.mktemp("stale") / "project"
    folder.mkdir()
    (folder / "features.py").write_text(PROJECT)
    (folder / "headwater.toml").write_text("[freshness]\nrefresh = true\nrefresh_tries = 1\n")
    put(folder, 1.0, datetime.now(UTC) - timedelta(hours=3))
    with hw.FeatureStore(folder) as store:
        store.apply()
        store.materialize()
        store.get_online_features(["activity:score"], ["ann", "bob", "eve"], stale="drop")
    return folder


@pytest.fixture
def asked(made, tmp_path):
    return shutil.copytree(made, tmp_path / "project")


def test_once_works_what_is_due_off(asked, command):
    put(asked, 2.0, datetime.now(UTC))
    before = command.json(asked, "status")["refresh"]
    assert before["waiting"] == 2 and before["queue"] == "table" and before["time_to_fresh"]["p50"] is None
    assert "2 pending" in command(asked, "status")
    out = command(asked, "worker", "--once")
    assert "activity@1.0.0: 2 keys, 2 newer in" in out and "2 keys: 2 newer, 0 without newer rows" in out
    after = command.json(asked, "status")["refresh"]
    assert (after["waiting"], after["totals"], after["time_to_fresh"]["count"]) == (0, {"newer": 2}, 2)
    assert after["time_to_fresh"]["p50"] <= after["time_to_fresh"]["p95"] < 600
    assert "time to fresh" in command(asked, "status")
    assert "nothing is due" in command(asked, "worker", "--once")
    assert command.json(asked, "worker", "--once")["keys"] == 0


def test_some_views_alone(asked, command):
    assert command.error(asked, "worker", "--once", "--views", "activty")["type"] == "FeatureViewNotFound"
    report = command.json(asked, "worker", "--once", "--views", "activity")
    assert (report["keys"], report["newer"], report["unchanged"]) == (2, 0, 2)


def test_dead_letters_are_listed_and_replayed(asked, command):
    (asked / "activity.parquet").unlink()
    assert "2 dead" in command(asked, "worker", "--once")
    found = command.json(asked, "worker", "--dead")
    assert sorted(letter["key"]["user"] for letter in found) == ["ann", "bob"]
    assert found[0]["tries"] == 1 and "activity.parquet" in found[0]["error"]
    assert "activity.parquet" in command(asked, "worker", "--dead")
    _, err = command.both(asked, "status")
    assert "2 dead letters" in err
    put(asked, 3.0, datetime.now(UTC))
    assert command.json(asked, "worker", "--once")["keys"] == 0
    assert command.json(asked, "worker", "--replay", "--views", "activity") == {"replayed": 2}
    assert command.json(asked, "worker", "--once")["newer"] == 2
    assert command.json(asked, "worker", "--dead") == []
    assert "no refresh failed" in command(asked, "worker", "--dead")


def test_dead_and_replay_exclude_each_other(asked, command):
    assert command.error(asked, "worker", "--dead", "--replay", code=2)["type"] == "UsageError"


def test_each_step_is_a_line_of_json(asked, capsys, monkeypatch):
    put(asked, 2.0, datetime.now(UTC))

    class Brief(worker.Worker):
        """Ends as if it were told to."""

        def run(self, once=False):
            return super().run(True)

    monkeypatch.setattr("headwater.compute.refreshing.worker.Worker", Brief)
    assert main(["worker", "--json", "--project", str(asked)]) == 0
    step, report = map(json.loads, capsys.readouterr().out.splitlines())
    assert (step["what"], step["about"], step["newer"]) == ("refresh", "activity@1.0.0", 2)
    assert report["newer"] == 2


def test_rows_of_the_queue_that_cannot_be_read(asked, command):
    (asked / "activity.parquet").unlink()
    command(asked, "worker", "--once")
    with closing(sqlite3.connect(asked / ".headwater/registry.db")) as database, database:
        database.execute("UPDATE refresh_hints SET key = 'odd' WHERE rowid = (SELECT min(rowid) FROM refresh_hints)")
    out, err = command.both(asked, "worker", "--dead", "--json")
    assert len(json.loads(out)) == 1 and err == ""
    _, err = command.both(asked, "worker", "--dead")
    assert "a row of the refresh queue cannot be read" in err and "--replay" in err
    assert command.json(asked, "worker", "--replay") == {"replayed": 2}
    put(asked, 3.0, datetime.now(UTC))
    assert "1 unreadable row was removed from the queue" in command(asked, "worker", "--once")
    assert command.json(asked, "status")["refresh"]["totals"]["unreadable"] == 1
    assert command.both(asked, "worker", "--dead")[1] == ""
