"""Control characters of keys, values, columns and files never reach the terminal; JSON keeps them exactly."""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.cli import main
from headwater.errors import unsafe_characters

EVIL = "\x1b[2J\x1b]0;owned\x07\r\nerror: \x9b31m\u202eforged"
FEATURES = """
import headwater as hw
user = hw.Entity("user", join_keys={"user": hw.String})
source = hw.PushSource(event_time="at")
notes = hw.FeatureView("notes", entity=user, source=source, features=[hw.Feature("text", hw.String)])
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "features.py").write_text(FEATURES)
    (tmp_path / "headwater.toml").write_text('project = "evil"\n')
    assert main(["apply", "--project", str(tmp_path), "--json"]) == 0
    with hw.FeatureStore(tmp_path) as store:
        store.write("notes", [{"user": EVIL, "at": datetime(2026, 1, 1, tzinfo=UTC), "text": EVIL}])
    return tmp_path


def said(capsys, folder, *arguments):
    capsys.readouterr()
    main([*arguments, "--project", str(folder)])
    found = capsys.readouterr()
    return found.out + found.err


def commands(folder):
    rows, spine = folder / "rows.parquet", folder / "spine.parquet"
    pq.write_table(pa.table({EVIL: ["a"], "user": ["b"]}), rows)
    pq.write_table(pa.table({"user": [EVIL], "timestamp": pa.array([datetime.now(UTC)]), EVIL: [1]}), spine)
    return [
        ["get", "--features", "notes:text", "--key", f"user={EVIL}"],
        ["get", "--features", f"notes:{EVIL}", "--key", "user=a"],
        ["get", "--features", "notes:text", "--key", EVIL],
        ["history", str(spine), "--features", "notes:text"],
        ["history", "--at", "now", "--features", "notes:text"],
        ["history", str(folder / f"{EVIL}.parquet"), "--features", "notes:text"],
        ["history", "--at", EVIL, "--features", "notes:text"],
        ["write", "notes", str(rows)],
        ["write", EVIL, str(rows)],
        ["write", "notes", str(folder / f"{EVIL}.parquet"), "--debug"],
        ["delete", "notes", "--key", f"usr={EVIL}"],
        ["show", EVIL],
        ["status"],
    ]


def test_no_command_lets_one_through(folder, capsys):
    for arguments in commands(folder):
        text = said(capsys, folder, *arguments)
        assert text
        assert unsafe_characters.search(text.replace("\n", "")) is None, arguments
        if "--debug" not in arguments:
            assert not any(line.startswith("error: \\x9b") for line in text.splitlines())


def test_json_is_exact(folder, capsys):
    found = said(capsys, folder, "get", "--features", "notes:text", "--key", f"user={EVIL}", "--json")
    assert unsafe_characters.search(found.replace("\n", "")) is None
    (row,) = json.loads(found)["rows"]
    assert (row["keys"]["user"], row["features"]["text"]["value"]) == (EVIL, EVIL)
