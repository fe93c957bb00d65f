"""`init`: all of a project or nothing, and nothing overwritten."""

import json
import tomllib
from datetime import UTC, datetime, timedelta

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from headwater.cli import main
from headwater.cli.init import DATA, FILES, project_name, write_project
from headwater.cli.sample import LAST_REPORT, SILENT, write_data
from headwater.config import load_settings
from headwater.loader import load_definitions

NOW = datetime(2026, 7, 1, 12, 34, 56, tzinfo=UTC)


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_init_writes_a_project_and_says_what_to_do_next(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "my flights"]) == 0
    out = capsys.readouterr().out
    assert files(tmp_path / "my flights") == {*FILES, *DATA}
    assert load_settings("my flights", {}).project == "my_flights"
    assert "headwater apply" in out and "cd 'my flights'" in out
    for text in (tmp_path / "my flights").rglob("*.*"):
        assert text.suffix == ".parquet" or text.is_dir() or "{{" not in text.read_text(encoding="utf-8")


def test_init_in_json_names_the_files(tmp_path, capsys):
    assert main(["init", str(tmp_path / "new"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert set(data["files"]) == files(tmp_path / "new")
    assert data["project"] == str(tmp_path / "new") and data["next"][-1].startswith("headwater get")


def test_init_takes_the_current_folder_or_the_project_s(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert main(["init", "--project", str(tmp_path / "other")]) == 0
    assert {*FILES, *DATA} <= files(tmp_path) and files(tmp_path / "other") == {*FILES, *DATA}
    assert "cd " not in capsys.readouterr().out.partition("next:")[2].partition("next:")[0]


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "features.py").write_text("mine", encoding="utf-8")
    (tmp_path / "unrelated.txt").write_text("mine", encoding="utf-8")
    assert main(["init", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "features.py" in err and "nothing is overwritten" in err and "headwater.toml" not in err
    assert files(tmp_path) == {"features.py", "unrelated.txt"}
    (tmp_path / "features.py").unlink()
    assert main(["init", str(tmp_path)]) == 0
    assert main(["init", str(tmp_path)]) == 1


def test_a_file_in_the_folder_s_place_is_wrong_use(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["init", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch, capsys):
    def full(folder, now):
        (folder / "weather.parquet").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headwater.cli.sample.write_data", full)
    assert main(["init", str(tmp_path / "a" / "b")]) == 1
    assert "No space left" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_the_data_is_the_same_for_the_same_moment_and_ends_with_it(tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        write_data(folder, NOW)
    for name in DATA:
        name = name.removeprefix("data/")
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    weather = pq.read_table(folders[0] / "weather.parquet").to_pylist()
    end = NOW.replace(second=0)
    newest = {code: max(r["time"] for r in weather if r["airport"] == code) for code in ("JFK", "LGA", "ORD")}
    assert newest["JFK"] == end - LAST_REPORT
    assert all(newest[code] <= end - silent for code, silent in SILENT.items())
    assert all(row["time"] < row["observed_at"] <= end - timedelta(minutes=10) for row in weather)
    assert pq.read_table(folders[0] / "flights.parquet")["timestamp"].to_pylist()[-1] <= end
    correction = pyarrow.csv.read_csv(folders[0] / "correction.csv").to_pylist()
    assert correction[0]["airport"] == "JFK" and len(correction) == 1


def test_the_definitions_of_the_project_load(tmp_path):
    write_project(tmp_path, NOW)
    names = [definition.name for definition in load_definitions(tmp_path, ["features.py"])]
    assert names == ["airport", "weather", "airport_facts", "delay_model"]
    assert tomllib.loads((tmp_path / "headwater.toml").read_text(encoding="utf-8"))["definitions"] == ["features.py"]


@pytest.mark.parametrize(
    ("folder", "name"),
    [("flights", "flights"), ("My Flights!", "my_flights"), ("2026", "project_2026"), ("---", "project"), ("é", "é")],
)
def test_the_project_is_named_by_its_folder(tmp_path, folder, name):
    assert project_name(tmp_path / folder) == name
