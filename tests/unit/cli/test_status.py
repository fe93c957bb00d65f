"""`headwater status`: its exit code says whether somebody has to look."""

from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq


def test_all_is_well(command, project):
    command(project, "status")
    command(project, "status", "--check")


def test_a_missed_sla_fails_the_check_alone(command, project):
    later = (datetime.now(UTC) + timedelta(hours=9)).isoformat()
    command(project, "status", "--now", later)
    _, err = command.both(project, "status", "--check", "--now", later, code=1)
    assert "weather@1.0.0: its newest row" in err and "older than its freshness SLA of 2h" in err


def test_a_failed_run_fails_it(command, project):
    for path in (project / "data").glob("weather*"):
        path.rename(path.with_suffix(".away"))
    command.both(project, "materialize", code=1)
    _, err = command.both(project, "status", code=1)
    assert "weather@1.0.0: its last run" in err and "headwater materialize weather" in err


def test_a_store_that_cannot_be_reached_fails_it(command, project, monkeypatch):
    monkeypatch.setenv("HEADWATER_ONLINE_URL", "redis://127.0.0.1:1?timeout=0.2")
    _, err = command.both(project, "status", code=1)
    assert "the online store cannot be read" in err


def test_a_column_renamed_in_the_source_has_a_way_out_that_works(command, project):
    """Definition changed, old version broken, and still read by the live service: each command that is named works."""
    (data,) = (project / "data").glob("weather*")
    table = pq.read_table(data)
    pq.write_table(table.rename_columns(["temp_f" if n == "temp" else n for n in table.column_names]), data)
    assert "did you mean 'temp_f'" in command.error(project, "plan")["problems"][0]
    path = project / "features.py"
    text = path.read_text(encoding="utf-8").replace(
        'hw.Feature("temp", hw.Float64,', 'hw.Feature("temp", hw.Float64, column="temp_f",', 1
    )
    path.write_text(text, encoding="utf-8")
    command(project, "apply")
    _, err = command.both(project, "materialize", code=1)
    _, _, told = err.partition("or, if weather 1.0.0 is no longer needed:\n")
    commands = [line.strip() for line in told.splitlines()]
    assert commands == [
        "headwater promote delay_model 2.0.0",
        "headwater retire delay_model 1.0.0",
        "headwater retire weather 1.0.0",
    ]
    assert "; ".join(commands) in command.both(project, "status", code=1)[1]
    for line in commands:
        command(project, *line.split()[1:])
    command(project, "materialize")
    command(project, "status")
    assert command.json(project, "get", "--features", "delay_model", "--key", "airport=JFK")["rows"][0]
