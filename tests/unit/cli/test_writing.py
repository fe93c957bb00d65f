"""`materialize`, `write`, `delete` and `status`, on the sample project."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

import headwater as hw


def temp(command, folder, *more):
    data = command.json(folder, "get", "--features", "weather:temp", "--key", "airport=JFK", *more)
    found = data["rows"][0]["features"]["temp"]
    return found["value"], found["status"]


def row(**changed):
    now = datetime.now(UTC)
    return {
        "airport": "JFK",
        "time": (now - timedelta(minutes=2)).isoformat(),
        "observed_at": (now - timedelta(minutes=1)).isoformat(),
        "temp": 99.5,
        "wind_speed": 1.0,
        "reports": 1,
    } | changed


def timed(**changed):
    """A row as Python gives it."""
    made = row()
    return made | {name: datetime.fromisoformat(made[name]) for name in ("time", "observed_at")} | changed


def test_materialize_reports_each_version(command, fresh):
    command(fresh, "apply")
    data = command.json(fresh, "materialize")
    runs = {run["view"]: run for run in data["runs"]}
    assert runs["weather"]["keys"] == runs["airport_facts"]["keys"] == 6
    assert runs["weather"]["watermark"] is not None
    assert "weather" in command(fresh, "materialize")
    assert [run["view"] for run in command.json(fresh, "materialize", "weather", "--force")["runs"]] == ["weather"]


def test_a_version_that_fails_keeps_no_other_and_the_exit_says_so(command, fresh):
    command(fresh, "apply")
    facts = next((fresh / "data").glob("airport*"))
    facts.rename(fresh / "away")
    out, err = command.both(fresh, "materialize", "--json", code=1)
    runs = {run["view"]: run for run in json.loads(out)["runs"]}
    assert facts.name in runs["airport_facts"]["error"] and not runs["weather"]["error"] and runs["weather"]["keys"]
    assert json.loads(err)["error"]["notes"][1] == "  headwater materialize airport_facts"
    out, err = command.both(fresh, "materialize", code=1)
    assert "failed" in out and err.splitlines()[-1] == "  headwater materialize airport_facts"
    _, told = command.both(fresh, "status", code=1)
    assert "airport_facts@1.0.0: its last run" in told and facts.name in told
    (fresh / "away").rename(facts)
    command(fresh, "materialize")
    assert "its last run" not in command.both(fresh, "status")[1]


@pytest.mark.parametrize(
    ("arguments", "part", "code"),
    [
        (["wether"], "did you mean 'weather'", 1),
        (["--force", "--start", "-1d"], "force", 2),
        (["--start", "2026-01-02", "--end", "2026-01-01"], "end", 2),
    ],
)
def test_materialize_of_what_cannot_be(command, filled, arguments, part, code):
    assert part in command.error(filled, "materialize", *arguments, code=code)["message"]


def test_a_late_correction_is_served_at_once(command, project):
    before = temp(command, project)
    assert "weather: 1 applied" in command(project, "write", "weather", project / "data" / "correction.csv")
    assert temp(command, project) == (pytest.approx(before[0] + 7), "PRESENT")
    data = command.json(project, "write", "weather", project / "data" / "correction.csv")
    assert data["rejected"] == 0 and data["problems"] == []


def test_rows_of_json_are_written(command, project, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row()) + "\n", encoding="utf-8")
    assert command.json(project, "write", "weather", path)["applied"] == 1
    assert temp(command, project) == (99.5, "PRESENT")


def test_bad_rows_write_nothing_or_are_reported(command, project, tmp_path):
    before = temp(command, project)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([row(), row(time=None), row(temp="warm")]), encoding="utf-8")
    error = command.error(project, "write", "weather", path)
    assert error["type"] == "RowsRejected" and len(error["problems"]) == 2
    assert temp(command, project) == before
    out = command(project, "write", "weather", path, "--errors", "report")
    assert "1 applied" in out and "2 rejected" in out
    assert temp(command, project)[0] == 99.5


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl"])
def test_cells_that_cannot_be_read_are_bad_rows(command, project, tmp_path, kind):
    rows = [row(), row(time="noon"), row(temp="warm" if kind != "csv" else "hot, dry")]
    path = tmp_path / f"rows.{kind}"
    match kind:
        case "csv":
            lines = [",".join(rows[0]), *(",".join(f'"{value}"' for value in one.values()) for one in rows)]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        case "json":
            path.write_text(json.dumps(rows), encoding="utf-8")
        case "jsonl":
            path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    error = command.error(project, "write", "weather", path)
    assert error["type"] == "RowsRejected" and len(error["problems"]) == 2
    assert "row 1: column 'time': 'noon'" in error["problems"][0]
    out = command(project, "write", "weather", path, "--errors", "report")
    assert "1 applied" in out and "2 rejected" in out
    assert temp(command, project)[0] == 99.5


def test_write_of_what_is_not_there(command, project, tmp_path):
    assert "did you mean" in command.error(project, "write", "wether", tmp_path / "rows.csv")["message"]
    assert "no such file" in command.error(project, "write", "weather", tmp_path / "rows.csv")["message"]
    assert command.error(project, "write", "weather", tmp_path / "rows.xls", code=2)["type"] == "UsageError"


def test_delete_hides_an_entity_until_something_is_learnt(command, project, tmp_path):
    assert "deleted 1 entity" in command(project, "delete", "weather", "--key", "airport=JFK")
    assert temp(command, project) == (None, "NOT_FOUND")
    now = datetime.now(UTC)
    (tmp_path / "rows.json").write_text(json.dumps(row(observed_at=now.isoformat(), time=now.isoformat())))
    assert command.json(project, "write", "weather", tmp_path / "rows.json")["applied"] == 1
    assert temp(command, project)[0] == 99.5
    data = command.json(project, "delete", "weather", "--key", "airport=JFK", "--key", "airport=LGA", "--purge")
    assert data["deleted"] == 2 and data["purge"] is True
    assert temp(command, project) == (None, "NOT_FOUND")
    assert command.error(project, "delete", "weather", "--key", "airprt=JFK")["type"] == "EntityKeyError"


def test_status_says_how_each_version_stands(command, project):
    data = command.json(project, "status")
    versions = {v["view"]: v for v in data["versions"]}
    assert versions["weather"]["state"] == "live" and versions["weather"]["behind"] >= 0
    assert data["services"] == {"delay_model": "1.0.0"} and data["online"] and data["registry"]
    later = command.json(project, "status", "--now", (datetime.now(UTC) + timedelta(days=2)).isoformat())
    assert later["versions"][0]["behind"] > 2 * 86400 - 3600
    out = command(project, "status")
    assert "weather" in out and "delay_model" in out and "offline log" in out


def test_status_of_a_project_that_was_never_applied(command, fresh):
    assert "nothing is registered" in command(fresh, "status")


def test_a_wrong_clock_is_named_and_repaired(command, project, tmp_path):
    with hw.FeatureStore(project, clock=lambda: datetime.now(UTC) + timedelta(days=365)) as wrong:
        wrong.write("weather", [timed(airport="EWR")])
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row()) + "\n", encoding="utf-8")
    found = command.error(project, "write", "weather", path)
    assert found["type"] == "ClockError" and "headwater repair-clock" in found["message"]
    assert "repair-clock" in command.json(project, "status")["warnings"][0]
    assert command.json(project, "status")["log"]["clock_ahead"] > 364 * 86_400
    assert re.search("clock was 36[45]d", command(project, "repair-clock"))
    assert "nothing was ahead" in command(project, "repair-clock")
    assert command.json(project, "status")["log"]["clock_ahead"] == 0.0
    assert command.json(project, "write", "weather", path)["applied"] == 1


@pytest.mark.filterwarnings("default:offline log in:UserWarning")
def test_a_clock_that_is_ahead_by_less_is_a_warning(command, project, tmp_path):
    with hw.FeatureStore(project, clock=lambda: datetime.now(UTC) + timedelta(minutes=30)) as wrong:
        wrong.write("weather", [timed(airport="EWR")])
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row()) + "\n", encoding="utf-8")
    out, err = command.both(project, "write", "weather", path)
    assert "1 applied" in out and " earlier" in err and "check the clocks" in err
    assert "check the clocks" in command.json(project, "status")["warnings"][0]


def test_the_clock_tolerance_is_a_setting(project):
    soon = [timed(time=datetime.now(UTC) + timedelta(minutes=2))]
    with hw.FeatureStore(project) as store:
        assert store.write("weather", soon).future == 1
    with (project / "headwater.toml").open("a") as file:
        file.write('\n[online]\nclock_tolerance = "5m"\n')
    with hw.FeatureStore(project) as store:
        assert store.write("weather", soon).applied == 1
