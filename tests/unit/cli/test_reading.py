"""`get` and `history`, on the sample project."""

from datetime import UTC, datetime, timedelta

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import headwater as hw

AIRPORTS = [part for code in ("JFK", "LGA", "ORD", "XXX") for part in ("--key", f"airport={code}")]


def test_get_shows_value_status_event_time_age_and_freshness(command, filled):
    data = command.json(filled, "get", "--features", "weather:temp,weather:reports", *AIRPORTS)
    assert [row["keys"]["airport"] for row in data["rows"]] == ["JFK", "LGA", "ORD", "XXX"]
    temp = [row["features"]["temp"] for row in data["rows"]]
    assert [t["status"] for t in temp] == ["PRESENT", "STALE", "EXPIRED", "NOT_FOUND"]
    assert 1200 <= temp[0]["age"] < 1800 and 0.7 < temp[0]["freshness"] < 0.9 and isinstance(temp[0]["value"], float)
    assert temp[1]["freshness"] == 0 and temp[1]["value"] is not None
    assert temp[2] == temp[3] | {"status": "EXPIRED"}
    assert temp[3] == {"value": None, "status": "NOT_FOUND", "event_time": None, "age": None, "freshness": None}
    assert data["rows"][3]["features"]["reports"]["value"] == 0
    assert data["versions"] == {"weather": "1.0.0"}
    lines = command(filled, "get", "--features", "weather:temp", *AIRPORTS).splitlines()
    assert lines[0].split() == ["airport", "feature", "value", "status", "event", "time", "age", "freshness"]
    assert lines[3].split()[:2] == ["LGA", "temp"] and "STALE" in lines[3]


def test_get_at_another_time_and_with_another_sla(command, filled):
    keys = ["--key", "airport=JFK"]
    stale = command.json(filled, "get", "--features", "weather:temp", *keys, "--max-age", "5m")
    assert stale["rows"][0]["features"]["temp"]["status"] == "STALE"
    past = command.json(filled, "get", "--features", "weather:temp,weather:reports", *keys, "--now", "-30d")
    assert past["rows"][0]["features"]["temp"]["status"] == "NOT_KNOWN"
    assert past["rows"][0]["features"]["reports"] == {
        "value": None,
        "status": "NOT_KNOWN",
        "event_time": None,
        "age": None,
        "freshness": None,
    }
    assert past["read_at"] == {"weather": [past["now"]]}
    _, warned = command.both(filled, "get", "--features", "weather:temp", *keys, "--now", "-30d")
    assert "1 value NOT_KNOWN" in warned and "history --at" in warned


def test_get_of_a_row_that_is_known_after_the_clock(command, project):
    soon = datetime.now(UTC) + timedelta(minutes=10)
    row = {"airport": "JFK", "time": soon, "observed_at": soon, "temp": 99.0, "wind_speed": 1.0, "reports": 1}
    with hw.FeatureStore(project, clock=lambda: soon) as store:
        store.write("weather", [row])
    for more in ([], ["--explain"]):
        data = command.json(project, "get", "--features", "weather:temp", "--key", "airport=JFK", *more)
        temp = data["rows"][0]["features"]["temp"]
        assert (temp["value"], temp["status"], temp["age"], temp["freshness"]) == (99.0, "PRESENT", 0.0, 1.0)
        assert data["now"] < data["read_at"]["weather"][0]


def test_get_explain_shows_keys_round_trips_and_steps(command, filled):
    data = command.json(filled, "get", "--features", "delay_model", "--key", "airport=JFK", "--explain")
    assert list(data["rows"][0]["features"]) == ["temp", "wind_speed", "elevation"]
    assert (data["explain"]["keys"], data["explain"]["round_trips"]) == (2, 1)
    assert all(step["ms"] >= 0 for step in data["explain"]["steps"]) and len(data["explain"]["steps"]) >= 4
    out = command(
        filled, "get", "--features", "delay_model", "--key", "airport=JFK", "--explain", "--consistency", "strong"
    )
    assert "2 distinct keys in 1 round trip" in out


@pytest.mark.parametrize(
    ("arguments", "kind", "part", "code"),
    [
        (["--features", "weather:tmp", "--key", "airport=JFK"], "FeatureNotFound", "temp", 1),
        (["--features", "wether:temp", "--key", "airport=JFK"], "FeatureViewNotFound", "did you mean 'weather'", 1),
        (["--features", "weather", "--key", "airport=JFK"], "UsageError", "weather:*", 2),
        (["--features", "weather:temp", "--key", "airprt=JFK"], "EntityKeyError", "did you mean 'airport'", 1),
        (["--features", "weather:temp", "--key", "JFK"], "UsageError", "--key airport=VALUE", 2),
        (["--features", "weather:temp"], "EntityKeyError", "--key airport=VALUE", 1),
    ],
)
def test_get_of_what_is_not_there(command, filled, arguments, kind, part, code):
    error = command.error(filled, "get", *arguments, code=code)
    assert error["type"] == kind and part in error["message"]


def test_history_writes_the_training_set(command, filled, tmp_path):
    spine = filled / "data" / "flights.parquet"
    out = command(filled, "history", spine, "--features", "delay_model", "-o", tmp_path / "train.parquet")
    assert "wrote 2,000 rows" in out and "weather" in out
    table, flights = pq.read_table(tmp_path / "train.parquet"), pq.read_table(spine)
    assert table.column_names == [*flights.column_names, "temp", "wind_speed", "elevation"]
    assert table["flight"] == flights["flight"] and table["temp"].null_count < 500
    data = command.json(filled, "history", spine, "--features", "delay_model", "-o", tmp_path / "train.csv")
    counts = data["views"]["weather"]
    assert data["rows"] == counts["matched"] + counts["no_row"] + counts["expired"] + counts["not_known"] == 2000
    assert counts["version"] == "1.0.0" and data["file"] == str(tmp_path / "train.csv")
    assert pyarrow.csv.read_csv(tmp_path / "train.csv").num_rows == 2000


def test_a_csv_spine_is_written_as_it_was_given(command, filled, tmp_path):
    spine = (
        "airport,left_at,zip,order_id,code\nJFK,2026-07-02,00501,12345678901234567890,1e5\n"
        'NA,2026-07-02 10:00,11371,12345678901234567891,"2,5"\n'
    )
    (tmp_path / "spine.csv").write_text(spine)
    asked = ["history", tmp_path / "spine.csv", "--features", "weather:reports", "--timestamp", "left_at"]
    command.json(filled, *asked, "-o", tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert [line.rpartition(",")[0] for line in lines] == spine.splitlines()


def test_a_csv_spine_is_read_as_it_is_said_to_be_written(command, filled, tmp_path):
    (tmp_path / "spine.csv").write_bytes("Übung\nairport;when;paid\nJFK;02.07.2026 10:00;1,5\n".encode("cp1252"))
    asked = ["history", tmp_path / "spine.csv", "--features", "weather:reports", "--timestamp", "when"]
    options = ["delimiter=;", "encoding=cp1252", "skip=1", "timestamp_format=%d.%m.%Y %H:%M", "decimal=,"]
    data = command.json(filled, *asked, *(part for option in options for part in ("--csv", option)))
    assert data["data"][0]["when"].startswith("2026-07-02T10:00") and data["data"][0]["paid"] == "1,5"
    message = command.error(filled, *asked, "--csv", "delimeter=;", code=2)["message"]
    assert "delimeter" in message and "did you mean 'delimiter'" in message


def test_history_takes_a_csv_or_sql_spine_or_every_entity(command, filled, tmp_path, monkeypatch):
    (tmp_path / "spine.csv").write_text("airport,timestamp\nJFK,2020-01-01T00:00:00Z\nNA,2020-01-01T00:00:00Z\n")
    data = command.json(filled, "history", tmp_path / "spine.csv", "--features", "weather:temp,weather:reports")
    assert [row["airport"] for row in data["data"]] == ["JFK", "NA"]
    assert [row["reports"] for row in data["data"]] == [0, 0]
    monkeypatch.chdir(filled)
    sql = "SELECT airport, now() AS at FROM 'data/flights.parquet' LIMIT 15"
    out = command(filled, "history", sql, "--features", "weather:temp", "--timestamp", "at", "--include", "status")
    assert "temp__status" in out and "… and 5 more rows" in out
    data = command.json(filled, "history", "--at", "-1h", "--features", "weather:*")
    assert sorted(row["airport"] for row in data["data"]) == ["BOS", "DEN", "EWR", "JFK", "LGA", "ORD"]


def test_history_estimates_what_it_would_read(command, filled):
    spine, asked = filled / "data" / "flights.parquet", ["--features", "delay_model", "--estimate"]
    lines = command.json(filled, "history", spine, *asked)["estimate"]
    weather = next(line for line in lines if line["view"] == "weather")
    footer = pq.read_metadata(filled / "data" / "weather.parquet")
    assert weather["files"] == 1 and 0 < weather["rows"] <= footer.num_rows and weather["bytes"] > 0
    assert weather["reads"] == "parquet data/weather.parquet"
    out = command(filled, "history", spine, *asked)
    assert out.splitlines()[0].split() == ["view", "reads", "files", "rows", "bytes"]
    message = command.error(filled, "history", spine, *asked, "-o", "out.parquet", code=2)["message"]
    assert message.startswith("--estimate and --out are mutually exclusive")


@pytest.mark.parametrize(
    ("arguments", "part", "code"),
    [
        (["--features", "weather:temp"], "--at", 2),
        (["nowhere.parquet", "--features", "weather:temp"], "nowhere.parquet", 1),
        (["spine.txt", "--features", "weather:temp"], ".parquet, .csv", 2),
        (["data/flights.parquet", "--features", "weather:temp", "--include", "statuses"], "did you mean 'status'", 2),
        (["SELECT 1 AS x", "--features", "weather:temp"], "timestamp", 1),
        (["SELECT FROM WHERE", "--features", "weather:temp"], "", 1),
        (["--at", "-1h", "--features", "weather:temp", "-o", "out.xlsx"], ".parquet, .csv", 2),
        (["--at", "-1h", "--features", "weather:temp", "-o", "no/such/folder/out.parquet"], "out.parquet", 1),
        (["--at", "-1h", "--features", "nothing:temp"], "nothing", 1),
    ],
)
def test_history_of_what_is_not_there(command, filled, arguments, part, code):
    assert part in command.error(filled, "history", *arguments, code=code)["message"]


def test_errors_name_the_commands_options(command, filled, tmp_path):
    spine = tmp_path / "spine.csv"
    spine.write_text("airport,left\nJFK,2026-06-01\n", encoding="utf-8")
    asked = ["--features", "weather:temp"]
    message = command.error(filled, "history", spine, *asked)["message"]
    assert "name yours with --timestamp COLUMN, or give one instant for all rows with --at TIME" in message
    both = command.error(filled, "history", spine, *asked, "--timestamp", "left", "--at", "2026-06-01", code=2)[
        "message"
    ]
    assert both.startswith("--timestamp COLUMN and --at TIME are mutually exclusive")
