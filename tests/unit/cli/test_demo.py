"""`demo`: the whole road, and nothing left behind."""

import json
import tempfile

import pytest

from headwater.cli import main


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_demo_walks_the_whole_road(temporary, capsys):
    assert main(["demo", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    commands = [step["command"].split()[1] for step in data["steps"]]
    assert commands == ["init", "apply", "history", "materialize", "get", "write", "get"]
    before, after = (step["read"]["rows"][0]["features"]["temp"] for step in data["steps"] if "read" in step)
    assert after["value"] == pytest.approx(before["value"] + 7) and after["status"] == "PRESENT"
    assert data["steps"][2]["history"]["views"]["weather"]["expired"] > 0
    assert not any(temporary.iterdir())


def test_the_demo_draws_each_step_and_what_it_took(temporary, capsys):
    assert main(["demo"]) == 0
    found = capsys.readouterr()
    for part in ("$ headwater apply", "wrote 2,000 rows", "STALE", "EXPIRED", "weather: 1 applied", "seconds in all"):
        assert part in found.out
    assert found.err == ""


def test_a_demo_that_fails_leaves_nothing(temporary, capsys, monkeypatch):
    def fail(folder, now):
        raise RuntimeError("on purpose")

    monkeypatch.setattr("headwater.cli.sample.write_data", fail)
    assert main(["demo"]) == 1
    assert "on purpose" in capsys.readouterr().err
    assert not any(temporary.iterdir())
