"""Queries over CSV files that an earlier release registered read the types that they did."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import headwater as hw

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})


def view(query: str = "SELECT * FROM d", **options: Any) -> hw.FeatureView:
    source = hw.SQLSource(query, tables={"d": hw.CSVSource("d.csv", **options)}, event_time="at")
    return hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("x", hw.Int64)])


TYPES = {"user": hw.Int64, "at": hw.Timestamp, "x": hw.Int64}


def as_before(folder: Path) -> None:
    """Turn the registered definitions into what the release before wrote: it had no schema of CSV files."""
    with sqlite3.connect(folder / ".headwater/registry.db") as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for column in [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]:
                rows = database.execute(f'SELECT rowid, "{column}" FROM "{table}"').fetchall()
                for row, value in rows:
                    if '"kind":"csv"' in str(value):
                        data = json.loads(value)
                        for _, source in data["source"]["tables"]:
                            source.pop("schema")
                        made = json.dumps(data, separators=(",", ":"))
                        stored = made if isinstance(value, str) else made.encode()
                        database.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', [stored, row])


def read(folder: Path) -> tuple[list[Any], str]:
    with hw.FeatureStore(folder, clock=lambda: NOON) as store:
        result = store.get_historical_features([{"user": 1, "timestamp": NOON}], ["v:x"]).to_arrow()
        return result["x"].to_pylist(), store.get_feature_view("v").version


def test_the_first_plan_writes_the_types_down(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("user,at,x\n1,2026-06-01,7\n")
    with hw.FeatureStore(tmp_path, clock=lambda: NOON) as store:
        store.apply([USER, view(schema=TYPES)])
    as_before(tmp_path)
    assert read(tmp_path) == ([7], "1.0.0")
    with hw.FeatureStore(tmp_path, clock=lambda: NOON) as store:
        (stage,) = store.plan([USER, view()]).stages
        assert "source.tables.d: the types first read are kept: user int64, at date, x int64" in stage.details
        store.apply([USER, view()])
        assert store.plan([USER, view()]).stages == ()
    # what is in the file later changes nothing
    (tmp_path / "d.csv").write_text("user,at,x\n1,2026-06-01,7\n2,2026-06-01,8\n")
    assert read(tmp_path) == ([7], "1.0.0")
    with hw.FeatureStore(tmp_path, clock=lambda: NOON) as store:
        # another description keeps them, another query is a new version, whose columns are text
        store.apply(
            [USER, hw.FeatureView("v", entity=USER, source=view().source, features=view().features, description="d")]
        )
    assert read(tmp_path) == ([7], "1.0.0")
