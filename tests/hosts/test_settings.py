"""No time zone, locale or setting of the host, or of DuckDB in the same process, changes a value."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headwater.testing import SCALE

SCRIPT = '''
import json, sys
from datetime import datetime, timezone
import duckdb, pyarrow as pa, pyarrow.parquet as pq
import headwater as hw
from headwater.cli.plain import plain

exec(sys.argv[2])
folder, noon = sys.argv[1], datetime(2026, 3, 29, 12, tzinfo=timezone.utc)
naive = [datetime(2026, 3, 29, 2, 30), datetime(2026, 3, 8, 2, 30), datetime(2025, 11, 2, 1, 30)]
table = pa.table({
    "k": ["I", "ı", "é"], "t": pa.array(naive, pa.timestamp("us")),
    "s": pa.array(naive, pa.timestamp("s", "Europe/Berlin")),
    "d": pa.array([n.date() for n in naive]), "x": [7, 8, 9], "y": [0.1, 1e39, None],
})
pq.write_table(table, folder + "/w.parquet")
with open(folder + "/w.csv", "w", encoding="utf-8") as file:
    file.write("k,t,y\\nI,2026-03-29T02:30:00,1234.5\\né,2025-11-02 01:30:00+00:00,0.1\\n")
user = hw.Entity("user", join_keys={"k": hw.String})
query = """SELECT k, t, s, d, x / 2 AS half, upper(k) AS big, CAST(s AS DATE) AS day, date_trunc('day', s) AS start,
    strftime(t, '%A %B %p') AS words, CAST(t AS TIMESTAMPTZ) AS at, CAST(CAST(s AS VARCHAR) AS VARCHAR) AS shown,
    rank() OVER (ORDER BY y) AS place, dayofweek(s) AS weekday
    FROM w"""
features = {"s": hw.Timestamp, "d": hw.Date, "half": hw.Float64, "big": hw.String, "day": hw.Date,
    "start": hw.Timestamp, "words": hw.String, "at": hw.Timestamp, "shown": hw.String,
    "place": hw.Int64, "weekday": hw.Int32}
w = hw.ParquetSource("w.parquet")
views = [
    hw.FeatureView("q", entity=user, source=hw.SQLSource(query, tables={"w": w}, event_time="t"),
        features=[hw.Feature(name, dtype) for name, dtype in features.items()]),
    hw.FeatureView("c", entity=user, source=hw.CSVSource("w.csv", event_time="t"),
        features=[hw.Feature("y", hw.Float64)]),
    hw.FeatureView("p", entity=user, source=hw.PushSource(event_time="t"), features=[hw.Feature("s", hw.Timestamp)]),
]
with hw.FeatureStore(folder, clock=lambda: noon) as store:
    store.apply([user, *views])
    store.write("p", table.select(["k", "t", "s"]), created="event")
    store.materialize()
    times = pa.array([datetime(2026, 3, 29, 3)] * 3, pa.timestamp("us"))
    spine = pa.table({"k": ["I", "ı", "é"], "timestamp": times})
    history = store.get_historical_features(spine, ["q:*", "c:*"], include=["status", "event_time"])
    history = history.to_arrow().to_pylist()
    online = store.get_online_features(["q:*", "c:*"], {"k": ["I", "ı", "é"]}).to_pylist()
    pushed = store.get_historical_features(spine, ["p:s"]).to_arrow().to_pylist()
print(json.dumps(plain([history, online, pushed]), sort_keys=True))
'''


def answers(folder: Path, before: str = "", **environment: str) -> Any:
    """What a process of its own answers on a host with such an environment."""
    folder.mkdir()
    command = [sys.executable, "-c", SCRIPT, str(folder), before]
    environment = {**os.environ, "PYTHONUTF8": "1", **environment}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def plainly(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return answers(tmp_path_factory.mktemp("host") / "utc", TZ="UTC", LC_ALL="C")


@pytest.mark.parametrize(
    ("before", "environment"),
    [
        ("", {"TZ": "America/New_York", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"}),
        *([("", {"TZ": "Asia/Kathmandu", "LC_ALL": "de_DE.UTF-8"})] if SCALE > 1 else []),
        (
            "duckdb.execute(\"SET GLOBAL TimeZone = 'Asia/Tokyo'; SET integer_division = true; "
            "SET default_null_order = 'NULLS_FIRST'; SET default_collation = 'NOCASE'\")",
            {"TZ": "Europe/Berlin", "LC_ALL": "th_TH.UTF-8", "LANG": "th_TH"},
        ),
    ],
)
def test_values_are_those_of_every_host(plainly: Any, tmp_path: Path, before: str, environment: dict[str, str]) -> None:
    (tmp_path / ".duckdbrc").write_text("SET TimeZone = 'Asia/Tokyo';\n")
    assert answers(tmp_path / "project", before, HOME=str(tmp_path), **environment) == plainly


def test_the_values_are_the_right_ones(plainly: Any) -> None:
    history, online, pushed = plainly
    first = history[0]
    assert (first["s"], first["day"], first["start"]) == (
        "2026-03-29T02:30:00+00:00",
        "2026-03-29",
        "2026-03-29T00:00:00+00:00",
    )
    assert (first["half"], first["at"], first["y"]) == (3.5, "2026-03-29T02:30:00+00:00", 1234.5)
    assert pushed[0]["s"] == first["s"] == online[0]["s"]
