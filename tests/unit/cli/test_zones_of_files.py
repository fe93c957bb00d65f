"""Naive times of the files that the command line reads are of the zone that is stated, of the source or the call."""

import json

import pytest

FEATURES = """
import headwater as hw

sensor = hw.Entity("sensor", join_keys={"sensor": hw.String})
load = hw.FeatureView(
    "load",
    entity=sensor,
    source=hw.PushSource(event_time="at", timezone="Europe/Berlin"),
    features=[hw.Feature("watts", hw.Int64), hw.Feature("seen", hw.Array(hw.Timestamp))],
)
"""
TIMES = {"naive": "2026-11-20 10:00:00", "utc": "2026-11-20T09:00:00Z", "finer": "2026-11-20 09:59:59.9999999"}
GERMAN = "timestamp_format=%d.%m.%Y %H:%M"


@pytest.fixture
def written(command, tmp_path):
    """A project with rows at 09:00 UTC, written from files of every kind."""
    (tmp_path / "features.py").write_text(FEATURES, encoding="utf-8")
    rows = [{"sensor": f"json {name}", "at": at, "watts": 1, "seen": []} for name, at in TIMES.items()]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps(row | {"sensor": f"line of {row['sensor']}"}) + "\n" for row in rows), encoding="utf-8"
    )
    lines = "".join(f"csv {name},{at},1,[]\n" for name, at in TIMES.items())
    (tmp_path / "rows.csv").write_text(f"sensor,at,watts,seen\n{lines}", encoding="utf-8")
    (tmp_path / "german.csv").write_text("sensor,at,watts,seen\ngerman,20.11.2026 10:00,1,[]\n", encoding="utf-8")
    command(tmp_path, "apply")
    for name in ("rows.json", "rows.jsonl", "rows.csv"):
        command(tmp_path, "write", "load", str(tmp_path / name), "--created", "event")
    command(tmp_path, "write", "load", str(tmp_path / "german.csv"), "--created", "event", "--csv", GERMAN)
    return tmp_path


def at_nine(command, folder, *more):
    data = command.json(folder, "history", "--features", "load:watts", "--include", "event_time", *more)
    return [row["load__event_time"] for row in data["data"]]


def test_written_rows_are_of_the_source_s_zone(command, written):
    found = at_nine(command, written, "--at", "2026-11-20T12:00Z")
    assert len(found) == 10 and {time[:19] for time in found} == {"2026-11-20T09:00:00"}


@pytest.mark.parametrize("more", [[], ["--csv", GERMAN]])
def test_a_spine_s_times_are_of_the_call_s_zone(command, written, more):
    texts = ["20.11.2026 10:00", "20.11.2026 09:59"] if more else ["2026-11-20 10:00", "2026-11-20 09:59:59.9999999"]
    aware = [] if more else ["2026-11-20T09:00:00Z", "2026-11-20 08:59Z"]
    lines = "".join(f"german,{text}\n" for text in [*texts, *aware])
    (written / "spine.csv").write_text(f"sensor,timestamp\n{lines}", encoding="utf-8")

    def matched(*zone):
        data = command.json(written, "history", str(written / "spine.csv"), "--features", "load:watts", *zone, *more)
        return [row["watts"] for row in data["data"]]

    there = [1, None] if aware else []
    assert matched("--timezone", "Europe/Berlin") == [1, None, *there]
    assert matched("--timezone", "America/New_York") == [1, 1, *there]
    assert matched("--timezone", "Asia/Tokyo") == [None, None, *there]
    assert matched() == [1, 1, *there]


def test_the_one_instant_is_of_the_call_s_zone_too(command, written):
    assert len(at_nine(command, written, "--at", "2026-11-20 10:00", "--timezone", "Europe/Berlin")) == 10
    assert not at_nine(command, written, "--at", "2026-11-20 09:59", "--timezone", "Europe/Berlin")
    assert not at_nine(command, written, "--at", "2026-11-20 10:00", "--timezone", "Asia/Tokyo")


def test_clock_changes_of_a_spine_are_counted(command, written):
    text = "sensor,timestamp\ngerman,2026-10-25 02:30\ngerman,2026-03-29 02:30\ngerman,2026-10-25T00:30Z\n"
    (written / "spine.csv").write_text(text, encoding="utf-8")
    _, told = command.both(
        written, "history", str(written / "spine.csv"), "--features", "load:watts", "--timezone", "Europe/Berlin"
    )
    assert "1 naive times are in an hour that a clock change repeats" in told
    assert "1 naive times are in an hour that a clock change skips" in told
