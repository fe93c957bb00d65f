"""`compare --measure`: the project's own store among the systems."""

import json

import pytest

from headwater.advisor.measurement import NAME, Measurement

QUICK = ["compare", "--measure", "--measure-seconds", "0.6"]


def files(folder):
    """What lies in a project's folder, locks aside."""
    paths = (
        path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("lock.mdb", "-shm", "-wal"))
    )
    return {path: path.read_bytes() for path in paths}


def test_the_projects_own_store_is_measured_saved_and_compared(command, filled, tmp_path):
    before, saved = files(filled), tmp_path / "before.json"
    data = command.json(filled, *QUICK, "--max-latency-ms", "50", "--save-measurement", str(saved))
    assert NAME in data["architecture_scores"] and data["saved"] == str(saved)
    assert data["measurement"] == json.loads(saved.read_bytes()) and "changes" not in data
    assert Measurement.from_json(saved.read_bytes()).features[0].name == "delay_model"
    out = command(filled, *QUICK, "--max-latency-ms", "50", "--against", str(saved))
    assert NAME in out and "Measured" in out and "Since the earlier measurement" in out
    assert "read_p50_ms, batch 1, delay_model" in out
    assert files(filled) == before


@pytest.mark.parametrize("option", ["--save-measurement", "--against"])
def test_what_needs_a_measurement_asks_for_it(command, filled, tmp_path, option):
    error = command.error(filled, "compare", option, str(tmp_path / "m.json"), code=2)
    assert error["type"] == "UsageError" and f"{option} requires --measure" in error["message"]


def test_a_project_that_was_never_applied_says_so_and_stays_as_it_is(command, fresh):
    before = files(fresh)
    error = command.error(fresh, *QUICK)
    assert error["type"] == "FeatureViewNotFound" and "headwater apply" in error["message"]
    assert files(fresh) == before


def test_files_that_are_no_measurement_are_named(command, filled, tmp_path):
    (tmp_path / "no.json").write_text("{}")
    error = command.error(filled, *QUICK, "--against", str(tmp_path / "no.json"))
    assert error["type"] == "FormatError" and "no.json" in error["message"]
    error = command.error(filled, *QUICK, "--against", str(tmp_path / "none.json"))
    assert error["type"] == "ConfigError" and "none.json" in error["message"]
    error = command.error(filled, *QUICK, "--save-measurement", str(tmp_path / "no" / "m.json"))
    assert error["type"] == "ConfigError" and "no such folder" in error["message"]


def test_a_wrong_requirement_is_told_before_anything_is_measured(command, fresh):
    # the project was never applied, which a measurement would be the first to tell
    error = command.error(fresh, *QUICK, "--need", "streeming", code=2)
    assert error["type"] == "UsageError" and "streaming" in error["message"]
