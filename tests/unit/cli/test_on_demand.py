"""On-demand features at the command line: planned, shown, listed, read with values of a request, and in history."""

import pytest

FUNCTION = """

@hw.on_demand(
    inputs=[weather["temp"], hw.RequestField("hour", hw.Int64), hw.RequestField("scale", hw.Float64)],
    features=[hw.Feature("felt", hw.Float64, description="as it feels")],
    mode="rows",
    owner="me",
)
def felt(row):
    return {"felt": row["temp"] * row["scale"] - row["hour"]}
"""


@pytest.fixture
def computing(command, project):
    file = project / "features.py"
    file.write_text(file.read_text() + FUNCTION)
    plan = command(project, "plan")
    assert "+ on-demand feature view felt: added 1.0.0, live" in plan
    assert "felt (float64) of weather@1.0.0:temp, request hour (int64), request scale (float64); mode rows" in plan
    command(project, "apply")
    return project


def test_get_takes_values_of_a_request(command, computing):
    asked = ["get", "--features", "felt:felt,weather:temp", "--key", "airport=JFK"]
    data = command.json(computing, *asked, "--request", "hour=3", "--request", "scale=2")
    found = data["rows"][0]["features"]
    assert found["felt"]["value"] == found["temp"]["value"] * 2 - 3
    assert (found["felt"]["status"], found["felt"]["event_time"]) == ("PRESENT", found["temp"]["event_time"])
    assert data["versions"] == {"weather": "1.0.0", "felt": "1.0.0"}
    two = command.json(computing, *asked, "--key", "airport=LGA", *(f"--request=hour={h}" for h in (1, 2)),
                       "--request", "scale=1")  # fmt: skip
    values = [row["features"]["temp"]["value"] - row["features"]["felt"]["value"] for row in two["rows"]]
    assert values == pytest.approx([1.0, 2.0])
    explained = command.json(computing, *asked, "--request", "hour=3", "--request", "scale=2", "--explain")
    assert explained["explain"]["steps"][-1]["step"] == "compute on-demand features"


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (["hour"], 2, "write --request hour=VALUE"),
        (["hours=1", "scale=1"], 2, "no such request field; the fields are hour, scale; did you mean 'hour'"),
        (["hour=x", "scale=1"], 2, "the field 'hour' is int64, and 'x' is not one"),
        (["hour=1"], 2, "no 'scale' (float64), which 'felt' needs"),
    ],
)
def test_what_a_request_cannot_be(command, computing, given, code, words):
    more = [f"--request={text}" for text in given]
    _, said = command.both(computing, "get", "--features", "felt:*", "--key", "airport=JFK", *more, code=code)
    assert words in " ".join(said.split())


def test_show_and_list(command, computing):
    data = command.json(computing, "show", "felt")
    assert data["inputs"] == [
        {"argument": "temp", "dtype": "float64", "input": "weather@1.0.0:temp"},
        {"argument": "hour", "dtype": "int64", "input": "request:hour"},
        {"argument": "scale", "dtype": "float64", "input": "request:scale"},
    ]
    assert data["function"].startswith("def felt(row):")
    assert (data["entity"], data["owner"], data["state"], data["mode"]) == (["airport"], "me", "live", "rows")
    assert 'return {"felt": row["temp"] * row["scale"] - row["hour"]}' in command(computing, "show", "felt")
    feature = command.json(computing, "show", "felt:felt")
    assert feature["dependencies"] == ["weather@1.0.0:temp", "request:hour", "request:scale"]
    assert feature["transformation_logic"].startswith("def felt(row):")
    views = {row["name"]: row for row in command.json(computing, "list", "views")["views"]}
    assert (views["felt"]["source"], views["felt"]["features"]) == ("on_demand", 1)
    assert "felt:felt" in {row["name"] for row in command.json(computing, "list", "features")["features"]}


def test_history_takes_them_from_the_spine(command, computing, tmp_path):
    spine = tmp_path / "spine.csv"
    spine.write_text("airport,timestamp,hour,scale\nJFK,2100-01-01T00:00:00Z,5,1.0\n")
    out = tmp_path / "train.csv"
    command(computing, "history", spine, "--features", "felt:felt,weather:temp", "--include", "status", "-o", out)
    head, row = (line.split(",") for line in out.read_text().splitlines())
    assert head == ["airport", "timestamp", "hour", "scale", "felt", "felt__status", "temp", "temp__status"]
    # the spine's own columns as they were written
    assert [text.strip('"') for text in row] == ["JFK", "2100-01-01T00:00:00Z", "5", "1.0", "", "NULL", "", "EXPIRED"]


def test_versions_are_promoted_and_retired_like_others(command, computing):
    file = computing / "features.py"
    file.write_text(file.read_text().replace('- row["hour"]', '+ row["hour"]'))
    assert "felt: 1.0.0 → 2.0.0 (major), live" in command(computing, "plan")
    command(computing, "apply")
    stand = command.json(computing, "status")["on_demand"]
    assert [(v["view"], v["version"], v["state"]) for v in stand if v["view"] == "felt"] == [
        ("felt", "2.0.0", "live"),
        ("felt", "1.0.0", "previous"),
    ]
    rows = [line.split()[:5] for line in command(computing, "status").splitlines()]
    assert ["felt", "2.0.0", "live", "on", "demand"] in rows
    assert "felt: 1.0.0 is live" in command(computing, "rollback", "felt")
    assert "2.0.0 is live" in command(computing, "promote", "felt", "2.0.0")
    command(computing, "retire", "felt", "1.0.0")
    _, said = command.both(computing, "get", "--features", "felt@1.0.0:felt", "--key", "airport=JFK",
                           "--request=hour=1", "--request=scale=1", code=1)  # fmt: skip
    assert "'felt': 1.0.0 is retired" in said.replace("\n", " ")
